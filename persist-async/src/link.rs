//! What the users of one connection share: the machine, the stream, and the exchanges that are under way.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use persist_core::stats::Dispositions;
use persist_core::{CloseReason, Config, Conn, Delivery, ExchangeId, Instant, Phase, Role};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use crate::clock::Clock;
use crate::date::Stamp;
use crate::entry::{Arrived, Entry};
use crate::error::{self, Error};
use crate::facts;
use crate::part::Part;
use crate::pump::Outgoing;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::trace::{Entered, Span};
use crate::wait::Wait;
use crate::waiting::{Interest, Waiting, Wakes};
use crate::wakers::{Hold, Slot, Wakers};

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
pub(crate) struct Link<R: Role, S> {
    state: Mutex<State<R, S>>,
    pub(crate) wakers: Arc<Wakers>,
    /// Stands for the connection towards the socket and the timer.
    pub(crate) waker: Waker,
    /// Whether a server's task drives the connection (`server/task.rs`), rather than whoever awaits something of it (`wakers.rs`).
    has_task: AtomicBool,
    /// What is added to each response.
    pub(crate) stamp: Option<Arc<Stamp>>,
    /// The connection's number in this process.
    pub(crate) id: u64,
    pub(crate) peer: Option<SocketAddr>,
    /// Entered whenever the connection is worked on.
    pub(crate) span: Span,
}

/// The number of the next connection in this process.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// All that changes.
pub(crate) struct State<R: Role, S> {
    pub(crate) conn: Conn<R>,
    /// Gone once the connection is closed or taken apart.
    pub(crate) stream: Option<S>,
    /// Exchanges that somebody still holds, or whose body is still to be sent; in the order of their numbers. A server's have their place here only
    /// while there is something to be kept of them: content, a failure, or somebody who waits.
    pub(crate) entries: VecDeque<Entry<R>>,
    /// A server's next request, until it is taken.
    pub(crate) arrived: Option<Box<Arrived<R>>>,
    /// Bytes that were read and could not be taken yet; `inbox_at` of them are consumed.
    pub(crate) inbox: Vec<u8>,
    pub(crate) inbox_at: usize,
    /// Content in all entries together.
    pub(crate) buffered: usize,
    /// The exchange whose content comes in now.
    pub(crate) receiving: Option<ExchangeId>,
    pub(crate) read_side: Readable,
    pub(crate) write_side: Writable,
    pub(crate) io_error: Option<Arc<io::Error>>,
    pub(crate) closed: Option<Box<CloseReason>>,
    pub(crate) switched: bool,
    pub(crate) timer: Option<Pin<Box<Sleep>>>,
    /// When the timer fires: never after the machine's deadline, often before it.
    pub(crate) armed: Option<Instant>,
    /// The connection's task is in its poll, and will look at everything before it waits: nobody has to wake it.
    pub(crate) attended: bool,
    /// The reader of a body to be sent was polled in this poll of the task, and has nothing yet.
    pub(crate) reader_waits: bool,
    pub(crate) clock: Clock,
    /// What the clock said when the lock was taken: close enough for deadlines, and much cheaper than asking for every call.
    time: Instant,
    /// Whoever waits for the connection, rather than for an exchange. The connections of a server with tasks have nobody, and no room for it.
    pub(crate) waiting: Option<Box<Waiting>>,
    pub(crate) last_read: Option<Instant>,
    pub(crate) last_write: Option<Instant>,
    /// The connection's, for those of its exchanges.
    pub(crate) span: Span,
    /// Bytes that the stream took.
    pub(crate) sent: u64,
    /// The exchanges that did not complete, if there were any.
    pub(crate) failed: Option<Box<Dispositions>>,
    /// What the stream's end is to be asked, by whoever closes: whether all has arrived.
    pub(crate) delivery: Option<Delivery>,
    /// How the last drive ended.
    pub(crate) drive: Drive,
    /// The place of whoever is polling, who needs no waking.
    pub(crate) polling: Option<Slot>,
    /// One of the following is to be seen to when the lock is released.
    pub(crate) after: bool,
    pub(crate) wakes: Wakes,
    /// Dropped after the lock is released: users' code may run in it.
    trash: Option<Box<Trash<S>>>,
    /// A server's task is to see to it that no further request is taken.
    pub(crate) ending: bool,
    /// Whoever drove parked while the machine wanted input, and nobody has had the lock since: there is nothing to ask it before the next read.
    pub(crate) hungry: bool,
}

/// What is over.
struct Trash<S> {
    #[expect(clippy::vec_box, reason = "they come boxed, and unboxing them would only move them")]
    bodies: Vec<Box<Outgoing>>,
    stream: Option<S>,
}

/// Whether the stream may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readable {
    Open,
    Ended,
}

/// How far the stream is for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writable {
    Open,
    /// Bytes were written that the stream may hold back.
    Unflushed,
    /// The machine asked for a shutdown that has not happened yet.
    ShuttingDown,
    Ended,
}

