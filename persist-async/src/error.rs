//! What the errors of this crate are made of. The type itself is the core's: see [`Error`].

use std::io;
use std::sync::Arc;

use persist_core::{Blame, BoxError, CloseReason, Failure, Phase, SendError};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, where, in which phase, who is to blame, and what became of the request: [`persist_core::ExchangeError`].
///
/// The cause is a value behind [`source`](std::error::Error::source): a [`SendError`] where this program asked for what cannot be, an
/// [`io::Error`] where the layer below failed, [`Ended`] where the connection was over, [`TooLong`] where a limit of the caller's was reached.
pub use crate::dial::ConnectFailures;
pub use persist_core::ExchangeError as Error;
pub use persist_core::{Ended, TooLong};

/// The machine refused what the caller asked for; nothing was sent.
pub(crate) fn refused(error: SendError) -> Error {
    Error::new(Phase::Prepare, error)
}

/// The connection ended the exchange.
pub(crate) fn failed(failure: Box<Failure>, fault: Option<Arc<io::Error>>) -> Error {
    let by_stream = matches!(failure.reason, CloseReason::Io(_));
    let error = Error::from_failure(failure);
    match fault.filter(|_| by_stream) {
        Some(fault) => error.because(copy_of(&fault)),
        None => error,
    }
}

/// The connection is over.
pub(crate) fn ended(phase: Phase, reason: Option<CloseReason>, fault: Option<Arc<io::Error>>) -> Error {
    let by_stream = matches!(reason, Some(CloseReason::Io(_)));
    let cause: BoxError = match fault.filter(|_| by_stream) {
        Some(fault) => copy_of(&fault).into(),
        None => Ended { reason }.into(),
    };
    Error::new(phase, cause)
}

/// For callers that speak `io::Result`, such as readers of a body: the error keeps its whole value inside.
pub(crate) fn into_io(error: Error) -> io::Error {
    let kind = match error.failure().map(|failure| &failure.reason) {
        Some(CloseReason::Timeout(_)) => io::ErrorKind::TimedOut,
        Some(CloseReason::Protocol(_) | CloseReason::Poisoned) => io::ErrorKind::InvalidData,
        Some(CloseReason::PeerClosedEarly) => io::ErrorKind::UnexpectedEof,
        _ => std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<io::Error>())
            .map_or(io::ErrorKind::ConnectionAborted, io::Error::kind),
    };
    io::Error::new(kind, error)
}

/// An `io::Error` cannot be cloned, but several exchanges may fail by one.
pub(crate) fn copy_of(error: &Arc<io::Error>) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None if error.get_ref().is_none() => error.kind().into(),
        None => io::Error::new(error.kind(), Shared(error.clone())),
    }
}

/// An error of a layer above the socket (TLS, for one) that several exchanges failed by. What it was made of is its source.
#[derive(Debug)]
struct Shared(Arc<io::Error>);

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.get_ref().map(|inner| inner as _)
    }
}

/// Our own body could not be produced to its end, so the exchange was given up.
pub(crate) fn broken_off(failure: Box<Failure>, cause: &Arc<io::Error>) -> Error {
    Error::from_failure(failure).because(copy_of(cause)).blaming(Blame::Caller)
}
