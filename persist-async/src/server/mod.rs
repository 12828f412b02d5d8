//! Serving: accepts connections, one task for each, and calls the handler.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use persist_core::{Config, Conn, FieldValue, ServerStats};
use tokio::net::ToSocketAddrs;
use tokio::sync::Semaphore;

use crate::clock;
use crate::date::Stamp;
use crate::link::Link;
use crate::race::{Either, race};
use crate::server_conn::Received;
use crate::stream::Stream;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;

mod arrival;
mod config;
mod crowd;
mod handlers;
mod listener;
mod task;

use crowd::{Crowd, Member};
use handlers::Service;
use task::Task;
#[cfg(all(test, persist_model))]
pub(crate) use task::attended;

pub use config::{ProxyHeaders, ServerConfig};
pub use listener::{Accept, ListenConfig, Listener, PortUse};

/// The first and the longest pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// A server: one task per connection, in which the handlers are polled.
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
///
/// # Among strangers
///
/// The defaults are meant for a server that anybody can reach:
///
/// | what a client may do | at most | else |
/// |---|---|---|
/// | hold connections | 16,384 of them all ([`connections_max`](ServerConfig::connections_max)) | the next ones wait to be accepted, in their order |
/// | send nothing between requests | 75 s ([`idle`](persist_core::Timeouts::idle)) | close |
/// | take its time for a head, however steadily it drips | 30 s ([`header`](persist_core::Timeouts::header)) | 408, close |
/// | send a large head | 32 KiB, 100 fields, a target of 8,000 bytes ([`Limits`](persist_core::Limits)) | 431 or 414, close |
/// | stop in the middle of its content | 60 s ([`body_idle`](persist_core::Timeouts::body_idle)) | the handler's read fails, close |
/// | take no reply | 60 s ([`write_stall`](persist_core::Timeouts::write_stall)) | close |
/// | send content that no handler wants | 256 KiB or 5 s ([`drain_bytes_max`](persist_core::Limits::drain_bytes_max)) | close |
/// | pipeline | until 64 KiB of replies wait for it ([`outbox_bytes_max`](persist_core::Limits::outbox_bytes_max)) | it is not read |
///
/// One connection holds at most some 200 KiB besides what its handlers hold, 512 KiB more while it sends content that comes from a reader or in pieces, and 1 MiB more
/// if they run [side by side](Self::concurrent_handlers) and answer before their turn; an idle one about 2 KiB.
///
/// Not limited, for want of a number that fits everybody: connections of one address ([`connections_per_peer_max`](ServerConfig::connections_per_peer_max));
/// the length of content ([`body_bytes_max`](persist_core::Limits::body_bytes_max), or the limit that a handler gives to [`Incoming::bytes`](crate::Incoming::bytes));
/// its rate ([`body_bytes_per_second_min`](persist_core::Timeouts::body_bytes_per_second_min)); the time for a whole exchange ([`total`](persist_core::Timeouts::total)).
/// The process must be allowed more open files than `connections_max`; when it has none left, accepting pauses and goes on by itself.
///
/// # Behind a reverse proxy
///
/// A proxy that reuses connections loses a request if the server closes just then: keep [`idle`](persist_core::Timeouts::idle) longer than the proxy keeps idle
/// connections (nginx: 60 s by default). A request that has come when a connection is about to be closed for idleness, or for a shutdown, is answered still. The
/// client's own address comes with the [PROXY protocol](ProxyHeaders).
///
/// # One runtime per core
///
/// Several servers may listen on one port ([`PortUse::Shared`]): each in a thread and a `current_thread` runtime of its own, so that no connection ever moves
/// between cores. The example `per_core` does it.
///
/// # Restarts without a refused connection
///
/// Hand the listening socket on ([`Listener`] is made from inherited ones), and when the new process is ready, [shut down](ServerHandle::shutdown) the old
/// server; the example `restart` does it. A new process that listens on the same port beside the old one (`PortUse::Shared`) is not as good: what waits in
/// the queue of a socket that is closed is reset.
pub struct Server {
    listener: Listener,
    config: ServerConfig,
    crowd: Arc<Crowd>,
}

