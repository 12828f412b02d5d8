//! One client connection: requests out in order, replies in the same order, from as many threads as wanted.

use std::borrow::Borrow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use persist_core::{
    BodyLen, Client, CloseReason, Closed, Config, Deadline, Delivery, Ended, Instant, Outline, Parts, Phase, Request,
    ResponseHead, SendError,
};

use crate::body::Body;
use crate::body_writer::BodyWriter;
use crate::clock;
use crate::driver::{Detour, Lending, Link, Look, State};
use crate::error::{self, Error, Result};
use crate::exchange::{Exchange, Reply, Reservation, must_wait};
use crate::hijack::{Detached, Hijacked};
use crate::outgoing::Outgoing;
use crate::stream::Stream;

/// A client's end of one connection. All methods take `&self`: write and read from different threads at once.
///
/// Requests leave in the order of their [`write`](Self::write)s, replies come in the same order, and each reply finds its own
/// [`Exchange`]. An exchange whose turn has not come waits; whoever waits drives the connection for all of them, in both directions.
/// There is no background thread, so between calls nothing moves.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::{Body, ClientConn, Config, Request, Response, ServerConn};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let near = TcpStream::connect(listener.local_addr()?)?;
/// let server = ServerConn::new(listener.accept()?.0)?;
/// let serving = std::thread::spawn(move || {
///     while let Some(received) = server.read()? {
///         let target = received.head.target().to_owned();
///         received.responder.send(Response::ok(), target)?;
///     }
///     Ok::<_, persist_sync::Error>(())
/// });
///
/// let mut config = Config::client();
/// config.pipelining.depth = 8; // the default is 1: one request at a time
/// let conn = ClientConn::with_config(near, config)?;
/// let request = |path: &str| Request::get(path).field("Host", "localhost");
/// let first = conn.write(request("/a")?, Body::empty())?;
/// let second = conn.write(request("/b")?, Body::empty())?; // both are on their way
/// assert_eq!(conn.read(first)?.body.bytes(1 << 20)?, "/a");
/// assert_eq!(conn.read(second)?.body.bytes(1 << 20)?, "/b");
/// conn.close()?;
/// serving.join().expect("no panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Waiting for oneself
/// A reply is read only once the body of the reply before it was read or dropped, beyond what fits into 64 KiB. A thread that holds an unread
/// body and waits for a later reply therefore waits for itself, unless another thread reads that body. Requests whose bodies are in memory never
/// make their writer wait for a reply that only the writer would read.
#[derive(Debug)]
pub struct ClientConn {
    pub(crate) link: Arc<Link<Client>>,
}

/// What comes behind a request's head.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follows {
    Nothing,
    /// A body that is at hand, and leaves together with the head.
    AtOnce,
    /// A body that the calling thread sends now, so that others wait for their turn.
    Soon,
    /// A body that somebody writes when it suits him.
    Later,
}

/// How an exchange begins, and by when it must be complete.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) look: Look,
    pub(crate) until: Option<Instant>,
    /// The time, if somebody has just asked for it.
    pub(crate) at: Option<Instant>,
}

/// When closing first looks whether all has arrived, and how long it waits at most between two looks.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LATER: Duration = Duration::from_millis(50);

impl ClientConn {
    /// A connection over a fresh stream, one request at a time.
    ///
    /// # Errors
    /// If the socket cannot be put into non-blocking mode.
    pub fn new(stream: impl Into<Stream>) -> io::Result<Self> {
        Self::with_config(stream, Config::client())
    }

