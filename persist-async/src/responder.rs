//! The right to answer one request, and how answers reach the machine.

use std::any::Any;
use std::borrow::Borrow;
use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use persist_core::{ExchangeId, HeadFields, Phase, Refused, Response, SendError, Server, StatusCode, Ticket};

use crate::body::Body;
use crate::date::Stamp;
use crate::error::{self, Result};
use crate::facts::StreamRef;
use crate::hijack::{self, Hijacked};
use crate::link::{Link, State, Transport};
use crate::stream::Stream;
use crate::trace::Span;
use crate::waiting::Interest;
use crate::wakers::{Hold, Slot};

/// The right to answer one request, once, from any task. Responses leave in the order of the requests, whatever the order of the answers.
///
/// Dropping it answers `500` and closes the connection, so that nobody waits for ever.
///
/// ```
/// use persist_async::{ClientConn, Request, Response, ServerConn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(1 << 16);
/// let (client, server) = (ClientConn::new(near), ServerConn::new(far));
///
/// let exchange = client.write(Request::get("/").field("Host", "localhost")?, ()).await?;
/// let responder = server.read().await?.expect("a request").responder;
/// // It may go to any task.
/// let answering = tokio::spawn(async move { responder.send(Response::ok(), "from elsewhere").await });
/// tokio::spawn(async move { server.read().await }); // whoever waits for the next request sends the answer to this one
/// assert_eq!(client.read(exchange).await?.body.bytes(100).await?, "from elsewhere");
/// answering.await??;
/// # Ok(())
/// # }
/// ```
#[must_use = "answer the request; dropping the responder answers 500 and closes"]
pub struct Responder {
    way: Way,
}

/// Where the answer goes.
enum Way {
    Http1 {
        outlet: Arc<dyn Outlet>,
        ticket: Option<Ticket>,
        span: Span,
    },
    #[cfg(feature = "http2")]
    Http2(Option<Box<crate::http2::Answerer>>),
}

/// The sending end of a server's connection, whatever its stream is.
pub(crate) trait Outlet: Send + Sync {
    fn poll_answer(&self, answer: &mut Answer<'_>, slot: &mut Option<Slot>, cx: &mut Context<'_>) -> Poll<Result<()>>;
    fn interim(&self, ticket: &Ticket, response: &Response) -> Result<()>;
    fn abandon(&self, id: ExchangeId);
    fn poll_flushed(&self, slot: &mut Option<Slot>, cx: &mut Context<'_>) -> Poll<Result<()>>;
    fn hijack(&self) -> Result<Hijacked<Box<dyn Transport>>>;
    fn leave(&self, slot: &mut Option<Slot>);
    fn stream(&self) -> Option<StreamRef<'_, Stream>>;
}

/// A response on its way into the machine.
pub(crate) struct Answer<'a> {
    ticket: &'a mut Option<Ticket>,
    response: &'a Response,
    body: &'a mut Body,
}

impl Responder {
    pub(crate) fn new(outlet: Arc<dyn Outlet>, ticket: Ticket, span: Span) -> Self {
        Self { way: Way::Http1 { outlet, ticket: Some(ticket), span } }
    }

    #[cfg(feature = "http2")]
    pub(crate) fn of_http2(answerer: crate::http2::Answerer) -> Self {
        Self { way: Way::Http2(Some(Box::new(answerer))) }
    }

    /// The right to answer by HTTP/2, if that is how.
    #[cfg(feature = "http2")]
    pub(crate) fn take_http2(&mut self) -> Option<Box<crate::http2::Answerer>> {
        match &mut self.way {
            Way::Http2(answerer) => answerer.take(),
            Way::Http1 { .. } => None,
        }
    }

    /// The number of the exchange on its connection.
    pub fn id(&self) -> ExchangeId {
        match &self.way {
            Way::Http1 { ticket, .. } => ticket.as_ref().expect("a responder has its ticket until it is consumed").id(),
            #[cfg(feature = "http2")]
            Way::Http2(answerer) => answerer.as_ref().expect("likewise").id(),
        }
    }

