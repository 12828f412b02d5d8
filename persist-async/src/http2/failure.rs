//! What both ends know of their connection, and what became of an exchange that did not complete.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use h2::Reason;
use persist_core::stats::{ConnStats, Dispositions};
use persist_core::{CloseReason, Disposition, Failure, Method, Phase};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::metered::{End, Meter};
use crate::error::{self, Error, copy_of};

/// What all who use a connection share.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: u64,
    pub(super) peer: Option<SocketAddr>,
    pub(super) meter: Arc<Meter>,
    closed: Mutex<Option<CloseReason>>,
    /// A client's: streams that may still be opened.
    pub(super) places: Arc<Semaphore>,
    /// How many places there are in all.
    granted: Mutex<usize>,
    pending: AtomicUsize,
    reserved: AtomicUsize,
    /// Exchanges whose message came to its end here: a client's replies, the content of a server's requests.
    pub(super) completed: AtomicU64,
    /// A server's responses that were sent to their end.
    answered: AtomicU64,
    /// A client's exchanges that did not complete.
    failed: Mutex<Dispositions>,
    pub(super) changed: Notify,
}

impl Line {
    pub(super) fn new(id: u64, peer: Option<SocketAddr>, granted: usize) -> Arc<Self> {
        Arc::new(Self {
            id,
            peer,
            meter: Meter::new(),
            closed: Mutex::default(),
            places: Arc::new(Semaphore::new(granted)),
            granted: Mutex::new(granted),
            pending: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            completed: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            failed: Mutex::default(),
            changed: Notify::new(),
        })
    }

    pub(super) fn closed(&self) -> Option<CloseReason> {
        lock(&self.closed).clone()
    }

    /// The connection is over; the first reason counts.
    pub(super) fn close(&self, reason: CloseReason) {
        lock(&self.closed).get_or_insert(reason);
        self.places.close();
        self.changed.notify_waiters();
    }

    /// The peer grants so many streams.
    pub(super) fn grant(&self, streams: usize) {
        let mut granted = lock(&self.granted);
        if *granted < streams {
            self.places.add_permits(streams - *granted);
            *granted = streams;
        } else if *granted > streams {
            // Those that are taken cannot be taken back before they are given back: next time.
            *granted -= self.places.forget_permits(*granted - streams);
        } else {
            return;
        }
        drop(granted);
        self.changed.notify_waiters();
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.pending() + self.reserved.load(Ordering::Relaxed)
    }

    /// A server has sent a response to its end.
    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// A client's connection.
    pub(super) fn stats(&self) -> ConnStats {
        let mut stats = self.carried();
        (stats.completed, stats.failed) = (self.completed.load(Ordering::Relaxed), *lock(&self.failed));
        stats
    }

    /// A server's connection.
    pub(super) fn carried(&self) -> ConnStats {
        let mut stats = ConnStats::default();
        (stats.age, stats.pending) = (self.meter.started.elapsed(), self.pending());
        stats.completed = self.answered.load(Ordering::Relaxed);
        (stats.sent, stats.received) = (self.meter.written(), self.meter.read());
        stats
    }

    /// Why it has ended or failed below, as far as that is known.
    pub(super) fn reason(&self) -> CloseReason {
        let ended = || self.meter.end().map(|end| end.reason());
        self.closed().or_else(ended).unwrap_or(CloseReason::PeerClosedEarly)
    }

    /// What an error of the protocol's says about the connection or the stream it came from.
    pub(super) fn reason_of(&self, error: &h2::Error) -> CloseReason {
        let code = error.reason().map_or(0, u32::from);
        match (error.is_reset(), error.is_go_away(), error.is_remote()) {
            (true, _, true) => CloseReason::PeerReset { code },
            (_, true, true) if code == u32::from(Reason::NO_ERROR) => CloseReason::PeerSaidClose,
            (_, true, true) => CloseReason::PeerGoAway { code },
            _ if error.is_library() => CloseReason::PeerWrong { code },
            (true, ..) => CloseReason::Aborted,
            // Clean for the connection, but too early for whoever has an error to ask about.
            _ => match self.reason() {
                CloseReason::PeerClosed => CloseReason::PeerClosedEarly,
                reason => reason,
            },
        }
    }

