//! What a machine says: events, and the handles they carry.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU64;

use super::Role;
use crate::close::CloseReason;
use crate::disposition::Failure;
use crate::field::Fields;
use crate::head::BodyLen;

/// One exchange on its connection: a request and its responses. Grows in the order of the requests, and is never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(NonZeroU64); // one more than the number, so that an exchange or none takes no more room

impl ExchangeId {
    /// The number, for logs: 0 is the first exchange of the connection.
    #[inline]
    pub const fn number(self) -> u64 {
        self.0.get() - 1
    }

    /// The exchange of this number. For adapters of other protocols (HTTP/2), which count their exchanges themselves.
    #[inline]
    pub const fn from_number(number: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(number))
    }
}

impl fmt::Debug for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExchangeId").field(&self.number()).finish()
    }
}

/// The right to answer one request, once. Not `Clone`: answering twice does not compile.
///
/// Whoever drops it unused owes the machine an [`abandon`](super::Conn::abandon), or the connection waits for ever; adapters
/// wrap it in a guard.
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

/// What [`Conn::next`](super::Conn::next) found.
#[derive(Debug)]
pub enum Next<'i, R: Role> {
    /// Something happened. Call again.
    Event(Event<'i, R>),
    /// All input is consumed: read more, or wait for the deadline.
    NeedRead,
    /// Stop reading until the caller acted (answered, took parked replies, took the connection apart). Hand what is left of
    /// the input to [`Conn::keep`](super::Conn::keep), or keep it yourself.
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
    /// Client: another request may find room that found none: an exchange or a reserved place is gone, a gate opened, or the connection takes no more.
    /// What the caller takes itself, by sending and reserving, is not told.
    Slots,
    /// The connection speaks another protocol from here on: take it apart with [`Conn::into_parts`](super::Conn::into_parts).
    Switched {
        /// The exchange that switched it.
        id: ExchangeId,
    },
    /// The connection is done: close the stream. The last event.
    Closed(CloseReason),
}

/// Whether a body may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    /// So many content bytes are taken now; 0 while the outbox is full.
    Ready {
        /// Bytes of content.
        room: usize,
    },
    /// Client: waiting for `100 Continue`, at most until its deadline. Content may be sent all the same.
    AwaitContinue,
    /// Client: an early response stopped it.
    Stopped,
    /// The whole message was taken, none was declared, or the exchange is gone.
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

impl Parts {
    /// Parts to start a machine from: what was read and not used, what was taken and not written.
    pub fn new(leftover: Vec<u8>, unsent: Vec<u8>) -> Self {
        Self { leftover, unsent, failures: Vec::new() }
    }
}
