//! Errors, blame first: [`ProtocolError`] is the peer's, [`SendError`] the caller's. A graceful end is neither: see [`CloseReason`](crate::CloseReason).

use crate::conn::Ticket;
use crate::status::StatusCode;

pub use crate::cause::Cause;

/// The peer broke the protocol, or went past a limit. Sticky: the connection never recovers.
///
/// ```text
/// content-length 12 conflicts with 15 (RFC 9112 §6.3 rule 5), at byte 61 of the connection's input
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause} ({}), at byte {offset} of the input", cause.clause())]
pub struct ProtocolError {
    cause: Cause,
    offset: u64,
}

impl ProtocolError {
    pub(crate) const fn new(cause: Cause, offset: u64) -> Self {
        Self { cause, offset }
    }

    /// What was wrong, with the values.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Where: so many bytes into all that the connection has read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The clause that was broken.
    pub fn clause(&self) -> &'static str {
        self.cause.clause()
    }

    /// What an attacker could make of a recipient that lets this pass, if it is more than a broken peer.
    pub fn smuggling_risk(&self) -> Option<&'static str> {
        self.cause.smuggling_risk()
    }

    /// What a server should answer; a client has no use for it.
    pub fn suggested_status(&self) -> StatusCode {
        self.cause.suggested_status()
    }
}

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The other end of the connection.
    Peer,
    /// The program that called us.
    Caller,
    /// What lies between the two: name resolution, routing, a cut line, a passed deadline.
    Network,
}

/// The caller asked for something that cannot be sent. Nothing was written, and the connection is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection takes no further messages.
    #[error("the connection is closed or closing")]
    Closed,
    /// As many exchanges are in flight or reserved as the depth allows.
    #[error("{in_flight} exchanges are in flight, as many as the pipelining depth allows")]
    Full {
        /// How many.
        in_flight: usize,
    },
    /// A gate is closed: an earlier exchange must be answered first (RFC 9112 §9.3.2).
    #[error("an earlier request must be answered before this one may be sent")]
    AnswerFirst,
    /// The body of the message before this one is not finished.
    #[error("the body of the previous message is not finished")]
    BodyUnfinished,
    /// The exchange does not exist, has ended, or is past this step.
    #[error("no such exchange, or it has ended")]
    NoSuchExchange,
    /// More content than was declared.
    #[error("{excess} bytes more than the declared content length")]
    TooLong {
        /// How many bytes too many.
        excess: u64,
    },
    /// Less content than was declared.
    #[error("{missing} bytes fewer than the declared content length")]
    TooShort {
        /// How many bytes are missing.
        missing: u64,
    },
    /// The machine writes this field itself, from [`BodyLen`](crate::BodyLen).
    #[error("field {0} is written by the machine itself, from the body's length")]
    FramingField(&'static str),
    /// The request target is empty or has a byte that would end it.
    #[error("the request target is empty or holds a byte that may not stand there")]
    InvalidTarget,
    /// A request has exactly one `Host` field (RFC 9112 §3.2).
    #[error("{hosts} host fields where there must be one")]
    Hosts {
        /// How many were given.
        hosts: u8,
    },
    /// The status code may not stand here: an interim one as final, a final one as interim, or 101 to a request that did not ask.
    #[error("status {0} may not stand here")]
    InvalidStatus(StatusCode),
    /// The message does not fit the peer: an interim response to HTTP/1.0, trailers without chunked framing.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The upload was stopped by an early final response, so the rest is not wanted.
    #[error("the upload was stopped by an early response")]
    UploadStopped,
    /// Parked responses reached their limit in bytes.
    #[error("responses given before their turn reached {limit} bytes")]
    ParkedFull {
        /// The limit.
        limit: u64,
    },
    /// One head larger than [`Limits::head_bytes_max`](crate::Limits::head_bytes_max).
    #[error("the head has more than {limit} bytes")]
    HeadTooLarge {
        /// The limit.
        limit: u64,
    },
}

/// A response was not taken; the ticket comes back with the reason, so that the exchange can still be answered.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// The ticket of the exchange.
    pub ticket: Ticket,
    /// Why.
    #[source]
    pub error: SendError,
}
