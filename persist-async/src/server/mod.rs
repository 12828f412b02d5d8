//! Serving: accepts connections, one task for each, and calls the handler.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use persist_core::{Config, Conn, FieldValue, InvalidField};
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::date::Stamp;
use crate::link::Link;
use crate::race::{Either, race};
use crate::server_conn::Received;
use crate::stream::Stream;

mod task;

use task::{Service, Task};

/// The first and the longest pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// A server: one task per connection, in which the handler is polled.
///
/// ```no_run
/// use persist_async::{Response, Server};
///
/// # async fn example() -> std::io::Result<()> {
/// let server = Server::bind("127.0.0.1:0").await?;
/// println!("listening on http://{}", server.local_addr().expect("a TCP socket"));
/// let handle = server.handle(); // handle.shutdown(..) from wherever
/// server.serve(|received| async move { received.responder.send(Response::ok(), "hello\n").await }).await?;
/// # Ok(())
/// # }
/// ```
///
/// A handler that returns without an answer, or panics, answers `500` and ends its connection; others are unharmed. `Date` is added to
/// responses that have none, and `Server` if the configuration has a [name](ServerConfig::server_name).
pub struct Server {
    listener: Listener,
    config: ServerConfig,
    shared: Arc<Shared>,
}

/// How a [`Server`] serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Each connection: limits, deadlines, strictness, overlap.
    pub conn: Config,
    /// Connections held at the same time, at least 1; further ones wait to be accepted, in their order. 16,384: below the usual limits of open files.
    pub connections_max: usize,
    server: Option<Box<[u8]>>,
}

/// What a server has done, once it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
        Self { conn: Config::server(), connections_max: 16_384, server: None }
    }
}

/// Tells a [`Server`] to end, from anywhere. Cheap to clone.
#[derive(Clone)]
pub struct ServerHandle {
    shared: Arc<Shared>,
}

/// A listening socket of either kind.
#[derive(Debug)]
#[non_exhaustive]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

#[cfg(unix)]
impl From<tokio::net::UnixListener> for Listener {
    fn from(listener: tokio::net::UnixListener) -> Self {
        Self::Unix(listener)
    }
}

/// Until when connections may finish once the server is told to end; `None` while it is not.
type Deadline = Option<Instant>;

struct Shared {
    connections: Mutex<HashMap<u64, Weak<Link<persist_core::Server, Stream>>>>,
    deadline: watch::Sender<Deadline>,
    /// The last connection ended.
    empty: Notify,
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Weak<Link<persist_core::Server, Stream>>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn links(&self) -> Vec<Arc<Link<persist_core::Server, Stream>>> {
        self.connections().values().filter_map(Weak::upgrade).collect()
    }
}

