//! What the users of one connection share: the machine, the stream, and the exchanges that are under way.

use std::cell::Cell;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use persist_core::{Config, Conn, Instant, Role};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::address::Short;
use crate::clock;
use crate::date::Stamp;
use crate::part::Part;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::trace::{Entered, Span};
use crate::wait::Wait;
use crate::waiting::Interest;
use crate::wakers::{Hold, Slot, Waiters};

mod state;

pub(crate) use state::{Drive, Readable, State, Writable};

/// Received content that a connection holds for callers who have not read it yet, all exchanges together, before it stops reading.
pub(crate) const BUFFERED_MAX: usize = 64 * 1024;

/// What a connection can run over: TCP, Unix sockets, TLS sessions, pipes in memory. Implemented for whatever fits.
///
/// ```
/// use persist_async::{ClientConn, Transport};
///
/// /// Whatever the stream is, a connection of HTTP/1.1 goes over it.
/// fn over(stream: impl Transport) -> ClientConn<Box<dyn Transport>> {
///     ClientConn::new(Box::new(stream))
/// }
/// # let _ = over(tokio::io::duplex(64).0);
/// ```
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for T {}

/// One connection, shared by its handle, its exchanges and its bodies.
pub(crate) struct Link<R: Part, S> {
    state: Mutex<State<R, S>>,
    pub(crate) waiters: Waiters,
    /// Whether a server's task drives the connection (`server/task.rs`), rather than whoever awaits something of it (`wakers.rs`).
    has_task: AtomicBool,
    /// What is added to each response.
    pub(crate) stamp: Option<Arc<Stamp>>,
    /// The connection's number in this process.
    pub(crate) id: u64,
    peer: Short,
    /// Entered whenever the connection is worked on.
    pub(crate) span: Span,
}

/// The number of the next connection in this process.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl<R: Part, S> Link<R, S> {
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer.get()
    }
}

impl<R: Part, S: Transport> Link<R, S> {
    pub(crate) fn new(conn: Conn<R>, stream: S, peer: Option<SocketAddr>, inbox: Vec<u8>) -> Arc<Self> {
        Arc::new(Self::bare(conn, stream, peer, inbox))
    }

    fn bare(conn: Conn<R>, stream: S, peer: Option<SocketAddr>, inbox: Vec<u8>) -> Self {
        let id = next_id();
        let span = Span::connection(id, R::NAME);
        Self {
            state: Mutex::new(State::new(conn, stream, inbox.into(), span.clone())),
            waiters: Waiters::default(),
            has_task: AtomicBool::new(false),
            stamp: None,
            id,
            peer: peer.into(),
            span,
        }
    }

    /// A connection that a task is about to drive; `stamp` is added to its responses.
    pub(crate) fn with_task(
        conn: Conn<R>,
        stream: S,
        peer: Option<SocketAddr>,
        inbox: Vec<u8>,
        stamp: Arc<Stamp>,
    ) -> Arc<Self> {
        let mut link = Self::bare(conn, stream, peer, inbox);
        link.stamp = Some(stamp);
        *link.has_task.get_mut() = true;
        Arc::new(link)
    }

    /// Whether a task drives the connection. One that has just gone is no harm: its place is free then, and whoever waits is woken.
    pub(crate) fn has_task(&self) -> bool {
        self.has_task.load(Ordering::Acquire)
    }

    /// The task is gone: from here on whoever waits drives.
    pub(crate) fn task_gone(&self) {
        self.has_task.store(false, Ordering::Release);
        let task = self.raw_lock().task.take();
        drop(task);
        if let Some(wakers) = self.waiters.known() {
            wakers.kick();
        }
    }

    /// Makes somebody drive, soon. Not under the connection's lock.
    pub(crate) fn kick(&self) {
        if self.has_task() {
            let task = self.raw_lock().task.clone();
            if let Some(task) = task {
                return task.wake();
            }
        }
        // A task that has not begun looks at everything when it does.
        if !self.has_task() {
            self.waiters.list().kick();
        }
    }

