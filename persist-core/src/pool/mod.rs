//! The pool: who is reused, who is dialled, who waits, and who must go.
//!
//! It holds numbers, not sockets. Everything that happens is told to it, with the time; everything that must be done comes
//! out of [`poll_action`](Pool::poll_action). The contract, for every method that mutates: *mutate → drain `poll_action` → wait for
//! [`poll_timeout`](Pool::poll_timeout).* Each call costs O(log n) in connections, waiters and destinations,
//! but for what is rare: a connection that is put back unused is moved to its old place among the idle.
//!
//! The states of a connection, the limits and their reasons: docs/pool.md.

mod action;
mod arena;
mod config;
mod dispatch;
mod entry;
mod index;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, VecDeque};

pub use action::{Action, ByNumber, ConnId, Counts, IdleConn, Loss, PoolError, Use, WaiterId, Want};
pub use config::PoolConfig;

use arena::{Arena, Id};
use entry::{Conn, Destination, State, Waiter};
use index::{Index, Timer};

use crate::close::CloseReason;
use crate::contradiction::Contradiction;
use crate::keep_alive::KeepAlive;
use crate::route::PoolKey;
use crate::time::Instant;

/// A pool of connections, as numbers.
///
/// ```
/// use persist_core::{Action, Instant, Pool, PoolConfig, PoolKey, Use, Want};
///
/// let (key, now) = (PoolKey::new("http://example.com"), Instant::default());
/// let mut pool = Pool::new(PoolConfig::default())?;
/// let first = pool.acquire(&key, Want::Any, None, now)?;
/// let Some(Action::Dial { conn, .. }) = pool.poll_action() else { unreachable!() };
/// pool.handle_dialed(conn, 1, now);
/// assert_eq!(pool.poll_action(), Some(Action::Hand { waiter: first, conn, reused: false }));
/// pool.release(conn, Use::Completed, now);
/// let second = pool.acquire(&key, Want::Any, None, now)?;
/// assert_eq!(pool.poll_action(), Some(Action::Hand { waiter: second, conn, reused: true }));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pool {
    config: PoolConfig,
    keys: BTreeMap<PoolKey, Id>,
    /// The destination that was asked for last: mostly it is wanted again.
    last: Id,
    destinations: Arena<Destination>,
    conns: Arena<Conn>,
    waiters: Arena<Waiter>,
    index: Index,
    actions: VecDeque<Action>,
    turns: u64,
    dialing: u32,
    exchanges: u64,
    closed: bool,
}

/// In.
impl Pool {
    /// An empty pool.
    ///
    /// # Errors
    /// [`Contradiction`]: two settings that cannot both hold.
    pub fn new(config: PoolConfig) -> Result<Self, Contradiction> {
        config.check()?;
        Ok(Self {
            config,
            keys: BTreeMap::new(),
            last: Id::MAX,
            destinations: Arena::new(),
            conns: Arena::new(),
            waiters: Arena::new(),
            index: Index::default(),
            actions: VecDeque::new(),
            turns: 0,
            dialing: 0,
            exchanges: 0,
            closed: false,
        })
    }

