//! What can be asked of a connection, the same at both ends.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant as Moment;

use persist_core::stats::ConnStats;
use persist_core::{Client, CloseReason, Delivery, KeepAliveProbes, Phase};
use socket2::{SockRef, TcpKeepalive};

use super::{Link, State};
use crate::clock;
use crate::error::{self, Error, Result};
use crate::part::Part;
use crate::ready::Directions;
use crate::stream::Stream;
use crate::sys;

impl<R: Part> State<R> {
    /// Whether a thread waits for the stream.
    #[cfg(test)]
    pub(crate) fn is_waited_for(&self) -> bool {
        self.driver.is_some()
    }

    /// Why the connection ended or is ending; `None` while it is not.
    pub(crate) fn close_reason(&self) -> Option<&CloseReason> {
        self.arrived.closed.as_ref().or_else(|| self.conn().close_reason())
    }

    /// Whether it failed, rather than ended.
    pub(crate) fn is_broken(&self) -> bool {
        self.fault.is_some() || self.close_reason().is_some_and(|reason| !reason.is_graceful())
    }

    /// Whether what the system took has arrived; what it says only while the stream is there.
    pub(crate) fn delivery(&self) -> Delivery {
        let Some(stream) = self.stream() else { return self.delivered };
        match sys::unacknowledged(stream) {
            Ok(Some(0)) => Delivery::Acknowledged,
            Ok(Some(bytes)) => Delivery::Unacknowledged { bytes },
            Ok(None) | Err(_) => Delivery::Unknown,
        }
    }
}

impl Link<Client> {
    /// Whether no further exchange can begin.
    pub(crate) fn is_over(&self) -> bool {
        self.look().is_over()
    }
}

impl<R: Part> Link<R> {
    /// Looks whether bytes or the end came while nobody used the connection. The rest of a reply that nobody wanted is read and dropped as far as it is
    /// there.
    pub(crate) fn look_after(&self) {
        self.act(|state| {
            if state.conn().is_idle() {
                state.look_before_use(clock::now());
            } else {
                state.stream_is(Directions { read: true, write: false }, false);
            }
        });
    }

    /// Bytes that have not reached the peer's system: our outbox, and the kernel's queue where the system tells.
    pub(crate) fn unsent_bytes(&self) -> Result<u64> {
        let state = self.look();
        let Some(stream) = state.stream().filter(|_| !state.is_broken()) else {
            drop(state);
            return Err(self.gone(Phase::Send));
        };
        let queued = sys::unacknowledged(stream).map_err(|cause| Error::new(Phase::Send, cause))?;
        Ok(state.outbox_bytes() as u64 + queued.unwrap_or(0))
    }

    pub(crate) fn stats(&self) -> ConnStats {
        let state = self.look();
        let mut stats = ConnStats::default();
        stats.age = clock::now().saturating_since(state.conn().created());
        stats.pending = state.conn().pending();
        stats.completed = state.conn().completed();
        stats.failed = state.arrived.failed();
        (stats.sent, stats.received) = (state.sent, state.conn().received_bytes());
        stats
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.look().is_broken()
    }

    pub(crate) fn is_closing(&self) -> bool {
        let state = self.look();
        state.stream().is_none() || state.conn().is_closing()
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.look().close_reason().cloned()
    }

    /// Why nothing new can begin, if so.
    pub(crate) fn err(&self) -> Option<Error> {
        let state = self.look();
        let over = state.stream().is_none() || state.conn().is_closing();
        over.then(|| error::ended(Phase::Prepare, state.close_reason().cloned(), state.fault()))
    }

    pub(crate) fn last_read(&self) -> Option<Moment> {
        self.look().last_read.map(clock::moment)
    }

    pub(crate) fn last_write(&self) -> Option<Moment> {
        self.look().last_write.map(clock::moment)
    }

    pub(crate) fn peer_addr(&self) -> Option<SocketAddr> {
        self.look().stream().and_then(Stream::peer_addr)
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.look().stream().and_then(Stream::local_addr)
    }

    /// Sets or ends TCP's own probes.
    pub(crate) fn set_keep_alive(&self, probes: Option<KeepAliveProbes>) -> io::Result<()> {
        let state = self.look();
        let stream = state.stream().ok_or(io::ErrorKind::NotConnected)?;
        let Some(socket) = stream.tcp_below() else {
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

    /// The stream, for a look.
    pub(crate) fn stream_ref(&self) -> Option<StreamRef<'_>> {
        let mut state = self.look();
        // Whoever looks may set the socket's timeouts.
        state.crowded = true;
        let stream = state.stream.clone()?;
        drop(state);
        Some(StreamRef { stream: Some(stream), lender: self })
    }
}

/// The stream of a connection, lent for a look: for its addresses and options. Reading or writing it would tear the messages apart.
///
/// A connection that ends meanwhile keeps its socket open until this is dropped; one that is taken apart by
/// [`Responder::upgrade`](crate::Responder::upgrade) waits for it.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::ClientConn;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = ClientConn::new(TcpStream::connect(listener.local_addr()?)?)?;
/// let stream = client.get_ref().expect("it is open");
/// assert!(stream.as_tcp().expect("TCP").nodelay()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct StreamRef<'c> {
    stream: Option<Arc<Stream>>,
    lender: &'c dyn Lender,
}

trait Lender: Sync {
    fn returned(&self);
}

impl<R: Part> Lender for Link<R> {
    fn returned(&self) {
        let mut state = self.look();
        state.tell();
        self.leave(state);
    }
}

impl Deref for StreamRef<'_> {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        self.stream.as_deref().expect("taken by the drop only")
    }
}

impl Drop for StreamRef<'_> {
    fn drop(&mut self) {
        self.stream = None;
        self.lender.returned();
    }
}

impl fmt::Debug for StreamRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}
