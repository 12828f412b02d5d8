//! How a service takes its connection over.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use persist_core::{Phase, SendError};
use tokio::sync::oneshot;

use crate::error::{self, Error, Result};
use crate::hijack::Detached;
use crate::link::Transport;

/// The stream below, detached: what was read ahead comes first.
type Taken = Detached<Box<dyn Transport>>;

/// The right to take the connection of a request over: an extension of each request that [`Server::serve_service`](crate::Server::serve_service) hands to its service.
///
/// The service answers `101` (or 2xx to CONNECT) in the usual way, and whoever has [`taken`](Self::taken) this gets the stream once that response has left. If nobody
/// asked, a `101` is refused: the client gets a `500`.
///
/// ```
/// use persist_async::tower::Upgrade;
/// use tokio::io::AsyncWriteExt;
///
/// async fn handler(mut request: http::Request<persist_async::Incoming>) -> http::Response<String> {
///     let upgrade = request.extensions_mut().remove::<Upgrade>().expect("our server's");
///     let stream = upgrade.taken();
///     tokio::spawn(async move {
///         if let Ok(mut stream) = stream.await {
///             let _ = stream.write_all(b"no longer HTTP").await;
///         }
///     });
///     let response = http::Response::builder().status(101).header("connection", "upgrade").header("upgrade", "example");
///     response.body(String::new()).expect("valid")
/// }
/// # let _ = handler;
/// ```
#[derive(Clone)]
pub struct Upgrade(Arc<Mutex<State>>);

enum State {
    Offered,
    Claimed(oneshot::Sender<Result<Taken>>),
    Settled,
}

impl Upgrade {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State::Offered)))
    }

    /// Claims the connection, at once; the future waits until the response has left, and is the stream then. Call it before the response is given.
    ///
    /// # Errors
    /// The service answered otherwise than by granting an upgrade, the connection failed, or it was claimed before.
    pub fn taken(&self) -> impl Future<Output = Result<Taken>> + Send + Sync + use<> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let claimed = matches!(*state, State::Offered);
        if claimed {
            *state = State::Claimed(sender);
        }
        drop(state);
        async move {
            if !claimed {
                return Err(error::refused(SendError::NoSuchExchange));
            }
            receiver.await.unwrap_or_else(|_| Err(Error::new(Phase::Send, "the service granted no upgrade")))
        }
    }

    /// Whoever claimed it, if anybody did. Nobody can afterwards.
    pub(super) fn claim(&self) -> Option<Claim> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Settled) {
            State::Claimed(sender) => Some(Claim(sender)),
            State::Offered | State::Settled => None,
        }
    }
}

/// Somebody who waits for the stream.
pub(super) struct Claim(oneshot::Sender<Result<Taken>>);

impl Claim {
    pub(super) fn settle(self, outcome: Result<Taken>) {
        // Whoever waited may be gone; then so is the stream.
        let _ = self.0.send(outcome);
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").finish_non_exhaustive()
    }
}