    /// Asks for a connection. The answer is an [`Action::Hand`] or [`Action::Fail`] for this waiter, perhaps at once.
    ///
    /// Waiters are served in the order of their coming, among those who want the same.
    ///
    /// # Errors
    /// `QueueFull`, `Closed`; nothing was queued then.
    pub fn acquire(
        &mut self,
        key: &PoolKey,
        want: Want,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<WaiterId, PoolError> {
        if self.closed {
            return Err(PoolError::Closed);
        }
        let waiting = self.waiters.len() as u32;
        if waiting >= self.config.waiting_max {
            return Err(PoolError::QueueFull { waiting });
        }
        let destination = self.destination_of(key);
        let turn = self.next_turn();
        let id = self.waiters.insert(Waiter { destination, want, turn, since: now, deadline });
        self.index.enqueue(destination, want, turn, id);
        if let Some(deadline) = deadline {
            self.index.set_timer(None, Some(deadline), Timer::Waiter(id));
        }
        if let Some(entry) = self.destinations.get_mut(destination) {
            entry.waiting += 1;
            entry.waiting_fresh += u32::from(want == Want::Fresh);
        }
        self.settle(destination, now);
        Ok(WaiterId(id))
    }

    /// A connection for one exchange, at once, and whether it carried a request before: what [`acquire`](Self::acquire) would hand out for
    /// [`Want::Any`], without a waiter. `None` if none has room, or somebody waits for one: then `acquire` says what comes of it.
    ///
    /// ```
    /// # use persist_core::{Action, Instant, Pool, PoolConfig, PoolKey, Use, Want};
    /// # let (key, now) = (PoolKey::new("http://example.com"), Instant::default());
    /// # let mut pool = Pool::new(PoolConfig::default())?;
    /// assert_eq!(pool.take(&key, now), None);
    /// pool.acquire(&key, Want::Any, None, now)?;
    /// let Some(Action::Dial { conn, .. }) = pool.poll_action() else { unreachable!() };
    /// pool.handle_dialed(conn, 1, now);
    /// pool.poll_action(); // handed to whoever waited
    /// pool.release(conn, Use::Completed, now);
    /// assert_eq!(pool.take(&key, now), Some((conn, true)));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn take(&mut self, key: &PoolKey, now: Instant) -> Option<(ConnId, bool)> {
        if self.destinations.get(self.last).is_none_or(|entry| entry.key != *key) {
            self.last = *self.keys.get(key)?;
        }
        let destination = self.last;
        let entry = self.destinations.get(destination)?;
        if self.closed || entry.waiting > 0 {
            return None;
        }
        let before = self.conns.len();
        let found = self.find(destination, Want::Any, now);
        let taken = found.map(|conn| (ConnId(conn), self.begin_exchange(conn, now)));
        // Those that had outlived their use, and were closed on the way, have made room for others.
        if self.conns.len() < before && !self.is_calm(destination) {
            self.reindex(destination, now);
            self.dial_for_the_hungry(now);
        }
        taken
    }

    /// The waiter no longer waits. `false` if it was answered already: a connection it was handed must be released.
    pub fn cancel(&mut self, waiter: WaiterId, now: Instant) -> bool {
        let Some(gone) = self.dequeue(waiter.0) else { return false };
        self.settle(gone.destination, now);
        true
    }

    /// A dial succeeded. `streams` is how many exchanges the connection may carry at once, at least 1.
    pub fn handle_dialed(&mut self, conn: ConnId, streams: u32, now: Instant) {
        let Some(entry) = self.conns.get_mut(conn.0).filter(|entry| entry.state == State::Dialing) else { return };
        *entry = Conn { state: State::Open, streams: streams.max(1), ..Conn::dialing(entry.destination, now) };
        let destination = entry.destination;
        self.dialing -= 1;
        if let Some(entry) = self.destinations.get_mut(destination) {
            entry.dialing -= 1;
            entry.open += 1;
            entry.unproven += 1;
            entry.streams = streams.max(1);
        }
        if self.closed {
            self.drop_conn(conn.0, Some(CloseReason::OurClose), now);
            return;
        }
        self.place(conn.0, Placing::AsNewest, now);
        self.settle(destination, now);
        self.enforce_idle_limits(destination, now);
    }

    /// A dial failed. `random` is any number, for the jitter.
    ///
    /// Whoever waited longest gets [`PoolError::DialFailed`], as many as the dial would have served; all of them if nothing else is left that could
    /// serve them. Who comes later waits until the backoff is over.
    pub fn handle_dial_failed(&mut self, conn: ConnId, now: Instant, random: u64) {
        if self.conns.get(conn.0).is_some_and(|entry| entry.state == State::Dialing) {
            self.fail_dial(conn, now, random);
        }
    }

