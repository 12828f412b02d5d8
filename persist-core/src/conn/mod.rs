//! The machine of one connection.
//!
//! The contract, for every method that mutates: *mutate → drain [`next`](Conn::next) and [`transmit`](Conn::transmit) → ask
//! [`poll_shutdown`](Conn::poll_shutdown) → wait for I/O or for [`poll_timeout`](Conn::poll_timeout).*

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::marker::PhantomData;

use bytes::{Buf, Bytes};

use crate::close::{CloseReason, Side};
use crate::config::Config;
use crate::disposition::Failure;
use crate::error::{ProtocolError, Refused, SendError};
use crate::field::{Field, Fields};
use crate::head::{BodyLen, RequestHead, ResponseHead};
use crate::method::Method;
use crate::status::StatusCode;
use crate::time::Instant;

mod sealed {
    pub trait Sealed {}
}

/// Which end of the connection a machine is: [`Client`] or [`Server`].
pub trait Role: sealed::Sealed + Sized + 'static {
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

impl sealed::Sealed for Client {}
impl sealed::Sealed for Server {}

impl Role for Client {
    type Inbound = ResponseHead;
    type Ticket = ();
}

impl Role for Server {
    type Inbound = RequestHead;
    type Ticket = Ticket;
}

/// One exchange on its connection: a request and its responses. Numbered from 0 in the order of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(pub(crate) u64);

impl ExchangeId {
    /// The number: 0 for the first exchange of the connection.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// The right to answer one request, once. Not `Clone`: answering twice does not compile.
///
/// Whoever drops it unused owes the machine an [`abandon`](Conn::abandon), or the connection waits for ever; adapters wrap it in a guard.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "answer it, or hand it to `abandon`"]
pub struct Ticket {
    pub(crate) id: ExchangeId,
}

impl Ticket {
    /// The exchange to answer.
    pub fn id(&self) -> ExchangeId {
        self.id
    }
}

/// A reserved place in the pipeline: it counts as in flight until used or released.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "use it with `send_request_in`, or give it back with `release`"]
pub struct Slot(pub(crate) ());

/// What [`Conn::next`] found.
#[derive(Debug)]
pub enum Next<'i, R: Role> {
    /// Something happened. Call again.
    Event(Event<'i, R>),
    /// All input is consumed: read more, or wait for the deadline.
    NeedRead,
    /// Stop reading until the caller acted (answered, took parked replies, finished a handshake). Hand what is left of the
    /// input to [`Conn::keep`], or keep it yourself.
    Paused,
}

/// Something that happened on the connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'i, R: Role> {
    /// Client: an interim response (1xx but 101). Others follow.
    Interim {
        /// Whose.
        id: ExchangeId,
        /// The head; an interim response has no content.
        head: R::Inbound,
    },
    /// A request (server) or final response (client) began. `Data` and `End` follow.
    Head {
        /// Whose.
        id: ExchangeId,
        /// Server: the right to answer.
        ticket: R::Ticket,
        /// The head, owned: it may cross threads and awaits.
        head: R::Inbound,
        /// How the content is framed.
        body: BodyLen,
    },
    /// Content, lent from the input, chunked framing removed. Never empty.
    Data {
        /// Whose.
        id: ExchangeId,
        /// The bytes.
        data: &'i [u8],
    },
    /// The peer's message is complete.
    End {
        /// Whose.
        id: ExchangeId,
        /// The trailer section of a chunked body, never merged with the head's fields.
        trailers: Option<Fields>,
    },
    /// An exchange ended without completing. Exactly once for each such exchange; none of its other events follow.
    Ended {
        /// Whose.
        id: ExchangeId,
        /// What became of it.
        failure: Box<Failure>,
    },
    /// Client: `100 Continue` came, or its deadline passed: send the body now.
    Continue {
        /// Whose.
        id: ExchangeId,
    },
    /// Client: an early final response made the rest of this upload unwanted; `send_body` refuses more of it.
    UploadStopped {
        /// Whose.
        id: ExchangeId,
    },
    /// `available`, `in_flight` or `pending` changed since the last such event.
    Slots,
    /// The connection speaks another protocol from here on: take it apart with [`Conn::into_parts`].
    Switched {
        /// The exchange that switched it.
        id: ExchangeId,
    },
    /// The connection is done: close the stream. The last event.
    Closed(CloseReason),
}

