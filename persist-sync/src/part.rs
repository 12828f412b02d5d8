//! What differs between the two ends of a connection, as far as bodies that come in are concerned.

use persist_core::{Client, Conn, ExchangeId, Instant, Role, Server};

/// One end.
pub(crate) trait Part: Role<Inbound: Send, Ticket: Send> + Send {
    /// What its spans call it.
    const NAME: &'static str;
    /// Whether the machine must be told when somebody begins to read a body.
    const ASKS: bool;
    /// Right after a head: the content that follows, if all of it is here and nothing else is to be told first. Then that is the end of its message.
    fn take_whole<'i>(conn: &mut Conn<Self>, input: &mut &'i [u8]) -> Option<&'i [u8]>;
    /// Somebody begins to read the body.
    fn body_wanted(conn: &mut Conn<Self>, id: ExchangeId, now: Instant);
    /// Whoever should have read the body is gone.
    fn body_unwanted(conn: &mut Conn<Self>, id: ExchangeId, now: Instant);
    /// Our own body broke off in the middle: the peer must not take it for whole.
    fn broken_off(conn: &mut Conn<Self>, id: ExchangeId, now: Instant);
}

impl Part for Client {
    const NAME: &'static str = "client";
    const ASKS: bool = false;

    fn take_whole<'i>(conn: &mut Conn<Self>, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        conn.take_whole(input)
    }

    fn body_wanted(_: &mut Conn<Self>, _: ExchangeId, _: Instant) {}

    fn body_unwanted(conn: &mut Conn<Self>, id: ExchangeId, now: Instant) {
        conn.cancel(id, now);
    }

    fn broken_off(conn: &mut Conn<Self>, id: ExchangeId, now: Instant) {
        conn.cancel(id, now);
    }
}

impl Part for Server {
    const NAME: &'static str = "server";
    const ASKS: bool = true;

    /// A request's content is not asked for before somebody wants it.
    fn take_whole<'i>(_: &mut Conn<Self>, _: &mut &'i [u8]) -> Option<&'i [u8]> {
        None
    }

    fn body_wanted(conn: &mut Conn<Self>, id: ExchangeId, now: Instant) {
        conn.want_body(id, now);
    }

    /// The machine drains it once the response is complete, or closes.
    fn body_unwanted(conn: &mut Conn<Self>, id: ExchangeId, now: Instant) {
        conn.drop_body(id, now);
    }

    fn broken_off(conn: &mut Conn<Self>, id: ExchangeId, now: Instant) {
        conn.abandon(id, now);
    }
}
