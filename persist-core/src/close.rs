//! Why a connection ended, or is ending.

use core::fmt;

use crate::error::ProtocolError;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// What the peer sends us.
    Read,
    /// What we send the peer.
    Write,
}

/// Which deadline passed. Each is a field of [`Timeouts`](crate::Timeouts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deadline {
    /// A head was not complete in time.
    Header,
    /// No body byte came for too long.
    BodyIdle,
    /// Body bytes came slower than the minimum rate.
    BodyRate,
    /// One exchange took too long as a whole.
    Total,
    /// The layer below accepted no byte for too long.
    WriteStall,
    /// The rest of an unwanted body did not come in time.
    Drain,
    /// A peer did not close in time after we had.
    Linger,
    /// A PING of HTTP/2 was not answered in time.
    Ping,
}

/// Why a connection ended. Most are graceful and not errors; [`is_graceful`](Self::is_graceful) tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer's last message said `close` (or was HTTP/1.0 without `keep-alive`).
    PeerSaidClose,
    /// The peer closed its side between messages: a clean end of file.
    PeerClosed,
    /// The peer closed its side in the middle of a message, or with requests unanswered.
    PeerClosedEarly,
    /// We said `close`, or the caller asked for a graceful end.
    OurClose,
    /// The caller ended it at once.
    Aborted,
    /// Nothing was going on for the idle time (ours, or what the peer announced in `Keep-Alive`).
    Idle,
    /// The connection reached its maximum age.
    MaxAge,
    /// The connection carried its maximum number of requests.
    MaxRequests,
    /// A deadline passed.
    Timeout(Deadline),
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// Bytes came that answer no request: nothing on this connection can be trusted (RFC 9112 §9.2).
    Poisoned,
    /// The layer below failed in this direction; the adapter holds the cause.
    Io(Side),
    /// A body could not be finished or drained within its budget, so the next message cannot be found.
    Unfinished,
    /// HTTP/2: the peer ended this exchange alone, with this error code (RFC 9113 §6.4, §7). The connection goes on.
    PeerReset {
        /// The code.
        code: u32,
    },
    /// HTTP/2: the peer ended the connection with this error code (RFC 9113 §6.8, §7).
    PeerGoAway {
        /// The code.
        code: u32,
    },
    /// HTTP/2: the peer broke the protocol, and was told so with this error code (RFC 9113 §5.4, §7).
    PeerWrong {
        /// The code.
        code: u32,
    },
    /// The connection now speaks another protocol (Upgrade, CONNECT) or was detached.
    Switched,
}

impl CloseReason {
    /// Whether this is an orderly end of a healthy connection rather than a failure.
    pub fn is_graceful(&self) -> bool {
        matches!(
            self,
            Self::PeerSaidClose
                | Self::PeerClosed
                | Self::OurClose
                | Self::Idle
                | Self::MaxAge
                | Self::MaxRequests
                | Self::Switched
        )
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::BodyIdle => "body-idle",
            Self::BodyRate => "body-rate",
            Self::Total => "total",
            Self::WriteStall => "write-stall",
            Self::Drain => "drain",
            Self::Linger => "linger",
            Self::Ping => "ping",
        })
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerSaidClose => "the peer said close",
            Self::PeerClosed => "the peer closed between messages",
            Self::PeerClosedEarly => "the peer closed before the message was complete",
            Self::OurClose => "we closed",
            Self::Aborted => "aborted by the caller",
            Self::Idle => "idle for too long",
            Self::MaxAge => "maximum age reached",
            Self::MaxRequests => "maximum number of requests reached",
            Self::Timeout(deadline) => return write!(f, "{deadline} deadline passed"),
            Self::Protocol(error) => return write!(f, "protocol error: {error}"),
            Self::Poisoned => "bytes came that answer no request",
            Self::Io(Side::Read) => "reading failed",
            Self::Io(Side::Write) => "writing failed",
            Self::Unfinished => "a body could not be finished within its budget",
            Self::PeerReset { code } => return write!(f, "the peer reset the stream: {}", Code(*code)),
            Self::PeerGoAway { code } => return write!(f, "the peer gave the connection up: {}", Code(*code)),
            Self::PeerWrong { code } => return write!(f, "the peer broke HTTP/2: {}", Code(*code)),
            Self::Switched => "switched to another protocol",
        })
    }
}

/// An error code of HTTP/2 (RFC 9113 §7), by its name.
struct Code(u32);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "code {:#x}", self.0),
        }
    }
}
