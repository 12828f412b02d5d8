//! A client's connection: a task that drives it, and places for its streams.

use std::any::Any;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant as Moment;

use bytes::Bytes;
use h2::client::{self, Connection, SendRequest};
use h2::{Reason, SendStream};
use http::uri::Scheme;
use persist_core::{
    Blame, CloseReason, Closed, ConnStats, Delivery, Outline, Phase, Request, SendError, StateEvent, StateWatch,
};
use tokio::sync::TryAcquireError;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::exchange::Begun;
pub(crate) use super::failure::Place;
use super::failure::{Line, Track, lock, until};
use super::inbound::Limits;
use super::metered::{End, Metered};
use super::outbound::{self, Way};
use super::ping::Watch;
use super::tunnel::Tunnel;
use super::{Http2Config, Pushes, convert};
use crate::body::Body;
use crate::clock;
use crate::error::{self, Error, Result};
use crate::exchange::Reply;
use crate::link::Transport;
use crate::stream::Stream;

/// Streams that are opened before the server has said how many it grants (RFC 9113 §6.5.2 recommends no fewer).
const GRANTED_AT_FIRST: usize = 100;

/// One HTTP/2 connection, from the client's end. When this is dropped, what is pending is finished, and the connection closed.
pub(crate) struct Two {
    line: Arc<Line>,
    /// Gone once nothing new is to be begun.
    sender: Mutex<Option<SendRequest<Bytes>>>,
    task: AbortHandle,
    scheme: Scheme,
    config: Http2Config,
    next: AtomicU64,
}

impl Two {
    /// Says the preface, and starts the task.
    pub(crate) async fn open<S: Transport>(
        stream: S,
        id: u64,
        peer: Option<SocketAddr>,
        config: Http2Config,
    ) -> Result<Self> {
        let secure = (&stream as &dyn Any).downcast_ref::<Stream>().is_some_and(Stream::is_secure);
        let line = Line::new(id, peer, GRANTED_AT_FIRST.min(config.streams_max as usize));
        let mut builder = client::Builder::new();
        builder
            .initial_window_size(config.stream_window)
            .initial_connection_window_size(config.connection_window)
            .max_header_list_size(config.head_bytes_max)
            .max_send_buffer_size(config.stream_outbox_bytes_max as usize)
            .initial_max_send_streams(GRANTED_AT_FIRST)
            .max_pending_accept_reset_streams(config.resets_max as usize)
            .max_local_error_reset_streams(Some(config.errors_max as usize))
            .enable_push(config.pushes == Pushes::Accepted);
        if config.pushes == Pushes::Accepted {
            builder.max_concurrent_streams(config.streams_max);
        }
        let hands = builder.handshake::<_, Bytes>(Metered::new(stream, line.meter.clone()));
        let (sender, connection) = hands.await.map_err(|error| Error::new(Phase::Handshake, error))?;
        let task = tokio::spawn(drive(connection, line.clone(), config.clone())).abort_handle();
        let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
        Ok(Self { line, sender: Mutex::new(Some(sender)), task, scheme, config, next: AtomicU64::new(0) })
    }

    /// A place, in turn.
    pub(crate) async fn place(&self) -> Result<Place> {
        match self.line.places.clone().acquire_owned().await {
            Ok(permit) if !self.is_closing() => Ok(Place::reserved(&self.line, permit)),
            _ => Err(self.over(Phase::Prepare)),
        }
    }

    /// A place, if there is one.
    pub(crate) fn try_place(&self) -> Result<Place> {
        if self.is_closing() {
            return Err(self.over(Phase::Prepare));
        }
        match self.line.places.clone().try_acquire_owned() {
            Ok(permit) => Ok(Place::reserved(&self.line, permit)),
            Err(TryAcquireError::NoPermits) => {
                Err(error::refused(SendError::Full { in_flight: self.line.in_flight() }))
            }
            Err(TryAcquireError::Closed) => Err(self.over(Phase::Prepare)),
        }
    }

    /// The number of the next exchange.
    pub(crate) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn is_own(&self, place: &Place) -> bool {
        Arc::ptr_eq(&place.line, &self.line)
    }

    /// Begins an exchange. The body stays where it is unless the connection takes the request.
    pub(crate) fn begin(&self, place: Place, request: Outline<'_>, body: &mut Option<Body>) -> Result<Begun> {
        let len = body.as_ref().map_or(persist_core::BodyLen::Empty, Body::len);
        let empty = body.as_ref().is_none_or(Body::is_empty);
        let (begun, send) = self.start(place, request, len, empty)?;
        let body = body.take().unwrap_or_default();
        Ok(begun(if empty { None } else { Some((send, body)) }))
    }

    /// Sends a CONNECT.
    pub(crate) async fn connect(&self, request: &Request) -> Result<Result<Tunnel, Reply>> {
        let place = self.place().await?;
        let (begun, send) = self.start(place, request.into(), persist_core::BodyLen::Empty, false)?;
        begun(None).tunnel(send).await
    }

