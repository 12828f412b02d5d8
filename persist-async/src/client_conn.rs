//! The client's end of one connection: requests out, replies in, several at a time if the pipelining depth allows.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use persist_core::{
    Client, CloseReason, Closed, Config, Delivery, ExchangeId, Outline, Phase, Request, ResponseHead, SendError,
    Slot as CoreSlot,
};

use crate::address;
use crate::body::Body;
#[cfg(feature = "http2")]
use crate::error::Error;
use crate::error::{self, Result};
use crate::exchange::{Exchange, Reply};
use crate::facts;
use crate::hijack::{self, Detached, Hijacked};
use crate::incoming::Incoming;
use crate::link::{Link, State, Transport, Writable, fresh};
use crate::race::{Either, race};
use crate::reservation::Reservation;
use crate::round_trip::RoundTrip;
use crate::start::{Gates, Start, waits};
use crate::wait::{Flush, Patience};
use crate::waiting::Interest;

/// The client's end of one connection.
///
/// All methods take `&self`: put it into an [`Arc`] and use it from as many tasks as the pipelining depth
/// ([`Pipelining::depth`](persist_core::Pipelining::depth), 1 by default) has room for. There is no task behind it: whoever awaits something of
/// the connection drives it for everybody. So **a future of this crate that was polled must be polled on when it is woken, or dropped**; one
/// that is kept aside may keep the others waiting. When nobody awaits anything, nothing moves, and nothing is held but the socket.
///
/// Dropping any future is safe at any point: the exchange is given up ([`cancel`](Self::cancel)), and no other exchange gets its reply.
///
/// ```
/// # use persist_async::{ClientConn, Config, Request};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let stream = tokio::net::TcpStream::connect("127.0.0.1:8080").await?;
/// let mut config = Config::client();
/// config.pipelining.depth = 8;
/// let conn = ClientConn::with_config(stream, config);
///
/// // Two requests leave before the first reply is read; each `send` gets its own reply.
/// let get = |path: &str| Request::get(path).field("Host", "127.0.0.1:8080").expect("a valid field");
/// let (first, second) = tokio::join!(conn.send(get("/1"), ()), conn.send(get("/2"), ()));
/// println!("{} {}", first?.head.status(), second?.head.status());
/// # Ok(())
/// # }
/// ```
pub struct ClientConn<S> {
    /// Of a connection that speaks HTTP/2: what is left of it as one of HTTP/1.1, its number and its peer.
    pub(crate) link: Arc<Link<Client, S>>,
    #[cfg(feature = "http2")]
    pub(crate) two: Option<Arc<crate::http2::Two>>,
}

/// When closing first looks whether all has arrived, and how long it waits at most between two looks.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LATER: Duration = Duration::from_millis(50);

impl<S: Transport> ClientConn<S> {
    /// A connection over `stream` with the defaults of [`Config::client`]: one exchange at a time.
    pub fn new(stream: S) -> Self {
        Self::with_config(stream, Config::client())
    }

    /// A connection over `stream`. Deadlines in `config` need a tokio runtime with its timer enabled.
    pub fn with_config(stream: S, config: impl Into<Arc<Config>>) -> Self {
        let peer = address::peer(&stream);
        Self::of(Link::new(fresh(config.into()), stream, peer, Vec::new()))
    }

    /// Goes on where another owner of `stream` stopped: `leftover` was read and not used, `unsent` must be written first. The inverse of [`hijack`](Self::hijack).
    pub fn from_parts(stream: S, leftover: Vec<u8>, unsent: Vec<u8>, config: impl Into<Arc<Config>>) -> Self {
        let peer = address::peer(&stream);
        let conn = hijack::restore(config.into(), unsent);
        Self::of(Link::new(conn, stream, peer, leftover))
    }

    pub(crate) fn of(link: Arc<Link<Client, S>>) -> Self {
        Self {
            link,
            #[cfg(feature = "http2")]
            two: None,
        }
    }