    /// The connection is over for whoever asks something of it in `phase`.
    pub(super) fn ended(&self, phase: Phase, reason: CloseReason) -> Error {
        let fault = match self.meter.end() {
            Some(End::Failed(_, fault)) => Some(fault),
            _ => None,
        };
        error::ended(phase, Some(reason), fault)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place among the streams of a connection: reserved, then an exchange's.
#[derive(Debug)]
pub(crate) struct Place {
    pub(super) line: Arc<Line>,
    _permit: Option<OwnedSemaphorePermit>,
    used: bool,
}

impl Place {
    pub(super) fn reserved(line: &Arc<Line>, permit: OwnedSemaphorePermit) -> Self {
        line.reserved.fetch_add(1, Ordering::Relaxed);
        line.changed.notify_waiters();
        Self { line: line.clone(), _permit: Some(permit), used: false }
    }

    /// Of an exchange that has no place to give back: a pushed one, or a server's.
    pub(super) fn beside(line: &Arc<Line>) -> Self {
        line.pending.fetch_add(1, Ordering::Relaxed);
        Self { line: line.clone(), _permit: None, used: true }
    }

    pub(super) fn taken(mut self) -> Self {
        self.used = true;
        self.line.reserved.fetch_sub(1, Ordering::Relaxed);
        self.line.pending.fetch_add(1, Ordering::Relaxed);
        self.line.changed.notify_waiters();
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let count = if self.used { &self.line.pending } else { &self.line.reserved };
        count.fetch_sub(1, Ordering::Relaxed);
        // The permit goes right after this; who waits for it is woken by that.
        self.line.changed.notify_waiters();
    }
}

/// How far a message that we send has come.
#[derive(Debug, Default)]
pub(super) struct Upload(Mutex<Progress>, Option<Arc<Line>>);

#[derive(Debug, Default)]
struct Progress {
    /// Bytes of content that flow control has let out.
    sent: u64,
    done: bool,
    error: Option<Arc<std::io::Error>>,
    /// Whoever waits for the end.
    waker: Option<Waker>,
}

impl Upload {
    /// A response, which is counted when it is sent to its end.
    pub(super) fn of_response(line: &Arc<Line>) -> Self {
        Self(Mutex::default(), Some(line.clone()))
    }

    pub(super) fn sent(&self, bytes: usize) {
        lock(&self.0).sent += bytes as u64;
    }

    pub(super) fn done(&self) {
        let mut progress = lock(&self.0);
        if let Some(line) = self.1.as_ref().filter(|_| !progress.done) {
            line.answered();
        }
        progress.done = true;
        let waker = progress.waker.take();
        drop(progress);
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn failed(&self, error: std::io::Error) {
        lock(&self.0).error.get_or_insert_with(|| Arc::new(error));
    }

    /// Whether all is sent; else `cx` is woken when it is.
    pub(super) fn poll_done(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut progress = lock(&self.0);
        if progress.done {
            return Poll::Ready(());
        }
        progress.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// One exchange, as far as a failure of it must be explained.
#[derive(Debug)]
pub(super) struct Track {
    place: Place,
    method: Method,
    pub(super) upload: Arc<Upload>,
    /// What was written on the connection before it began.
    written_before: u64,
    reused: bool,
    /// Its failure was counted.
    counted: AtomicBool,
    /// The peer's final message has begun.
    pub(super) begun: bool,
    pub(super) received: u64,
}

impl Track {
    pub(super) fn new(place: Place, method: Method, written_before: u64) -> Self {
        let reused = place.line.completed.load(Ordering::Relaxed) > 0;
        Self {
            place,
            method,
            upload: Arc::default(),
            written_before,
            reused,
            counted: AtomicBool::new(false),
            begun: false,
            received: 0,
        }
    }

    pub(super) fn line(&self) -> &Arc<Line> {
        &self.place.line
    }

    /// The exchange has become something else, which keeps its place.
    pub(super) fn into_place(self) -> Place {
        self.place
    }

    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// The exchange is complete.
    pub(super) fn complete(&self) {
        self.line().completed.fetch_add(1, Ordering::Relaxed);
    }

    /// The exchange failed by an error of its stream or connection.
    pub(super) fn fail(&self, cause: h2::Error) -> Error {
        let reason = self.line().reason_of(&cause);
        // RFC 9113 §8.7: both are proof that the peer did not process the request.
        let declined = cause.is_remote() && (cause.is_go_away() || cause.reason() == Some(Reason::REFUSED_STREAM));
        let failure = self.failure(reason, declined);
        if let Some(error) = &lock(&self.upload.0).error {
            return error::broken_off(failure, error);
        }
        match (self.line().meter.end(), &failure.reason) {
            (Some(End::Failed(_, fault)), CloseReason::Io(_)) => Error::from_failure(failure).because(copy_of(&fault)),
            (_, CloseReason::PeerClosedEarly) => Error::from_failure(failure),
            _ => Error::from_failure(failure).because(cause),
        }
    }

    /// The exchange was given up here, for this reason.
    pub(super) fn give_up(&self, reason: CloseReason) -> Error {
        Error::from_failure(self.failure(reason, false))
    }

    fn failure(&self, reason: CloseReason, declined: bool) -> Box<Failure> {
        let (sent, done) = {
            let progress = lock(&self.upload.0);
            (progress.sent, progress.done)
        };
        let meter = &self.line().meter;
        let disposition = if self.begun {
            Disposition::ReplyPartial
        } else if meter.written() == self.written_before {
            Disposition::NotSent
        } else if declined {
            Disposition::Declined
        } else if done {
            Disposition::SentNoReply
        } else {
            Disposition::PartlySent { bytes: sent }
        };
        if !self.counted.swap(true, Ordering::Relaxed) {
            lock(&self.line().failed).count(disposition);
        }
        let mut failure = Failure::new(disposition, reason, &self.method);
        failure.sent = sent;
        failure.received = self.received;
        failure.reused = self.reused;
        failure.age = meter.started.elapsed();
        Box::new(failure)
    }
}

/// Waits until something about the connection changes, or `done` is.
pub(super) async fn until<T>(line: &Line, mut done: impl FnMut() -> Option<T>) -> T {
    loop {
        let mut changed = std::pin::pin!(line.changed.notified());
        changed.as_mut().enable();
        if let Some(result) = done() {
            return result;
        }
        poll_fn(|cx| changed.as_mut().poll(cx)).await;
    }
}
