//! What can be asked of a connection, the same at both ends: its state, its socket, how its end went.

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::time::Instant as Moment;

use persist_core::{CloseReason, ConnStats, Delivery, KeepAliveProbes, Phase};
use socket2::{SockRef, TcpKeepalive};

use crate::address;
use crate::clock;
use crate::error::{self, Error, Result};
use crate::link::{Link, Locked, State, Transport};
use crate::part::Part;
use crate::stream::Stream;
use crate::sys;

impl<R: Part, S> State<R, S> {
    /// Why the connection ended or is ending; `None` while it is not.
    pub(crate) fn close_reason(&self) -> Option<&CloseReason> {
        self.closed.as_deref().or_else(|| self.conn.close_reason())
    }

    /// Whether it failed, rather than ended.
    pub(crate) fn is_broken(&self) -> bool {
        self.io_error.is_some() || self.close_reason().is_some_and(|reason| !reason.is_graceful())
    }

    /// Whether it is over, or about to be.
    pub(crate) fn is_closing(&self) -> bool {
        self.stream.is_none() || self.conn.is_closing()
    }
}

/// Whether what the system took of a stream has arrived.
pub(crate) fn delivery<S: 'static>(stream: &S) -> Delivery {
    match unacknowledged(stream) {
        Ok(Some(0)) => Delivery::Acknowledged,
        Ok(Some(bytes)) => Delivery::Unacknowledged { bytes },
        Ok(None) | Err(_) => Delivery::Unknown,
    }
}

/// Bytes in the kernel's queue, where there is a socket and the system tells.
fn unacknowledged<S: 'static>(stream: &S) -> io::Result<Option<u64>> {
    if let Some(socket) = address::tcp(stream) {
        return sys::unacknowledged(socket);
    }
    #[cfg(unix)]
    {
        let any: &dyn Any = stream;
        if let Some(socket) = any.downcast_ref().or_else(|| any.downcast_ref().and_then(Stream::as_unix)) {
            let _: &tokio::net::UnixStream = socket;
            return sys::unacknowledged(socket);
        }
    }
    Ok(None)
}

impl<R: Part, S: Transport> Link<R, S> {
    /// Bytes that have not reached the peer's system: our outbox, and the kernel's queue where the system tells.
    pub(crate) fn unsent_bytes(&self) -> Result<u64> {
        let state = self.lock();
        let Some(stream) = state.stream.as_ref().filter(|_| !state.is_broken()) else {
            return Err(error::ended(Phase::Send, state.close_reason().cloned(), state.io_error.clone()));
        };
        let queued = unacknowledged(stream).map_err(|cause| Error::new(Phase::Send, cause))?;
        Ok(state.conn.unsent_bytes() as u64 + queued.unwrap_or(0))
    }

    pub(crate) fn stats(&self) -> ConnStats {
        let state = self.lock();
        let mut stats = ConnStats::default();
        stats.age = clock::now().saturating_since(state.conn.created());
        stats.pending = state.conn.pending();
        stats.completed = state.conn.completed();
        stats.failed = state.failed.as_deref().copied().unwrap_or_default();
        (stats.sent, stats.received) = (state.sent, state.conn.received_bytes());
        stats
    }

    /// Why nothing new can begin, if so.
    pub(crate) fn err(&self) -> Option<Error> {
        let state = self.lock();
        state.is_closing().then(|| error::ended(Phase::Prepare, state.close_reason().cloned(), state.io_error.clone()))
    }

    pub(crate) fn last_read(&self) -> Option<Moment> {
        let state = self.lock();
        state.last_read.map(|time| clock::at(time).into_std())
    }

    pub(crate) fn last_write(&self) -> Option<Moment> {
        let state = self.lock();
        state.last_write.map(|time| clock::at(time).into_std())
    }

    /// Sets or ends TCP's own probes.
    pub(crate) fn set_keep_alive(&self, probes: Option<KeepAliveProbes>) -> io::Result<()> {
        let state = self.lock();
        let stream = state.stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let Some(socket) = address::tcp(stream) else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "only TCP has keepalive probes"));
        };
        let socket = SockRef::from(socket);
        let Some(KeepAliveProbes { idle, interval, count }) = probes else { return socket.set_keepalive(false) };
        let probing = TcpKeepalive::new().with_time(idle);
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple", windows))]
        let probing = probing.with_interval(interval);
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        let probing = probing.with_retries(count);
        let _ = (interval, count);
        socket.set_tcp_keepalive(&probing)
    }
}

impl<S: Transport> Link<persist_core::Client, S> {
    /// The stream, for a look.
    pub(crate) fn stream_ref(&self) -> Option<StreamRef<'_, S>> {
        let state = self.lock();
        state.stream.is_some().then_some(StreamRef(Held::Client(state)))
    }
}

impl<S: Transport> Link<persist_core::Server, S> {
    /// The stream, for a look.
    pub(crate) fn stream_ref(&self) -> Option<StreamRef<'_, S>> {
        let state = self.lock();
        state.stream.is_some().then_some(StreamRef(Held::Server(state)))
    }
}

/// The stream of a connection, lent for a look: for its addresses and options. Reading or writing it would tear the messages apart.
///
/// The connection stands still until this is dropped, and a call of another of its methods would wait for that: look, and let go. (It is not
/// `Send`, so that a task which may change threads cannot keep it over an await.)
///
/// ```
/// use persist_async::ClientConn;
/// use tokio::net::{TcpListener, TcpStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let client = ClientConn::new(TcpStream::connect(listener.local_addr()?).await?);
/// assert_eq!(client.get_ref().expect("it is open").peer_addr()?, listener.local_addr()?);
/// # Ok(())
/// # }
/// ```
pub struct StreamRef<'c, S>(Held<'c, S>);

enum Held<'c, S> {
    Client(Locked<'c, persist_core::Client, S>),
    Server(Locked<'c, persist_core::Server, S>),
}

impl<S> Deref for StreamRef<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        let stream = match &self.0 {
            Held::Client(state) => state.stream.as_ref(),
            Held::Server(state) => state.stream.as_ref(),
        };
        stream.expect("there when it was lent, and locked since")
    }
}

impl<S: fmt::Debug> fmt::Debug for StreamRef<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