    /// The stream of a [`Server`](crate::Server)'s connection, for a look: which socket it is, and which certificate the client has shown. `None` once the
    /// connection is closed, where it speaks HTTP/2, and of a [`ServerConn`](crate::ServerConn) over another kind of stream, which has a `get_ref` of its own.
    pub fn get_ref(&self) -> Option<StreamRef<'_, Stream>> {
        match &self.way {
            Way::Http1 { outlet, .. } => outlet.stream(),
            #[cfg(feature = "http2")]
            Way::Http2(_) => None,
        }
    }

    /// Answers. Returns when the connection has taken the response's head; its body goes on being sent by whoever drives the connection.
    ///
    /// May come in any order. A response that is given before its turn is parked; one that does not fit
    /// ([`Limits::parked_bytes_max`](persist_core::Limits::parked_bytes_max)) waits here for its turn.
    ///
    /// # Errors
    /// With a [`SendError`] as its cause if the response is invalid (the peer gets a `500`), with a [`Failure`](persist_core::Failure) if the exchange has failed.
    pub fn send(self, response: impl Borrow<Response>, body: impl Into<Body>) -> impl Future<Output = Result<()>> {
        Sending { responder: self, response, body: body.into(), slot: None }
    }

    /// Grants an Upgrade (`101`) or a CONNECT (2xx), and takes the connection apart once the response has left. Its
    /// [`ServerConn`](crate::ServerConn), or the [`Server`](crate::Server), is done with it then.
    ///
    /// # Errors
    /// As [`send`](Self::send), and if the connection is gone.
    #[cfg_attr(not(feature = "http2"), expect(unused_mut, reason = "there is nothing to take"))]
    pub async fn upgrade(mut self, response: impl Borrow<Response>) -> Result<Hijacked<Box<dyn Transport>>> {
        #[cfg(feature = "http2")]
        if let Some(answerer) = self.take_http2() {
            return answerer.upgrade(response.borrow());
        }
        let outlet = match &self.way {
            Way::Http1 { outlet, .. } => outlet.clone(),
            #[cfg(feature = "http2")]
            Way::Http2(_) => return Err(error::refused(SendError::NoSuchExchange)),
        };
        self.send(response, ()).await?;
        Flushing { outlet: &*outlet, slot: None }.await?;
        outlet.hijack()
    }

    /// Sends an interim response (`102 Processing`, `103 Early Hints`) ahead of the answer.
    ///
    /// # Errors
    /// With a [`SendError`] as its cause: the peer speaks HTTP/1.0, the status is not an interim one, the exchange has ended.
    pub fn interim(&self, response: impl Borrow<Response>) -> Result<()> {
        match &self.way {
            Way::Http1 { outlet, ticket: Some(ticket), .. } => outlet.interim(ticket, response.borrow()),
            #[cfg(feature = "http2")]
            Way::Http2(Some(answerer)) => answerer.interim(response.borrow()),
            _ => Err(error::refused(SendError::NoSuchExchange)),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        // One of HTTP/2 sees to itself.
        #[cfg_attr(not(feature = "http2"), allow(irrefutable_let_patterns, reason = "there is one way only"))]
        if let Way::Http1 { outlet, ticket, .. } = &mut self.way
            && let Some(ticket) = ticket.take()
        {
            outlet.abandon(ticket.id());
        }
    }
}

/// Waits until the machine has taken a response. Dropped before that, its responder abandons the exchange.
///
/// Handlers' futures hold it, and are moved: it is no larger than what it holds.
struct Sending<R> {
    responder: Responder,
    response: R,
    body: Body,
    slot: Option<Slot>,
}

/// Nothing in it is pinned.
impl<R> Unpin for Sending<R> {}

impl<R: Borrow<Response>> Future for Sending<R> {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { responder, response, body, slot } = self.get_mut();
        let response = (*response).borrow();
        match &mut responder.way {
            Way::Http1 { outlet, ticket, span } => {
                let _entered = span.enter();
                outlet.poll_answer(&mut Answer { ticket, response, body }, slot, cx)
            }
            #[cfg(feature = "http2")]
            Way::Http2(answerer) => Poll::Ready(match answerer.take() {
                Some(answerer) => answerer.send(response, std::mem::take(body)),
                None => Err(error::refused(SendError::NoSuchExchange)),
            }),
        }
    }
}