/// Whether a client's upload may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    /// So many content bytes are taken now; 0 while the outbox is full.
    Ready {
        /// Bytes of content.
        room: u64,
    },
    /// Waiting for `100 Continue`, at most until its deadline.
    AwaitContinue,
    /// An early response stopped it.
    Stopped,
    /// The whole message was taken, or the exchange is gone.
    Finished,
}

/// What a machine leaves when it is taken apart.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Parts {
    /// Bytes that were given to the machine and belong to no message. They precede whatever the stream gives next.
    pub leftover: Vec<u8>,
    /// Bytes that must still be written to the stream.
    pub unsent: Vec<u8>,
    /// The exchanges that were not complete.
    pub failures: Vec<(ExchangeId, Failure)>,
}

/// The machine of one HTTP/1.1 connection.
#[derive(Debug)]
pub struct Conn<R: Role> {
    config: Arc<Config>,
    role: PhantomData<R>,
}

/// In: bytes, time, and what happened to the stream.
impl<R: Role> Conn<R> {
    /// A machine for a fresh connection.
    pub fn new(config: impl Into<Arc<Config>>, now: Instant) -> Self {
        let _ = now;
        Self { config: config.into(), role: PhantomData }
    }
    /// A machine that goes on where another one was taken apart: `parts.leftover` is kept (see [`take_kept`](Self::take_kept)), `parts.unsent` is sent first.
    pub fn from_parts(_config: impl Into<Arc<Config>>, _parts: Parts, _now: Instant) -> Self {
        todo!()
    }
    /// The next thing that the input holds. `input` is lent for the call; what is consumed is cut off its front.
    ///
    /// # Errors
    /// The peer broke the protocol. Sticky: from then on `next` returns what events remain, and the error instead of `NeedRead`
    /// and `Paused`. Go on driving until [`Event::Closed`]: a server still sends earlier replies and the suggested status, and lingers.
    pub fn next<'i>(&mut self, _input: &mut &'i [u8], _now: Instant) -> Result<Next<'i, R>, ProtocolError> {
        todo!()
    }
    /// When `Paused`: takes what was read but cannot be used yet. Give it back to `next`, ahead of anything new, with [`take_kept`](Self::take_kept).
    ///
    /// # Errors
    /// How many bytes did not fit into `Limits::kept_bytes_max`; nothing was taken.
    pub fn keep(&mut self, _rest: &[u8]) -> Result<(), usize> {
        todo!()
    }
    /// What [`keep`](Self::keep) took. Feed it to `next` before new input.
    pub fn take_kept(&mut self) -> Vec<u8> {
        todo!()
    }
    /// The peer closed its side. Whether that is clean is the machine's judgement.
    pub fn handle_eof(&mut self, _now: Instant) {
        todo!()
    }
    /// The layer below failed in this direction. After a failed write, go on reading: the peer may have answered already.
    pub fn handle_io_error(&mut self, _side: Side, _now: Instant) {
        todo!()
    }
    /// Time has passed; call when [`poll_timeout`](Self::poll_timeout) is due. Spurious calls are no-ops.
    pub fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }
    /// So many bytes of the current body may be read straight from the stream into the caller's buffer; 0 when there is framing to be read first.
    pub fn body_window(&self) -> u64 {
        todo!()
    }
    /// `n` bytes of the body were read straight from the stream, at most [`body_window`](Self::body_window).
    pub fn handle_body(&mut self, _n: u64, _now: Instant) {
        todo!()
    }
    /// So many bytes of the current outbound body may be written straight to the stream (sendfile); 0 while the outbox holds bytes, or the body is not `Length`.
    pub fn send_window(&self, _id: ExchangeId) -> u64 {
        todo!()
    }
    /// `n` bytes of the outbound body were written straight to the stream, at most [`send_window`](Self::send_window).
    pub fn handle_sent(&mut self, _id: ExchangeId, _n: u64, _now: Instant) {
        todo!()
    }
    /// Ends the connection in an orderly way: what is pending is finished, nothing new is taken. A server says `Connection: close` in its last response. (Mission: `listener_gone`.)
    pub fn close(&mut self, _now: Instant) {
        todo!()
    }
    /// Ends the connection now; every pending exchange comes back as `Ended`.
    pub fn abort(&mut self, _now: Instant) {
        todo!()
    }
}

