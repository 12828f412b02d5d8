//! One server connection: requests in order, answered in any order, from any thread.

use std::borrow::Borrow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant as Moment;

use persist_core::stats::ConnStats;
use persist_core::{
    BodyLen, CloseReason, Closed, Config, ExchangeId, Field, FieldName, FieldValue, KeepAliveProbes, Parts, Phase,
    Refused, RequestHead, Response, SendError, Server, Ticket,
};

use crate::body::Body;
use crate::body_writer::BodyWriter;
use crate::clock;
use crate::date::Stamp;
use crate::driver::{Lending, Link, State, StreamRef};
use crate::error::{self, Error, Result};
use crate::hijack::{Detached, Hijacked};
use crate::incoming::Incoming;
use crate::outgoing::{Outgoing, Sent};
use crate::stream::Stream;
use crate::trace::Span;

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

/// The right to answer one request, once, from any thread. Replies leave in the order of the requests, whatever the order of the answers.
///
/// Dropping it answers `500` and closes the connection, so that nobody waits for ever.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::{ClientConn, Request, Response, ServerConn};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = ClientConn::new(TcpStream::connect(listener.local_addr()?)?)?;
/// let server = ServerConn::new(listener.accept()?.0)?;
///
/// let exchange = client.write(Request::get("/").field("Host", "localhost")?, ())?;
/// let responder = server.read()?.expect("a request").responder;
/// // It may go to any thread.
/// let answering = std::thread::spawn(move || responder.send(Response::ok(), "from elsewhere"));
/// assert_eq!(client.read(exchange)?.body.bytes(100)?, "from elsewhere");
/// answering.join().expect("no panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "answer the request; dropping the responder answers 500 and closes"]
pub struct Responder {
    link: Arc<Link<Server>>,
    id: ExchangeId,
    ticket: Option<Ticket>,
    stamp: Option<Arc<Stamp>>,
    span: Span,
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
        config: Config,
        stamp: Arc<Stamp>,
    ) -> io::Result<Self> {
        Self::build(stream, peer, config, None, Some(stamp))
    }

    fn build(
        stream: Stream,
        peer: Option<SocketAddr>,
        config: Config,
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

impl Link<Server> {
    fn hijack(&self) -> Result<Hijacked> {
        match self.dismantle() {
            Some((stream, parts)) => Ok(Hijacked::new(stream, parts)),
            None => Err(self.gone(Phase::Close)),
        }
    }
}

impl Responder {
    /// The number of the exchange on its connection.
    pub fn id(&self) -> ExchangeId {
        self.id
    }

    /// The connection's stream, for a look: where the client is, and which certificate it has shown. `None` once the connection is closed.
    pub fn get_ref(&self) -> Option<StreamRef<'_>> {
        self.link.stream_ref()
    }

    /// Answers, and returns when all of it is with the operating system.
    ///
    /// May come in any order. A reply that is given before its turn is parked; one that does not fit
    /// ([`Limits::parked_bytes_max`](persist_core::Limits::parked_bytes_max)) waits here for its turn, so give it from a thread of its own.
    ///
    /// # Errors
    /// With a [`SendError`] as its cause if the response is invalid (the peer gets a `500`), with a [`Failure`](persist_core::Failure) if the
    /// connection or the body's reader failed.
    pub fn send(mut self, response: impl Borrow<Response>, body: impl Into<Body>) -> Result<()> {
        self.answer(response.borrow(), body.into())
    }

    /// Begins an answer whose content is written by the caller: `len` bytes of it, or any number, chunked, if that is `None`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_streaming(mut self, response: impl Borrow<Response>, len: Option<u64>) -> Result<BodyWriter> {
        let Some(ticket) = self.ticket.take() else { return Err(error::refused(SendError::NoSuchExchange)) };
        let id = ticket.id();
        match self.send_head(ticket, response.borrow(), len.map_or(BodyLen::Chunked, BodyLen::Length)) {
            Ok(()) => Ok(BodyWriter::new(self.link.clone(), id, len)),
            Err(error) => {
                self.link.act(|state| state.arrived.release(id));
                Err(error)
            }
        }
    }

    /// Sends an interim response (`102 Processing`, `103 Early Hints`) ahead of the answer.
    ///
    /// # Errors
    /// With a [`SendError`] as its cause: the peer speaks HTTP/1.0, the status is not an interim one, the exchange has ended.
    pub fn interim(&self, response: impl Borrow<Response>) -> Result<()> {
        let response = response.borrow();
        let Some(ticket) = &self.ticket else { return Err(error::refused(SendError::NoSuchExchange)) };
        let sent = self.link.act(|state| {
            // It is worth nothing if it comes with the answer.
            state.uncork();
            state.conn_mut().send_interim(ticket, response.status, response.fields.iter(), clock::now())
        });
        sent.map_err(error::refused)
    }

    /// Grants an Upgrade (`101`) or a CONNECT (2xx), and takes the connection apart once the response has left.
    ///
    /// # Errors
    /// As [`send`](Self::send), and if the connection is gone.
    pub fn upgrade(mut self, response: impl Borrow<Response>) -> Result<Hijacked> {
        self.answer(response.borrow(), Body::empty())?;
        self.link.wait(|state| state.is_flushed_or_stuck().then_some(()));
        self.link.hijack()
    }

    fn answer(&mut self, response: &Response, body: Body) -> Result<()> {
        let Some(ticket) = self.ticket.take() else { return Err(error::refused(SendError::NoSuchExchange)) };
        let id = ticket.id();
        let result = self.send_head(ticket, response, body.len()).and_then(|()| self.send_body(id, body));
        self.link.act(|state| state.arrived.release(id));
        result
    }

    fn send_head(&mut self, ticket: Ticket, response: &Response, len: BodyLen) -> Result<()> {
        let id = ticket.id();
        let span = self.span.clone();
        let _entered = span.enter();
        let date = self.stamp.as_deref().filter(|stamp| stamp.wants_date(response)).map(Stamp::date);
        let date = date.as_ref().and_then(|date| FieldValue::new(date).ok());
        let date = date.map(|value| Field { name: FieldName::from_static("Date"), value });
        let server = self.stamp.as_deref().and_then(|stamp| stamp.server(response));
        let mut ticket = Some(ticket);
        let sent = self.link.wait(|state| {
            let fields = response.fields.iter().chain(date).chain(server);
            match state.conn_mut().send_response(ticket.take()?, response.status, fields, len, clock::now()) {
                // Others are answered first, and then there is room.
                Err(Refused { ticket: back, error: SendError::ParkedFull { .. } }) => {
                    ticket = Some(back);
                    None
                }
                other => Some(other),
            }
        });
        match sent {
            Some(Ok(())) => Ok(()),
            Some(Err(Refused { error, .. })) => {
                self.link.act(|state| state.conn_mut().abandon(id, clock::now()));
                // Whoever answers cannot know that the client has gone meanwhile.
                let gone = error == SendError::NoSuchExchange && self.link.close_reason().is_some();
                Err(if gone { self.link.gone(Phase::Send) } else { error::refused(error) })
            }
            None => Err(self.link.gone(Phase::Send)),
        }
    }

    fn send_body(&mut self, id: ExchangeId, body: Body) -> Result<()> {
        if let Some(mut outgoing) = Outgoing::new(id, body) {
            match outgoing.send(&self.link, |_| None::<()>) {
                Ok(Sent::Whole | Sent::Unwanted | Sent::Interrupted(())) => {}
                Err(cause) => return Err(self.link.broken_off(id, cause)),
            }
        }
        // A server's own threads hand what is left to the poller. Where no further reply can come soon, this one waits for none.
        self.link.wait(|state| (state.is_in_burst() || state.is_flushed_or_stuck()).then_some(()));
        let mut state = self.link.look();
        let fault = state.fault();
        match state.arrived.get_mut(id).and_then(|exchange| exchange.failure.clone()) {
            Some(failure) => Err(error::failed(failure, fault)),
            None => Ok(()),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.link.act(|state| {
                state.conn_mut().abandon(ticket.id(), clock::now());
                state.arrived.release(ticket.id());
            });
        }
    }
}
