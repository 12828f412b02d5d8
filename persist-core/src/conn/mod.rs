//! The machine of one connection.
//!
//! The contract, for every method that mutates: *mutate → drain [`next`](Conn::next) and [`transmit`](Conn::transmit) → ask
//! [`poll_shutdown`](Conn::poll_shutdown) → wait for I/O or for [`poll_timeout`](Conn::poll_timeout).*
//!
//! ```
//! use persist_core::{BodyLen, Client, Config, Conn, Event, Field, FieldName, FieldValue, Instant, Method, Next, StatusCode};
//! use bytes::Buf;
//!
//! let now = Instant::ZERO;
//! let mut conn = Conn::<Client>::new(Config::client(), now);
//! let host = Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("example.org") };
//! let id = conn.send_request(&Method::GET, "/", [host], BodyLen::Empty, now)?;
//!
//! let mut out = conn.transmit(now);                       // what to write to the stream ...
//! assert_eq!(out.chunk(), b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n");
//! out.advance(out.remaining());                           // ... and how much of it was taken
//!
//! let mut input: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";  // what the stream gave
//! loop {
//!     match conn.next(&mut input, now)? {
//!         Next::Event(Event::Head { id: whose, head, .. }) => {
//!             assert_eq!((whose, head.status()), (id, StatusCode::NO_CONTENT));
//!         }
//!         Next::Event(_) => {}
//!         Next::NeedRead | Next::Paused => break,
//!     }
//! }
//! assert!(conn.is_idle() && conn.pending() == 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::time::Duration;

use crate::chunked::Decoder;
use crate::close::CloseReason;
use crate::config::Config;
use crate::disposition::Failure;
use crate::error::ProtocolError;
use crate::head::{RequestHead, ResponseHead};
use crate::parse::{Partial, RequestStart};
use crate::time::Instant;

mod client;
mod closing;
mod deadlines;
mod encode;
mod event;
mod exchange;
mod expiry;
mod gates;
mod half;
mod outbox;
mod parked;
mod receive;
mod replies;
mod respond;
mod send;
mod server;
mod trace;
mod transmit;

pub use event::{Event, ExchangeId, Next, Parts, Slot, Ticket, Upload};
pub use transmit::{Room, Transmit};

use exchange::Queue;
use half::Phase;
use outbox::Outbox;
use parked::Parked;

#[cfg(test)]
mod tests;

/// Which end of the connection a machine is: [`Client`] or [`Server`].
pub trait Role: receive::Receive + Sized + 'static {
    /// The head of what this role receives.
    type Inbound: core::fmt::Debug;
    /// The right to answer: [`Ticket`] for a server, nothing for a client.
    type Ticket: core::fmt::Debug;
}

/// Sends requests, receives responses.
#[derive(Clone, Copy, Debug)]
pub enum Client {}

/// Receives requests, sends responses.
#[derive(Clone, Copy, Debug)]
pub enum Server {}

impl Role for Client {
    type Inbound = ResponseHead;
    type Ticket = ();
}

impl Role for Server {
    type Inbound = RequestHead;
    type Ticket = Ticket;
}

/// What the next bytes of input are.
#[derive(Debug)]
enum Inbound {
    /// The start of a message.
    Between,
    /// Content: so many bytes more.
    Length(u64),
    /// Content in chunks.
    Chunked(Decoder),
    /// Content until the peer closes.
    UntilClose,
    /// Nothing: the message is complete, and `End` is due.
    End,
    /// Nobody's: it is dropped.
    Dropped,
    /// Another protocol's.
    Switched,
}

/// Events that need no input.
#[derive(Debug, Default)]
struct Due {
    /// Something below is set.
    any: bool,
    slots: bool,
    closed: bool,
    /// What most connections never say.
    rare: Option<Box<Rare>>,
}

impl Due {
    /// Something is that must not be passed over, as can be that there may be room for another request.
    fn is_pressing(&self) -> bool {
        self.closed || self.rare.is_some()
    }
}

#[derive(Debug, Default)]
struct Rare {
    ended: VecDeque<(ExchangeId, Box<Failure>)>,
    proceed: Option<ExchangeId>,
    stopped: Option<ExchangeId>,
    switched: Option<ExchangeId>,
}

impl Rare {
    /// An exchange ended, as the `at`th of those to be told: nothing else is told of it any more.
    fn ended(&mut self, at: usize, id: ExchangeId, failure: Box<Failure>) {
        self.ended.insert(at, (id, failure));
        self.proceed = self.proceed.filter(|&whose| whose != id);
        self.stopped = self.stopped.filter(|&whose| whose != id);
    }
}

/// When things happened; deadlines are computed from these, never stored.
#[derive(Debug)]
struct Times {
    created: Instant,
    /// The latest time any call was told.
    now: Instant,
    /// The last exchange was over, or the first byte of the head that is being read came, or, for a client, the response became due.
    head: Instant,
    /// The content that is being read began.
    body: Instant,
    /// `next` first said `NeedRead` after it made progress; `None` while the adapter is not reading.
    waiting: Option<Instant>,
    /// The layer below last took a byte, or the outbox last became non-empty.
    wrote: Instant,
    /// The current drain, linger, or wait after a failed write began.
    closing: Instant,
}

/// What few machines have.
#[derive(Debug, Default)]
struct Uncommon {
    /// Input that was read and cannot be used yet.
    kept: Vec<u8>,
    /// Bytes at the front of the outbox that belong to no exchange here.
    foreign: u64,
    /// Bytes dropped after our side was shut down.
    lingered: u64,
}