    /// A response's head came on this connection, with what its `Keep-Alive` field announced; what it does not name stays as it was. From here on the destination counts as working.
    pub fn handle_response(&mut self, conn: ConnId, announced: Option<KeepAlive>, now: Instant) {
        let Some(entry) = self.conns.get_mut(conn.0).filter(|entry| entry.in_use > 0) else { return };
        entry.heard(announced, now);
        let (destination, shared) = (entry.destination, entry.streams > 1);
        if shared {
            // It may take more now, or no more.
            self.place(conn.0, Placing::AsBefore, now);
        }
        if self.prove(conn.0) || shared {
            self.settle(destination, now);
        }
    }

    /// A whole response came on this connection: [`handle_response`](Self::handle_response), and [`release`](Self::release) as [`Use::Completed`].
    pub fn handle_whole_response(&mut self, conn: ConnId, announced: Option<KeepAlive>, now: Instant) {
        if let Some(entry) = self.conns.get_mut(conn.0).filter(|entry| entry.in_use > 0) {
            entry.heard(announced, now);
            self.release(conn, Use::Completed, now);
        }
    }

    /// One exchange on this connection is over, and the connection can carry another. No-op if the connection is gone.
    pub fn release(&mut self, conn: ConnId, how: Use, now: Instant) {
        let Some(entry) = self.conns.get_mut(conn.0).filter(|entry| entry.in_use > 0) else { return };
        entry.in_use -= 1;
        let (destination, proves) = (entry.destination, how != Use::Unused && !entry.proven);
        match how {
            Use::Completed => (entry.idle_since, entry.quiet_since) = (now, now),
            Use::Probed => entry.quiet_since = now,
            Use::Unused => {
                entry.handed -= 1;
                entry.announced_left = entry.announced_left.map(|left| left.saturating_add(1));
            }
        }
        self.exchanges -= 1;
        if let Some(entry) = self.destinations.get_mut(destination) {
            entry.exchanges -= 1;
        }
        if proves {
            self.prove(conn.0);
        }
        let placing = if how == Use::Completed { Placing::AsNewest } else { Placing::AsBefore };
        self.place(conn.0, placing, now);
        if !self.is_calm(destination) {
            self.yield_to_the_starved(conn.0, now);
            self.settle(destination, now);
        }
        self.enforce_idle_limits(destination, now);
    }

    /// The connection takes no further exchange (the peer said `close`, or sent GOAWAY). It is closed when its exchanges have ended.
    pub fn retire(&mut self, conn: ConnId, reason: CloseReason, now: Instant) {
        let Some(entry) = self.conns.get_mut(conn.0).filter(|entry| entry.state == State::Open) else { return };
        entry.retiring.get_or_insert(reason);
        let destination = entry.destination;
        self.place(conn.0, Placing::AsBefore, now);
        self.settle(destination, now);
    }

    /// The connection is gone, with all its exchanges; or it is handed over for good (hijacked).
    pub fn handle_closed(&mut self, conn: ConnId, how: Loss, now: Instant, random: u64) {
        let Some(entry) = self.conns.get(conn.0) else { return };
        if entry.state == State::Dialing {
            self.fail_dial(conn, now, random);
            return;
        }
        let (destination, created) = (entry.destination, entry.created);
        let failed = how == Loss::Broken && !entry.proven && entry.handed > 0;
        // Counted first: with a failure to remember, the destination is not forgotten with its last connection.
        if failed {
            self.count_failure(destination, created, now, random);
        }
        self.drop_conn(conn.0, None, now);
        self.settle(destination, now);
    }

    /// How many exchanges the connection may carry at once has changed (SETTINGS, or a gate of pipelining). 0 takes it out of use for now.
    pub fn set_streams(&mut self, conn: ConnId, streams: u32, now: Instant) {
        let Some(entry) = self.conns.get_mut(conn.0).filter(|entry| entry.state == State::Open) else { return };
        entry.streams = streams;
        let destination = entry.destination;
        self.place(conn.0, Placing::AsBefore, now);
        self.settle(destination, now);
        self.enforce_idle_limits(destination, now);
    }