    /// Writes a request, and returns without waiting for its reply: the next one may be written before this one's reply is [read](Self::read).
    ///
    /// `Host` is the caller's to give; `Content-Length` and `Transfer-Encoding` come from the body. Bytes leave at once when nothing else is in
    /// flight, otherwise with the next await on this connection, so that a burst leaves in one write ([`flush`](Self::flush) does it now). A
    /// body from a reader goes on being sent while anybody awaits anything here.
    ///
    /// # Errors
    /// [`SendError::Full`] and [`SendError::AnswerFirst`]: a reply must be read first, perhaps by this very task; `Closed`; and invalid requests.
    pub async fn write(&self, request: impl Borrow<Request>, body: impl Into<Body>) -> Result<Exchange> {
        self.put(request.borrow(), body.into(), Flush::IfAlone).await
    }

    /// The same; when its bytes leave is the caller's choice.
    pub(crate) async fn put(&self, request: &Request, body: Body, flush: Flush) -> Result<Exchange> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return self.write_two(two.try_place()?, request, body);
        }
        let id = self.start(request.into(), &mut Some(body), &mut None, Gates::Tell, flush).await?;
        Ok(self.hold(id))
    }

    /// [`write`](Self::write) in a [reserved](Self::reserve) place, which is given back in every case.
    ///
    /// # Errors
    /// As there, but not `Full`.
    pub async fn write_reserved(
        &self,
        mut place: Reservation<S>,
        request: impl Borrow<Request>,
        body: impl Into<Body>,
    ) -> Result<Exchange> {
        if !Arc::ptr_eq(&place.link, &self.link) {
            return Err(error::refused(SendError::NoSuchExchange));
        }
        #[cfg(feature = "http2")]
        if self.two.is_some() {
            let Some(place) = place.place.take() else { return Err(error::refused(SendError::NoSuchExchange)) };
            return self.write_two(place, request.borrow(), body.into());
        }
        let mut body = Some(body.into());
        let start = self.start(request.borrow().into(), &mut body, &mut place.slot, Gates::Tell, Flush::IfAlone);
        Ok(self.hold(start.await?))
    }

    /// Reads the reply to a request: its head; the body comes with it, to be read by the caller.
    ///
    /// Replies come in the order of the requests. If an earlier one's body is larger than what is kept for it (64 KiB), this waits until that is
    /// read or dropped. Dropping the future gives the exchange up.
    ///
    /// # Errors
    /// The exchange did not complete: [`Error::failure`] says what became of it. `NoSuchExchange`: it is another connection's.
    pub async fn read(&self, exchange: Exchange) -> Result<Reply> {
        self.receive(exchange, Patience::None).await
    }

    /// Writes a request and reads its reply. Waits for its turn while the pipeline is full or a gate is closed; those who wait are served in order.
    ///
    /// Before a connection is used again, one look at the stream makes sure that the peer has not closed it meanwhile, and that no bytes came which would pass
    /// for the reply to this request ([`is_reusable`](Self::is_reusable)).
    ///
    /// Returns as soon as the reply's head is here; if the request's body is not sent by then, reading the reply's body sends the rest.
    ///
    /// # Errors
    /// As [`write`](Self::write), but for those that a wait solves, and [`read`](Self::read).
    pub async fn send(&self, request: impl Borrow<Request>, body: impl Into<Body>) -> Result<Reply> {
        let body = &mut Some(body.into());
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            let place = two.place().await?;
            return two.begin(place, request.borrow().into(), body)?.reply().await;
        }
        let mut reply = None;
        RoundTrip::new(self, request.borrow().into(), body, &mut None, &mut reply).looking_first().await?;
        Ok(reply.expect("a round trip that succeeds puts it there"))
    }

    /// Waits for the next interim response (RFC 9110 §15.2) to a request; `None` once the final one is here, to be [read](Self::read).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn interim(&self, exchange: &mut Exchange) -> Result<Option<ResponseHead>> {
        #[cfg(feature = "http2")]
        if let Some(begun) = &mut exchange.begun {
            return Ok(begun.interim().await);
        }
        let id = self.own(exchange)?;
        self.link
            .wait(Interest::Exchange(id), |state, _| {
                let Some(entry) = state.entry(id) else { return Some(Err(error::refused(SendError::NoSuchExchange))) };
                match entry.interim.as_mut().and_then(|interim| interim.pop_front()) {
                    Some(head) => Some(Ok(Some(head))),
                    None if entry.head.is_some() || entry.failure.is_some() => Some(Ok(None)),
                    None => state.ended(Phase::Receive).map(Err),
                }
            })
            .await
    }

    /// Gives an exchange up, as dropping it does: nobody gets its reply, which is read and dropped within the drain budget, else the connection closes.
    pub fn cancel(&self, exchange: Exchange) {
        drop(exchange);
    }

    /// Waits until all bytes that may leave have left.
    ///
    /// # Errors
    /// The connection ended before that.
    pub async fn flush(&self) -> Result<()> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            let _ = two;
            return Ok(());
        }
        self.link
            .wait(Interest::Connection, |state, _| {
                if !state.conn.wants_write() {
                    return Some(Ok(()));
                }
                state.ended(Phase::Send).map(Err)
            })
            .await
    }

    /// Waits until a request could be written.
    ///
    /// # Errors
    /// The connection takes no further requests.
    pub async fn ready(&self) -> Result<()> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.place().await.map(drop);
        }
        self.link
            .wait(Interest::Turn, |state, slot| {
                if let Some(error) = state.ended(Phase::Prepare) {
                    return Some(Err(error));
                }
                if !state.may_try(slot) {
                    return None;
                }
                match state.conn.may_send() {
                    Ok(()) => Some(Ok(())),
                    Err(error) if waits(&error, Gates::Wait) => None,
                    Err(error) => Some(Err(state.refused(error))),
                }
            })
            .await
    }

    /// Reserves a place in the pipeline.
    ///
    /// # Errors
    /// [`SendError::Full`], `Closed`.
    pub fn reserve(&self) -> Result<Reservation<S>> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            let place = Some(two.try_place()?);
            return Ok(Reservation { link: self.link.clone(), slot: None, place });
        }
        let mut state = self.link.lock();
        match state.conn.reserve() {
            Ok(slot) => Ok(Reservation {
                link: self.link.clone(),
                slot: Some(slot),
                #[cfg(feature = "http2")]
                place: None,
            }),
            Err(error) => Err(state.refused(error)),
        }
    }

    /// Gives a reserved place back, as dropping it does.
    pub fn release(&self, place: Reservation<S>) {
        drop(place);
    }

    /// Waits until the connection has ended, driving it: an idle connection that should notice its peer's close needs somebody to wait here.
    pub async fn closed(&self) -> CloseReason {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.closed().await;
        }
        self.link.wait(Interest::Connection, |state, _| ended(state)).await
    }

    /// Ends the connection in an orderly way: what is pending is finished (its callers go on reading), nothing new is taken, everything is written, our side is
    /// shut down, and then this waits until the peer has closed its own side or its system has acknowledged every byte (on Linux), at most for
    /// [`Timeouts::linger`](persist_core::Timeouts::linger). Needs a tokio runtime with its timer enabled.
    ///
    /// Says why the connection ended, and whether all had arrived. Closing again says the same again.
    ///
    /// # Errors
    /// If it did not end gracefully.
    pub async fn close(&self) -> Result<Closed> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.close().await;
        }
        self.link.mutate(|state| {
            let now = state.now();
            state.ask_delivery();
            state.conn.close(now);
        });
        let shut = |state: &mut State<Client, S>, _| {
            (state.stream.is_none() || state.write_side == Writable::Ended).then_some(())
        };
        self.link.wait(Interest::Connection, shut).await;
        let mut pause = LOOK_FIRST;
        let reason = loop {
            let delivery = self.link.lock().stream.as_ref().map(facts::delivery);
            match delivery {
                // Its orderly end is complete, whenever the peer closes.
                Some(Delivery::Acknowledged) => self.abort(),
                Some(Delivery::Unacknowledged { .. }) => {
                    match race(std::pin::pin!(self.closed()), tokio::time::sleep(pause)).await {
                        Either::Left(reason) => break reason,
                        Either::Right(()) => pause = (pause * 2).min(LOOK_LATER),
                    }
                    continue;
                }
                _ => {}
            }
            break self.closed().await;
        };
        let state = self.link.lock();
        if reason.is_graceful() {
            return Ok(Closed::new(reason, state.delivery()));
        }
        Err(error::ended(Phase::Close, Some(reason), state.io_error.clone()))
    }

    /// Ends the connection now. Every pending exchange fails with its disposition.
    pub fn abort(&self) {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.abort();
        }
        self.link.mutate(|state| {
            let now = state.now();
            state.conn.abort(now);
        });
    }

    /// Takes the connection apart: the stream, the bytes that were read and belong to no message, the bytes that must still be written, and what was not complete.
    /// Not one byte is lost or read twice. Exchanges and bodies that are still held fail with [`CloseReason::Switched`].
    ///
    /// # Errors
    /// The connection has ended.
    pub fn hijack(self) -> Result<Hijacked<S>> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            let _ = two;
            return Err(Error::new(Phase::Close, "an HTTP/2 connection cannot be taken apart")
                .blaming(persist_core::Blame::Caller));
        }
        hijack::detach(&self.link)
    }

    /// [`hijack`](Self::hijack) as one object, which reads the leftover first.
    ///
    /// # Errors
    /// As [`hijack`](Self::hijack).
    pub fn into_stream(self) -> Result<Detached<S>> {
        self.hijack().map(Hijacked::into_stream)
    }

    /// A place that is not used up is left where it is.
    pub(crate) async fn start(
        &self,
        request: Outline<'_>,
        body: &mut Option<Body>,
        place: &mut Option<CoreSlot>,
        gates: Gates,
        flush: Flush,
    ) -> Result<ExchangeId> {
        self.link
            .wait(Interest::Turn, |state, slot| {
                let started = state.start(slot, Start { request: &request, body, place, gates });
                state.settle_down();
                started
            })
            .flush(flush)
            .await
    }

    pub(crate) async fn receive(&self, mut exchange: Exchange, patience: Patience) -> Result<Reply> {
        #[cfg(feature = "http2")]
        if let Some(begun) = exchange.begun.take() {
            return begun.reply().await;
        }
        let id = self.own(&exchange)?;
        let mut reply = None;
        // Mostly, behind the first of a burst, it is here already.
        let at_hand = self.take_reply_into(&mut self.link.lock(), id, &mut reply);
        match at_hand {
            Some(taken) => taken?,
            None => {
                let take = |state: &mut _, _| self.take_reply_into(state, id, &mut reply);
                self.link.wait(Interest::Exchange(id), take).patience(patience).await?;
            }
        }
        exchange.disarm(); // the body holds the exchange from here on
        Ok(reply.expect("taken with success"))
    }

    /// The reply, if its head is here, or why it never will be.
    pub(crate) fn take_reply_into(
        &self,
        state: &mut State<Client, S>,
        id: ExchangeId,
        reply: &mut Option<Reply>,
    ) -> Option<Result<()>> {
        let Some(entry) = state.entry(id) else { return Some(Err(error::refused(SendError::NoSuchExchange))) };
        let Some((head, (), len)) = entry.head.take() else {
            if entry.failure.is_none() && state.stream.is_some() && state.closed.is_none() {
                return None; // as mostly
            }
            return state.failure(id).or_else(|| state.ended(Phase::Receive)).map(Err);
        };
        let interim = entry.take_interim();
        let body = Incoming::open(&self.link, state, id, len);
        *reply = Some(Reply { head, interim, body, connection: self.link.id, reused: id.number() > 0 });
        Some(Ok(()))
    }

    pub(crate) fn hold(&self, id: ExchangeId) -> Exchange {
        Exchange::new(id, self.link.id, self.link.clone())
    }

    fn own(&self, exchange: &Exchange) -> Result<ExchangeId> {
        if exchange.connection() == self.link.id {
            Ok(exchange.id())
        } else {
            Err(error::refused(SendError::NoSuchExchange))
        }
    }
}

/// Why the connection ended, once it has.
fn ended<S>(state: &mut State<Client, S>) -> Option<CloseReason> {
    match &state.closed {
        Some(reason) => Some((**reason).clone()),
        None if state.stream.is_none() => Some(CloseReason::Switched),
        None => None,
    }
}

impl<S> fmt::Debug for ClientConn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConn").field("id", &self.link.id).field("peer", &self.link.peer()).finish_non_exhaustive()
    }
}
