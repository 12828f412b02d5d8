//! The server's end of one connection: requests in, responses out in the order of the requests.

use std::borrow::Borrow;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant as Moment;

use persist_core::{
    BodyLen, CloseReason, Closed, Config, ConnStats, ExchangeId, KeepAliveProbes, Phase, RequestHead, Response, Server,
    Ticket,
};

use crate::address;
use crate::body::Body;
use crate::entry::Arrived;
use crate::error::{Error, Result};
use crate::facts::StreamRef;
use crate::hijack::{self, Detached, Hijacked};
use crate::incoming::Incoming;
use crate::link::{Link, State, Transport, fresh};
use crate::responder::Responder;
use crate::waiting::Interest;

/// The server's end of one connection. All methods take `&self`; each request carries its own right to answer, which may go to any task.
///
/// Whoever awaits something here drives the connection: as long as it is open, somebody should await [`read`](Self::read), which also sends
/// the responses that other tasks gave. (A [`Server`](crate::Server) does that.)
///
/// ```
/// use persist_async::{ClientConn, Request, Response, ServerConn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(1 << 16);
/// let client = ClientConn::new(near);
/// let exchange = client.write(Request::get("/hello").field("Host", "localhost")?, ()).await?;
///
/// let conn = ServerConn::new(far);
/// let received = conn.read().await?.expect("a request");
/// let answer = format!("you asked for {}\n", received.head.target());
/// conn.write(received.responder, Response::ok(), answer).await?;
/// let asking = tokio::spawn(async move { client.read(exchange).await?.body.bytes(100).await });
/// assert!(conn.read().await?.is_none(), "a graceful end"); // sends the answer meanwhile
/// assert_eq!(asking.await??, "you asked for /hello\n");
/// # Ok(())
/// # }
/// ```
///
/// A body of a request that its handler drops is read and dropped within the drain budget after the response, or the connection closes.
/// Neither `Date` nor `Server` is added to responses: a [`Server`](crate::Server) does that.
pub struct ServerConn<S> {
    link: Arc<Link<Server, S>>,
}

/// A request that came in.
///
/// ```
/// use persist_async::{ClientConn, Method, Request, Response, ServerConn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(1 << 16);
/// let (client, server) = (ClientConn::new(near), ServerConn::new(far));
///
/// let exchange = client.write(Request::post("/form").field("Host", "localhost")?, "a=1").await?;
/// let mut received = server.read().await?.expect("a request");
/// assert_eq!((received.head.method(), received.head.target()), (&Method::POST, "/form"));
/// assert_eq!(received.body.bytes(100).await?, "a=1");
/// received.responder.send(Response::ok(), ()).await?;
/// tokio::spawn(async move { server.read().await }); // whoever waits for the next request sends the answer to this one
/// client.read(exchange).await?;
/// # Ok(())
/// # }
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
    /// Whether the connection had carried an earlier request.
    pub reused: bool,
    /// Where the client is; `None` unless it came by TCP.
    pub peer: Option<SocketAddr>,
}

impl<S: Transport> ServerConn<S> {
    /// A connection over a stream that was accepted, with the defaults of [`Config::server`].
    pub fn new(stream: S) -> Self {
        Self::with_config(stream, Config::server())
    }

    /// The same, configured. Deadlines in `config` need a tokio runtime with its timer enabled.
    pub fn with_config(stream: S, config: impl Into<Arc<Config>>) -> Self {
        let peer = address::peer(&stream);
        Self { link: Link::new(fresh(config.into()), stream, peer, Vec::new()) }
    }

    /// Goes on where another owner of `stream` stopped: `leftover` was read and not used, `unsent` must be written first. The inverse of [`hijack`](Self::hijack).
    pub fn from_parts(stream: S, leftover: Vec<u8>, unsent: Vec<u8>, config: impl Into<Arc<Config>>) -> Self {
        let peer = address::peer(&stream);
        let conn = hijack::restore(config.into(), unsent);
        Self { link: Link::new(conn, stream, peer, leftover) }
    }

    /// The next request; `None` after a graceful end, or when no further one can come. Dropping the future loses nothing.
    ///
    /// May be called before earlier requests are answered: then the machine decides what may overlap
    /// ([`Pipelining::overlap`](persist_core::Pipelining::overlap)), and this waits until the next may be taken.
    ///
    /// # Errors
    /// If the connection ended otherwise: a deadline, a failing stream, a peer that broke the protocol (and has been told so).
    pub async fn read(&self) -> Result<Option<Received>> {
        self.link
            .wait(Interest::Connection, |state, _| match take(&self.link, state) {
                Some(received) => Some(Ok(Some(received))),
                None => self.end(state),
            })
            .await
    }

    /// How it ended, if it has.
    fn end(&self, state: &State<Server, S>) -> Option<Result<Option<Received>>> {
        match &state.closed {
            Some(reason) if reason.is_graceful() => Some(Ok(None)),
            Some(_) => state.ended(Phase::Receive).map(Err),
            None if state.switched || state.stream.is_none() => Some(Ok(None)),
            None => None,
        }
    }

