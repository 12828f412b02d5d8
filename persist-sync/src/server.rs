//! A server: idle and half-read connections wait in one poller, a bounded set of threads runs complete requests.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
#[cfg(unix)]
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use persist_core::{Config, FieldValue, InvalidField};

use crate::date::Stamp;
use crate::error::Error;
use crate::server_conn::Received;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;

mod control;
mod listener;
mod poller;
mod workers;

use control::Control;
pub use listener::Listener;

/// A server over one listening socket.
///
/// The thread that calls [`serve`](Self::serve) accepts connections and waits for all of them at once. Only when a request's head
/// is complete does a thread of a bounded set take it, so any number of idle or slow clients starves nobody. A handler that
/// reads a body, or streams a large reply, holds its thread while it does; replies from memory do not.
///
/// ```no_run
/// use persist_sync::{Server, persist_core::Response};
///
/// let server = Server::bind("127.0.0.1:8080")?;
/// println!("listening on http://{}", server.local_addr().expect("a TCP socket"));
/// server.serve(|received: persist_sync::Received| {
///     let answer = format!("you asked for {}\n", received.head.target());
///     received.responder.send(Response::ok().field("Content-Type", "text/plain").expect("a field"), answer)
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    config: ServerConfig,
    control: Arc<Control>,
}

/// How a [`Server`] serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Each connection: limits, deadlines, strictness, overlap.
    pub conn: Config,
    /// Threads that run handlers at the same time. They are started as they are needed. 64.
    pub threads_max: usize,
    /// Connections held at the same time; further ones wait to be accepted. 16,384.
    pub connections_max: usize,
    server: Option<Box<[u8]>>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<ServerTls>,
}

/// What answers requests: a closure, or a type of its own.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request, through its [`responder`](Received::responder).
    ///
    /// A panic or a dropped responder answers `500` and closes the connection. An error that is returned ends nothing more than has
    /// ended already; the connection's other requests are served if it still can.
    ///
    /// # Errors
    /// What sending or reading gave: the server has no use for it, but `?` has.
    fn handle(&self, received: Received) -> Result<(), Error>;
}

impl<F: Fn(Received) -> Result<(), Error> + Send + Sync + 'static> Handler for F {
    fn handle(&self, received: Received) -> Result<(), Error> {
        self(received)
    }
}

/// Ends a server from another thread.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    control: Arc<Control>,
}

/// What a server has done, once it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that were still busy when the deadline of the shutdown passed, and were cut.
    pub aborted: u64,
}

impl ServerConfig {
    /// Adds a `Server` field to each response that has none.
    ///
    /// # Errors
    /// [`InvalidField`] unless `name` may stand in a field value.
    pub fn server_name(mut self, name: &str) -> Result<Self, InvalidField> {
        self.server = Some(FieldValue::new(name.as_bytes())?.as_bytes().into());
        Ok(self)
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            conn: Config::server(),
            threads_max: 64,
            connections_max: 16_384,
            server: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl Server {
    /// Listens on a TCP address; port 0 takes a free one.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        let server = Self::new(TcpListener::bind(addr)?)?;
        server.listener.widen()?;
        Ok(server)
    }

    /// Listens on a Unix socket at `path`, which must not exist yet and is not removed.
    ///
    /// # Errors
    /// If the path cannot be had.
    #[cfg(unix)]
    pub fn bind_unix(path: impl AsRef<Path>) -> io::Result<Self> {
        let server = Self::new(UnixListener::bind(path)?)?;
        server.listener.widen()?;
        Ok(server)
    }

    /// Serves what comes in at `listener`, which may have been handed over by another process.
    ///
    /// # Errors
    /// If the socket cannot be put into non-blocking mode, or the system has no poller left.
    pub fn new(listener: impl Into<Listener>) -> io::Result<Self> {
        let listener = listener.into();
        listener.attach()?;
        Ok(Self { listener, config: ServerConfig::default(), control: Control::new()? })
    }

    /// Serves in another way than by default.
    #[must_use]
    pub fn with_config(mut self, config: ServerConfig) -> Self {
        #[cfg(feature = "tls")]
        let config = ServerConfig { tls: config.tls.or(self.config.tls), ..config };
        self.config = config;
        self
    }

    /// Speaks TLS with every client. Hands are shaken in the poller, so that clients which are slow at it cost no thread; one that does not
    /// come to its end counts as idle, and is closed after [`Timeouts::idle`](persist_core::Timeouts::idle).
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: ServerTls) -> Self {
        self.config.tls = Some(tls);
        self
    }

    /// Where it listens; `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr()
    }

    /// What ends it from another thread.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { control: self.control.clone() }
    }

    /// Serves until [`ServerHandle::shutdown`]. Blocks the calling thread.
    ///
    /// # Errors
    /// If the poller fails. What a single connection comes to is not an error of the server.
    pub fn serve(self, handler: impl Handler) -> io::Result<Served> {
        let server = self.config.server.as_deref().and_then(|name| FieldValue::new(name).ok());
        let stamp = Arc::new(Stamp::new(server));
        let workers = workers::Workers::new(Arc::new(handler), self.config.threads_max, self.control.clone());
        poller::Poller::new(self.listener, self.config, stamp, self.control, workers)?.run()
    }
}

impl ServerHandle {
    /// Stops accepting, closes idle connections, lets requests that have begun be answered (with `Connection: close`), and cuts what is still
    /// busy when `deadline` has passed. Returns at once; [`Server::serve`] returns when all is done. A second call can only bring the deadline closer.
    pub fn shutdown(&self, deadline: Duration) {
        self.control.shut_down(deadline);
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.control.connections.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections served, {} cut", self.connections, self.aborted)
    }
}
