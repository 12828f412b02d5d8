//! The task of one HTTP/2 connection of a server: takes requests, and has a task run the handler of each.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{self, Connection, SendResponse};
use http::header::{EXPECT, HeaderValue};
use persist_core::{CloseReason, ConnStats, Deadline, Method};
use tokio::time::{Sleep, sleep_until};

use super::config::Heads;
use super::failure::{Line, Place, Track, lock};
use super::inbound::{Inbound, Limits, Wire};
use super::linger::{self, Left};
use super::metered::{End, Metered};
use super::ping::Watch;
use super::responder::Answerer;
use super::{Http2Config, convert};
use crate::clock;
use crate::incoming::Incoming;
use crate::link::Transport;
use crate::race::{Either, race};
use crate::responder::Responder;
use crate::server_conn::Received;

/// Requests that are taken before others get their turn, if they never cease.
const TAKEN_MAX: u32 = 64;

/// How a server tells a connection to end.
#[derive(Debug, Default)]
pub(crate) struct Door {
    gone: AtomicBool,
    aborted: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// The connection, once it is served.
    line: OnceLock<Arc<Line>>,
}

impl Door {
    /// What the connection has carried.
    pub(crate) fn carried(&self) -> ConnStats {
        self.line.get().map(|line| line.carried()).unwrap_or_default()
    }