impl Server {
    /// Listens on a TCP address; port 0 is one of the kernel's choice.
    ///
    /// # Errors
    /// If the address cannot be resolved or bound.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self::new(TcpListener::bind(address).await?))
    }

    /// Listens on a Unix socket at `path`, which must not exist yet and is not removed.
    ///
    /// # Errors
    /// If the path cannot be had.
    #[cfg(unix)]
    pub fn bind_unix(path: impl AsRef<std::path::Path>) -> io::Result<Self> {
        Ok(Self::new(tokio::net::UnixListener::bind(path)?))
    }

    /// Serves what comes in at `listener`, which may have been handed over by another process.
    pub fn new(listener: impl Into<Listener>) -> Self {
        let shared = Shared { connections: Mutex::default(), deadline: watch::Sender::new(None), empty: Notify::new() };
        Self { listener: listener.into(), config: ServerConfig::default(), shared: Arc::new(shared) }
    }

    /// Serves in another way than by default.
    #[must_use]
    pub fn with_config(mut self, config: ServerConfig) -> Self {
        self.config = config;
        self
    }

    /// Where it listens; `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            Listener::Unix(_) => None,
        }
    }

    /// Tells the server to end.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { shared: self.shared.clone() }
    }

    /// Accepts connections and calls `handler` for each request, one at a time per connection, until [`ServerHandle::shutdown`]. Then it
    /// accepts no more, lets pending requests finish until the deadline, cuts what is left, and returns.
    ///
    /// The handler answers through [`Received::responder`]; whatever else it returns is dropped. It is polled in its connection's task, together with the
    /// connection itself. Dropping this future stops accepting and leaves the connections to their tasks.
    ///
    /// # Errors
    /// None today: a failing accept is tried again, after a pause if resources are short.
    pub async fn serve<H, F>(self, handler: H) -> io::Result<Served>
    where
        H: Fn(Received) -> F + Send + Sync + 'static,
        F: Future + Send + 'static,
    {
        let Self { listener, config, shared } = self;
        let stamp = Stamp::new(config.server.as_deref().and_then(|name| FieldValue::new(name).ok()));
        let places = Arc::new(Semaphore::new(config.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
        let service = Arc::new(Service::new(handler, 1));
        let (stamp, config, clock) = (Arc::new(stamp), Arc::new(config.conn), Clock::start());
        let mut served = Served::default();
        let mut told = shared.deadline.subscribe();
        let mut pause = ACCEPT_PAUSE.0;
        let deadline = loop {
            if let Some(deadline) = *told.borrow_and_update() {
                break deadline;
            }
            let Either::Right((accepted, place)) = race(told.changed(), accept(&listener, &places)).await else {
                continue;
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_the_peers(&error) => continue,
                Err(_) => {
                    drop(place);
                    race(told.changed(), tokio::time::sleep(pause)).await;
                    pause = (pause * 2).min(ACCEPT_PAUSE.1);
                    continue;
                }
            };
            pause = ACCEPT_PAUSE.0;
            let conn = Conn::new(config.clone(), clock.now());
            let link = Link::with_task((conn, clock), stream, peer, stamp.clone());
            served.connections += 1;
            let registered = Registered::new(&shared, &link, place);
            let task = Task::new(service.clone(), link);
            tokio::spawn(async move {
                task.await;
                drop(registered);
            });
        };
        drop(listener);
        served.aborted = finish(&shared, deadline).await;
        Ok(served)
    }
}

impl ServerHandle {
    /// Ends the server gracefully: no new connections; idle ones close, busy ones finish what is pending and say `Connection: close`. What is not
    /// finished when `deadline` has passed is cut. Returns at once; [`Server::serve`] returns when all is done. A second call can only bring the deadline closer.
    pub fn shutdown(&self, deadline: Duration) {
        let until = Instant::now() + deadline;
        self.shared.deadline.send_modify(|deadline| {
            *deadline = Some(deadline.map_or(until, |known| known.min(until)));
        });
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.connections().len()
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &Listener,
    places: &Arc<Semaphore>,
) -> (io::Result<(Stream, Option<SocketAddr>)>, Option<OwnedSemaphorePermit>) {
    let place = places.clone().acquire_owned().await.ok();
    let accepted = match listener {
        Listener::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
            // Responses leave when they are complete; waiting for more to send only delays them. Failing to say so does no harm.
            let _ = stream.set_nodelay(true);
            (Stream::from(stream), Some(peer))
        }),
        #[cfg(unix)]
        Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| (Stream::from(stream), None)),
    };
    (accepted, place)
}

/// The connection was gone before it was accepted.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Lets the connections finish until the deadline, which may come closer, then cuts them, and says how many.
async fn finish(shared: &Shared, mut deadline: Instant) -> u64 {
    shared.links().iter().for_each(|link| link.listener_gone());
    let mut told = shared.deadline.subscribe();
    told.mark_unchanged();
    loop {
        let empty = shared.empty.notified();
        if shared.connections().is_empty() {
            return 0;
        }
        let event = race(empty, race(told.changed(), tokio::time::sleep_until(deadline))).await;
        match event {
            Either::Left(()) => {}
            Either::Right(Either::Left(_)) => deadline = told.borrow_and_update().unwrap_or(deadline),
            Either::Right(Either::Right(())) => {
                let busy = shared.links();
                busy.iter().for_each(|link| link.abort());
                return busy.len() as u64;
            }
        }
    }
}

/// A connection that is being served: counted, and reachable for the shutdown.
struct Registered {
    shared: Arc<Shared>,
    id: u64,
    _place: Option<OwnedSemaphorePermit>,
}

impl Registered {
    fn new(
        shared: &Arc<Shared>,
        link: &Arc<Link<persist_core::Server, Stream>>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        shared.connections().insert(link.id, Arc::downgrade(link));
        Self { shared: shared.clone(), id: link.id, _place: place }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut connections = self.shared.connections();
        connections.remove(&self.id);
        if connections.is_empty() {
            connections.shrink_to_fit();
            drop(connections);
            self.shared.empty.notify_one();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("connections", &self.connections()).finish_non_exhaustive()
    }
}
