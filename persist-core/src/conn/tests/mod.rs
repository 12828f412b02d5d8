//! The machine, driven by hand: bytes are visible, time is a number, every test says what it is about.

mod client;
mod closing;
mod cut;
mod deadlines;
mod given_up;
mod server;
mod whole;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Buf;

use super::{Client, Conn, Event, ExchangeId, Next, Role, Server, Ticket};
use crate::config::Config;
use crate::error::{ProtocolError, SendError};
use crate::field::{Field, FieldName, FieldValue};
use crate::head::{BodyLen, RequestHead, ResponseHead};
use crate::method::Method;
use crate::status::StatusCode;
use crate::time::Instant;

/// A machine, a clock that only the test moves, and the tickets it was given.
pub(super) struct Rig<R: Role> {
    pub(super) conn: Conn<R>,
    pub(super) now: Instant,
    pub(super) tickets: Vec<R::Ticket>,
}

/// How the tests print a head.
pub(super) trait Line {
    fn line(&self) -> String;
}

impl Line for RequestHead {
    fn line(&self) -> String {
        format!("{} {}", self.method(), self.target())
    }
}

impl Line for ResponseHead {
    fn line(&self) -> String {
        format!("{}", self.status())
    }
}

impl<R: Role> Rig<R>
where
    R::Inbound: Line,
{
    pub(super) fn with(config: Config) -> Self {
        Self { conn: Conn::new(config, Instant::ZERO), now: Instant::ZERO, tickets: Vec::new() }
    }

    /// Feeds bytes, and prints every event: `0 GET /`, `0 data hello`, `0 end`, ... and at last `read`, `pause` or the error.
    pub(super) fn feed(&mut self, bytes: impl AsRef<[u8]>) -> Vec<String> {
        let mut input = bytes.as_ref();
        let mut seen = Vec::new();
        loop {
            let event = match self.conn.next(&mut input, self.now) {
                Ok(Next::Event(event)) => event,
                Ok(Next::NeedRead) => {
                    seen.push("read".into());
                    assert!(input.is_empty(), "asks for more with input left");
                    return seen;
                }
                Ok(Next::Paused) => {
                    seen.push("pause".into());
                    return seen;
                }
                Err(error) => {
                    seen.push(format!("error: {}", error.cause()));
                    return seen;
                }
            };
            seen.push(match event {
                Event::Interim { id, head } => format!("{} interim {}", id.number(), head.line()),
                Event::Head { id, ticket, head, body } => {
                    self.tickets.push(ticket);
                    format!("{} {} {body:?}", id.number(), head.line())
                }
                Event::Data { id, data } => format!("{} data {}", id.number(), data.escape_ascii()),
                Event::End { id, trailers: None } => format!("{} end", id.number()),
                Event::End { id, trailers: Some(trailers) } => format!("{} end {trailers:?}", id.number()),
                Event::Ended { id, failure } => {
                    format!("{} ended {}, {}", id.number(), failure.disposition, failure.reason)
                }
                Event::Continue { id } => format!("{} continue", id.number()),
                Event::UploadStopped { id } => format!("{} stopped", id.number()),
                Event::Slots => continue,
                Event::Switched { id } => format!("{} switched", id.number()),
                Event::Closed(reason) => format!("closed: {reason}"),
            });
        }
    }

    /// The next events without new input.
    pub(super) fn events(&mut self) -> Vec<String> {
        self.feed([])
    }

    /// Everything there is to send, accepted by the layer below.
    pub(super) fn sent(&mut self) -> String {
        self.sent_up_to(usize::MAX)
    }

    /// At most `limit` bytes of it.
    pub(super) fn sent_up_to(&mut self, limit: usize) -> String {
        let mut out = self.conn.transmit(self.now);
        let mut bytes = Vec::new();
        while out.has_remaining() && bytes.len() < limit {
            let n = out.chunk().len().min(limit - bytes.len());
            bytes.extend_from_slice(&out.chunk()[..n]);
            out.advance(n);
        }
        String::from_utf8(bytes).expect("the tests send text")
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.conn.handle_timeout(self.now);
    }

    pub(super) fn eof(&mut self) -> Vec<String> {
        self.conn.handle_eof(self.now);
        self.events()
    }
}

impl Rig<Client> {
    pub(super) fn client(depth: u32) -> Self {
        let mut config = Config::client();
        config.pipelining.depth = depth;
        Self::with(config)
    }

    pub(super) fn request(&mut self, method: Method, target: &str, body: BodyLen) -> Result<ExchangeId, SendError> {
        self.conn.send_request(&method, target, [field("Host", "h")], body, self.now)
    }

    pub(super) fn get(&mut self, target: &str) -> ExchangeId {
        self.request(Method::GET, target, BodyLen::Empty).expect("the gates are open")
    }
}

impl Rig<Server> {
    pub(super) fn server() -> Self {
        Self::with(Config::server())
    }

    /// The oldest ticket not used yet.
    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets.remove(0)
    }

    pub(super) fn reply(&mut self, ticket: Ticket, text: &str) {
        let id = ticket.id();
        self.conn
            .send_response(ticket, StatusCode::OK, [], BodyLen::Length(text.len() as u64), self.now)
            .expect("a plain response");
        if !text.is_empty() {
            assert_eq!(self.conn.send_body(id, text.as_bytes(), self.now), Ok(text.len()));
            self.conn.finish_body(id, None, self.now).expect("all was sent");
        }
    }
}

pub(super) fn field<'a>(name: &'a str, value: &'a str) -> Field<'a> {
    Field { name: FieldName::new(name).expect("a name"), value: FieldValue::new(value.as_bytes()).expect("a value") }
}

pub(super) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn an_idle_machine_is_small() {
    let size = core::mem::size_of::<Conn<Server>>();
    assert!(size <= 500, "{size} bytes");
}

#[test]
fn machines_and_what_they_say_may_cross_threads() {
    fn check<T: Send>() {}
    check::<Conn<Client>>();
    check::<Conn<Server>>();
    check::<Event<'_, Server>>();
    check::<ProtocolError>();
}
