//! What could happen if a rejected input were accepted: the reason to be strict.

use persist_core::{Cause, CloseReason};

/// The smuggling risk of a protocol error, in a sentence; `None` where accepting it would confuse nobody else.
pub(super) fn of(cause: &Cause) -> Option<&'static str> {
    matches!(cause, Cause::Truncated)
        .then_some("a message that is taken for complete although it is cut off hides what was to follow")
}

/// The same for a bad end that is not a protocol error of one message.
pub(super) fn of_end(reason: &CloseReason) -> Option<&'static str> {
    matches!(reason, CloseReason::Poisoned).then_some(
        "response queue poisoning: bytes that answer no request would be taken for the answer to the next one",
    )
}

/// The clause behind a bad end.
pub(super) fn clause_of(reason: &CloseReason) -> Option<&'static str> {
    match reason {
        CloseReason::Protocol(error) => Some(error.clause()),
        CloseReason::PeerClosedEarly | CloseReason::PeerClosed => Some("RFC 9112 §8"),
        CloseReason::Poisoned => Some("RFC 9112 §9.2"),
        _ => None,
    }
}