    /// Answers a request: [`Responder::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn write(
        &self,
        responder: Responder,
        response: impl Borrow<Response>,
        body: impl Into<Body>,
    ) -> Result<()> {
        responder.send(response, body).await
    }

    /// Exchanges that are not complete, those with unread bodies included.
    pub fn pending(&self) -> usize {
        self.link.lock().conn.pending()
    }

    /// Whether no further request can come.
    pub fn is_closing(&self) -> bool {
        self.link.lock().is_closing()
    }

    /// Whether the connection failed: a failing stream, a passed deadline, a peer that broke the protocol or left in the middle.
    pub fn is_broken(&self) -> bool {
        self.link.lock().is_broken()
    }

    /// Why the connection ended or is ending; `None` while it is not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.link.lock().close_reason().cloned()
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
        self.link.lock().conn.completed()
    }

    /// Bytes that were written here and have not reached the peer's system: those in our outbox, and on Linux those in the kernel's send queue
    /// that are not acknowledged (of a Unix socket: not read, in bytes of memory). Elsewhere, and of other streams, only the outbox is known.
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
    /// What the system says; only TCP has probes, and a closed connection has no socket.
    pub fn set_keep_alive(&self, probes: Option<KeepAliveProbes>) -> io::Result<()> {
        self.link.set_keep_alive(probes)
    }

    /// The stream, for its addresses and options; `None` once the connection is closed.
    pub fn get_ref(&self) -> Option<StreamRef<'_, S>> {
        self.link.stream_ref()
    }

    /// No further request is taken: what is pending is finished, and the last response says `Connection: close`.
    pub fn listener_gone(&self) {
        self.link.listener_gone();
    }

    /// The connection's number in this process.
    pub fn id(&self) -> u64 {
        self.link.id
    }

    /// Where the peer is, if the stream is a [`TcpStream`](tokio::net::TcpStream) or a [`Stream`](crate::Stream) over TCP.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.link.peer()
    }

    /// Where this end is, under the same condition, while the stream is open.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.link.lock().stream.as_ref().and_then(address::local)
    }

    /// Ends the connection in an orderly way: what is pending is answered, our side is shut down, and the peer has
    /// [`Timeouts::linger`](persist_core::Timeouts::linger) to close its own.
    ///
    /// Says why the connection ended, and whether all had arrived. Waits for pending requests, whose responders other tasks hold.
    ///
    /// # Errors
    /// If it did not end gracefully.
    pub async fn close(&self) -> Result<Closed> {
        self.link.lock().ask_delivery();
        self.listener_gone();
        self.link
            .wait(Interest::Connection, |state, _| match &state.closed {
                Some(reason) if reason.is_graceful() => Some(Ok(Closed::new((**reason).clone(), state.delivery()))),
                _ => state.ended(Phase::Close).map(Err),
            })
            .await
    }

    /// Ends the connection now, whatever is pending.
    pub fn abort(&self) {
        self.link.abort();
    }

    /// Takes the connection apart: at any point between messages, or after an Upgrade or CONNECT was granted and the response has left.
    /// Exchanges and bodies that are still held find it gone.
    ///
    /// # Errors
    /// If the connection is closed already.
    pub fn hijack(self) -> Result<Hijacked<S>> {
        hijack::detach(&self.link)
    }

    /// [`hijack`](Self::hijack) as one object, which reads the leftover first.
    ///
    /// # Errors
    /// As [`hijack`](Self::hijack).
    pub fn into_stream(self) -> Result<Detached<S>> {
        self.hijack().map(Hijacked::into_stream)
    }
}

/// Takes the request that has arrived.
pub(crate) fn take<S: Transport>(link: &Arc<Link<Server, S>>, state: &mut State<Server, S>) -> Option<Received> {
    let Arrived { id, head, ticket, len } = *state.arrived.take()?;
    let body = if len == BodyLen::Empty { Incoming::nothing() } else { Incoming::open(link, state, id, len) };
    Some(received(link, id, head, ticket, body))
}

/// A request, with all that its handler gets to know of it.
#[inline(always)]
pub(crate) fn received<S: Transport>(
    link: &Arc<Link<Server, S>>,
    id: ExchangeId,
    head: RequestHead,
    ticket: Ticket,
    body: Incoming,
) -> Received {
    let span = link.span.exchange(id.number(), head.method().as_str());
    let responder = Responder::new(link.clone(), ticket, span);
    Received { head, body, responder, connection: link.id, reused: id.number() > 0, peer: link.peer() }
}

impl<S: Transport> Link<Server, S> {
    pub(crate) fn listener_gone(&self) {
        if self.has_task() {
            // A poll that is under way has looked already: there must be another.
            self.lock().ending = true;
            return self.kick();
        }
        self.mutate(|state| {
            let now = state.now();
            state.conn.close(now);
        });
    }

    pub(crate) fn abort(&self) {
        self.mutate(|state| {
            let now = state.now();
            state.conn.abort(now);
        });
    }

    /// The task that drove it is gone. A connection that is to speak another protocol is left to whoever granted that; any other is closed,
    /// and whoever still holds a request of it finds it gone.
    pub(crate) fn desert(&self) {
        let mut state = self.lock();
        state.attended = false;
        if state.stream.is_some() && !state.switched {
            state.tick();
            let now = state.now();
            state.conn.abort(now);
            state.settle();
            state.discard_stream();
        }
        drop(state);
        self.task_gone();
    }
}

impl<S> fmt::Debug for ServerConn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConn").field("id", &self.link.id).field("peer", &self.link.peer()).finish_non_exhaustive()
    }
}