/// What a server has done, once it has ended.
///
/// ```
/// use std::time::Duration;
/// use persist_async::{Client, Request, Response, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind("127.0.0.1:0").await?;
/// let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
/// let serving = tokio::spawn(server.serve(|received| async move { received.responder.send(Response::ok(), "hello").await }));
///
/// Client::new().send(Request::get(format!("http://{address}/")), ()).await?.body.bytes(100).await?;
/// handle.shutdown(Duration::from_secs(30));
/// let served = serving.await??;
/// assert_eq!((served.connections, served.refused, served.aborted), (1, 0, 0)); // nobody was cut
/// # Ok(())
/// # }
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

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections accepted, {} refused, {} cut", self.connections, self.refused, self.aborted)
    }
}

/// Tells a [`Server`] to end, from anywhere. Cheap to clone.
///
/// ```
/// use std::time::Duration;
/// use persist_async::{Response, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind("127.0.0.1:0").await?;
/// let handle = server.handle(); // on its way to whoever hears of the signal
/// let serving = tokio::spawn(server.serve(|received| async move { received.responder.send(Response::ok(), "hello").await }));
/// handle.shutdown(Duration::from_secs(30));
/// assert_eq!(serving.await??.to_string(), "0 connections accepted, 0 refused, 0 cut");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ServerHandle {
    crowd: Arc<Crowd>,
}

impl Server {
    /// Listens on a TCP address; port 0 is one of the kernel's choice.
    ///
    /// # Errors
    /// If the address cannot be resolved or bound.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Self::bind_with(address, ListenConfig::default()).await
    }

    /// Listens on a TCP address in another way than by default.
    ///
    /// # Errors
    /// If the address cannot be resolved or bound.
    pub async fn bind_with(address: impl ToSocketAddrs, config: ListenConfig) -> io::Result<Self> {
        Ok(Self::new(Listener::bind(address, config).await?))
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
        Self { listener: listener.into(), config: ServerConfig::default(), crowd: Crowd::new() }
    }

    /// Serves in another way than by default.
    #[must_use]
    pub fn with_config(mut self, config: ServerConfig) -> Self {
        #[cfg(feature = "tls")]
        let config = ServerConfig { tls: config.tls.or(self.config.tls), ..config };
        #[cfg(feature = "http2")]
        let config = ServerConfig { http2: config.http2.or(self.config.http2), ..config };
        self.config = config;
        self
    }

    /// Speaks TLS with every client. Hands are shaken in the connection's task, so that clients which are slow at it delay nobody; one that does not
    /// come to its end within [`Timeouts::header`](persist_core::Timeouts::header) is closed. A PROXY header comes before TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: ServerTls) -> Self {
        self.config.tls = Some(tls);
        self
    }

    /// Speaks HTTP/2, too: with clients that choose `h2` by ALPN, and with those that begin with its preface (prior knowledge). Deadlines are those of
    /// [`ServerConfig::conn`]. A TLS configuration that offers `http/1.1` alone then offers `h2` before it; any other is left as it is.
    #[cfg(feature = "http2")]
    #[must_use]
    pub fn with_http2(mut self, http2: crate::http2::Http2Config) -> Self {
        self.config.http2 = Some(http2);
        self
    }

    /// Runs up to `n` handlers of one connection at the same time, for pipelined requests that may
    /// [overlap](persist_core::Pipelining::overlap): by default those with safe methods. Replies leave in the order of the requests all the same, and once a
    /// response closes the connection, no further handler is started. By default one runs at a time.
    #[must_use]
    pub fn concurrent_handlers(mut self, n: usize) -> Self {
        self.config.concurrent_handlers = n;
        self
    }

    /// Where it listens; `None` unless that is a TCP socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr()
    }

    /// Tells the server to end.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { crowd: self.crowd.clone() }
    }

    /// Handlers take each request in the types of the `http` crate: what comes by HTTP/2 has them already.
    #[cfg(all(feature = "http2", feature = "tower"))]
    pub(crate) fn spare_heads(&mut self) {
        if let Some(http2) = &mut self.config.http2 {
            http2.heads = crate::http2::Heads::Spared;
        }
    }

    /// Accepts connections and calls `handler` for each request, one at a time per connection unless told [otherwise](Self::concurrent_handlers), until
    /// [`ServerHandle::shutdown`]. Then it accepts no more, lets pending requests finish until the deadline, cuts what is left, and returns.
    ///
    /// The handler answers through [`Received::responder`]; whatever else it returns is dropped. It is polled in its connection's task, together with the
    /// connection itself. A handler whose connection has ended goes on, for it may have more to do than to answer: its body and its responder tell it. Dropping this future stops accepting and leaves the connections to their tasks.
    ///
    /// # Errors
    /// None today: a failing accept is tried again, after a pause if resources are short.
    pub async fn serve<H, F>(self, handler: H) -> io::Result<Served>
    where
        H: Fn(Received) -> F + Send + Sync + 'static,
        F: Future + Send + 'static,
    {
        let Self { listener, config, crowd } = self;
        crowd.places.add_permits(config.connections_max.clamp(1, Semaphore::MAX_PERMITS));
        let reception = Reception::new(handler, config, crowd.clone());
        let mut pause = ACCEPT_PAUSE.0;
        let mut end = std::pin::pin!(crowd.told_to_end());
        let deadline = loop {
            let place = match race(end.as_mut(), crowd.places.acquire()).await {
                Either::Left(deadline) => break deadline,
                Either::Right(place) => place.ok(),
            };
            match race(end.as_mut(), listener.accept()).await {
                Either::Left(deadline) => break deadline,
                Either::Right(Ok((stream, peer))) => {
                    pause = ACCEPT_PAUSE.0;
                    reception.receive(stream, peer, crowd.join(place));
                }
                Either::Right(Err(error)) if is_the_peers(&error) => {}
                Either::Right(Err(_)) => {
                    drop(place);
                    if let Either::Left(deadline) = race(end.as_mut(), tokio::time::sleep(pause)).await {
                        break deadline;
                    }
                    pause = (pause * 2).min(ACCEPT_PAUSE.1);
                }
            }
        };
        drop(listener);
        crowd.finish(deadline).await;
        Ok(crowd.served())
    }
}

