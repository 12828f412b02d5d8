//! A server: idle and half-read connections wait in one poller, a bounded set of threads runs complete requests.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use persist_core::FieldValue;
use persist_core::stats::ServerStats;

use crate::date::Stamp;
use crate::error::Error;
use crate::server_conn::Received;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;

mod arrival;
mod config;
mod control;
mod listener;
mod poller;
mod workers;

pub use config::{ProxyHeaders, ServerConfig};
use control::Control;
pub use listener::{ListenConfig, Listener, PortUse};

/// A server over one listening socket.
///
/// The thread that calls [`serve`](Self::serve) accepts connections and waits for all of them at once. Only when a request's head
/// is complete does a thread of a bounded set take it, so any number of idle or slow clients starves nobody. A handler that
/// reads a body, or streams a large reply, holds its thread while it does; replies from memory do not.
///
/// ```
/// use std::time::Duration;
/// use persist_sync::{Client, Request, Response, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let (address, handle) = (server.local_addr().expect("a TCP socket"), server.handle());
/// let serving = std::thread::spawn(move || {
///     server.serve(|received: persist_sync::Received| {
///         let answer = format!("you asked for {}\n", received.head.target());
///         received.responder.send(Response::ok().field("Content-Type", "text/plain").expect("a field"), answer)
///     })
/// });
///
/// let reply = Client::new().send(Request::get(format!("http://{address}/hello")), ())?;
/// assert_eq!(reply.body.bytes(100)?, "you asked for /hello\n");
/// handle.shutdown(Duration::from_secs(10));
/// assert_eq!(serving.join().expect("no panic")?.connections, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A handler that returns without an answer, or panics, answers `500` and ends its connection; others are unharmed. `Date` is added to
/// responses that have none, and `Server` if the configuration has a [name](ServerConfig::server_name).
///
/// # Restarts without a refused connection
///
/// Hand the listening socket on ([`Listener`] is made from inherited ones), or let the new process listen on the same port (`PortUse::Shared`); then [shut down](ServerHandle::shutdown) the old server.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    config: ServerConfig,
    control: Arc<Control>,
}

/// What answers requests: a closure, or a type of its own.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use persist_sync::{Error, Handler, Received, Response, Server};
///
/// #[derive(Default)]
/// struct Counter(AtomicU64);
///
/// impl Handler for Counter {
///     fn handle(&self, received: Received) -> Result<(), Error> {
///         let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
///         received.responder.send(Response::ok(), format!("request {count}\n"))
///     }
/// }
///
/// let server = Server::bind("127.0.0.1:0")?;
/// # server.handle().shutdown(std::time::Duration::ZERO);
/// server.serve(Counter::default())?;
/// # Ok::<(), std::io::Error>(())
/// ```
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
///
/// ```
/// use std::time::Duration;
/// use persist_sync::{Response, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let handle = server.handle(); // on its way to whoever hears of the signal
/// let serving = std::thread::spawn(move || {
///     server.serve(|received: persist_sync::Received| received.responder.send(Response::ok(), "hello"))
/// });
/// handle.shutdown(Duration::from_secs(30));
/// let served = serving.join().expect("no panic")?;
/// assert_eq!(served.to_string(), "0 connections accepted, 0 refused, 0 cut");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ServerHandle {
    control: Arc<Control>,
}

/// What a server has done, once it has ended.
///
/// ```
/// use std::time::Duration;
/// use persist_sync::{Client, Received, Request, Response, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
/// let serving = std::thread::spawn(move || {
///     server.serve(|received: Received| received.responder.send(Response::ok(), "hello"))
/// });
/// Client::new().send(Request::get(format!("http://{address}/")), ())?.body.bytes(100)?;
/// handle.shutdown(Duration::from_secs(30));
/// let served = serving.join().expect("no panic")?;
/// assert_eq!((served.connections, served.refused, served.aborted), (1, 0, 0)); // nobody was cut
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Connections that were accepted.
    pub connections: u64,
    /// Of these, connections that were closed at once, because their peer had [its share](ServerConfig::connections_per_peer_max).
    pub refused: u64,
    /// Connections that still had a request to answer or bytes to send when the deadline of the shutdown passed, and were cut. Those that only waited for
    /// their client's end are not counted.
    pub aborted: u64,
}

impl Server {
    /// Listens on a TCP address; port 0 takes a free one.
    ///
    /// # Errors
    /// If the address cannot be resolved or had.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Self::bind_with(address, ListenConfig::default())
    }

    /// Listens on a TCP address in another way than by default.
    ///
    /// # Errors
    /// If the address cannot be resolved or had.
    pub fn bind_with(address: impl ToSocketAddrs, config: ListenConfig) -> io::Result<Self> {
        Self::new(Listener::bind(address, config)?)
    }

    /// Listens on a Unix socket at `path`, which must not exist yet and is not removed.
    ///
    /// # Errors
    /// If the path cannot be had.
    pub fn bind_unix(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::new(Listener::bind_unix(path.as_ref())?)
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
    /// come to its end within [`Timeouts::header`](persist_core::Timeouts::header) is closed. A PROXY header comes before TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: ServerTls) -> Self {
        self.config.tls = Some(tls);
        self
    }

    /// Runs up to `n` handlers of one connection at the same time, each in a thread, for pipelined requests that may
    /// [overlap](persist_core::Pipelining::overlap): by default those with safe methods. Replies leave in the order of the requests all the same, and once a
    /// response closes the connection, no further handler is started. By default one runs at a time.
    #[must_use]
    pub fn concurrent_handlers(mut self, n: usize) -> Self {
        self.config.concurrent_handlers = n;
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

    /// Accepts connections and calls `handler` for each request, one at a time per connection unless told [otherwise](Self::concurrent_handlers), until
    /// [`ServerHandle::shutdown`]. Then it accepts no more, lets pending requests finish until the deadline, cuts what is left, and returns. Blocks the calling thread.
    ///
    /// # Errors
    /// If the poller fails. What a single connection comes to is not an error of the server, and a failing accept is tried again, after a pause if resources are short.
    pub fn serve(self, handler: impl Handler) -> io::Result<Served> {
        let server = self.config.server.as_deref().and_then(|name| FieldValue::new(name).ok());
        let stamp = Arc::new(Stamp::new(server));
        let workers = workers::Workers::new(Arc::new(handler), &self.config, self.control.clone());
        poller::Poller::new(self.listener, self.config, stamp, self.control, workers)?.run()
    }
}

impl ServerHandle {
    /// Stops accepting, closes idle connections, lets requests that have begun be answered (with `Connection: close`), and cuts what is still
    /// busy when `deadline` has passed. Returns at once; [`Server::serve`] returns when all is done. A second call can only bring the deadline closer.
    pub fn shutdown(&self, deadline: Duration) {
        self.control.shut_down(deadline);
    }

    /// What the server has done so far. While it runs, its poller is asked, which never waits for a handler.
    pub fn stats(&self) -> ServerStats {
        self.control.stats()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.control.connections.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections accepted, {} refused, {} cut", self.connections, self.refused, self.aborted)
    }
}