impl<R> Drop for Sending<R> {
    fn drop(&mut self) {
        #[cfg_attr(not(feature = "http2"), allow(irrefutable_let_patterns, reason = "there is one way only"))]
        if let Way::Http1 { outlet, .. } = &self.responder.way
            && self.slot.is_some()
        {
            outlet.leave(&mut self.slot);
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

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
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
    fn give<S: Transport>(&mut self, stamp: Option<&Stamp>, state: &mut State<Server, S>) -> Option<Result<()>> {
        let Some(ticket) = self.ticket.take() else { return Some(Err(error::refused(SendError::NoSuchExchange))) };
        let id = ticket.id();
        let (response, body) = (self.response, &mut *self.body);
        let own = response.fields.lines();
        let given = match stamp {
            None => Self::hand_over(response.status, own, body, state, ticket),
            Some(stamp) => stamp
                .with(own, state.now(), |added| Self::hand_over(response.status, own.and(added), body, state, ticket)),
        };
        match given {
            Ok(()) => {
                release(state, id);
                Some(Ok(()))
            }
            Err(Refused { ticket, error: SendError::ParkedFull { .. } }) => {
                *self.ticket = Some(ticket);
                state.entry_or_new(id).outbound_held = true;
                state.await_turn(id);
                None
            }
            Err(Refused { error: SendError::NoSuchExchange, .. }) => {
                let error = state.failure(id).or_else(|| state.ended(Phase::Send));
                release(state, id);
                Some(Err(error.unwrap_or_else(|| error::refused(SendError::NoSuchExchange))))
            }
            Err(Refused { error, .. }) => {
                let now = state.now();
                state.conn.abandon(id, now);
                release(state, id);
                Some(Err(error::refused(error)))
            }
        }
    }

    /// Content at hand goes with its head, anything else as fast as the machine takes it.
    fn hand_over<S: Transport>(
        status: StatusCode,
        fields: impl HeadFields,
        body: &mut Body,
        state: &mut State<Server, S>,
        ticket: Ticket,
    ) -> Result<(), Refused> {
        let (now, id) = (state.now(), ticket.id());
        if let Some(content) = body.at_hand() {
            return state.conn.send_whole_response(ticket, status, fields, content, now);
        }
        state.conn.send_response(ticket, status, fields, body.len(), now)?;
        state.begin_body(id, std::mem::take(body));
        Ok(())
    }
}

/// Nobody will answer this exchange any more.
fn release<S: Transport>(state: &mut State<Server, S>, id: ExchangeId) {
    if let Some(entry) = state.entry(id) {
        entry.outbound_held = false;
        state.tidy(id);
    }
}

impl<S: Transport> Outlet for Link<Server, S> {
    fn poll_answer(&self, answer: &mut Answer<'_>, slot: &mut Option<Slot>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let stamp = self.stamp.as_deref();
        if self.has_task() {
            // The task sends it, together with whatever else its handlers answer.
            let mut state = self.lock();
            if !state.attended {
                state.tick();
            }
            if let Some(result) = answer.give(stamp, &mut state) {
                let attended = state.attended;
                if slot.is_some() {
                    Link::leave(self, state, slot);
                } else {
                    drop(state);
                }
                if !attended {
                    self.kick();
                }
                return Poll::Ready(result);
            }
        }
        let Some(id) = answer.ticket.as_ref().map(Ticket::id) else {
            return Poll::Ready(Err(error::refused(SendError::NoSuchExchange)));
        };
        let poll = self.poll((slot, &Cell::new(Interest::Exchange(id)), Hold::Firm), cx, |state, cx, _| {
            state.drive(cx, &mut None, &mut |state| answer.give(stamp, state))
        });
        if poll.is_ready() {
            // Whoever drives may wait for the next request, and knows nothing of an answer.
            self.kick();
        }
        poll
    }

    fn interim(&self, ticket: &Ticket, response: &Response) -> Result<()> {
        self.mutate(|state| {
            let now = state.now();
            state.conn.send_interim(ticket, response.status, &response.fields, now).map_err(error::refused)
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
        self.poll((slot, &Cell::new(Interest::Connection), Hold::Firm), cx, |state, cx, _| {
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

    fn stream(&self) -> Option<StreamRef<'_, Stream>> {
        (self as &dyn Any).downcast_ref::<Link<Server, Stream>>()?.stream_ref()
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exchange = match &self.way {
            Way::Http1 { ticket, .. } => ticket.as_ref().map(Ticket::id),
            #[cfg(feature = "http2")]
            Way::Http2(answerer) => answerer.as_ref().map(|answerer| answerer.id()),
        };
        f.debug_struct("Responder").field("exchange", &exchange).finish_non_exhaustive()
    }
}