impl ServerHandle {
    /// Ends the server gracefully: no new connections; idle ones close, busy ones finish what is pending and say `Connection: close`. What is not
    /// finished when `deadline` has passed is cut. A client that keeps its own side open meanwhile is waited for as long as
    /// [`Timeouts::linger`](persist_core::Timeouts::linger). Returns at once; [`Server::serve`] returns when all is done. A second call can only bring the deadline closer.
    pub fn shutdown(&self, deadline: Duration) {
        self.crowd.end_by(clock::after(deadline));
    }

    /// What the server has done so far.
    pub fn stats(&self) -> ServerStats {
        self.crowd.stats()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.crowd.open()
    }
}

/// Makes connections of accepted streams, and starts their tasks.
struct Reception<H, F> {
    service: Arc<Service<H, F>>,
    stamp: Arc<Stamp>,
    conn: Arc<Config>,
    config: ServerConfig,
    crowd: Arc<Crowd>,
    #[cfg(feature = "http2")]
    http2: Option<Http2>,
}

/// How HTTP/2 is spoken, and what is added to its responses.
#[cfg(feature = "http2")]
struct Http2 {
    config: Arc<crate::http2::Http2Config>,
    server: Option<::http::HeaderValue>,
}

impl<H, F> Reception<H, F>
where
    H: Fn(Received) -> F + Send + Sync + 'static,
    F: Future + Send + 'static,
{
    #[cfg_attr(not(all(feature = "http2", feature = "tls")), expect(unused_mut, reason = "nothing is added to it"))]
    fn new(handler: H, mut config: ServerConfig, crowd: Arc<Crowd>) -> Arc<Self> {
        #[cfg(all(feature = "http2", feature = "tls"))]
        if config.http2.is_some() {
            config.tls = config.tls.map(ServerTls::offering_http2);
        }
        #[cfg(feature = "http2")]
        let http2 = config.http2.as_ref().map(|http2| Http2 {
            config: Arc::new(http2.with_timeouts_of(&config.conn)),
            server: config.server.as_deref().and_then(|name| ::http::HeaderValue::from_bytes(name).ok()),
        });
        let server = config.server.as_deref().and_then(|name| FieldValue::new(name).ok());
        Arc::new(Self {
            service: Arc::new(Service::new(handler, config.concurrent_handlers, crowd.clone())),
            stamp: Arc::new(Stamp::new(server)),
            conn: Arc::new(config.conn.clone()),
            config,
            crowd,
            #[cfg(feature = "http2")]
            http2,
        })
    }

    fn receive(self: &Arc<Self>, mut stream: Stream, peer: Option<SocketAddr>, mut member: Member) {
        if self.config.proxy_headers == ProxyHeaders::Absent {
            if member.is_from(peer, self.config.connections_per_peer_max) {
                #[cfg(feature = "http2")]
                if self.http2.is_some() {
                    tokio::spawn(self.clone().either(stream, peer, member, Vec::new()));
                    return;
                }
                tokio::spawn(self.begin(self.secure(stream, Vec::new()), peer, member));
            }
            return;
        }
        let reception = self.clone();
        tokio::spawn(async move {
            let header = arrival::proxy_header(&mut stream, reception.conn.timeouts.header);
            // A connection that has not said whose it is has no request that a shutdown would have to wait for.
            let Either::Right(Ok((source, rest))) = race(reception.crowd.told_to_end(), header).await else { return };
            let peer = source.or(peer);
            if member.is_from(peer, reception.config.connections_per_peer_max) {
                #[cfg(feature = "http2")]
                if reception.http2.is_some() {
                    return reception.either(stream, peer, member, rest).await;
                }
                let task = reception.begin(reception.secure(stream, rest), peer, member);
                drop(reception);
                task.await;
            }
        });
    }

    /// Puts TLS on it, if that is spoken here; else gives back what was read already.
    fn secure(&self, stream: Stream, read: Vec<u8>) -> (Stream, Vec<u8>) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.config.tls {
            let stream = stream.with_leftover(read);
            return (tls.accept_within(stream, self.conn.timeouts.header), Vec::new());
        }
        (stream, read)
    }

    fn begin(
        &self,
        (stream, read): (Stream, Vec<u8>),
        peer: Option<SocketAddr>,
        mut member: Member,
    ) -> Task<H, F, Stream> {
        let conn = Conn::new(self.conn.clone(), clock::now());
        let link = Link::with_task(conn, stream, peer, read, self.stamp.clone());
        member.serves(link.id, &link);
        member.stays();
        Task::new(self.service.clone(), link)
    }

    /// Serves whichever protocol the client speaks.
    #[cfg(feature = "http2")]
    async fn either(self: Arc<Self>, stream: Stream, peer: Option<SocketAddr>, mut member: Member, read: Vec<u8>) {
        use crate::http2::{Door, ServerTask, Spoken, arrive};

        let (mut stream, read) = self.secure(stream, read);
        // A connection that has said nothing has no request that a shutdown would have to wait for.
        let arrival = race(self.crowd.told_to_end(), arrive(&mut stream, read, &self.conn.timeouts)).await;
        let read = match arrival {
            Either::Right(Ok(Spoken::Two(read))) => read,
            Either::Right(Ok(Spoken::One(read))) => {
                let task = self.begin((stream, read), peer, member);
                drop(self);
                return task.await;
            }
            Either::Left(_) | Either::Right(Err(_)) => return,
        };
        let Some(Http2 { config, server }) = &self.http2 else { return };
        let (id, door) = (crate::link::next_id(), Arc::new(Door::default()));
        member.serves(id, &door);
        let conn = ServerTask {
            handlers: self.service.clone(),
            config: config.clone(),
            id,
            peer,
            server: server.clone(),
            door: door.clone(),
            body_bytes_max: self.conn.limits.body_bytes_max,
        };
        conn.run(stream.with_leftover(read)).await;
        member.carried(door.carried());
    }
}

/// The connection was gone before it was accepted.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
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
