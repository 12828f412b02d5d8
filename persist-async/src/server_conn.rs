//! The server's end of one connection: requests in, responses out in the order of the requests.

use std::borrow::Borrow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use persist_core::{
    BodyLen, CloseReason, Config, ExchangeId, Field, FieldName, FieldValue, Phase, Refused, RequestHead, Response,
    SendError, Server, Ticket,
};

use crate::address;
use crate::body::Body;
use crate::date::Stamp;
use crate::error::{self, Result};
use crate::hijack::{self, Detached, Hijacked};
use crate::incoming::Incoming;
use crate::link::{Interest, Link, State, Transport, fresh};
use crate::wakers::{Hold, Slot};

/// The server's end of one connection. All methods take `&self`; each request carries its own right to answer, which may go to any task.
///
/// Whoever awaits something here drives the connection: as long as it is open, somebody should await [`read`](Self::read), which also sends
/// the responses that other tasks gave. (A [`Server`](crate::Server) does that.)
///
/// ```no_run
/// use persist_async::{Response, ServerConn};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let conn = ServerConn::new(listener.accept().await?.0);
/// while let Some(received) = conn.read().await? {
///     let answer = format!("you asked for {}\n", received.head.target());
///     conn.write(received.responder, Response::ok(), answer).await?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// A body of a request that its handler drops is read and dropped within the drain budget after the response, or the connection closes.
/// Neither `Date` nor `Server` is added to responses: a [`Server`](crate::Server) does that.
pub struct ServerConn<S> {
    link: Arc<Link<Server, S>>,
    stamp: Option<Arc<Stamp>>,
}

/// A request that came in.
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

/// The right to answer one request, once, from any task. Responses leave in the order of the requests, whatever the order of the answers.
///
/// Dropping it answers `500` and closes the connection, so that nobody waits for ever.
#[must_use = "answer the request; dropping the responder answers 500 and closes"]
pub struct Responder {
    outlet: Arc<dyn Outlet>,
    ticket: Option<Ticket>,
    stamp: Option<Arc<Stamp>>,
}

/// The sending end of a server's connection, whatever its stream is.
trait Outlet: Send + Sync {
    fn poll_answer(&self, answer: &mut Answer<'_>, slot: &mut Option<Slot>, cx: &mut Context<'_>) -> Poll<Result<()>>;
    fn interim(&self, ticket: &Ticket, response: &Response) -> Result<()>;
    fn abandon(&self, id: ExchangeId);
    fn poll_flushed(&self, slot: &mut Option<Slot>, cx: &mut Context<'_>) -> Poll<Result<()>>;
    fn hijack(&self) -> Result<Hijacked<Box<dyn Transport>>>;
    fn leave(&self, slot: &mut Option<Slot>);
}

/// A response on its way into the machine.
struct Answer<'a> {
    ticket: Option<Ticket>,
    response: &'a Response,
    body: Option<Body>,
    stamp: Option<&'a Stamp>,
}

impl<S: Transport> ServerConn<S> {
    /// A connection over a stream that was accepted, with the defaults of [`Config::server`].
    pub fn new(stream: S) -> Self {
        Self::with_config(stream, Config::server())
    }

    /// The same, configured. Deadlines in `config` need a tokio runtime with its timer enabled.
    pub fn with_config(stream: S, config: impl Into<Arc<Config>>) -> Self {
        let peer = address::peer(&stream);
        Self::accepted(stream, peer, config.into(), None)
    }

    /// Goes on where another owner of `stream` stopped: `leftover` was read and not used, `unsent` must be written first. The inverse of [`hijack`](Self::hijack).
    pub fn from_parts(stream: S, leftover: Vec<u8>, unsent: Vec<u8>, config: impl Into<Arc<Config>>) -> Self {
        let peer = address::peer(&stream);
        let (conn, clock) = hijack::restore(config.into(), unsent);
        Self { link: Link::new(conn, clock, stream, peer, leftover), stamp: None }
    }

    pub(crate) fn accepted(
        stream: S,
        peer: Option<SocketAddr>,
        config: Arc<Config>,
        stamp: Option<Arc<Stamp>>,
    ) -> Self {
        let (conn, clock) = fresh(config);
        Self { link: Link::new(conn, clock, stream, peer, Vec::new()), stamp }
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
            .wait(Interest::Connection, |state, _| match self.take(state) {
                Some(received) => Some(Ok(Some(received))),
                None => self.end(state),
            })
            .await
    }