/// Bodies out: the same for requests and responses.
impl<R: Role> Conn<R> {
    /// Takes content of the current outbound body, copying it; returns how many bytes (fewer than given, or 0, when the outbox is full).
    ///
    /// # Errors
    /// [`SendError::TooLong`] before anything is taken, `NoSuchExchange`, `UploadStopped`.
    pub fn send_body(&mut self, _id: ExchangeId, _data: &[u8], _now: Instant) -> Result<usize, SendError> {
        todo!()
    }
    /// The same without copying. Takes all of it or, when the outbox is full, nothing (`false`).
    ///
    /// # Errors
    /// As [`send_body`](Self::send_body).
    pub fn send_body_shared(&mut self, _id: ExchangeId, _data: &Bytes, _now: Instant) -> Result<bool, SendError> {
        todo!()
    }
    /// Completes the outbound body. Trailers need chunked framing.
    ///
    /// # Errors
    /// [`SendError::TooShort`]: the message stays unfinished.
    pub fn finish_body(&mut self, _id: ExchangeId, _trailers: Option<&Fields>, _now: Instant) -> Result<(), SendError> {
        todo!()
    }
}

impl Conn<Client> {
    /// Sends a request's head, in its turn; the body follows with `send_body` and `finish_body` (not for `Empty` and `Length(0)`: those are complete).
    ///
    /// `Host` is the caller's to give. `Content-Length` and `Transfer-Encoding` are the machine's.
    ///
    /// # Errors
    /// The gates: `Closed`, `Full`, `AnswerFirst`, `BodyUnfinished`; and invalid requests.
    pub fn send_request<'f>(
        &mut self,
        _method: &Method,
        _target: &str,
        _fields: impl IntoIterator<Item = Field<'f>>,
        _body: BodyLen,
        _now: Instant,
    ) -> Result<ExchangeId, SendError> {
        todo!()
    }
    /// [`send_request`](Self::send_request) in a reserved place.
    ///
    /// # Errors
    /// As there. The slot is given back in every case.
    pub fn send_request_in<'f>(
        &mut self,
        _slot: Slot,
        _method: &Method,
        _target: &str,
        _fields: impl IntoIterator<Item = Field<'f>>,
        _body: BodyLen,
        _now: Instant,
    ) -> Result<ExchangeId, SendError> {
        todo!()
    }
    /// Whether a request of this method could be sent now.
    ///
    /// # Errors
    /// What [`send_request`](Self::send_request) would say.
    pub fn may_send(&self) -> Result<(), SendError> {
        todo!()
    }
    /// Reserves a place. Each slot is followed by exactly one `send_request_in` or `release`.
    ///
    /// # Errors
    /// `Closed`, `Full`.
    pub fn reserve(&mut self) -> Result<Slot, SendError> {
        todo!()
    }
    /// Gives a place back.
    pub fn release(&mut self, _slot: Slot) {
        todo!()
    }
    /// Gives up on an exchange: it ends now (`Ended`, [`CloseReason::Aborted`]), its reply is dropped within the drain budget, else the connection closes.
    pub fn cancel(&mut self, _id: ExchangeId, _now: Instant) {
        todo!()
    }
    /// Whether the upload may go on.
    pub fn upload(&self, _id: ExchangeId) -> Upload {
        todo!()
    }
}

