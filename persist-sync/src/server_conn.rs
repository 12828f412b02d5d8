//! One server connection: requests in order, answered in any order, from any thread.

use std::borrow::Borrow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant as Moment;

use persist_core::stats::ConnStats;
use persist_core::{CloseReason, Closed, Config, KeepAliveProbes, Parts, Phase, RequestHead, Response, Server};

use crate::body::Body;
use crate::clock;
use crate::date::Stamp;
use crate::driver::{Lending, Link, State, StreamRef};
use crate::error::{self, Error, Result};
use crate::hijack::{Detached, Hijacked};
use crate::incoming::Incoming;
use crate::responder::Responder;
use crate::stream::Stream;

/// A server's end of one connection. All methods take `&self`; each request carries its own right to answer, which may go to any thread.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::{ClientConn, Request, Response, ServerConn};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = ClientConn::new(TcpStream::connect(listener.local_addr()?)?)?;
/// let exchange = client.write(Request::get("/hello").field("Host", "localhost")?, ())?;
///
/// let conn = ServerConn::new(listener.accept()?.0)?;
/// let received = conn.read()?.expect("a request");
/// let answer = format!("you asked for {}\n", received.head.target());
/// conn.write(received.responder, Response::ok(), answer)?;
/// assert_eq!(client.read(exchange)?.body.bytes(100)?, "you asked for /hello\n");
/// drop(client);
/// assert!(conn.read()?.is_none(), "a graceful end");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A body of a request that its handler drops is read and dropped within the drain budget after the response, or the connection closes.
/// Neither `Date` nor `Server` is added to responses: a [`Server`](crate::Server) does that.
#[derive(Debug)]
pub struct ServerConn {
    link: Arc<Link<Server>>,
    stamp: Option<Arc<Stamp>>,
    /// Asked for once: every request tells it.
    peer: Option<SocketAddr>,
}

/// A request that came in.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::{ClientConn, Method, Request, Response, ServerConn};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = ClientConn::new(TcpStream::connect(listener.local_addr()?)?)?;
/// let server = ServerConn::new(listener.accept()?.0)?;
///
/// let exchange = client.write(Request::new(Method::POST, "/form").field("Host", "localhost")?, "a=1")?;
/// let received = server.read()?.expect("a request");
/// assert_eq!((received.head.method(), received.head.target()), (&Method::POST, "/form"));
/// assert_eq!(received.peer, client.local_addr());
/// assert_eq!(received.body.bytes(100)?, "a=1");
/// received.responder.send(Response::ok(), ())?;
/// client.read(exchange)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// Its head.
    pub head: RequestHead,
    /// Its content.
    pub body: Incoming,
    /// The right to answer it.
    pub responder: Responder,
    /// The connection's number in this process.
    pub connection: u64,
    /// Whether the connection had carried a request before this one.
    pub reused: bool,
    /// Where the client is; `None` for a Unix socket.
    pub peer: Option<SocketAddr>,
}

impl ServerConn {
    /// A connection over a stream that was accepted.
    ///
    /// # Errors
    /// If the socket cannot be put into non-blocking mode.
    pub fn new(stream: impl Into<Stream>) -> io::Result<Self> {
        Self::with_config(stream, Config::server())
    }