/// How a drive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drive {
    /// Before it began: what was wanted was there.
    NotNeeded,
    /// Early: somebody else must go on.
    Stopped,
    /// The stream and the timer are waited for.
    Parked,
}

impl<R: Role, S> State<R, S> {
    #[inline]
    pub(crate) fn entry(&mut self, id: ExchangeId) -> Option<&mut Entry<R>> {
        let at = self.place_of(id)?;
        self.entries.get_mut(at)
    }

    /// Mostly none was forgotten between the first one and this.
    #[inline]
    fn place_of(&self, id: ExchangeId) -> Option<usize> {
        let at = id.number().checked_sub(self.entries.front()?.id.number())? as usize;
        if self.entries.get(at).is_some_and(|entry| entry.id == id) {
            return Some(at);
        }
        self.entries.binary_search_by_key(&id, |entry| entry.id).ok()
    }

    /// Forgets an exchange that nobody holds and whose body is sent. Call after either changed.
    #[inline]
    pub(crate) fn tidy(&mut self, id: ExchangeId) {
        if let Some(at) = self.place_of(id) {
            self.tidy_at(at);
        }
    }

    fn tidy_at(&mut self, at: usize) {
        let entry = &self.entries[at];
        if entry.inbound_held || entry.outbound_held || entry.outgoing.is_some() {
            return;
        }
        self.buffered -= entry.content.len();
        if at == 0 {
            drop(self.entries.pop_front());
        } else {
            drop(self.entries.remove(at));
        }
        if self.entries.is_empty() && self.entries.capacity() > 2 {
            self.entries = VecDeque::new();
        }
    }

    /// Keeps an exchange. Most connections have one at a time, and pay for no more.
    pub(crate) fn enter(&mut self, entry: Entry<R>) {
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(1);
        }
        self.entries.push_back(entry);
    }

    /// The place of an exchange that may have none: there was nothing to be kept of it before.
    pub(crate) fn entry_or_new(&mut self, id: ExchangeId) -> &mut Entry<R> {
        let at = match self.entries.binary_search_by_key(&id, |entry| entry.id) {
            Ok(at) => at,
            Err(at) => {
                let mut entry = Entry::new(id);
                entry.inbound_held = false;
                self.entries.insert(at, entry);
                at
            }
        };
        &mut self.entries[at]
    }

    pub(crate) fn now(&self) -> Instant {
        self.time
    }

    /// Whether a deadline may have passed since the timer was set.
    pub(crate) fn is_due(&self) -> bool {
        self.armed.is_some_and(|armed| armed <= self.time)
    }

    /// Looks at the clock. Call when time may have passed.
    pub(crate) fn tick(&mut self) {
        self.time = self.clock.now();
    }

    /// Drops a body once the lock is released.
    pub(crate) fn discard(&mut self, outgoing: Option<Box<Outgoing>>) {
        if let Some(outgoing) = outgoing {
            self.trash().bodies.push(outgoing);
        }
    }

    fn trash(&mut self) -> &mut Trash<S> {
        self.after = true;
        self.trash.get_or_insert_with(|| Box::new(Trash { bodies: Vec::new(), stream: None }))
    }

    /// The stream is closed once the lock is released.
    pub(crate) fn discard_stream(&mut self)
    where
        S: 'static,
    {
        if let (Some(delivery), Some(stream)) = (&mut self.delivery, &self.stream) {
            *delivery = facts::delivery(stream);
        }
        let stream = self.stream.take();
        self.trash().stream = stream;
        self.timer = None;
        self.armed = None;
    }

    /// Why the connection has ended, if it has: for whoever asks something of it in `phase`.
    pub(crate) fn ended(&self, phase: Phase) -> Option<Error> {
        match &self.closed {
            Some(reason) => Some(error::ended(phase, Some((**reason).clone()), self.io_error.clone())),
            None if self.stream.is_none() => Some(error::ended(phase, None, None)),
            None => None,
        }
    }

    /// Why the exchange did not complete, if it is known to have failed.
    pub(crate) fn failure(&mut self, id: ExchangeId) -> Option<Error> {
        let entry = self.entry(id)?;
        let failure = entry.failure.clone()?;
        Some(match &entry.outgoing_error {
            Some(cause) => error::broken_off(failure, cause),
            None => error::failed(failure, self.io_error.clone()),
        })
    }
}

impl<R: Part, S: Transport> Link<R, S> {
    pub(crate) fn new(conn: Conn<R>, clock: Clock, stream: S, peer: Option<SocketAddr>, inbox: Vec<u8>) -> Arc<Self> {
        Arc::new(Self::bare((conn, clock), stream, peer, inbox))
    }

