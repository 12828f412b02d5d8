//! One client connection: requests out in order, replies in the same order, from as many threads as wanted.

use std::borrow::Borrow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use persist_core::{
    BodyLen, Client, CloseReason, Config, ExchangeId, Parts, Phase, Request, ResponseHead, SendError, Slot,
};

use crate::body::Body;
use crate::clock;
use crate::driver::{Lending, Link, State};
use crate::error::{self, Error, Result};
use crate::hijack::{Detached, Hijacked};
use crate::incoming::Incoming;
use crate::outgoing::{Outgoing, Sent};
use crate::stream::Stream;

/// A client's end of one connection. All methods take `&self`: write and read from different threads at once.
///
/// Requests leave in the order of their [`write`](Self::write)s, replies come in the same order, and each reply finds its own
/// [`Exchange`]. An exchange whose turn has not come waits; whoever waits drives the connection for all of them, in both directions.
/// There is no background thread, so between calls nothing moves.
///
/// ```no_run
/// use std::net::TcpStream;
/// use persist_sync::{Body, ClientConn, persist_core::{Config, Request}};
///
/// let mut config = Config::client();
/// config.pipelining.depth = 8; // the default is 1: one request at a time
/// let conn = ClientConn::with_config(TcpStream::connect("127.0.0.1:8080")?, config)?;
/// let request = |path: &str| Request::get(path).field("Host", "127.0.0.1:8080");
/// let first = conn.write(request("/a")?, Body::empty())?;
/// let second = conn.write(request("/b")?, Body::empty())?; // both are on their way
/// let first = conn.read(first)?;
/// println!("{:?} {:?}", first.head.status(), first.body.bytes(1 << 20)?);
/// println!("{:?}", conn.read(second)?.head.status());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Waiting for oneself
/// A reply is read only once the body of the reply before it was read or dropped, beyond what fits into 64 KiB. A thread that holds an unread
/// body and waits for a later reply therefore waits for itself, unless another thread reads that body. Requests whose bodies are in memory never
/// make their writer wait for a reply that only the writer would read.
#[derive(Debug)]
pub struct ClientConn {
    link: Arc<Link<Client>>,
}

/// A request that was written, and whose reply is still to be read: give it to [`ClientConn::read`].
///
/// Dropping it [cancels](ClientConn::cancel) the exchange.
#[derive(Debug)]
#[must_use = "read its reply; dropping it cancels the exchange"]
pub struct Exchange {
    link: Arc<Link<Client>>,
    id: ExchangeId,
    /// The rest of the request's body, if a reply began before all of it was sent.
    outgoing: Option<Outgoing>,
    open: bool,
}

