//! The bounded set of threads that run complete requests.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;

use super::control::{Control, Notice, Seat};
use super::{Handler, ServerConfig};
use crate::driver::Parked;

/// Requests of one connection that a thread runs before others have their turn.
const TURN_MAX: usize = 32;

/// The threads, and what waits for them.
#[derive(Clone)]
pub(super) struct Workers(Arc<Shared>);

struct Shared {
    handler: Arc<dyn Handler>,
    control: Arc<Control>,
    threads_max: usize,
    /// Handlers of one connection that run at the same time.
    handlers_max: usize,
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    seats: VecDeque<Arc<Seat>>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Workers {
    pub(super) fn new(handler: Arc<dyn Handler>, config: &ServerConfig, control: Arc<Control>) -> Self {
        let (threads_max, handlers_max) = (config.threads_max.max(1), config.concurrent_handlers.max(1));
        let (queue, work) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { handler, control, threads_max, handlers_max, queue, work }))
    }

    /// Has the connection's requests run, as soon as a thread is free.
    ///
    /// `false` if there is no thread and none can be started: then nobody will.
    pub(super) fn run(&self, seat: Arc<Seat>) -> bool {
        self.0.have_run(seat)
    }

    /// The threads end when they have done what they do.
    pub(super) fn close(&self) {
        self.0.queue().closed = true;
        self.0.work.notify_all();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn have_run(self: &Arc<Self>, seat: Arc<Seat>) -> bool {
        let mut queue = self.queue();
        queue.seats.push_back(seat);
        if queue.seats.len() <= queue.idle {
            drop(queue);
            self.work.notify_one();
            return true;
        }
        if queue.threads < self.threads_max {
            let shared = self.clone();
            if thread::Builder::new().name("persist-worker".into()).spawn(move || shared.work()).is_ok() {
                queue.threads += 1;
            }
        }
        if queue.threads == 0 {
            queue.seats.pop_back();
        }
        queue.threads > 0
    }

    fn work(self: &Arc<Self>) {
        while let Some(seat) = self.next() {
            self.run(&seat);
        }
    }

    fn next(&self) -> Option<Arc<Seat>> {
        let mut queue = self.queue();
        loop {
            if let Some(seat) = queue.seats.pop_front() {
                return Some(seat);
            }
            if queue.closed {
                queue.threads -= 1;
                return None;
            }
            queue.idle += 1;
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    /// Runs the connection's complete requests, and gives it back to the poller.
    fn run(self: &Arc<Self>, seat: &Arc<Seat>) {
        let link = seat.conn.link();
        let mut told = false;
        for _ in 0..TURN_MAX {
            // Replies to a burst of requests leave together, when the burst is answered.
            let held_back = link.act(|state| {
                state.cork();
                state.outbox_bytes() > 0
            });
            let Some(received) = seat.conn.try_read() else {
                if self.park(seat) == Parked::Ready {
                    continue;
                }
                return;
            };
            if seat.begin(self.handlers_max) {
                // Whoever comes next looks for the next request; this thread is done with the connection when its handler is.
                self.pass_on(seat);
            } else if held_back && !std::mem::replace(&mut told, true) {
                self.control.tell(Notice::Burst(seat.token));
            }
            // A handler that panics drops its responder: the client hears of it, and this thread lives.
            let _ = catch_unwind(AssertUnwindSafe(|| self.handler.handle(received)));
            if !seat.end() {
                return;
            }
        }
        link.act(|state| state.uncork());
        // Others first; the connection's next request is there already, or else its turn is short.
        self.queue().seats.push_back(seat.clone());
        self.work.notify_one();
    }

    /// Gives the connection to the poller, unless a request waits to be handled.
    fn park(&self, seat: &Arc<Seat>) -> Parked {
        let parked = seat.conn.link().park(&Waker::from(seat.clone()));
        match parked {
            Parked::Busy | Parked::Ready => {}
            Parked::Waiting(deadline) => {
                let earlier = deadline.is_some_and(|new| seat.looked_at().is_none_or(|old| new < old));
                if earlier {
                    self.control.tell(Notice::Look(seat.token));
                }
            }
            Parked::Gone => self.control.tell(Notice::Done(seat.token)),
        }
        parked
    }

    /// Has the connection's next request run beside the one that begins now, as soon as it is there and a thread is free.
    fn pass_on(self: &Arc<Self>, seat: &Arc<Seat>) {
        if self.park(seat) == Parked::Ready {
            // There is a thread: this one, at the latest.
            self.have_run(seat.clone());
        }
    }
}