    fn raw_lock(&self) -> MutexGuard<'_, State<R, S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock(&self) -> Locked<'_, R, S> {
        self.lock_as_left().0
    }

    /// The same, and whether whoever drove last [left it hungry](State::is_left).
    pub(crate) fn lock_as_left(&self) -> (Locked<'_, R, S>, bool) {
        self.lock_for(None)
    }

    /// The same for whoever waits in `slot`: only his own exchange still travels.
    fn lock_for(&self, slot: Option<Slot>) -> (Locked<'_, R, S>, bool) {
        let mut guard = self.raw_lock();
        let hungry = std::mem::take(&mut guard.hungry);
        let traveller = guard.traveller.as_mut().map(AsMut::as_mut);
        if traveller.is_some_and(|traveller| slot.is_none() || traveller.waiter != slot) {
            guard.settle_down();
        }
        (Locked { guard: Some(guard), waiters: &self.waiters, _entered: self.span.enter() }, hungry)
    }

    /// Changes something that whoever drives must hear of.
    pub(crate) fn mutate<T>(&self, change: impl FnOnce(&mut State<R, S>) -> T) -> T {
        let mut state = self.lock();
        state.tick();
        let result = change(&mut state);
        state.settle();
        let attended = state.attended;
        drop(state);
        if !attended {
            self.kick();
        }
        result
    }

    /// Waits until `attempt` succeeds, driving the connection meanwhile.
    pub(crate) fn wait<T, F>(&self, interest: Interest, attempt: F) -> Wait<'_, R, S, F>
    where
        F: FnMut(&mut State<R, S>, Option<Slot>) -> Option<T>,
    {
        Wait::new(self, interest, attempt)
    }

