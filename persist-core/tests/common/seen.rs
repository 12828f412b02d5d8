//! Events as values that can be compared: content is joined, so that only what was said counts, not in how many pieces.

use bytes::Buf;
use persist_core::{
    BodyLen, CloseReason, Conn, Event, ExchangeId, Failure, Fields, Instant, Next, ProtocolError, RequestHead,
    ResponseHead, Role,
};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Interim(u64, String),
    Head(u64, String, BodyLen),
    Data(u64, Vec<u8>),
    End(u64, Option<Fields>),
    Ended(u64, Failure),
    Continue(u64),
    UploadStopped(u64),
    Switched(u64),
    Closed(CloseReason),
}

/// Where `next` stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    NeedRead,
    Paused,
    Error(ProtocolError),
}

/// A head in one line: start line and fields.
pub trait Line {
    fn line(&self) -> String;
}

fn with_fields<'a>(start: String, fields: impl Iterator<Item = persist_core::Field<'a>>) -> String {
    fields.fold(start, |line, field| format!("{line} | {}: {}", field.name, field.value.as_bytes().escape_ascii()))
}

impl Line for RequestHead {
    fn line(&self) -> String {
        with_fields(format!("{} {} {:?}", self.method().as_str(), self.target(), self.version()), self.fields())
    }
}

impl Line for ResponseHead {
    fn line(&self) -> String {
        with_fields(format!("{} {:?}", self.status().as_u16(), self.version()), self.fields())
    }
}

/// All that a machine said, content joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log(pub Vec<Seen>);

impl Log {
    /// Notes an event; `Slots` is a hint that may come any number of times, and is not noted. Gives the ticket of a `Head` back.
    pub fn note<R: Role>(&mut self, event: Event<'_, R>) -> Option<(ExchangeId, R::Ticket)>
    where
        R::Inbound: Line,
    {
        let mut given = None;
        let seen = match event {
            Event::Interim { id, head } => Seen::Interim(id.number(), head.line()),
            Event::Head { id, ticket, head, body } => {
                given = Some((id, ticket));
                Seen::Head(id.number(), head.line(), body)
            }
            Event::Data { id, data } => {
                assert!(!data.is_empty(), "a Data event without data");
                self.data(id.number(), data);
                return None;
            }
            Event::End { id, trailers } => Seen::End(id.number(), trailers),
            Event::Ended { id, failure } => Seen::Ended(id.number(), *failure),
            Event::Continue { id } => Seen::Continue(id.number()),
            Event::UploadStopped { id } => Seen::UploadStopped(id.number()),
            Event::Slots => return None,
            Event::Switched { id } => Seen::Switched(id.number()),
            Event::Closed(reason) => Seen::Closed(reason),
            _ => panic!("an event that these tests do not know"),
        };
        self.0.push(seen);
        given
    }

    /// Notes content, joined with what came before.
    pub fn data(&mut self, id: u64, data: &[u8]) {
        match self.0.last_mut() {
            Some(Seen::Data(last, joined)) if *last == id => joined.extend_from_slice(data),
            _ => self.0.push(Seen::Data(id, data.to_vec())),
        }
    }

    /// The content that came for an exchange.
    pub fn content(&self, id: u64) -> Vec<u8> {
        let pieces = self.0.iter().filter_map(|seen| match seen {
            Seen::Data(whose, data) if *whose == id => Some(data.as_slice()),
            _ => None,
        });
        pieces.collect::<Vec<_>>().concat()
    }

    /// How an exchange ended, as many times as it did: `None` for `End`.
    pub fn ends(&self, id: u64) -> Vec<Option<&Failure>> {
        let ends = self.0.iter().filter_map(|seen| match seen {
            Seen::End(whose, _) if *whose == id => Some(None),
            Seen::Ended(whose, failure) if *whose == id => Some(Some(failure)),
            _ => None,
        });
        ends.collect()
    }

    /// Why the connection closed, once it said so.
    pub fn closed(&self) -> Option<&CloseReason> {
        self.0.iter().find_map(|seen| match seen {
            Seen::Closed(reason) => Some(reason),
            _ => None,
        })
    }
}

/// Calls `next` until it stops, notes every event, and hands each `Head`'s ticket and each finished exchange to `act` at once.
pub fn drain<R: Role>(
    conn: &mut Conn<R>,
    input: &mut &[u8],
    now: Instant,
    log: &mut Log,
    mut act: impl FnMut(&mut Conn<R>, Moment<R>),
) -> Stop
where
    R::Inbound: Line,
{
    loop {
        let moment = match conn.next(input, now) {
            Ok(Next::Event(event)) => {
                let ended = match &event {
                    Event::End { id, .. } => Some(*id),
                    _ => None,
                };
                match (log.note(event), ended) {
                    (Some((id, ticket)), _) => Moment::Head(id, ticket),
                    (None, Some(id)) => Moment::End(id),
                    (None, None) => continue,
                }
            }
            Ok(Next::NeedRead) => return Stop::NeedRead,
            Ok(Next::Paused) => return Stop::Paused,
            Err(error) => return Stop::Error(error),
        };
        act(conn, moment);
    }
}

/// When a caller may want to act.
pub enum Moment<R: Role> {
    Head(ExchangeId, R::Ticket),
    End(ExchangeId),
}

/// Takes all there is to send, as a stream that accepts everything.
pub fn flush<R: Role>(conn: &mut Conn<R>, now: Instant) -> Vec<u8> {
    let mut out = conn.transmit(now);
    let mut bytes = Vec::with_capacity(out.remaining());
    while out.has_remaining() {
        let n = out.chunk().len();
        bytes.extend_from_slice(out.chunk());
        out.advance(n);
    }
    bytes
}
