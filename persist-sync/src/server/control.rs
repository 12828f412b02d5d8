//! What other threads tell the poller: that a connection needs a look, that a thread is done with one, that the server is to end.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::time::Duration;

use mio::{Poll, Token, Waker};
use persist_core::Instant;
use persist_core::stats::ServerStats;

use crate::clock;
use crate::server_conn::ServerConn;

/// The poller's own event: somebody has told it something.
pub(super) const TOLD: Token = Token(usize::MAX);

/// Where other threads reach the poller.
#[derive(Debug)]
pub(super) struct Control {
    waker: Waker,
    told: Mutex<Told>,
    /// How many connections are open.
    pub(super) connections: AtomicUsize,
    /// Until the poller takes it.
    poll: Mutex<Option<Poll>>,
}

/// What has not been heard yet.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) notices: Vec<Notice>,
    /// The server is to end, by then.
    pub(super) shutdown: Option<Instant>,
    asked: Vec<Sender<ServerStats>>,
    /// Somebody hears what is asked.
    is_running: bool,
    /// What the server had done when it ended.
    done: ServerStats,
}

/// News of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Notice {
    /// Its deadline is earlier, or a request of it was read by another thread.
    Look(usize),
    /// Replies of a burst are held back while a further handler runs, which may take long.
    Burst(usize),
    /// The thread that ran its requests is done with it: it waits again, or is closed.
    Done(usize),
}

impl Control {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), TOLD)?;
        Ok(Arc::new(Self {
            waker,
            told: Mutex::default(),
            connections: AtomicUsize::new(0),
            poll: Mutex::new(Some(poll)),
        }))
    }

    /// The poller, for the one who runs it.
    pub(super) fn take_poll(&self) -> io::Result<Poll> {
        let poll = self.poll.lock().unwrap_or_else(PoisonError::into_inner).take();
        poll.ok_or_else(|| io::Error::other("the server runs already"))
    }

    pub(super) fn tell(&self, notice: Notice) {
        self.told().notices.push(notice);
        self.wake();
    }

    pub(super) fn shut_down(&self, within: Duration) {
        let deadline = clock::now() + within;
        let mut told = self.told();
        told.shutdown = Some(told.shutdown.map_or(deadline, |earlier| earlier.min(deadline)));
        drop(told);
        self.wake();
    }

    /// Everything since the last call; the end of the server stays told.
    pub(super) fn hear(&self) -> Told {
        let mut told = self.told();
        let (notices, asked) = (std::mem::take(&mut told.notices), std::mem::take(&mut told.asked));
        Told { notices, asked, shutdown: told.shutdown, ..Told::default() }
    }

    /// What the server has done: the poller's answer, or what it left.
    pub(super) fn stats(&self) -> ServerStats {
        let (answer, answered) = mpsc::channel();
        let mut told = self.told();
        if told.is_running {
            told.asked.push(answer);
            drop(told);
            self.wake();
            // A poller that ends meanwhile lets go of the question.
            if let Ok(stats) = answered.recv() {
                return stats;
            }
            told = self.told();
        }
        told.done
    }

    pub(super) fn begins(&self) {
        self.told().is_running = true;
    }

    pub(super) fn ends(&self, done: ServerStats) {
        let mut told = self.told();
        (told.is_running, told.done) = (false, done);
        told.asked.clear();
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only when the counter is full, and then the poller wakes anyway.
        let _ = self.waker.wake();
    }
}

/// One connection, as the poller and the threads pass it on.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) token: usize,
    pub(super) conn: ServerConn,
    pub(super) control: Arc<Control>,
    /// When the poller looks at it next, in nanoseconds since the epoch; `u64::MAX` for never.
    looked_at: AtomicU64,
    handlers: Mutex<Handlers>,
}

/// The handlers of one connection, where several may run at the same time.
#[derive(Debug, Default)]
struct Handlers {
    running: usize,
    /// As many run as may: nobody looks for further requests until one of them ends.
    full: bool,
}

impl Told {
    /// Whoever asked what the server has done is told.
    pub(super) fn answer(&mut self, stats: impl FnOnce() -> ServerStats) {
        if !self.asked.is_empty() {
            let stats = stats();
            for asked in self.asked.drain(..) {
                // Fails if nobody listens any more.
                let _ = asked.send(stats);
            }
        }
    }
}

impl Seat {
    pub(super) fn new(token: usize, conn: ServerConn, control: Arc<Control>) -> Arc<Self> {
        Arc::new(Self { token, conn, control, looked_at: AtomicU64::new(u64::MAX), handlers: Mutex::default() })
    }

    /// A handler begins. Says whether a further one might, beside it: if so, somebody else must look for its request.
    pub(super) fn begin(&self, handlers_max: usize) -> bool {
        let mut handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        handlers.running += 1;
        handlers.full = handlers.running >= handlers_max;
        !handlers.full
    }

    /// A handler has ended. Says whether whoever ran it must look for further requests, because nobody else does.
    pub(super) fn end(&self) -> bool {
        let mut handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        handlers.running -= 1;
        std::mem::take(&mut handlers.full)
    }

    /// When the poller looks at it next.
    pub(super) fn looked_at(&self) -> Option<Instant> {
        let nanos = self.looked_at.load(Ordering::Acquire);
        (nanos != u64::MAX).then(|| Instant::from_duration(Duration::from_nanos(nanos)))
    }

    pub(super) fn look_at(&self, when: Option<Instant>) {
        let nanos = when.map_or(u64::MAX, |when| u64::try_from(when.since_epoch().as_nanos()).unwrap_or(u64::MAX));
        self.looked_at.store(nanos, Ordering::Release);
    }
}

impl Wake for Seat {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.control.tell(Notice::Look(self.token));
    }
}
