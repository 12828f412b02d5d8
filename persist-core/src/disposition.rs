//! What became of an exchange that did not complete: the truth about a failed request.

use core::fmt;
use core::time::Duration;

use crate::close::CloseReason;
use crate::method::Method;

/// What became of a message whose exchange did not complete.
///
/// For a client the message is its request; for a server it is its response. "Sent" means accepted by the layer below:
/// nobody can know more without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Disposition {
    /// Not one byte was accepted by the layer below: the peer cannot have seen it.
    NotSent,
    /// Some bytes were accepted, not all.
    PartlySent {
        /// How many.
        bytes: u64,
    },
    /// All of it was accepted, and no byte of a final response came (interim ones may have).
    SentNoReply,
    /// A final response began and did not complete.
    ReplyPartial,
    /// Its bytes went out, then an earlier response said `close`: the peer declined to process it (RFC 9112 §9.6).
    Declined,
}

/// One exchange that did not complete, with all that a retry decision needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// What became of it.
    pub disposition: Disposition,
    /// Why the exchange ended.
    pub reason: CloseReason,
    /// Bytes of our message that the layer below accepted: head, content and chunked framing.
    pub sent: u64,
    /// Bytes of the peer's final message that were received: head, content and chunked framing.
    pub received: u64,
    /// Whether the request's method is idempotent (RFC 9110 §9.2.2).
    pub idempotent: bool,
    /// Whether an earlier exchange had completed on this connection.
    pub reused: bool,
    /// How long the connection had existed.
    pub age: Duration,
    /// Whether the request came in here, to a server: then `disposition` is what became of the response.
    pub served: bool,
}

impl Failure {
    /// A failure on a fresh connection, with nothing counted. For adapters of other protocols (HTTP/2) and for tests: fill in what is known.
    pub fn new(disposition: Disposition, reason: CloseReason, method: &Method) -> Self {
        let idempotent = method.is_idempotent();
        let (reused, age) = (false, Duration::ZERO);
        Self { disposition, reason, sent: 0, received: 0, idempotent, reused, age, served: false }
    }

    /// The same on a connection of this age that had completed an exchange.
    #[must_use]
    pub fn on_reused(self, age: Duration) -> Self {
        Self { reused: true, age, ..self }
    }

    /// Whether the peer provably did not process the request, so that any method may be sent again.
    pub fn is_provably_unprocessed(&self) -> bool {
        matches!(self.disposition, Disposition::NotSent | Disposition::Declined)
    }
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent => f.write_str("not sent"),
            Self::PartlySent { bytes } => write!(f, "partly sent ({bytes} bytes)"),
            Self::SentNoReply => f.write_str("sent, no reply"),
            Self::ReplyPartial => f.write_str("reply partial"),
            Self::Declined => f.write_str("declined"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.served {
            write!(f, "{}: ", self.disposition)?;
        }
        write!(f, "{} ({} bytes sent, {} received", self.reason, self.sent, self.received)?;
        f.write_str(if self.reused { ", on a reused connection)" } else { ", on a fresh connection)" })
    }
}

impl core::error::Error for Failure {}