    /// No further request is taken.
    pub(crate) fn listener_gone(&self) {
        self.gone.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// The task that is woken when somebody comes to the door.
    pub(super) fn waits(&self, cx: &Context<'_>) {
        *lock(&self.waker) = Some(cx.waker().clone());
    }

    fn wake(&self) {
        let waker = lock(&self.waker).take();
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Whoever calls the handlers of requests, and polls them.
pub(crate) trait Handlers: Send + Sync + 'static {
    /// One that is under way.
    type Running: Default + Send + Unpin;

    /// Calls the handler, unless there is no request, and polls it once.
    fn begin(&self, request: &mut Option<Received>, running: &mut Self::Running, cx: &mut Context<'_>) -> Poll<()>;

    fn poll(&self, running: &mut Self::Running, cx: &mut Context<'_>) -> Poll<()>;
}

/// One connection, to be served.
pub(crate) struct Conn<S> {
    pub(crate) handlers: Arc<S>,
    pub(crate) config: Arc<Http2Config>,
    pub(crate) id: u64,
    pub(crate) peer: Option<SocketAddr>,
    /// The `Server` field.
    pub(crate) server: Option<HeaderValue>,
    pub(crate) door: Arc<Door>,
    /// Bytes that a request's content may have.
    pub(crate) body_bytes_max: u64,
}

impl<S: Handlers> Conn<S> {
    /// Serves it to its end.
    pub(crate) async fn run<T: Transport>(self, stream: T) {
        let line = Line::new(self.id, self.peer, 0);
        let _ = self.door.line.set(line.clone());
        let shared = Arc::new(Shared { conn: self, line, running: AtomicUsize::new(0) });
        let Shared { conn, line, .. } = &*shared;
        let config = &*conn.config;
        let left = Left::default();
        let mut builder = server::Builder::new();
        builder
            .initial_window_size(config.stream_window)
            .initial_connection_window_size(config.connection_window)
            .max_header_list_size(config.head_bytes_max)
            .max_concurrent_streams(config.streams_max)
            .max_send_buffer_size(config.stream_outbox_bytes_max as usize)
            .max_pending_accept_reset_streams(config.resets_max as usize)
            .max_local_error_reset_streams(Some(config.errors_max as usize));
        let hands = builder.handshake::<_, Bytes>(Metered::lent(stream, line.meter.clone(), &left));
        let limit = config.timeouts.header.unwrap_or(Duration::MAX);
        let Either::Left(Ok(mut connection)) = race(std::pin::pin!(hands), tokio::time::sleep(limit)).await else {
            return;
        };
        let mut task = Task {
            watch: Watch::new(connection.ping_pong(), config),
            taken: 0,
            ending: false,
            idle: None,
            age: config.timeouts.max_age.map(|age| Box::pin(tokio::time::sleep(age))),
            shared: shared.clone(),
        };
        let reason = poll_fn(|cx| task.poll(&mut connection, cx)).await;
        drop(connection);
        if matches!(reason, CloseReason::PeerWrong { .. }) {
            linger::linger(&left, config.timeouts.linger.unwrap_or_default(), &conn.door).await;
        }
        line.close(reason);
    }
}

/// What the task of a connection shares with those of its requests.
struct Shared<S> {
    conn: Conn<S>,
    line: Arc<Line>,
    /// Handlers that run, or are about to.
    running: AtomicUsize,
}

struct Task<S> {
    shared: Arc<Shared<S>>,
    watch: Watch,
    taken: u64,
    /// The client was told that the connection ends.
    ending: bool,
    idle: Option<Pin<Box<Sleep>>>,
    age: Option<Pin<Box<Sleep>>>,
}

impl<S: Handlers> Task<S> {
    fn poll<T: Transport>(
        &mut self,
        connection: &mut Connection<Metered<T>, Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<CloseReason> {
        let Shared { conn, line, running } = &*self.shared;
        conn.door.waits(cx);
        if conn.door.is_aborted() {
            return Poll::Ready(CloseReason::Aborted);
        }
        let old = self.age.as_mut().is_some_and(|age| age.as_mut().poll(cx).is_ready());
        if !self.ending && (old || conn.door.gone.load(Ordering::Acquire)) {
            self.ending = true;
            self.age = None;
            connection.graceful_shutdown();
        }
        for _ in 0..TAKEN_MAX {
            // A stream that was reset is no stream any more, but its handler runs on: only so do resets not make ever more of them run.
            if running.load(Ordering::Acquire) >= conn.config.streams_max as usize {
                match connection.poll_closed(cx) {
                    Poll::Ready(outcome) => return Poll::Ready(self.ended(outcome.err())),
                    Poll::Pending => break,
                }
            }
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    running.fetch_add(1, Ordering::AcqRel);
                    let taken = Taken { request, respond, id: self.taken };
                    self.taken += 1;
                    tokio::spawn(Handling {
                        taken: Some(taken),
                        running: S::Running::default(),
                        shared: self.shared.clone(),
                    });
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(self.ended(Some(error))),
                Poll::Ready(None) => return Poll::Ready(self.ended(None)),
                Poll::Pending => break,
            }
        }
        if self.watch.poll_dead(&line.meter, cx).is_ready() {
            return Poll::Ready(CloseReason::Timeout(Deadline::Ping));
        }
        self.poll_idle(connection, cx)
    }

    /// Ends a connection on which nothing goes on; one that does not end then is cut.
    fn poll_idle<T: Transport>(
        &mut self,
        connection: &mut Connection<Metered<T>, Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<CloseReason> {
        let timeouts = &self.shared.conn.config.timeouts;
        if connection.has_streams() || self.shared.running.load(Ordering::Acquire) > 0 {
            self.idle = None;
            return Poll::Pending;
        }
        loop {
            let limit = if self.ending { timeouts.linger } else { timeouts.idle };
            let Some(limit) = limit else { return Poll::Pending };
            let idle = self.idle.get_or_insert_with(|| Box::pin(sleep_until(clock::after(limit))));
            if idle.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.ending {
                return Poll::Ready(CloseReason::Idle);
            }
            self.ending = true;
            self.idle = None;
            connection.graceful_shutdown();
            // It writes in its next poll.
            cx.waker().wake_by_ref();
        }
    }

    fn ended(&self, error: Option<h2::Error>) -> CloseReason {
        let line = &self.shared.line;
        match (error, line.meter.end()) {
            (Some(error), _) => line.reason_of(&error),
            (None, Some(End::Closed)) => CloseReason::PeerClosed,
            (None, Some(end)) => end.reason(),
            (None, None) => CloseReason::OurClose,
        }
    }
}

/// A request that came in.
struct Taken {
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    id: u64,
}

/// The task of one request. What its handler gets is made when that is begun: many may wait for their turn, and hold little meanwhile.
struct Handling<S: Handlers> {
    taken: Option<Taken>,
    running: S::Running,
    shared: Arc<Shared<S>>,
}

impl<S: Handlers> Future for Handling<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { taken, running, shared } = self.get_mut();
        let handlers = &shared.conn.handlers;
        match taken.take() {
            Some(taken) => handlers.begin(&mut shared.receive(taken), running, cx),
            None => handlers.poll(running, cx),
        }
    }
}

impl<S: Handlers> Drop for Handling<S> {
    fn drop(&mut self) {
        self.shared.running.fetch_sub(1, Ordering::AcqRel);
        self.shared.conn.door.wake();
    }
}

impl<S> Shared<S> {
    /// The request as its handler gets it; `None` if it was refused.
    fn receive(&self, taken: Taken) -> Option<Received> {
        let Taken { request, mut respond, id } = taken;
        let (parts, stream) = request.into_parts();
        let head = match self.conn.config.heads {
            Heads::Made => convert::request_head(&parts),
            #[cfg(feature = "tower")]
            Heads::Spared => convert::bare_head(&parts),
        };
        let Ok(head) = head else {
            let mut refusal = http::Response::new(());
            *refusal.status_mut() = http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            let _ = respond.send_response(refusal, true);
            return None;
        };
        let method = head.method().clone();
        let connect = method == Method::CONNECT;
        let ended = stream.is_end_stream();
        if !ended
            && !connect
            && parts.headers.get(EXPECT).is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        {
            let mut go_on = http::Response::new(());
            *go_on.status_mut() = http::StatusCode::CONTINUE;
            let _ = respond.send_informational(go_on);
        }
        let Self { conn, line, .. } = self;
        let timeouts = &conn.config.timeouts;
        let len = convert::len(&parts.headers, ended || connect);
        let wire = Wire::Request(parts);
        let (body, tunnel) = if connect {
            (Incoming::of_http2(len, None, wire), Some(stream))
        } else if ended {
            (Incoming::of_http2(len, None, wire), None)
        } else {
            let track = Track::new(Place::beside(line), method.clone(), 0);
            let total = timeouts.total.map(clock::after);
            let limits = Limits { idle: timeouts.body_idle, total, bytes: conn.body_bytes_max };
            (Incoming::of_http2(len, Some(Inbound::new(stream, track, None, limits)), wire), None)
        };
        let stall = timeouts.write_stall;
        let answerer = Answerer::new(respond, line.clone(), (id, method), tunnel, conn.server.clone(), stall);
        Some(Received {
            head,
            body,
            responder: Responder::of_http2(answerer),
            connection: line.id,
            reused: id > 0,
            peer: line.peer,
        })
    }
}