/// The machine of one HTTP/1.1 connection.
pub struct Conn<R: Role> {
    config: Arc<Config>,
    times: Times,
    inbound: Inbound,
    partial: Partial,
    /// Server: a request that was read before its turn.
    held: Option<Box<RequestStart>>,
    /// Bytes of input that were consumed.
    consumed: u64,
    outbox: Outbox,
    uncommon: Option<Box<Uncommon>>,
    queue: Queue,
    /// Index of the first exchange whose message to the peer is not over: only that one may write to the outbox.
    turn: usize,
    /// Index of the first exchange with bytes in the outbox.
    cursor: usize,
    /// Client: places reserved. Server: nothing.
    reserved: usize,
    /// Server: responses that were given before their turn.
    parked: Parked,
    completed: u64,
    phase: Phase,
    /// The peer closed its side: there will be no more input.
    eof: bool,
    write_failed: bool,
    /// Server: a response that only the connection's end delimits breaks off.
    cut_off: bool,
    /// Client: the peer was seen to mishandle pipelining.
    mishandled: bool,
    /// Client: some exchange was given a deadline of its own.
    has_dues: bool,
    /// Client: seconds that the peer announced in `Keep-Alive: timeout=`.
    announced_idle: Option<u32>,
    /// Client: the number of the first exchange that the peer will not take, from `Keep-Alive: max=`.
    refused_from: u64,
    reason: Option<Box<CloseReason>>,
    error: Option<Box<ProtocolError>>,
    due: Due,
    role: PhantomData<R>,
}

impl<R: Role> Conn<R> {
    /// A machine for a fresh connection.
    pub fn new(config: impl Into<Arc<Config>>, now: Instant) -> Self {
        Self {
            config: config.into(),
            times: Times { created: now, now, head: now, body: now, waiting: None, wrote: now, closing: now },
            inbound: Inbound::Between,
            partial: Partial::default(),
            held: None,
            consumed: 0,
            outbox: Outbox::default(),
            uncommon: None,
            queue: Queue::default(),
            turn: 0,
            cursor: 0,
            reserved: 0,
            parked: Parked::default(),
            completed: 0,
            phase: Phase::Open,
            eof: false,
            write_failed: false,
            cut_off: false,
            mishandled: false,
            has_dues: false,
            announced_idle: None,
            refused_from: u64::MAX,
            reason: None,
            error: None,
            due: Due::default(),
            role: PhantomData,
        }
    }

    /// A machine that goes on where something else stopped: `parts.leftover` is [kept](Self::take_kept), `parts.unsent` is sent first.
    pub fn from_parts(config: impl Into<Arc<Config>>, parts: Parts, now: Instant) -> Self {
        let mut conn = Self::new(config, now);
        let foreign = parts.unsent.len() as u64;
        conn.uncommon = Some(Box::new(Uncommon { kept: parts.leftover, foreign, lingered: 0 }));
        conn.outbox = Outbox::from(parts.unsent);
        conn
    }
}

/// State.
impl<R: Role> Conn<R> {
    /// Exchanges that are not complete, those with unread bodies included.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// Exchanges pending or reserved.
    pub fn in_flight(&self) -> usize {
        self.queue.len() + self.reserved
    }

    /// How many more exchanges the depth allows now; 0 once closing. A gate may hold the next one back all the same.
    pub fn available(&self) -> usize {
        if self.phase != Phase::Open || self.is_last_sent() {
            return 0;
        }
        (self.config.pipelining.depth.max(1) as usize).saturating_sub(self.in_flight())
    }

    /// Whether nothing is pending and nothing is half-read or half-written, so that the connection may be reused, or closed at no loss.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.partial.is_empty()
            && self.held.is_none()
            && self.outbox.is_empty()
            && matches!(self.inbound, Inbound::Between)
    }

    /// Whether the peer is owed something: an exchange is not complete, or bytes have not left. A connection that only waits for its peer's end owes nothing.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty() || !self.outbox.is_empty()
    }

    /// Whether no further exchange can begin.
    pub fn is_closing(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Whether [`Event::Closed`] is due or was delivered.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Why, once it is closing.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.reason.as_deref().filter(|_| self.is_closing())
    }

    /// The peer's violation, if there was one.
    pub fn error(&self) -> Option<&ProtocolError> {
        self.error.as_deref()
    }

    /// How long the peer said it keeps an idle connection (`Keep-Alive: timeout=`). The idle deadline honours it, less
    /// [`Timeouts::keep_alive_margin`](crate::Timeouts::keep_alive_margin).
    pub fn announced_idle(&self) -> Option<Duration> {
        self.announced_idle.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// How many exchanges completed.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// Bytes of input that were consumed.
    pub fn received_bytes(&self) -> u64 {
        self.consumed
    }

    /// When the machine was made.
    pub fn created(&self) -> Instant {
        self.times.created
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    fn foreign(&self) -> u64 {
        self.uncommon.as_ref().map_or(0, |uncommon| uncommon.foreign)
    }

    fn forget_foreign(&mut self) {
        if let Some(uncommon) = &mut self.uncommon {
            uncommon.foreign = 0;
        }
    }

    fn is_last_sent(&self) -> bool {
        self.queue.back().is_some_and(|exchange| exchange.last.is_some())
    }

    fn tick(&mut self, now: Instant) {
        // A caller's clock may stand still, but time never runs backwards here.
        self.times.now = self.times.now.max(now);
    }

    fn say_slots(&mut self) {
        if R::IS_CLIENT {
            self.due.slots = true;
            self.due.any = true;
        }
    }

    fn say(&mut self, note: impl FnOnce(&mut Rare)) {
        note(self.due.rare.get_or_insert_default());
        self.due.any = true;
    }
}

impl<R: Role> core::fmt::Debug for Conn<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Conn")
            .field("phase", &self.phase)
            .field("inbound", &self.inbound)
            .field("pending", &self.queue.len())
            .field("completed", &self.completed)
            .field("unsent", &self.outbox.len())
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}