/// What answers a request.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply {
    /// The final response's head.
    pub head: ResponseHead,
    /// The interim responses (1xx) that came before it, `100 Continue` among them; without those that [`ClientConn::interim`] gave.
    pub interim: Vec<ResponseHead>,
    /// The content.
    pub body: Incoming,
    /// The connection's number in this process.
    pub connection: u64,
    /// Whether the connection had completed an exchange before this one.
    pub reused: bool,
}

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
    /// replies, use [`send`](Self::send). While another thread is writing, the call waits for its turn.
    ///
    /// # Errors
    /// If nothing was sent, with the cause: a [`SendError`] (the depth is reached, an earlier request must be answered first, the request is
    /// invalid), or [`Ended`](error::Ended) with the reason why the connection is over. With a [`Failure`](persist_core::Failure) if the body's reader failed.
    pub fn write(&self, request: impl Borrow<Request>, body: impl Into<Body>) -> Result<Exchange> {
        self.write_in(None, request.borrow(), body.into())
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
        self.write_in(Some(reservation), request.borrow(), body.into())
    }

    fn write_in(&self, reservation: Option<Reservation>, request: &Request, body: Body) -> Result<Exchange> {
        let mut exchange = self.begin(reservation, request, &mut Some(body))?;
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
        self.refresh();
        self.exchange(request.borrow(), &mut Some(body.into()))
    }

    /// [`send`](Self::send) without the look, which leaves the body where it is unless the connection takes the request.
    pub(crate) fn exchange(&self, request: &Request, body: &mut Option<Body>) -> Result<Reply> {
        self.begin(None, request, body)?.into_reply()
    }

    /// Waits for the next interim response (RFC 9110 §15.2) to a request; `None` once the final one is here, to be [read](Self::read).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn interim(&self, exchange: &mut Exchange) -> Result<Option<ResponseHead>> {
        self.own(&exchange.link)?;
        let id = exchange.id;
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

    /// Exchanges that are not complete, those with unread bodies included.
    pub fn pending(&self) -> usize {
        self.link.look().conn().pending()
    }

    /// How many more requests may be written now.
    pub fn available(&self) -> usize {
        self.link.look().conn().available()
    }

    /// Exchanges pending or reserved.
    pub fn in_flight(&self) -> usize {
        self.link.look().conn().in_flight()
    }

    /// Reserves a place in the pipeline: use it with [`write_reserved`](Self::write_reserved), or drop it.
    ///
    /// # Errors
    /// With [`SendError::Closed`] or [`SendError::Full`] as the cause.
    pub fn reserve(&self) -> Result<Reservation> {
        let slot = self.link.act(|state| state.conn_mut().reserve()).map_err(error::refused)?;
        Ok(Reservation { link: self.link.clone(), slot: Some(slot) })
    }

    /// Gives a reserved place back, as dropping it does.
    pub fn release(&self, reservation: Reservation) {
        drop(reservation);
    }

    /// How many exchanges completed.
    pub fn completed(&self) -> u64 {
        self.link.look().conn().completed()
    }

    /// Whether nothing is pending and nothing is half-read or half-written.
    pub fn is_idle(&self) -> bool {
        self.link.look().conn().is_idle()
    }

    /// Whether no further request can be written.
    pub fn is_closing(&self) -> bool {
        let state = self.link.look();
        state.stream().is_none() || state.conn().is_closing()
    }

    /// Why the connection ended or is ending; `None` while it is not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        let state = self.link.look();
        state.arrived.closed.clone().or_else(|| state.conn().close_reason().cloned())
    }

    /// The connection's number in this process, as in [`Reply::connection`].
    pub fn id(&self) -> u64 {
        self.link.id()
    }

    /// Where the peer is; `None` for a Unix socket, and once the connection is closed.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.link.look().stream().and_then(Stream::peer_addr)
    }

    /// Where this end is; `None` for a Unix socket, and once the connection is closed.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.link.look().stream().and_then(Stream::local_addr)
    }

    /// Looks at the socket before an idle connection is used again: an end of file, or bytes that answer nothing, must never meet the next
    /// request (RFC 9112 §9.2). Never waits. [`send`](Self::send) does it by itself.
    pub fn is_reusable(&self) -> bool {
        self.refresh();
        let state = self.link.look();
        state.stream().is_some() && state.conn().is_idle() && !state.conn().is_closing()
    }

    /// Waits until the connection has ended, driving it: an idle connection that should notice its peer's close needs somebody to wait here.
    ///
    /// Says why it ended; `None` if it was taken apart.
    pub fn closed(&self) -> Option<CloseReason> {
        self.link.wait(|state| state.arrived.closed.clone())
    }

    /// Ends the connection in an orderly way: what is pending is finished, our side is shut down, and the peer has
    /// [`Timeouts::linger`](persist_core::Timeouts::linger) to close its own.
    ///
    /// Returns why the connection ended. Waits for pending exchanges, whose handles other threads hold: drop those of this thread first.
    ///
    /// # Errors
    /// If it did not end gracefully.
    pub fn close(&self) -> Result<CloseReason> {
        self.link.act(|state| state.conn_mut().close(clock::now()));
        match self.closed() {
            Some(reason) if reason.is_graceful() => Ok(reason),
            reason => Err(error::ended(Phase::Close, reason, self.link.look().fault())),
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
        let mut state = self.link.look();
        if (state.conn().completed() > 0 || state.is_continued()) && state.conn().is_idle() {
            state.look_before_use();
        }
    }

    /// Sends the head.
    fn begin(&self, reservation: Option<Reservation>, request: &Request, body: &mut Option<Body>) -> Result<Exchange> {
        let (len, has_body) = body.as_ref().map_or((BodyLen::Empty, false), |body| (body.len(), !body.is_empty()));
        let in_memory = has_body && body.as_ref().is_some_and(Body::is_in_memory);
        let mut slot = reservation.map(Reservation::into_slot);
        let begun = self.link.wait(|state| {
            let now = clock::now();
            let fields = request.fields.iter();
            let sent = if must_wait(state) {
                return None;
            } else if let Some(slot) = slot.take() {
                state.conn_mut().send_request_in(slot, &request.method, &request.target, fields, len, now)
            } else {
                state.conn_mut().send_request(&request.method, &request.target, fields, len, now)
            };
            if let Ok(id) = sent {
                state.arrived.sent(id);
                state.writing = has_body.then_some(id);
                if in_memory {
                    // It follows at once, and leaves together with the head.
                    state.cork();
                }
            }
            Some(sent)
        });
        let id = begun.unwrap_or(Err(SendError::Closed)).map_err(|cause| self.refused(cause))?;
        let outgoing = body.take().and_then(|body| Outgoing::new(id, body));
        Ok(Exchange { link: self.link.clone(), id, outgoing, open: true })
    }

    /// A refusal, with the reason why the connection is over if it is.
    fn refused(&self, cause: SendError) -> Error {
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

impl Exchange {
    /// Its number on the connection, from 0.
    pub fn id(&self) -> ExchangeId {
        self.id
    }

    /// Sends the request's body, which [`ClientConn::begin`] has announced to other threads, until `until` gives something.
    fn send_body<T>(&mut self, until: impl FnMut(&mut State<Client>) -> Option<T>) -> Result<Option<T>> {
        let Some(outgoing) = &mut self.outgoing else { return Ok(None) };
        let sent = outgoing.send(&self.link, until);
        self.link.act(|state| {
            // Another thread may have taken its turn since.
            state.writing = state.writing.filter(|writing| *writing != self.id);
            state.tell();
        });
        match sent {
            Ok(Sent::Interrupted(first)) => Ok(Some(first)),
            Ok(Sent::Whole | Sent::Unwanted) => {
                self.outgoing = None;
                Ok(None)
            }
            Err(cause) => Err(self.link.broken_off(self.id, cause)),
        }
    }

    fn into_reply(mut self) -> Result<Reply> {
        let id = self.id;
        let early = self.send_body(|state| final_head(state, id))?;
        let head = match early {
            Some(head) => Some(head),
            None => self.link.wait(|state| final_head(state, id)),
        };
        let (head, interim, len, reused) = head.unwrap_or_else(|| Err(self.link.gone(Phase::Receive)))?;
        // From here on the body is the exchange's handle.
        self.open = false;
        let mut body = Incoming::new(self.link.clone(), id, len, self.outgoing.take());
        body.finish_if_at_end();
        Ok(Reply { head, interim, body, connection: self.link.id(), reused })
    }
}

/// Whether a request need only wait, because others are about to make room: a thread in the middle of writing its own, or a
/// reply that was dropped and is being drained. Anything else that holds it back may be in the hands of the calling thread.
fn must_wait(state: &State<Client>) -> bool {
    match state.conn().may_send() {
        Err(SendError::BodyUnfinished) => state.writing.is_some(),
        Err(SendError::Full { .. } | SendError::AnswerFirst) => state.conn().pending() > state.arrived.held(),
        _ => false,
    }
}

type FinalHead = (ResponseHead, Vec<ResponseHead>, BodyLen, bool);

/// The final head or the failure of an exchange, once one of them is there.
fn final_head(state: &mut State<Client>, id: ExchangeId) -> Option<Result<FinalHead>> {
    let fault = state.fault();
    let reused = id.number() > 0 || state.is_continued();
    let Some(exchange) = state.arrived.get_mut(id) else {
        return Some(Err(error::refused(SendError::NoSuchExchange)));
    };
    if let Some((head, len, ())) = exchange.head.take() {
        return Some(Ok((head, std::mem::take(&mut exchange.interim), len, reused)));
    }
    let failure = exchange.failure.clone()?;
    Some(Err(error::failed(failure, fault)))
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.open {
            self.link.act(|state| {
                state.conn_mut().cancel(self.id, clock::now());
                state.arrived.release(self.id);
            });
        }
    }
}

/// A reserved place in the pipeline. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "use it with `write_reserved`; dropping it gives the place back"]
pub struct Reservation {
    link: Arc<Link<Client>>,
    slot: Option<Slot>,
}

impl Reservation {
    fn into_slot(mut self) -> Slot {
        self.slot.take().expect("taken by this consuming method only")
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.link.act(|state| state.conn_mut().release(slot));
        }
    }
}