    fn take(&self, state: &mut State<Server, S>) -> Option<Received> {
        if state.untaken == 0 {
            return None;
        }
        let entry = state.entries.iter_mut().find(|entry| entry.head.is_some())?;
        let id = entry.id;
        let (head, ticket, len) = entry.head.take()?;
        state.untaken -= 1;
        let body = Incoming::open(&self.link, state, id, len);
        let responder = Responder { outlet: self.link.clone(), ticket: Some(ticket), stamp: self.stamp.clone() };
        let (connection, reused, peer) = (self.link.id, id.number() > 0, self.link.peer);
        Some(Received { head, body, responder, connection, reused, peer })
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

    /// Polls the connection on behalf of a task that is busy with a handler: sends what waits, and reads ahead as far as the limits allow.
    pub(crate) fn poll_drive(&self, slot: &mut Option<Slot>, cx: &mut Context<'_>) {
        let _ = self.link.poll((slot, Interest::Connection, Hold::Firm), cx, |state, cx, _| {
            state.drive(cx, &mut None, &mut |_| None::<()>)
        });
    }

    pub(crate) fn leave(&self, slot: &mut Option<Slot>) {
        if slot.is_some() {
            Link::leave(&self.link, self.link.lock(), slot);
        }
    }

    /// Exchanges that are not complete, those with unread bodies included.
    pub fn pending(&self) -> usize {
        self.link.lock().conn.pending()
    }

    /// Whether no further request can come.
    pub fn is_closing(&self) -> bool {
        let state = self.link.lock();
        state.stream.is_none() || state.conn.is_closing()
    }

    /// Why the connection ended or is ending; `None` while it is not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        let state = self.link.lock();
        state.closed.clone().or_else(|| state.conn.close_reason().cloned())
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
        self.link.peer
    }

    /// Where this end is, under the same condition, while the stream is open.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.link.lock().stream.as_ref().and_then(address::local)
    }

    /// Ends the connection in an orderly way: what is pending is answered, our side is shut down, and the peer has
    /// [`Timeouts::linger`](persist_core::Timeouts::linger) to close its own.
    ///
    /// Returns why the connection ended. Waits for pending requests, whose responders other tasks hold.
    ///
    /// # Errors
    /// If it did not end gracefully.
    pub async fn close(&self) -> Result<CloseReason> {
        self.listener_gone();
        self.link
            .wait(Interest::Connection, |state, _| match &state.closed {
                Some(reason) if reason.is_graceful() => Some(Ok(reason.clone())),
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

    pub(crate) fn link(&self) -> &Arc<Link<Server, S>> {
        &self.link
    }
}

impl<S: Transport> Link<Server, S> {
    pub(crate) fn listener_gone(&self) {
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
}

impl Responder {
    /// The number of the exchange on its connection.
    pub fn id(&self) -> ExchangeId {
        self.ticket.as_ref().expect("a responder has its ticket until it is consumed").id()
    }

    /// Answers. Returns when the connection has taken the response's head; its body goes on being sent by whoever drives the connection.
    ///
    /// May come in any order. A response that is given before its turn is parked; one that does not fit
    /// ([`Limits::parked_bytes_max`](persist_core::Limits::parked_bytes_max)) waits here for its turn.
    ///
    /// # Errors
    /// With a [`SendError`] as its cause if the response is invalid (the peer gets a `500`), with a [`Failure`](persist_core::Failure) if the exchange has failed.
    pub async fn send(mut self, response: impl Borrow<Response>, body: impl Into<Body>) -> Result<()> {
        let (outlet, stamp) = (self.outlet.clone(), self.stamp.clone());
        let answer = Answer {
            ticket: self.ticket.take(),
            response: response.borrow(),
            body: Some(body.into()),
            stamp: stamp.as_deref(),
        };
        Sending { outlet: &*outlet, answer, slot: None }.await
    }

    /// Grants an Upgrade (`101`) or a CONNECT (2xx), and takes the connection apart once the response has left. Its
    /// [`ServerConn`], or the [`Server`](crate::Server), is done with it then.
    ///
    /// # Errors
    /// As [`send`](Self::send), and if the connection is gone.
    pub async fn upgrade(self, response: impl Borrow<Response>) -> Result<Hijacked<Box<dyn Transport>>> {
        let outlet = self.outlet.clone();
        self.send(response, ()).await?;
        Flushing { outlet: &*outlet, slot: None }.await?;
        outlet.hijack()
    }

    /// Sends an interim response (`102 Processing`, `103 Early Hints`) ahead of the answer.
    ///
    /// # Errors
    /// With a [`SendError`] as its cause: the peer speaks HTTP/1.0, the status is not an interim one, the exchange has ended.
    pub fn interim(&self, response: impl Borrow<Response>) -> Result<()> {
        match &self.ticket {
            Some(ticket) => self.outlet.interim(ticket, response.borrow()),
            None => Err(error::refused(SendError::NoSuchExchange)),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.outlet.abandon(ticket.id());
        }
    }
}

/// Waits until the machine has taken a response. Dropped before that, the exchange is abandoned.
struct Sending<'a> {
    outlet: &'a dyn Outlet,
    answer: Answer<'a>,
    slot: Option<Slot>,
}

impl Future for Sending<'_> {
    type Output = Result<()>;

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        this.outlet.poll_answer(&mut this.answer, &mut this.slot, cx)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.outlet.leave(&mut self.slot);
        if let Some(ticket) = self.answer.ticket.take() {
            self.outlet.abandon(ticket.id());
        }
    }
}