    #[expect(clippy::type_complexity, reason = "what is begun goes on in two ways")]
    fn start(
        &self,
        place: Place,
        request: Outline<'_>,
        len: persist_core::BodyLen,
        end: bool,
    ) -> Result<(impl FnOnce(Option<(SendStream<Bytes>, Body)>) -> Begun + use<>, SendStream<Bytes>)> {
        let wire = convert::request(request, len, &self.scheme)?;
        let Some(mut sender) = lock(&self.sender).clone() else { return Err(self.over(Phase::Prepare)) };
        let written = self.line.meter.written();
        let (mut response, send) = sender.send_request(wire, end).map_err(|error| {
            if error.is_go_away() || error.is_io() || self.is_closing() {
                return self.over(Phase::Prepare);
            }
            Error::new(Phase::Prepare, error).blaming(Blame::Caller)
        })?;
        let track = Track::new(place.taken(), request.method.clone(), written);
        let timeouts = self.config.timeouts;
        let total = timeouts.total.map(clock::after);
        let limits = Limits { idle: timeouts.body_idle, total, bytes: u64::MAX };
        let pushes = (self.config.pushes == Pushes::Accepted).then(|| response.push_promises());
        let begun = move |content: Option<(SendStream<Bytes>, Body)>| {
            let way = Way { upload: track.upload.clone(), stall: timeouts.write_stall, reset: Reason::CANCEL };
            let upload = match content {
                Some((send, body)) => outbound::send(send, body, way),
                None => {
                    way.upload.done();
                    None
                }
            };
            Begun::new(response, pushes, track, upload, (limits, timeouts.header))
        };
        Ok((begun, send))
    }

    /// Whether nothing new can be begun: it has ended, was told to, or the peer is going away.
    pub(crate) fn is_closing(&self) -> bool {
        self.close_reason().is_some()
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        if let Some(reason) = self.line.closed() {
            return Some(reason);
        }
        let Some(mut sender) = lock(&self.sender).clone() else { return Some(CloseReason::OurClose) };
        match sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(error)) => Some(self.line.reason_of(&error)),
            _ => None,
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.close_reason().is_some_and(|reason| !reason.is_graceful())
    }

    fn over(&self, phase: Phase) -> Error {
        let reason = self.close_reason().unwrap_or(CloseReason::PeerClosed);
        self.line.ended(phase, reason).hinting("it was not sent; open a fresh connection")
    }

    pub(crate) fn err(&self) -> Option<Error> {
        self.is_closing().then(|| self.over(Phase::Prepare))
    }

    pub(crate) fn pending(&self) -> usize {
        self.line.pending()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.line.in_flight()
    }

    pub(crate) fn available(&self) -> usize {
        if self.is_closing() { 0 } else { self.line.places.available_permits() }
    }

    pub(crate) fn completed(&self) -> u64 {
        self.line.completed.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> ConnStats {
        self.line.stats()
    }

    pub(crate) fn last_read(&self) -> Option<Moment> {
        self.line.meter.last_read().map(Instant::into_std)
    }

    pub(crate) fn last_write(&self) -> Option<Moment> {
        self.line.meter.last_write().map(Instant::into_std)
    }

    /// Waits until it has ended.
    pub(crate) async fn closed(&self) -> CloseReason {
        until(&self.line, || self.line.closed()).await
    }

    /// What is new to this listener; waits for it.
    pub(crate) async fn event(&self, watch: &mut StateWatch) -> Option<StateEvent> {
        until(&self.line, || {
            let event = self.news(watch);
            if event.is_none() && self.line.closed().is_some() { Some(None) } else { event.map(Some) }
        })
        .await
    }

    pub(crate) fn news(&self, watch: &mut StateWatch) -> Option<StateEvent> {
        let closed = self.line.closed();
        let available = if closed.is_some() { 0 } else { self.available() };
        watch.poll(available, self.in_flight(), closed.as_ref())
    }

    /// Lets what is pending finish, then ends it.
    pub(crate) fn close_soon(&self) {
        drop(lock(&self.sender).take());
    }

    pub(crate) async fn close(&self) -> Result<Closed> {
        self.close_soon();
        let reason = self.closed().await;
        if reason.is_graceful() {
            Ok(Closed::new(reason, Delivery::Unknown))
        } else {
            Err(self.line.ended(Phase::Close, reason))
        }
    }

    pub(crate) fn abort(&self) {
        self.line.close(CloseReason::Aborted);
        self.close_soon();
        self.task.abort();
    }
}

/// The task: moves frames, watches the peer, and notes how it ended.
async fn drive<S: Transport>(mut connection: Connection<Metered<S>, Bytes>, line: Arc<Line>, config: Http2Config) {
    let mut watch = Watch::new(connection.ping_pong(), &config);
    let max = config.streams_max as usize;
    let work = poll_fn(|cx| {
        let outcome = Pin::new(&mut connection).poll(cx);
        line.grant(connection.max_concurrent_send_streams().min(max));
        match outcome {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => watch.poll_dead(&line.meter, cx).map(|()| None),
        }
    });
    let reason = match work.await {
        None => CloseReason::Timeout(persist_core::Deadline::Ping),
        Some(Err(error)) => line.reason_of(&error),
        Some(Ok(())) => match line.meter.end() {
            None => CloseReason::OurClose,
            Some(End::Closed) => CloseReason::PeerClosed,
            Some(end) => end.reason(),
        },
    };
    line.close(reason);
}