    /// Takes an idle connection out for a liveness check. Answer with `release` (`Probed`, `Unused`) or `handle_closed`. `false` if it is not idle now.
    pub fn check_out(&mut self, conn: ConnId, now: Instant) -> bool {
        let idle = self.conns.get(conn.0).filter(|entry| entry.listed == entry::Listed::Idle);
        let Some(destination) = idle.map(|entry| entry.destination) else { return false };
        self.begin_exchange(conn.0, now);
        self.reindex(destination, now);
        true
    }

    /// Time has passed; call when [`poll_timeout`](Self::poll_timeout) is due. Spurious calls are no-ops.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.index.pop_due(now) {
            match timer {
                Timer::Waiter(id) => self.expire_waiter(id, now),
                Timer::Conn(id) => self.expire_conn(id, now),
                Timer::Destination(id) => self.expire_backoff(id, now),
            }
        }
        // After all of them, so that of several destinations that may dial again the one goes first that waits longest.
        self.dial_for_the_hungry(now);
    }

    /// Closes the pool: idle connections now, busy ones and dials when they end. All who wait get [`PoolError::Closed`].
    pub fn close(&mut self, now: Instant) {
        self.closed = true;
        let waiters: alloc::vec::Vec<Id> = self.waiters.iter().map(|(id, _)| id).collect();
        for id in waiters {
            self.fail(id, PoolError::Closed, now);
        }
        let conns: alloc::vec::Vec<Id> = self.conns.iter().map(|(id, _)| id).collect();
        for id in conns {
            self.retire(ConnId(id), CloseReason::OurClose, now);
        }
    }
}

/// Out.
impl Pool {
    /// The next thing to be done. Call after every method that takes `&mut self`, until there is none.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether [`poll_action`](Self::poll_action) has something.
    pub fn has_action(&self) -> bool {
        !self.actions.is_empty()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.index.next_timer()
    }
}

/// State.
impl Pool {
    /// What it holds in all.
    pub fn counts(&self) -> Counts {
        Counts {
            dialing: self.dialing,
            open: self.conns.len() as u32 - self.dialing,
            idle: self.index.idle_len() as u32,
            exchanges: self.exchanges,
            waiting: self.waiters.len() as u32,
        }
    }

    /// What it holds for one destination.
    pub fn counts_of(&self, key: &PoolKey) -> Counts {
        let entry = self.keys.get(key).and_then(|&id| self.destinations.get(id));
        entry.map_or_else(Counts::default, |entry| Counts {
            dialing: entry.dialing,
            open: entry.open,
            idle: entry.idle(),
            exchanges: entry.exchanges,
            waiting: entry.waiting,
        })
    }

    /// How many destinations it remembers: those with connections, waiters, or a failure that is not forgotten yet.
    pub fn destinations(&self) -> usize {
        self.destinations.len()
    }

    /// The idle connections, least recently used first. For [upkeep](crate::upkeep).
    pub fn idle(&self) -> impl Iterator<Item = IdleConn> {
        let place = |(id, entry): (Id, &Conn)| IdleConn {
            conn: ConnId(id),
            since: entry.idle_since,
            quiet_since: entry.quiet_since,
        };
        self.index.idle_oldest_first(&self.conns).map(place)
    }

    /// The configuration.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }
}

/// Where a connection stands among the idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placing {
    /// It was just used.
    AsNewest,
    /// It was looked at, not used.
    AsBefore,
}

impl Pool {
    /// The peer answered on this connection. Whether that is new.
    fn prove(&mut self, conn: Id) -> bool {
        let Some(entry) = self.conns.get_mut(conn).filter(|entry| !entry.proven) else { return false };
        entry.proven = true;
        if let Some(entry) = self.destinations.get_mut(entry.destination) {
            entry.unproven -= 1;
            entry.backoff.handle_success();
        }
        true
    }

    fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    fn destination_of(&mut self, key: &PoolKey) -> Id {
        if let Some(&id) = self.keys.get(key) {
            return id;
        }
        let id = self.destinations.insert(Destination::new(key.clone()));
        self.keys.insert(key.clone(), id);
        id
    }
}
