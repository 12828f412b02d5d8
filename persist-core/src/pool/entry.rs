//! What a pool knows of one connection, one destination, one waiter.

use core::time::Duration;

use super::action::Want;
use super::arena::Id;
use super::config::PoolConfig;
use super::index::Ready;
use crate::backoff::Backoff;
use crate::close::CloseReason;
use crate::keep_alive::KeepAlive;
use crate::route::PoolKey;
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) destination: Id,
    pub(super) state: State,
    /// Exchanges under way.
    pub(super) in_use: u32,
    /// Exchanges that may be under way at once: 1 for HTTP/1.1 without pipelining, the stream limit for HTTP/2.
    pub(super) streams: u32,
    /// Exchanges ever begun.
    pub(super) handed: u64,
    /// Whether the peer ever answered on it.
    pub(super) proven: bool,
    /// When it was dialled (while dialling: when that began).
    pub(super) created: Instant,
    /// When a user's exchange last ended.
    pub(super) idle_since: Instant,
    /// Its age among the idle: by this, the oldest goes first and the newest is reused first.
    pub(super) idle_turn: u64,
    /// When anything was last sent or received, as far as the pool knows.
    pub(super) quiet_since: Instant,
    /// What the peer announced: how long it keeps an idle connection, and how many more requests it takes.
    pub(super) announced_timeout: Option<Duration>,
    pub(super) announced_left: Option<u64>,
    /// Takes no further exchange, and why.
    pub(super) retiring: Option<CloseReason>,
    /// Which row lists it.
    pub(super) listed: Listed,
    /// Whether the order of the idle has a place for it by its turn, be it idle or not.
    pub(super) ordered: bool,
    /// When it is looked at: while it is idle, not after its time is over. Mostly before, since that moves away with each exchange, and this does not.
    pub(super) timer: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Dialing,
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    Nowhere,
    /// Carries no exchange, and can.
    Idle,
    /// Carries some, and can carry more.
    Shared,
}

/// Why an idle connection may not be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    Idle,
    Age,
}

#[derive(Debug)]
pub(super) struct Destination {
    pub(super) key: PoolKey,
    pub(super) dialing: u32,
    pub(super) open: u32,
    pub(super) ready: Ready,
    /// Open connections that were never answered on.
    pub(super) unproven: u32,
    pub(super) exchanges: u64,
    pub(super) waiting: u32,
    pub(super) waiting_fresh: u32,
    /// How many exchanges the last connection could carry: so many waiters one dial serves.
    pub(super) streams: u32,
    pub(super) backoff: Backoff,
    pub(super) failed_at: Instant,
    /// Where it stands among those that want to dial.
    pub(super) hunger: Option<Hunger>,
    pub(super) timer: Option<Instant>,
}

/// A destination that wants to dial: those without any connection come first, then by the turn of whoever waits longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hunger {
    pub(super) has_some: bool,
    pub(super) turn: u64,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) destination: Id,
    pub(super) want: Want,
    pub(super) turn: u64,
    pub(super) since: Instant,
    pub(super) deadline: Option<Instant>,
}

impl Conn {
    pub(super) fn dialing(destination: Id, now: Instant) -> Self {
        Self {
            destination,
            state: State::Dialing,
            in_use: 0,
            streams: 0,
            handed: 0,
            proven: false,
            created: now,
            idle_since: now,
            idle_turn: 0,
            quiet_since: now,
            announced_timeout: None,
            announced_left: None,
            retiring: None,
            listed: Listed::Nowhere,
            ordered: false,
            timer: None,
        }
    }

    /// The peer has answered, and announced something or nothing; what it does not name stays as it was.
    pub(super) fn heard(&mut self, announced: Option<KeepAlive>, now: Instant) {
        self.quiet_since = now;
        if let Some(announced) = announced {
            self.announced_timeout = announced.timeout.or(self.announced_timeout);
            self.announced_left = announced.max.or(self.announced_left);
        }
    }

    /// Why it takes no further exchange, if so.
    pub(super) fn spent(&self, config: &PoolConfig, now: Instant) -> Option<CloseReason> {
        if let Some(reason) = &self.retiring {
            return Some(reason.clone());
        }
        let handed_out = config.requests_max.is_some_and(|max| self.handed >= max);
        if handed_out || self.announced_left == Some(0) {
            return Some(CloseReason::MaxRequests);
        }
        config.age_max.is_some_and(|max| now >= self.created + max).then_some(CloseReason::MaxAge)
    }

    /// When it may no longer be used if it stays idle, and why.
    pub(super) fn expiry(&self, config: &PoolConfig) -> Option<(Instant, Expiry)> {
        let idle = config.idle_timeout.map(|timeout| self.idle_since + timeout);
        let announced =
            self.announced_timeout.map(|timeout| self.quiet_since + timeout.saturating_sub(config.keep_alive_margin));
        let idle = [idle, announced].into_iter().flatten().min().map(|at| (at, Expiry::Idle));
        let age = config.age_max.map(|max| (self.created + max, Expiry::Age));
        [age, idle].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

impl From<Expiry> for CloseReason {
    fn from(expiry: Expiry) -> Self {
        match expiry {
            Expiry::Idle => Self::Idle,
            Expiry::Age => Self::MaxAge,
        }
    }
}

impl Destination {
    pub(super) fn new(key: PoolKey) -> Self {
        Self {
            key,
            dialing: 0,
            open: 0,
            ready: Ready::default(),
            unproven: 0,
            exchanges: 0,
            waiting: 0,
            waiting_fresh: 0,
            streams: 1,
            backoff: Backoff::default(),
            failed_at: Instant::default(),
            hunger: None,
            timer: None,
        }
    }

    pub(super) fn connections(&self) -> u32 {
        self.open + self.dialing
    }

    pub(super) fn idle(&self) -> u32 {
        self.ready.idle.len() as u32
    }

    /// Whether nobody waits here and nothing went wrong: then nothing is to be dialled, timed or forgotten.
    #[inline]
    pub(super) fn is_calm(&self) -> bool {
        self.waiting == 0
            && self.connections() > 0
            && self.hunger.is_none()
            && self.timer.is_none()
            && self.backoff.failures() == 0
    }

    /// Whether nothing is known of it that would be lost.
    pub(super) fn is_forgettable(&self) -> bool {
        self.connections() == 0 && self.waiting == 0 && self.backoff.failures() == 0
    }

    /// Whether another dial is wanted and permitted, room aside.
    pub(super) fn wants_dial(&self, config: &PoolConfig, now: Instant) -> bool {
        if self.waiting == 0 || !self.backoff.is_ready(now) {
            return false;
        }
        // One idle connection can make room for a fresh one.
        let room = self.connections() < config.per_destination_max || (self.waiting_fresh > 0 && self.idle() > 0);
        // After a failure, one connection at a time, until the peer has answered on it.
        let permitted = self.backoff.failures() == 0 || (self.dialing == 0 && self.unproven == 0);
        room && permitted && self.dialing < self.waiting.div_ceil(self.streams)
    }
}