/// Waits until all that was to be sent has left.
struct Flushing<'a> {
    outlet: &'a dyn Outlet,
    slot: Option<Slot>,
}

impl Future for Flushing<'_> {
    type Output = Result<()>;

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        this.outlet.poll_flushed(&mut this.slot, cx)
    }
}

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.outlet.leave(&mut self.slot);
    }
}

impl Answer<'_> {
    /// Gives the response to the machine; `None` while it must wait for its turn.
    fn give<S: Transport>(&mut self, state: &mut State<Server, S>) -> Option<Result<()>> {
        let Some(ticket) = self.ticket.take() else { return Some(Err(error::refused(SendError::NoSuchExchange))) };
        let (id, now) = (ticket.id(), state.now());
        let date = self.stamp.filter(|stamp| stamp.wants_date(self.response)).map(Stamp::date);
        let date = date.as_ref().and_then(|date| FieldValue::new(date).ok());
        let date = date.map(|value| Field { name: FieldName::from_static("Date"), value });
        let server = self.stamp.and_then(|stamp| stamp.server(self.response));
        let fields = self.response.fields.iter().chain(date).chain(server);
        let len = self.body.as_ref().map_or(BodyLen::Empty, Body::len);
        match state.conn.send_response(ticket, self.response.status, fields, len, now) {
            Ok(()) => {
                if let Some(entry) = state.entry(id) {
                    entry.outbound_held = false;
                }
                state.begin_body(id, self.body.take().unwrap_or_default());
                state.tidy(id);
                Some(Ok(()))
            }
            Err(Refused { ticket, error: SendError::ParkedFull { .. } }) => {
                self.ticket = Some(ticket);
                None
            }
            Err(Refused { error: SendError::NoSuchExchange, .. }) => {
                let error = state.failure(id).or_else(|| state.ended(Phase::Send));
                release(state, id);
                Some(Err(error.unwrap_or_else(|| error::refused(SendError::NoSuchExchange))))
            }
            Err(Refused { error, .. }) => {
                state.conn.abandon(id, now);
                release(state, id);
                Some(Err(error::refused(error)))
            }
        }
    }
}

/// Nobody will answer this exchange any more.
fn release<S: Transport>(state: &mut State<Server, S>, id: ExchangeId) {
    if let Some(entry) = state.entry(id) {
        entry.outbound_held = false;
    }
    state.tidy(id);
}

impl<S: Transport> Outlet for Link<Server, S> {
    fn poll_answer(&self, answer: &mut Answer<'_>, slot: &mut Option<Slot>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(id) = answer.ticket.as_ref().map(Ticket::id) else {
            return Poll::Ready(Err(error::refused(SendError::NoSuchExchange)));
        };
        self.poll((slot, Interest::Exchange(id), Hold::Firm), cx, |state, cx, _| {
            state.drive(cx, &mut None, &mut |state| answer.give(state))
        })
    }

    fn interim(&self, ticket: &Ticket, response: &Response) -> Result<()> {
        self.mutate(|state| {
            let now = state.now();
            state.conn.send_interim(ticket, response.status, response.fields.iter(), now).map_err(error::refused)
        })
    }

    fn abandon(&self, id: ExchangeId) {
        self.mutate(|state| {
            let now = state.now();
            state.conn.abandon(id, now);
            release(state, id);
        });
    }

    fn poll_flushed(&self, slot: &mut Option<Slot>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll((slot, Interest::Connection, Hold::Firm), cx, |state, cx, _| {
            state.drive(cx, &mut None, &mut |state| match state.ended(Phase::Send) {
                None => (!state.conn.wants_write()).then_some(Ok(())),
                error => error.map(Err),
            })
        })
    }

    fn hijack(&self) -> Result<Hijacked<Box<dyn Transport>>> {
        let Hijacked { stream, leftover, unsent, failures } = hijack::detach(self)?;
        Ok(Hijacked { stream: Box::new(stream), leftover, unsent, failures })
    }

    fn leave(&self, slot: &mut Option<Slot>) {
        if slot.is_some() {
            Link::leave(self, self.lock(), slot);
        }
    }
}

impl<S> fmt::Debug for ServerConn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConn").field("id", &self.link.id).field("peer", &self.link.peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("exchange", &self.ticket.as_ref().map(Ticket::id)).finish_non_exhaustive()
    }
}
