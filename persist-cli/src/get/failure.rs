//! Why a URL failed, in one line: what was being done, and the cause; and the exit code, which is curl's for the same thing.

use std::error::Error as _;
use std::io;

use persist_async::Error;
use persist_async::error::Ended;
use persist_core::{BodyLen, CloseReason, Disposition, Failure, SendError, Side};

use crate::exit::Exit;

/// Why a URL failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// The phase and the cause.
    pub(super) line: String,
    pub(super) exit: Exit,
    /// What became of the request.
    pub(super) disposition: &'static str,
}

/// How much of a response had come when it broke off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    pub(super) len: BodyLen,
    pub(super) bytes: u64,
}

impl Failed {
    /// Before anything of the request was sent.
    pub(super) fn new(line: String, exit: Exit) -> Self {
        Self { line, exit, disposition: name(Disposition::NotSent) }
    }

    /// The response was whole, but what it was for failed.
    pub(super) fn after_reply(line: String, exit: Exit) -> Self {
        Self { line, exit, disposition: super::record::COMPLETE }
    }

    /// An exchange that its connection could not complete; `progress` if the response's head had come.
    pub(super) fn of_exchange(error: &Error, progress: Option<Progress>) -> Self {
        let reason = close_reason(error);
        let disposition = error.failure().map(|failure| failure.disposition);
        let io = error.source().filter(|source| source.is::<io::Error>());
        // Whoever gave the content up is the machine, because the reader failed.
        if let (Some(CloseReason::Aborted), Some(io)) = (reason, io) {
            return Self {
                line: format!("reading the content to be sent: {io}"),
                exit: Exit::Read,
                disposition: name(disposition.unwrap_or(Disposition::NotSent)),
            };
        }
        let doing = match (disposition, progress) {
            (_, Some(_)) => "receiving the response",
            (Some(Disposition::NotSent | Disposition::PartlySent { .. }) | None, None) => "sending the request",
            (Some(Disposition::ReplyPartial), None) => "receiving the response's head",
            (Some(_), None) => "waiting for the response",
        };
        let so_far = progress.map(Progress::describe).unwrap_or_default();
        let cause = match (reason, error.source()) {
            (Some(CloseReason::Protocol(broken)), _) => {
                format!("the response is not HTTP/1.1 as it should be: {broken}")
            }
            (Some(reason), _) => match io {
                Some(io) => format!("{reason}: {io}"),
                None => reason.to_string(),
            },
            (None, Some(source)) => source.to_string(),
            (None, None) => error.to_string(),
        };
        Self {
            line: format!("{doing}: {so_far}{cause}"),
            exit: exit(disposition, reason),
            disposition: name(disposition.unwrap_or(Disposition::NotSent)),
        }
    }

    pub(super) fn too_slow(disposition: Disposition) -> Self {
        let doing = match disposition {
            Disposition::ReplyPartial => "receiving the response",
            _ => "waiting for the response",
        };
        Self {
            line: format!("{doing}: not complete within --max-time"),
            exit: Exit::Timeout,
            disposition: name(disposition),
        }
    }

    pub(super) fn writing(to: &str, error: &io::Error) -> Self {
        Self::after_reply(format!("writing {to}: {error}"), Exit::Write)
    }
}

impl Progress {
    fn describe(self) -> String {
        match self.len {
            BodyLen::Length(len) => format!("{} of {len} bytes of content came: ", self.bytes),
            _ => format!("{} bytes of content came: ", self.bytes),
        }
    }
}

/// Why the machine refused the request, if it did.
pub(super) fn refused(error: &Error) -> Option<&SendError> {
    error.source()?.downcast_ref()
}

/// Why the connection ended, if that is what the error says.
fn close_reason(error: &Error) -> Option<&CloseReason> {
    match error.failure() {
        Some(failure) => Some(&failure.reason),
        None => error.source()?.downcast_ref::<Ended>()?.reason.as_ref(),
    }
}

/// The disposition as reports write it.
pub(super) fn name(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::NotSent => "not-sent",
        Disposition::PartlySent { .. } => "partly-sent",
        Disposition::SentNoReply => "sent-no-reply",
        Disposition::ReplyPartial => "reply-partial",
        Disposition::Declined => "declined",
        _ => "unknown",
    }
}

fn exit(disposition: Option<Disposition>, reason: Option<&CloseReason>) -> Exit {
    match (reason, disposition) {
        (Some(CloseReason::Protocol(error)), _) if *error.cause() == persist_core::Cause::Truncated => Exit::Partial,
        (Some(CloseReason::Protocol(_) | CloseReason::Poisoned), _) => Exit::WeirdReply,
        (Some(CloseReason::Timeout(_)), _) => Exit::Timeout,
        (Some(CloseReason::Io(Side::Write)), _) => Exit::Send,
        (_, Some(Disposition::ReplyPartial)) => Exit::Partial,
        (Some(CloseReason::Io(Side::Read)), _) => Exit::Receive,
        (_, Some(Disposition::NotSent | Disposition::PartlySent { .. })) => Exit::Send,
        (Some(_), _) => Exit::NoReply,
        (None, _) => Exit::Send,
    }
}

/// A failure that we caused by giving up on another exchange of the connection, as if the connection had been lost: which is what it was for this one.
pub(super) fn as_lost(failure: &Failure) -> Failure {
    let mut failure = failure.clone();
    if failure.reason == CloseReason::Aborted {
        failure.reason = CloseReason::Io(Side::Read);
    }
    failure
}
