//! The driver: whoever waits for something drives the connection for everyone.
//!
//! A connection is one machine and one stream behind a lock, and has no thread of its own. A call that must wait
//! first [moves everything along](State::advance) that can move, looks whether that was enough, and otherwise either
//! waits for the socket itself ([`Link::drive`]: one thread at a time, outside the lock, in both directions at once) or,
//! when another thread is doing that already, waits to be told. Whoever changes what the driver should wait for, wakes it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use persist_core::{Config, ExchangeId, Instant, Parts, Side};

use crate::clock;
use crate::part::Part;
use crate::ready::{Directions, Waker, wait_for};
use crate::scratch;
use crate::stream::{Stream, TICK};
use crate::trace::{Span, tell};

mod burst;
mod facts;
mod moving;
mod parking;
mod round_trip;
mod state;
#[cfg(all(test, unix))]
mod tests;

pub(crate) use burst::Gathered;
pub use facts::StreamRef;
pub(crate) use parking::Parked;
use parking::Place;
pub(crate) use round_trip::{After, Detour, Look};
pub(crate) use state::{Lending, State};

/// One connection, shared by all its handles.
#[derive(Debug)]
pub(crate) struct Link<R: Part> {
    id: u64,
    state: Mutex<State<R>>,
    pub(crate) span: Span,
    /// Waits for news while another thread drives.
    news: Condvar,
}

/// The thread that waits for the stream, and for what.
#[derive(Debug)]
struct Driver {
    /// Without one it looks by itself, often.
    waker: Option<Arc<Waker>>,
    /// It waits inside of a read.
    reads: bool,
    wanted: Directions,
    deadline: Option<Instant>,
}

impl<R: Part> Link<R> {
    /// Puts a machine in charge of the stream.
    pub(crate) fn new(
        stream: Stream,
        config: impl Into<Arc<Config>>,
        parts: Option<Parts>,
        lending: Lending,
    ) -> io::Result<Arc<Self>> {
        let waits = match lending {
            Lending::Unlimited => stream.attach_waiting()?,
            Lending::Limited => stream.attach().map(|()| false)?,
        };
        let mut state = State::new(stream, config.into(), parts, lending);
        state.waits = waits;
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let span = Span::connection(id, R::NAME);
        Ok(Arc::new(Self { id, state: Mutex::new(state), span, news: Condvar::new() }))
    }
}

impl<R: Part> Link<R> {
    /// The connection's number in this process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The state, for a look. Use [`act`](Self::act) to change it.
    pub(crate) fn look(&self) -> MutexGuard<'_, State<R>> {
        // No code of the user's runs under the lock, and the state is whole between any two statements that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and moves along what can move, without waiting.
    pub(crate) fn act<T>(&self, change: impl FnOnce(&mut State<R>) -> T) -> T {
        let _entered = self.span.enter();
        let mut state = self.look();
        let result = change(&mut state);
        state.settle();
        self.leave(state);
        result
    }

    /// Takes something of what has arrived, which may make room for more. Does not read on.
    pub(crate) fn take<T>(&self, take: impl FnOnce(&mut State<R>) -> T) -> T {
        let mut state = self.look();
        let result = take(&mut state);
        state.advance();
        self.leave(state);
        result
    }

    /// Drives the connection until `done` gives something; `None` once the connection is gone and `done` still gave nothing.
    ///
    /// `done` may change the state; what it changed is moved along before the call returns.
    pub(crate) fn wait<T>(&self, done: impl FnMut(&mut State<R>) -> Option<T>) -> Option<T> {
        self.wait_until(None, done)
    }

    /// The same for who waits for whatever changes: he is told of each change of anybody's.
    pub(crate) fn watch<T>(&self, done: impl FnMut(&mut State<R>) -> Option<T>) -> Option<T> {
        self.look().watchers += 1;
        let seen = self.wait(done);
        self.look().watchers -= 1;
        seen
    }

    /// [`wait`](Self::wait), but no longer than until `limit`: then `None`, too.
    pub(crate) fn wait_until<T>(
        &self,
        limit: Option<Instant>,
        mut done: impl FnMut(&mut State<R>) -> Option<T>,
    ) -> Option<T> {
        let _entered = self.span.enter();
        let mut state = self.look();
        loop {
            state.advance();
            let result = done(&mut state);
            if result.is_some() || state.stream.is_none() {
                state.advance();
                self.leave(state);
                return result;
            }
            // Whoever waits has nothing to add to a burst, and the peer may be waiting for it.
            if state.fill() || state.uncork() || state.advance() {
                continue;
            }
            if limit.is_some_and(|limit| limit <= clock::now()) {
                self.leave(state);
                return None;
            }
            state = if state.is_driven() { self.follow(state, limit) } else { self.drive(state, limit) };
        }
    }

    /// Waits for the stream, the next deadline, or a wake-up, outside the lock.
    fn drive<'l>(&'l self, mut state: MutexGuard<'l, State<R>>, limit: Option<Instant>) -> MutexGuard<'l, State<R>> {
        let Some(stream) = state.stream.clone() else { return state };
        let deadline = [state.conn().poll_timeout(), limit].into_iter().flatten().min();
        let wanted = state.wanted();
        let left = clock::until(deadline);
        // Content goes straight to where it is wanted.
        let reads = state.may_wait_in_read(wanted, left) && state.conn().body_window() == 0;
        let waker = if reads { None } else { Waker::of_this_thread() };
        state.driver = Some(Driver { waker: waker.clone(), reads, wanted, deadline });
        // He has looked.
        state.told = false;
        self.spread(&mut state);
        drop(state);
        if reads {
            return self.read(stream);
        }

        let ready = wait_for(&*stream, wanted, waker.as_deref(), left);

        drop(stream);
        let mut state = self.look();
        state.driver = None;
        match ready {
            Ok(ready) => state.stream_is(ready, false),
            Err(error) => state.failed(Side::Read, error),
        }
        state
    }