    fn bare((conn, clock): (Conn<R>, Clock), stream: S, peer: Option<SocketAddr>, inbox: Vec<u8>) -> Self {
        let id = next_id();
        let span = Span::connection(id, R::NAME);
        let wakers = Arc::new(Wakers::default());
        let state = State {
            span: span.clone(),
            conn,
            stream: Some(stream),
            entries: VecDeque::new(),
            inbox,
            inbox_at: 0,
            buffered: 0,
            arrived: None,
            receiving: None,
            read_side: Readable::Open,
            write_side: Writable::Open,
            io_error: None,
            closed: None,
            switched: false,
            timer: None,
            armed: None,
            attended: false,
            reader_waits: false,
            clock,
            time: clock.now(),
            waiting: None,
            last_read: None,
            last_write: None,
            sent: 0,
            failed: None,
            delivery: None,
            drive: Drive::NotNeeded,
            polling: None,
            after: false,
            wakes: Wakes::Nobody,
            trash: None,
            ending: false,
            hungry: false,
        };
        Self {
            state: Mutex::new(state),
            waker: Waker::from(wakers.clone()),
            wakers,
            has_task: AtomicBool::new(false),
            stamp: None,
            id,
            peer,
            span,
        }
    }

    /// A connection that a task is about to drive; `stamp` is added to its responses.
    pub(crate) fn with_task(
        machine: (Conn<R>, Clock),
        stream: S,
        peer: Option<SocketAddr>,
        inbox: Vec<u8>,
        stamp: Arc<Stamp>,
    ) -> Arc<Self> {
        let mut link = Self::bare(machine, stream, peer, inbox);
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
        self.wakers.desert();
    }

    pub(crate) fn lock(&self) -> Locked<'_, R, S> {
        self.lock_as_left().0
    }

    /// The same, and whether whoever drove last [left it hungry](State::is_left).
    pub(crate) fn lock_as_left(&self) -> (Locked<'_, R, S>, bool) {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let hungry = std::mem::take(&mut guard.hungry);
        (Locked { guard: Some(guard), wakers: &self.wakers, _entered: self.span.enter() }, hungry)
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
            self.wakers.kick();
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
        mut step: impl FnMut(&mut State<R, S>, &mut Context<'_>, Option<Slot>) -> Option<T>,
    ) -> Poll<T> {
        if self.has_task() {
            return self.poll_beside_task(wait, cx, step);
        }
        let (slot, interest, hold) = wait;
        let mut own = Context::from_waker(&self.waker);
        let was_due = self.wakers.begin();
        let (mut state, hungry) = self.lock_as_left();
        state.hungry = hungry;
        state.drive = Drive::NotNeeded;
        loop {
            state.polling = *slot;
            state.tick();
            if let Some(result) = step(&mut state, &mut own, *slot) {
                let drive = state.drive;
                state.polling = None;
                self.leave(state, slot);
                if drive == Drive::Stopped || (drive == Drive::NotNeeded && was_due) {
                    self.wakers.kick();
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
            let (place, due) = self.wakers.wait(slot, cx.waker(), hold);
            state.note(interest.get(), place);
            drop(state);
            if due {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
    }

    /// The same where a task drives: what this poll leaves undone is the task's.
    fn poll_beside_task<T>(
        &self,
        (slot, interest, _): (&mut Option<Slot>, &Cell<Interest>, Hold),
        cx: &mut Context<'_>,
        mut step: impl FnMut(&mut State<R, S>, &mut Context<'_>, Option<Slot>) -> Option<T>,
    ) -> Poll<T> {
        let mut own = Context::from_waker(&self.waker);
        let mut state = self.lock();
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
                let (place, due) = self.wakers.wait(slot, cx.waker(), Hold::Loose);
                state.note(interest.get(), place);
                drop(state);
                if due {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        };
        if !attended {
            self.wakers.kick();
        }
        poll
    }

    /// Leaves the list of those who wait, and hands on what is to be done.
    pub(crate) fn leave(&self, mut state: Locked<'_, R, S>, slot: &mut Option<Slot>) {
        if let Some(place) = *slot {
            state.forget(place);
        }
        drop(state);
        self.wakers.leave(slot);
    }
}

/// The state, locked. Wakes and drops what is to be woken and dropped when it is let go.
pub(crate) struct Locked<'a, R: Role, S> {
    guard: Option<MutexGuard<'a, State<R, S>>>,
    wakers: &'a Wakers,
    _entered: Entered<'a>,
}

impl<R: Role, S> Deref for Locked<'_, R, S> {
    type Target = State<R, S>;

    fn deref(&self) -> &Self::Target {
        self.guard.as_ref().expect("held until dropped")
    }
}

impl<R: Role, S> DerefMut for Locked<'_, R, S> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.guard.as_mut().expect("held until dropped")
    }
}

impl<R: Role, S> Drop for Locked<'_, R, S> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.guard.as_ref().is_some_and(|state| state.after || state.waiting.is_some()) {
            self.deliver();
        }
    }
}

impl<R: Role, S> Locked<'_, R, S> {
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
        wakes.deliver(self.wakers);
    }
}

/// A machine and its clock, for a fresh connection.
pub(crate) fn fresh<R: Role>(config: Arc<Config>) -> (Conn<R>, Clock) {
    let clock = Clock::start();
    (Conn::new(config, clock.now()), clock)
}