    /// The same, configured.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_config(stream: impl Into<Stream>, config: Config) -> io::Result<Self> {
        let stream = stream.into();
        let peer = stream.peer_addr();
        Self::build(stream, peer, config, None, None)
    }

    /// Goes on where a connection was taken apart: the inverse of [`hijack`](Self::hijack).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_parts(
        stream: impl Into<Stream>,
        leftover: Vec<u8>,
        unsent: Vec<u8>,
        config: Config,
    ) -> io::Result<Self> {
        let mut parts = Parts::default();
        (parts.leftover, parts.unsent) = (leftover, unsent);
        let stream = stream.into();
        let peer = stream.peer_addr();
        Self::build(stream, peer, config, Some(parts), None)
    }

    /// A server's connection, whose responses are stamped, and whose client may be somewhere else than its socket says.
    pub(crate) fn accepted(
        stream: Stream,
        peer: Option<SocketAddr>,
        config: Arc<Config>,
        stamp: Arc<Stamp>,
    ) -> io::Result<Self> {
        Self::build(stream, peer, config, None, Some(stamp))
    }

    fn build(
        stream: Stream,
        peer: Option<SocketAddr>,
        config: impl Into<Arc<Config>>,
        parts: Option<Parts>,
        stamp: Option<Arc<Stamp>>,
    ) -> io::Result<Self> {
        Ok(Self { link: Link::new(stream, config, parts, Lending::Limited)?, stamp, peer })
    }

    /// The next request; `None` after a graceful end, or when no further one can come.
    ///
    /// May be called before earlier requests are answered: then the machine decides what may overlap
    /// ([`Pipelining::overlap`](persist_core::Pipelining::overlap)), and the call waits until the next may be taken.
    ///
    /// # Errors
    /// If the connection ended otherwise: a deadline, a failing stream, a peer that broke the protocol (and has been told so).
    pub fn read(&self) -> Result<Option<Received>> {
        let taken = self.link.wait(|state| match self.take(state) {
            Some(received) => Some(Some(received)),
            None => (!state.conn().expects_request()).then_some(None),
        });
        match taken.flatten() {
            Some(received) => Ok(Some(received)),
            None => self.end(),
        }
    }

    /// A request that is there already.
    pub(crate) fn try_read(&self) -> Option<Received> {
        self.link.act(|state| self.take(state))
    }

    fn take(&self, state: &mut State<Server>) -> Option<Received> {
        let id = state.arrived.next_fresh()?;
        let (head, len, ticket) = state.arrived.get_mut(id)?.head.take()?;
        let span = self.link.span.exchange(id.number(), head.method().as_str());
        let body = match state.arrived.take_whole(id) {
            Some(whole) => Incoming::whole(whole, len),
            None => Incoming::new(self.link.clone(), id, len, None, span.clone()),
        };
        let (link, stamp) = (self.link.clone(), self.stamp.clone());
        let responder = Responder { link, id, ticket: Some(ticket), stamp, span };
        Some(Received { head, body, responder, connection: self.id(), reused: id.number() > 0, peer: self.peer })
    }

    /// How it ended, for [`read`](Self::read).
    fn end(&self) -> Result<Option<Received>> {
        let state = self.link.look();
        let reason = state.arrived.closed.as_ref().or(state.conn().close_reason());
        match reason {
            Some(reason) if reason.is_graceful() => Ok(None),
            reason => Err(error::ended(Phase::Receive, reason.cloned(), state.fault())),
        }
    }

    /// Answers a request: [`Responder::send`].
    ///
    /// # Errors
    /// As there.
    pub fn write(&self, responder: Responder, response: impl Borrow<Response>, body: impl Into<Body>) -> Result<()> {
        responder.send(response, body)
    }

    /// Exchanges that are not complete, those with unread bodies included.
    pub fn pending(&self) -> usize {
        self.link.look().conn().pending()
    }

    /// Whether no further request can come.
    pub fn is_closing(&self) -> bool {
        self.link.is_closing()
    }

    /// Whether the connection failed: a failing stream, a passed deadline, a peer that broke the protocol or left in the middle.
    pub fn is_broken(&self) -> bool {
        self.link.is_broken()
    }

    /// Why the connection ended or is ending; `None` while it is not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.link.close_reason()
    }

    /// Why no further request can come, as an error; `None` while one can.
    pub fn err(&self) -> Option<Error> {
        self.link.err()
    }

    /// What it has done so far. Of one that was taken apart by a hijack, nothing is known any more but the bytes sent.
    pub fn stats(&self) -> ConnStats {
        self.link.stats()
    }

    /// How many exchanges completed.
    pub fn completed(&self) -> u64 {
        self.link.look().conn().completed()
    }

    /// Bytes that were written here and have not reached the peer's system: those in our outbox, and on Linux those in the kernel's send queue
    /// that are not acknowledged (of a Unix socket: not read, in bytes of memory). Elsewhere only the outbox is known.
    ///
    /// # Errors
    /// If the connection has ended or failed: then nobody will ever know.
    pub fn unsent_bytes(&self) -> Result<u64> {
        self.link.unsent_bytes()
    }

    /// When bytes last came from the peer; `None` before the first.
    pub fn last_read(&self) -> Option<Moment> {
        self.link.last_read()
    }

    /// When the system last took bytes from us; `None` before the first.
    pub fn last_write(&self) -> Option<Moment> {
        self.link.last_write()
    }

    /// Has the system probe a silent peer ([`KeepAliveProbes`]), or ends that with `None`.
    ///
    /// # Errors
    /// What the system says; a Unix socket has no probes, and a closed connection has no socket.
    pub fn set_keep_alive(&self, probes: Option<KeepAliveProbes>) -> io::Result<()> {
        self.link.set_keep_alive(probes)
    }

    /// The stream, for its addresses and options; `None` once the connection is closed.
    pub fn get_ref(&self) -> Option<StreamRef<'_>> {
        self.link.stream_ref()
    }

    /// No further request is taken: what is pending is finished, and the last response says `Connection: close`.
    pub fn listener_gone(&self) {
        self.link.act(|state| state.conn_mut().close(clock::now()));
    }

    /// The connection's number in this process.
    pub fn id(&self) -> u64 {
        self.link.id()
    }

    /// Where the peer is; `None` for a Unix socket.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Where this end is; `None` for a Unix socket, and once the connection is closed.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.link.local_addr()
    }

    /// Ends the connection in an orderly way: what is pending is answered, our side is shut down, and the peer has
    /// [`Timeouts::linger`](persist_core::Timeouts::linger) to close its own.
    ///
    /// Says why the connection ended, and whether all had arrived. Waits for pending requests, whose responders other threads hold: answer those of this thread first.
    ///
    /// # Errors
    /// If it did not end gracefully.
    pub fn close(&self) -> Result<Closed> {
        self.listener_gone();
        self.link.wait(|state| state.arrived.closed.is_some().then_some(()));
        let state = self.link.look();
        match &state.arrived.closed {
            Some(reason) if reason.is_graceful() => Ok(Closed::new(reason.clone(), state.delivery())),
            reason => Err(error::ended(Phase::Close, reason.clone(), state.fault())),
        }
    }

    /// Ends the connection now, whatever is pending.
    pub fn abort(&self) {
        self.link.act(|state| state.conn_mut().abort(clock::now()));
    }

    /// Takes the connection apart: at any point between messages, or after an Upgrade or CONNECT was granted
    /// ([`Responder::upgrade`] does both).
    ///
    /// # Errors
    /// If the connection is closed already.
    pub fn hijack(self) -> Result<Hijacked> {
        self.link.hijack()
    }

    /// [`hijack`](Self::hijack) as one object, which reads the leftover first.
    ///
    /// # Errors
    /// As [`hijack`](Self::hijack).
    pub fn into_stream(self) -> Result<Detached> {
        self.hijack().map(Hijacked::into_stream)
    }

    pub(crate) fn link(&self) -> &Arc<Link<Server>> {
        &self.link
    }
}

/// What is pending may still be answered; nothing new is taken.
impl Drop for ServerConn {
    fn drop(&mut self) {
        self.listener_gone();
    }
}