    /// The same, configured.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_config(stream: impl Into<Stream>, config: Config) -> io::Result<Self> {
        Ok(Self { link: Link::new(stream.into(), config, None, Lending::Unlimited)? })
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
        Ok(Self { link: Link::new(stream.into(), config, Some(parts), Lending::Unlimited)? })
    }

    /// Sends a request, in its turn, and returns when all of it is with the operating system.
    ///
    /// A body in memory is lent to the connection: if the peer stops reading until its replies are read, the rest of it goes out while they
    /// are. A body from a reader is read to its end by this call, unless the reply makes the rest unwanted: if the same thread is to read the
    /// replies, use [`send`](Self::send). While another thread is writing, the call waits for its turn. Many requests at once leave by
    /// [`write_all`](Self::write_all).
    ///
    /// # Errors
    /// If nothing was sent, with the cause: a [`SendError`] (the depth is reached, an earlier request must be answered first, the request is
    /// invalid), or [`Ended`](error::Ended) with the reason why the connection is over. With a [`Failure`](persist_core::Failure) if the body's reader failed.
    pub fn write(&self, request: impl Borrow<Request>, body: impl Into<Body>) -> Result<Exchange> {
        self.write_in(None, request.borrow(), body.into(), None)
    }

    /// [`write`](Self::write) in a [reserved](Self::reserve) place, which is given back in every case.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_reserved(
        &self,
        reservation: Reservation,
        request: impl Borrow<Request>,
        body: impl Into<Body>,
    ) -> Result<Exchange> {
        self.own(&reservation.link)?;
        self.write_in(Some(reservation), request.borrow(), body.into(), None)
    }

    /// Sends a request's head, and gives the right to write its body: `len` bytes of it, or any number, chunked, if that is `None`.
    ///
    /// The two handles may go to different threads, so that the reply is read while the request is written. Whoever does both with one thread
    /// finishes the body first. Until then, further requests are refused with [`SendError::BodyUnfinished`].
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_streaming(&self, request: impl Borrow<Request>, len: Option<u64>) -> Result<(Exchange, BodyWriter)> {
        let framing = len.map_or(BodyLen::Chunked, BodyLen::Length);
        let exchange = self.begin(None, request.borrow().into(), (framing, Follows::Later), None, || None)?;
        let body = BodyWriter::new(self.link.clone(), exchange.id(), len);
        Ok((exchange, body))
    }

    /// [`write`](Self::write), answered in full by then or given up.
    pub(crate) fn write_until(&self, request: &Request, until: Instant) -> Result<Exchange> {
        self.write_in(None, request, Body::empty(), Some(until))
    }

    fn write_in(
        &self,
        reservation: Option<Reservation>,
        request: &Request,
        body: Body,
        until: Option<Instant>,
    ) -> Result<Exchange> {
        let mut exchange = self.begin_with(reservation, request.into(), &mut Some(body), until)?;
        exchange.send_body(|_| None::<()>)?;
        // The reply may begin meanwhile, and fail: reading it will tell.
        self.link.wait(|state| state.is_flushed_or_stuck().then_some(()));
        Ok(exchange)
    }

    /// Reads the reply to a request, in its turn. The body is read afterwards.
    ///
    /// # Errors
    /// [`Error`] with the exchange's [`Failure`](persist_core::Failure), which says what became of the request.
    pub fn read(&self, exchange: Exchange) -> Result<Reply> {
        self.own(&exchange.link)?;
        exchange.into_reply()
    }

    /// Writes a request and reads its reply.
    ///
    /// Before a connection is used again, one look at the socket makes sure that the peer has not closed it meanwhile, and that no bytes came
    /// which would pass for the reply to this request. If the reply begins before the whole body was sent, it is given at once, and the rest
    /// of the body is sent while the reply's is read.
    ///
    /// # Errors
    /// As [`write`](Self::write) and [`read`](Self::read).
    pub fn send(&self, request: impl Borrow<Request>, body: impl Into<Body>) -> Result<Reply> {
        self.send_outline(request.borrow().into(), body.into())
    }

    fn send_outline(&self, request: Outline<'_>, body: Body) -> Result<Reply> {
        let terms = Terms { look: Look::First, until: None, at: None };
        let mut reply = None;
        self.exchange(request, &mut Some(body), terms, &mut reply, |_, _| ())?;
        reply.ok_or_else(|| self.refused(SendError::Closed))
    }

    /// [`send`](Self::send), which leaves the body where it is unless the connection takes the request, and puts the `reply` where it is wanted. The exchange is
    /// complete by `terms.until`, its reply's content included, or fails. Gives what `after` says of the connection once the reply is here. `None`: the look found
    /// that the connection is over, and nothing was sent.
    pub(crate) fn exchange<A>(
        &self,
        request: Outline<'_>,
        body: &mut Option<Body>,
        mut terms: Terms,
        reply: &mut Option<Reply>,
        after: impl Fn(&State<Client>, Instant) -> A,
    ) -> Result<Option<A>> {
        if body.as_ref().is_none_or(Body::is_in_memory) {
            match self.link.round_trip(request, body, &terms, reply, &after) {
                Ok(after) => return Ok(Some(after)),
                Err(Detour::Sent(id, outgoing, span)) => {
                    *reply = Some(Exchange::begun(self.link.clone(), id, outgoing, span).into_reply()?);
                    return Ok(Some(after(&self.link.look(), clock::now())));
                }
                Err(Detour::Stale) => return Ok(None),
                Err(Detour::Refused(cause)) => return Err(self.refused(cause)),
                Err(Detour::NotAlone) => {}
            }
        }
        if terms.look != Look::Not {
            self.refresh();
            if self.is_closing() {
                return Ok(None);
            }
            self.link.passed(std::mem::replace(&mut terms.look, Look::Not));
        }
        *reply = Some(self.begin_with(None, request, body, terms.until)?.into_reply()?);
        Ok(Some(after(&self.link.look(), clock::now())))
    }

    /// Waits for the next interim response (RFC 9110 §15.2) to a request; `None` once the final one is here, to be [read](Self::read).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn interim(&self, exchange: &mut Exchange) -> Result<Option<ResponseHead>> {
        self.own(&exchange.link)?;
        let id = exchange.id();
        let _entered = exchange.span.enter();
        let next = self.link.wait(|state| {
            let Some(arrived) = state.arrived.get_mut(id) else {
                return Some(Err(error::refused(SendError::NoSuchExchange)));
            };
            if arrived.interim.is_empty() {
                return (arrived.head.is_some() || arrived.failure.is_some()).then_some(Ok(None));
            }
            Some(Ok(Some(arrived.interim.remove(0))))
        });
        next.unwrap_or_else(|| Err(self.link.gone(Phase::Receive)))
    }

    /// Waits until all that was written is with the operating system, what other threads write included.
    ///
    /// # Errors
    /// If the connection ends before that.
    pub fn flush(&self) -> Result<()> {
        let flushed =
            self.link.wait(|state| (state.outbox_bytes() == 0 && state.arrived.closed.is_none()).then_some(()));
        flushed.ok_or_else(|| self.link.gone(Phase::Send))
    }

    /// Waits until a request could be written: until the others are answered, or out of the way. They must be in the hands of other threads.
    ///
    /// # Errors
    /// The connection takes no further requests.
    pub fn ready(&self) -> Result<()> {
        let ready = self.link.wait(|state| match state.conn().may_send() {
            Err(SendError::Full { .. } | SendError::AnswerFirst | SendError::BodyUnfinished) => None,
            other => Some(other),
        });
        ready.unwrap_or(Err(SendError::Closed)).map_err(|cause| self.refused(cause))
    }

    /// Gives up on an exchange: its reply is read and dropped within the drain budget, or the connection closes.
    pub fn cancel(&self, exchange: Exchange) {
        drop(exchange);
    }

    /// Reserves a place in the pipeline: use it with [`write_reserved`](Self::write_reserved), or drop it.
    ///
    /// # Errors
    /// With [`SendError::Closed`] or [`SendError::Full`] as the cause.
    pub fn reserve(&self) -> Result<Reservation> {
        let slot = self.link.act(|state| state.conn_mut().reserve()).map_err(error::refused)?;
        Ok(Reservation::new(self.link.clone(), slot))
    }

    /// Gives a reserved place back, as dropping it does.
    pub fn release(&self, reservation: Reservation) {
        drop(reservation);
    }

    /// Waits until the connection has ended, driving it: an idle connection that should notice its peer's close needs somebody to wait here.
    ///
    /// Says why it ended; `None` if it was taken apart.
    pub fn closed(&self) -> Option<CloseReason> {
        self.link.wait(|state| state.arrived.closed.clone())
    }

    /// Ends the connection in an orderly way: what is pending is finished, everything is written, our side is shut down, and then this waits
    /// until the peer has closed its own side or its system has acknowledged every byte (on Linux), at most for
    /// [`Timeouts::linger`](persist_core::Timeouts::linger).
    ///
    /// Says why the connection ended, and whether all had arrived. Waits for pending exchanges, whose handles other threads hold: drop those of
    /// this thread first. Closing again says the same again.
    ///
    /// # Errors
    /// If it did not end gracefully.
    pub fn close(&self) -> Result<Closed> {
        self.link.act(|state| state.conn_mut().close(clock::now()));
        self.link.wait(|state| (state.is_lingering() || state.arrived.closed.is_some()).then_some(()));
        let mut pause = LOOK_FIRST;
        loop {
            let arrived = self.link.look().delivery() == Delivery::Acknowledged;
            if arrived {
                // Its orderly end is complete, whenever the peer closes.
                self.link.act(|state| state.conn_mut().abort(clock::now()));
            }
            let limit = clock::now() + pause;
            self.link.wait_until(Some(limit), |state| state.arrived.closed.is_some().then_some(()));
            let state = self.link.look();
            if state.stream().is_none() {
                return match &state.arrived.closed {
                    Some(reason) if reason.is_graceful() => Ok(Closed::new(reason.clone(), state.delivery())),
                    reason => Err(error::ended(Phase::Close, reason.clone(), state.fault())),
                };
            }
            pause = (pause * 2).min(LOOK_LATER);
        }
    }

    /// Ends the connection now. Every pending exchange fails, with its disposition.
    pub fn abort(&self) {
        self.link.act(|state| state.conn_mut().abort(clock::now()));
    }

    /// Takes the connection apart: at any point between messages, or after `101 Switching Protocols` or a tunnel was granted.
    ///
    /// Handles of exchanges that are still around find the connection gone.
    ///
    /// # Errors
    /// If the connection is closed already.
    pub fn hijack(self) -> Result<Hijacked> {
        match self.link.dismantle() {
            Some((stream, parts)) => Ok(Hijacked::new(stream, parts)),
            None => Err(self.link.gone(Phase::Close)),
        }
    }

    /// [`hijack`](Self::hijack) as one object, which reads the leftover first.
    ///
    /// # Errors
    /// As [`hijack`](Self::hijack).
    pub fn into_stream(self) -> Result<Detached> {
        self.hijack().map(Hijacked::into_stream)
    }

    /// Looks once, without waiting, whether the peer has closed an idle connection or sent what nobody asked for.
    pub(crate) fn refresh(&self) {
        self.link.act(|state| state.look_before_use(clock::now()));
    }

    /// The same between uses, when the rest of a reply that nobody wanted may still be coming: it is read and dropped as far as it is there.
    pub(crate) fn look_after(&self) {
        self.link.look_after();
    }

    pub(crate) fn begin_with(
        &self,
        reservation: Option<Reservation>,
        request: Outline<'_>,
        body: &mut Option<Body>,
        until: Option<Instant>,
    ) -> Result<Exchange> {
        let what = match body {
            Some(body) if body.is_empty() => (body.len(), Follows::Nothing),
            Some(body) if body.is_in_memory() => (body.len(), Follows::AtOnce),
            Some(body) => (body.len(), Follows::Soon),
            None => (BodyLen::Empty, Follows::Nothing),
        };
        self.begin(reservation, request, what, until, || body.take())
    }

    /// Sends the head. The body stays where it is unless the connection takes the request.
    fn begin(
        &self,
        reservation: Option<Reservation>,
        request: Outline<'_>,
        (len, follows): (BodyLen, Follows),
        until: Option<Instant>,
        body: impl FnOnce() -> Option<Body>,
    ) -> Result<Exchange> {
        let mut slot = reservation.map(Reservation::into_slot);
        let begun = self.link.wait_until(until, |state| {
            let now = clock::now();
            if must_wait(state) {
                return None;
            }
            state.lend();
            let (conn, fields) = (state.conn_mut(), request.fields);
            let sent = match slot.take() {
                Some(slot) => conn.send_request_in(slot, request.method, request.target, fields, len, now),
                None => conn.send_request(request.method, request.target, fields, len, now),
            };
            if let Ok(id) = sent {
                if until.is_some() {
                    state.conn_mut().set_deadline(id, until);
                }
                state.arrived.sent(id);
                state.writing = matches!(follows, Follows::AtOnce | Follows::Soon).then_some(id);
                if follows == Follows::AtOnce {
                    state.cork();
                }
            }
            state.advance_at(now);
            Some(sent)
        });
        let id = match begun {
            Some(sent) => sent.map_err(|cause| self.refused(cause))?,
            None if until.is_some_and(|until| until <= clock::now()) && !self.is_closing() => {
                return Err(Error::new(Phase::Wait, Ended { reason: Some(CloseReason::Timeout(Deadline::Total)) }));
            }
            None => return Err(self.refused(SendError::Closed)),
        };
        let outgoing = body().and_then(|body| Outgoing::new(id, body)).map(Box::new);
        Ok(Exchange::new(self.link.clone(), id, outgoing, request.method))
    }

    /// A refusal, with the reason why the connection is over if it is.
    pub(crate) fn refused(&self, cause: SendError) -> Error {
        match cause {
            SendError::Closed => {
                let reason = self.close_reason();
                error::ended(Phase::Prepare, reason, self.link.look().fault())
                    .hinting("it was not sent; open a fresh connection")
            }
            cause => error::refused(cause),
        }
    }

    fn own(&self, link: &Arc<Link<Client>>) -> Result<()> {
        if Arc::ptr_eq(&self.link, link) { Ok(()) } else { Err(error::refused(SendError::NoSuchExchange)) }
    }
}

/// What is pending is finished by whoever holds it; nothing new is taken.
impl Drop for ClientConn {
    fn drop(&mut self) {
        self.link.act(|state| state.conn_mut().close(clock::now()));
    }
}