    /// One poll of a wait: tries, drives, tries again, and registers.
    pub(crate) fn poll<T>(
        &self,
        wait: (&mut Option<Slot>, &Cell<Interest>, Hold),
        cx: &mut Context<'_>,
        step: impl FnMut(&mut State<R, S>, &mut Context<'_>, Option<Slot>) -> Option<T>,
    ) -> Poll<T> {
        self.poll_at(None, wait, cx, step)
    }

    /// The same at a time that is known, if it is: the clock need not be looked at then.
    pub(crate) fn poll_at<T>(
        &self,
        mut at: Option<Instant>,
        wait: (&mut Option<Slot>, &Cell<Interest>, Hold),
        cx: &mut Context<'_>,
        mut step: impl FnMut(&mut State<R, S>, &mut Context<'_>, Option<Slot>) -> Option<T>,
    ) -> Poll<T> {
        if self.has_task() {
            return self.poll_beside_task(wait, cx, step);
        }
        let (slot, interest, hold) = wait;
        let wakers = self.waiters.list();
        let mut own = Context::from_waker(self.waiters.waker());
        let was_due = wakers.begin();
        let (mut state, hungry) = self.lock_for(*slot);
        state.hungry = hungry;
        state.drive = Drive::NotNeeded;
        loop {
            state.polling = *slot;
            match at.take() {
                Some(at) => state.tick_to(at),
                None => state.tick(),
            }
            if let Some(result) = step(&mut state, &mut own, *slot) {
                let stopped = match state.drive {
                    Drive::NotNeeded => was_due,
                    Drive::Stopped => true,
                    Drive::Parked => false,
                };
                state.polling = None;
                if let Some(place) = *slot {
                    state.forget(place);
                }
                drop(state);
                if stopped {
                    wakers.hand_on(slot);
                } else {
                    wakers.leave(slot);
                }
                return Poll::Ready(result);
            }
            state.polling = None;
            if let Some(job) = state.take_job() {
                drop(state);
                let done = job.run(&mut own);
                state = self.lock();
                if state.put_back(done) {
                    continue;
                }
            }
            let (place, due) = wakers.wait(slot, cx.waker(), hold);
            state.note(interest.get(), place);
            drop(state);
            if due {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
    }

    /// A poll that leaves driving to whoever does it already; if nobody does, this one will be woken to.
    pub(crate) fn poll_behind<T>(
        &self,
        (slot, interest): (&mut Option<Slot>, Interest),
        cx: &mut Context<'_>,
        attempt: impl FnOnce(&mut State<R, S>) -> Option<T>,
    ) -> Poll<T> {
        let mut state = self.lock();
        if let Some(result) = attempt(&mut state) {
            return Poll::Ready(result);
        }
        let place = self.waiters.list().wait_behind_driver(slot, cx.waker());
        state.note(interest, place);
        drop(state);
        self.kick();
        Poll::Pending
    }

    /// The same where a task drives: what this poll leaves undone is the task's.
    fn poll_beside_task<T>(
        &self,
        (slot, interest, _): (&mut Option<Slot>, &Cell<Interest>, Hold),
        cx: &mut Context<'_>,
        mut step: impl FnMut(&mut State<R, S>, &mut Context<'_>, Option<Slot>) -> Option<T>,
    ) -> Poll<T> {
        let (mut state, hungry) = self.lock_as_left();
        state.hungry = hungry;
        // Mostly the task polls its handlers itself.
        let is_own = |task: &Waker| task.will_wake(cx.waker());
        let other = (!state.task.as_ref().is_some_and(is_own))
            .then(|| state.task.clone().unwrap_or_else(|| self.waiters.waker().clone()));
        let mut own = Context::from_waker(other.as_ref().unwrap_or(cx.waker()));
        let attended = state.attended;
        if !attended {
            state.tick();
        }
        state.polling = *slot;
        let result = step(&mut state, &mut own, *slot);
        state.polling = None;
        let poll = match result {
            Some(result) => {
                self.leave(state, slot);
                Poll::Ready(result)
            }
            None => {
                let (place, due) = self.waiters.list().wait(slot, cx.waker(), Hold::Loose);
                state.note(interest.get(), place);
                drop(state);
                if due {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        };
        if !attended {
            self.kick();
        }
        poll
    }

    /// Leaves the list of those who wait, and hands on what is to be done.
    pub(crate) fn leave(&self, mut state: Locked<'_, R, S>, slot: &mut Option<Slot>) {
        if let Some(place) = *slot {
            state.forget(place);
        }
        drop(state);
        if slot.is_some() {
            self.waiters.list().leave(slot);
        }
    }
}

/// The state, locked. Wakes and drops what is to be woken and dropped when it is let go.
pub(crate) struct Locked<'a, R: Part, S> {
    guard: Option<MutexGuard<'a, State<R, S>>>,
    waiters: &'a Waiters,
    _entered: Entered<'a>,
}

impl<R: Part, S> Deref for Locked<'_, R, S> {
    type Target = State<R, S>;

    fn deref(&self) -> &Self::Target {
        self.guard.as_ref().expect("held until dropped")
    }
}

impl<R: Part, S> DerefMut for Locked<'_, R, S> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.guard.as_mut().expect("held until dropped")
    }
}

impl<R: Part, S> Drop for Locked<'_, R, S> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.guard.as_ref().is_some_and(|state| state.after || state.waiting.is_some()) {
            self.deliver();
        }
    }
}

impl<R: Part, S> Locked<'_, R, S> {
    #[inline(never)]
    fn deliver(&mut self) {
        let Some(mut state) = self.guard.take() else { return };
        if state.waiting.is_some() {
            state.wake_listeners();
            state.wake_answers();
        }
        if !state.after {
            return;
        }
        state.after = false;
        let wakes = std::mem::take(&mut state.wakes);
        let trash = state.trash.take();
        drop(state);
        drop(trash);
        if let Some(wakers) = self.waiters.known() {
            wakes.deliver(wakers);
        }
    }
}

/// A machine for a fresh connection.
pub(crate) fn fresh<R: Role>(config: Arc<Config>) -> Conn<R> {
    Conn::new(config, clock::now())
}