impl Conn<Server> {
    /// The body is wanted: sends `100 Continue` if the client waits for one and nothing of the body has come. Call when a handler first reads.
    pub fn want_body(&mut self, _id: ExchangeId, _now: Instant) {
        todo!()
    }
    /// Sends an interim response (102, 103) before the final one.
    ///
    /// # Errors
    /// `Unsupported` to HTTP/1.0, `InvalidStatus` unless 1xx but 101.
    pub fn send_interim<'f>(
        &mut self,
        _ticket: &Ticket,
        _status: StatusCode,
        _fields: impl IntoIterator<Item = Field<'f>>,
        _now: Instant,
    ) -> Result<(), SendError> {
        todo!()
    }
    /// Answers. May come in any order; leaves in request order. The body follows with `send_body` and `finish_body` (not for `Empty`, `Length(0)`, a HEAD request, 204 or 304: those are complete).
    ///
    /// # Errors
    /// [`Refused`] gives the ticket back: fields of the machine's own, an impossible status, parked limits, exchange ended.
    pub fn send_response<'f>(
        &mut self,
        _ticket: Ticket,
        _status: StatusCode,
        _fields: impl IntoIterator<Item = Field<'f>>,
        _body: BodyLen,
        _now: Instant,
    ) -> Result<(), Refused> {
        todo!()
    }
    /// The handler is gone: answers 500 and closes, so that nobody waits for ever. With its response begun, the connection is cut instead.
    pub fn abandon(&mut self, _id: ExchangeId, _now: Instant) {
        todo!()
    }
}

/// Out: bytes, the deadline, and the end of our side.
impl<R: Role> Conn<R> {
    /// Bytes to be written: a vectored [`Buf`] whose `advance` commits what the layer below accepted.
    pub fn transmit(&mut self, _now: Instant) -> Transmit<'_, R> {
        todo!()
    }
    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// True once, when all is written and our side of the stream must be shut down for writing.
    pub fn poll_shutdown(&mut self) -> bool {
        todo!()
    }
    /// Gives the machine an empty buffer to write into, so that it allocates none. Get it back with [`reclaim`](Self::reclaim) before waiting.
    pub fn lend(&mut self, _scratch: &mut Vec<u8>) {
        todo!()
    }
    /// Takes the outbox's buffer back if it is empty; a machine without a lent buffer frees its own when idle.
    pub fn reclaim(&mut self, _scratch: &mut Vec<u8>) {
        todo!()
    }
}

/// State.
impl<R: Role> Conn<R> {
    /// Exchanges that are not complete, those with unread bodies included.
    pub fn pending(&self) -> usize {
        todo!()
    }
    /// Exchanges pending or reserved.
    pub fn in_flight(&self) -> usize {
        todo!()
    }
    /// How many more exchanges the depth and the gates allow now.
    pub fn available(&self) -> usize {
        todo!()
    }
    /// Whether nothing is pending and nothing is half-read or half-written, so that the connection may be reused or closed at no loss.
    pub fn is_idle(&self) -> bool {
        todo!()
    }
    /// Whether no further exchange can begin.
    pub fn is_closing(&self) -> bool {
        todo!()
    }
    /// Whether [`Event::Closed`] is due or was delivered.
    pub fn is_closed(&self) -> bool {
        todo!()
    }
    /// Why, once it is closing.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        todo!()
    }
    /// How many exchanges completed.
    pub fn completed(&self) -> u64 {
        todo!()
    }
    /// When the machine was made.
    pub fn created(&self) -> Instant {
        todo!()
    }
    /// The configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }
    /// Takes the machine apart: leftover, unsent, and what was not complete. Input that `next` did not consume is the caller's own, or was [kept](Self::keep).
    pub fn into_parts(self) -> Parts {
        todo!()
    }
}

/// Bytes to be written. `advance` commits: it counts per exchange, and so decides `NotSent` and `PartlySent`.
#[derive(Debug)]
pub struct Transmit<'c, R: Role> {
    conn: &'c mut Conn<R>,
}

impl<R: Role> Buf for Transmit<'_, R> {
    fn remaining(&self) -> usize {
        let _ = &self.conn;
        todo!()
    }
    fn chunk(&self) -> &[u8] {
        todo!()
    }
    fn advance(&mut self, _n: usize) {
        todo!()
    }
}
