//! What differs between the client's and the server's end of a connection, as far as the driver is concerned.

use std::convert::Infallible;

use persist_core::{BodyLen, Client, Conn, ExchangeId, Instant, Role, Server};

use crate::entry::{Arrived, Entry, Traveller};
use crate::link::{BUFFERED_MAX, State, Transport};

/// One end of a connection.
pub(crate) trait Part: Role<Inbound: Send, Ticket: Send> + Send + Sync + Sized {
    /// Whether the end of a received body is told only once our own message is sent: a client's caller that has its whole reply goes away, and then
    /// nobody might send the rest. A server's response, on the other hand, may depend on the request's end.
    const END_AWAITS_UPLOAD: bool;

    /// What it is called where it is told of.
    const NAME: &'static str;

    /// A [`Traveller`], or nobody: of a server's exchanges nothing is kept before there is something.
    type Traveller: AsMut<Traveller> + Send;

    /// A head came, and `input` behind it.
    fn on_head<S: Transport>(
        state: &mut State<Self, S>,
        id: ExchangeId,
        head: (Self::Inbound, Self::Ticket, BodyLen),
        input: &mut &[u8],
    );

    /// An exchange ended without completing.
    fn on_ended<S>(state: &mut State<Self, S>, id: ExchangeId);

    /// Whether nothing further may be taken from the peer until a caller acts.
    fn is_blocked<S>(state: &State<Self, S>) -> bool;

    /// Content is wanted for the first time.
    fn want_body(conn: &mut Conn<Self>, id: ExchangeId, now: Instant);

    /// Our message cannot be finished.
    fn give_up_outbound(conn: &mut Conn<Self>, id: ExchangeId, now: Instant);

    /// Nobody wants the peer's message.
    fn give_up_inbound(conn: &mut Conn<Self>, id: ExchangeId, now: Instant);
}

impl Part for Client {
    const END_AWAITS_UPLOAD: bool = true;
    const NAME: &'static str = "client";

    type Traveller = Traveller;

    /// Most replies are complete with their heads.
    fn on_head<S: Transport>(
        state: &mut State<Self, S>,
        id: ExchangeId,
        head: (Self::Inbound, (), BodyLen),
        input: &mut &[u8],
    ) {
        let whole = state.conn.take_whole(input);
        let at = state.place_of(id);
        if let Some(entry) = at.and_then(|at| state.entries.get_mut(at)) {
            entry.head = Some(head);
            if let Some(content) = whole {
                entry.keep_content(content, 0);
                state.buffered += content.len();
            } else {
                let waiter = entry.waiter.take();
                state.wake_slot(waiter);
            }
        }
        if whole.is_some() {
            state.end_at(at, None);
            state.wake_turn();
        }
    }

    fn on_ended<S>(_: &mut State<Self, S>, _: ExchangeId) {}

    /// Replies may wait for their callers up to a limit of bytes; their number is limited by the pipelining depth.
    fn is_blocked<S>(state: &State<Self, S>) -> bool {
        state.buffered >= BUFFERED_MAX
    }

    fn want_body(_: &mut Conn<Self>, _: ExchangeId, _: Instant) {}

    fn give_up_outbound(conn: &mut Conn<Self>, id: ExchangeId, now: Instant) {
        conn.cancel(id, now);
    }

    fn give_up_inbound(conn: &mut Conn<Self>, id: ExchangeId, now: Instant) {
        conn.cancel(id, now);
    }
}

impl Part for Server {
    const END_AWAITS_UPLOAD: bool = false;
    const NAME: &'static str = "server";

    type Traveller = Infallible;

    fn on_head<S: Transport>(
        state: &mut State<Self, S>,
        id: ExchangeId,
        (head, ticket, len): (Self::Inbound, Self::Ticket, BodyLen),
        _: &mut &[u8],
    ) {
        if len != BodyLen::Empty {
            let mut entry = Entry::new(id);
            entry.outbound_held = true;
            state.enter(entry);
        }
        state.arrived = Some(Box::new(Arrived { id, head, ticket, len }));
        state.wake_watcher();
    }

    /// A request that nobody has taken is not worth taking any more. Any other is noted, so that its responder hears of it.
    fn on_ended<S>(state: &mut State<Self, S>, id: ExchangeId) {
        match state.arrived.take_if(|arrived| arrived.id == id) {
            // Nobody holds either end of it.
            Some(_) => {
                if let Some(entry) = state.entry(id) {
                    entry.inbound_held = false;
                    entry.outbound_held = false;
                }
            }
            None if state.entry(id).is_none() => state.entry_or_new(id).outbound_held = true,
            None => {}
        }
    }

    /// One request may wait for the caller, with the beginning of its content. Content that nobody wants is dropped up to the drain budget; from there on the peer waits for the
    /// response, after which the machine drains what is left or closes.
    fn is_blocked<S>(state: &State<Self, S>) -> bool {
        let budget = state.conn.config().limits.drain_bytes_max;
        (state.arrived.is_some() && state.receiving.is_none())
            || state.buffered >= BUFFERED_MAX
            || state.entries.iter().any(|entry| entry.discarded > budget && entry.outbound_held)
    }

    fn want_body(conn: &mut Conn<Self>, id: ExchangeId, now: Instant) {
        conn.want_body(id, now);
    }

    fn give_up_outbound(conn: &mut Conn<Self>, id: ExchangeId, now: Instant) {
        conn.abandon(id, now);
    }

    /// The response may still come; what arrives until then is dropped.
    fn give_up_inbound(conn: &mut Conn<Self>, id: ExchangeId, now: Instant) {
        conn.drop_body(id, now);
    }
}