    /// Waits inside of a read, outside the lock: one system call, where there would be two. It hears nothing from others, so it looks up now and
    /// then, and once somebody else has wanted something, nobody waits like this any more.
    fn read(&self, stream: Arc<Stream>) -> MutexGuard<'_, State<R>> {
        scratch::with_input(|input| {
            let result = stream.read_waiting(input);
            drop(stream);
            let mut state = self.look();
            state.driver = None;
            if is_no_news(&result) {
                state.look_around();
            } else {
                state.take_in(result, input);
            }
            state
        })
    }

    /// The same for content, straight into the buffer of whoever wants it. `None` if it does not come that way, or something else came: then what there
    /// is to know is in the state.
    pub(crate) fn read_straight(&self, id: ExchangeId, buf: &mut [u8]) -> Option<usize> {
        let mut state = self.look();
        if !state.waits || state.is_driven() {
            return None;
        }
        state.advance();
        let (window, deadline) = (state.window(id, buf.len()), state.conn().poll_timeout());
        let wanted = state.wanted();
        let waits = window > 0 && state.may_wait_in_read(wanted, clock::until(deadline));
        let Some(stream) = state.stream.clone().filter(|_| waits) else {
            self.leave(state);
            return None;
        };
        state.driver = Some(Driver { waker: None, reads: true, wanted, deadline });
        state.told = false;
        self.spread(&mut state);
        drop(state);
        let buf = &mut buf[..window];
        let result = stream.read_waiting(buf);
        drop(stream);
        let mut state = self.look();
        state.driver = None;
        let read = state.take_straight(id, result, buf);
        self.leave(state);
        read
    }

    /// Waits for news from the thread that drives.
    fn follow<'l>(&'l self, mut state: MutexGuard<'l, State<R>>, limit: Option<Instant>) -> MutexGuard<'l, State<R>> {
        self.spread(&mut state);
        state.nudge();
        state.crowded |= state.waits;
        state.waiting += 1;
        let mut state = match clock::until(limit) {
            None => self.news.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(left) => self.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
        };
        state.waiting -= 1;
        state
    }

    /// Lets go of the state: others hear the news, and if nobody drives any more, one of them takes over.
    fn leave(&self, mut state: MutexGuard<'_, State<R>>) {
        let curious = std::mem::take(&mut state.turn_awaited) || state.watchers > 0;
        state.news |= !state.is_driven() || curious;
        state.told |= curious;
        self.spread(&mut state);
        state.nudge();
    }

    /// Before the lock is let go of.
    fn spread(&self, state: &mut State<R>) {
        state.reclaim();
        if std::mem::take(&mut state.news) && state.waiting > 0 {
            self.news.notify_all();
        }
    }

    /// Takes the connection apart, once no thread is inside the stream. `None` if it is gone already.
    pub(crate) fn dismantle(&self) -> Option<(Stream, Parts)> {
        let mut state = self.look();
        state.advance();
        let shared = state.stream.take()?;
        // The thread that drives holds a second reference, and so does whoever looks at the stream.
        while state.driver.is_some() || Arc::strong_count(&shared) > 1 {
            state = self.follow(state, None);
        }
        let stream = Arc::into_inner(shared)?;
        let parts = state.dismantle();
        tell!(connection = self.id, "hijacked");
        state.news = true;
        let waits = state.waits;
        self.leave(state);
        if waits {
            let _ = stream.set_read_timeout(None);
        }
        // Fails on a dead socket only, which reads and writes will tell.
        let _ = stream.detach();
        Some((stream, parts))
    }
}

/// Whether a read that waits by itself ended without anything to take in.
fn is_no_news(result: &io::Result<usize>) -> bool {
    let nothing = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
    };
    result.as_ref().is_err_and(nothing)
}

impl<R: Part> State<R> {
    /// Whether somebody waits for the stream already.
    fn is_driven(&self) -> bool {
        self.driver.is_some() || self.place.is_some()
    }

    /// Wakes who waits for the stream, if there is more to wait for now, or less time, or if what he waits for may be there.
    fn nudge(&mut self) {
        let told = std::mem::take(&mut self.told);
        if !self.is_driven() {
            return;
        }
        let (wanted, deadline, gone) = (self.wanted(), self.conn().poll_timeout(), self.stream.is_none());
        let earlier = |old: Option<Instant>| deadline.is_some_and(|new| old.is_none_or(|old| new < old));
        if let Some(Driver { waker, reads, wanted: before, deadline }) = &self.driver {
            let more = (wanted.read && !before.read) || (wanted.write && !before.write);
            if more || gone || told || earlier(*deadline) {
                if let Some(waker) = waker {
                    waker.wake();
                }
                self.crowded |= reads;
            }
        }
        // The system tells a poller of both directions, but not of requests that others have read.
        if let Some(Place { waker, deadline }) = &self.place
            && (gone || self.arrived.has_fresh() || earlier(*deadline))
        {
            waker.wake_by_ref();
        }
    }

    /// Whether whoever is about to wait so long at most, and for this, may do so inside of a read: a reply is due, and nobody else needs this
    /// connection's threads.
    fn may_wait_in_read(&self, wanted: Directions, left: Option<Duration>) -> bool {
        self.waits
            && !self.crowded
            && self.waiting + self.watchers == 0
            && wanted == (Directions { read: true, write: false })
            && left.is_none_or(|left| left >= 4 * TICK)
            && !self.conn().is_idle()
    }
}
