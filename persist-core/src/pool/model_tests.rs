//! The pool beside a naive model of it: random histories, every action checked, everything counted again after each step.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::{Action, ConnId, Counts, Loss, Pool, PoolConfig, PoolError, Use, WaiterId, Want};
use crate::backoff::{Backoff, BackoffConfig};
use crate::close::CloseReason;
use crate::keep_alive::KeepAlive;
use crate::route::PoolKey;
use crate::time::Instant;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// One thing that happens. Numbers pick among what is there at the time.
#[derive(Clone, Debug)]
enum Step {
    Acquire {
        key: u8,
        fresh: bool,
        deadline: Option<u16>,
    },
    Take(u8),
    Cancel(u8),
    Dialed {
        nth: u8,
        streams: u32,
    },
    DialFailed(u8),
    Response {
        nth: u8,
        timeout: Option<u8>,
        max: Option<u8>,
    },
    Release {
        nth: u8,
        how: Use,
    },
    Closed {
        nth: u8,
        how: Loss,
    },
    Retire(u8),
    SetStreams {
        nth: u8,
        streams: u32,
    },
    CheckOut(u8),
    /// Time passes; whether the pool is told at once, or only by whatever happens next.
    Advance {
        by: u16,
        told: bool,
    },
    /// Everything that could be said about a connection that is gone.
    Ghost(u8),
    CloseAll,
}

struct Histories;

impl ReferenceStateMachine for Histories {
    type State = PoolConfig;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<PoolConfig> {
        let counts = (1u32..6, 1u32..4, 0u32..6, 0u32..4, 1u32..12);
        let ages = (prop::option::of(1u64..3000), prop::option::of(1u64..4000), prop::option::of(1u64..5), 0u64..2000);
        (counts, ages)
            .prop_map(|((total, per, idle, idle_per, waiting), (idle_timeout, age, requests_max, margin))| {
                let per = per.min(total);
                let idle = idle.min(total);
                PoolConfig {
                    total_max: total,
                    per_destination_max: per,
                    idle_max: idle,
                    idle_per_destination_max: idle_per.min(per).min(idle),
                    waiting_max: waiting,
                    idle_timeout: idle_timeout.map(MS),
                    age_max: age.map(MS),
                    requests_max,
                    keep_alive_margin: MS(margin),
                    backoff: BackoffConfig { first: MS(100), max: MS(800), jitter_percent: 0 },
                }
            })
            .boxed()
    }

    fn transitions(_: &PoolConfig) -> BoxedStrategy<Step> {
        let how = prop_oneof![4 => Just(Use::Completed), 1 => Just(Use::Probed), 1 => Just(Use::Unused)];
        let loss = prop_oneof![Just(Loss::Expected), Just(Loss::Broken)];
        prop_oneof![
            120 => (0u8..4, prop::bool::weighted(0.2), prop::option::of(0u16..3000))
                .prop_map(|(key, fresh, deadline)| Step::Acquire { key, fresh, deadline }),
            60 => (0u8..4).prop_map(Step::Take),
            20 => any::<u8>().prop_map(Step::Cancel),
            100 => (any::<u8>(), 1u32..4).prop_map(|(nth, streams)| Step::Dialed { nth, streams: streams.saturating_sub(1).max(1) }),
            30 => any::<u8>().prop_map(Step::DialFailed),
            30 => (any::<u8>(), prop::option::of(0u8..4), prop::option::of(0u8..4))
                .prop_map(|(nth, timeout, max)| Step::Response { nth, timeout, max }),
            120 => (any::<u8>(), how).prop_map(|(nth, how)| Step::Release { nth, how }),
            30 => (any::<u8>(), loss).prop_map(|(nth, how)| Step::Closed { nth, how }),
            10 => any::<u8>().prop_map(Step::Retire),
            10 => (any::<u8>(), 0u32..4).prop_map(|(nth, streams)| Step::SetStreams { nth, streams }),
            10 => any::<u8>().prop_map(Step::CheckOut),
            60 => (0u16..1500, prop::bool::weighted(0.8)).prop_map(|(by, told)| Step::Advance { by, told }),
            10 => any::<u8>().prop_map(Step::Ghost),
            1 => Just(Step::CloseAll),
        ]
        .boxed()
    }

    fn apply(config: PoolConfig, _: &Step) -> PoolConfig {
        config
    }
}

#[derive(Clone, Debug)]
struct MConn {
    key: PoolKey,
    open: bool,
    in_use: u32,
    streams: u32,
    handed: u64,
    proven: bool,
    created: Instant,
    idle_since: Instant,
    quiet_since: Instant,
    used_at_step: u64,
    announced: Option<Duration>,
    left: Option<u64>,
    retired: bool,
}

#[derive(Clone, Debug)]
struct MWaiter {
    id: WaiterId,
    key: PoolKey,
    want: Want,
    deadline: Option<Instant>,
}

#[derive(Clone, Debug, Default)]
struct MDestination {
    backoff: Backoff,
    failed_at: Instant,
    streams: Option<u32>,
}

/// The pool, and all that a list of everything can say about it.
struct Pair {
    pool: Pool,
    config: PoolConfig,
    now: Instant,
    step: u64,
    conns: BTreeMap<ConnId, MConn>,
    waiters: Vec<MWaiter>,
    destinations: BTreeMap<PoolKey, MDestination>,
    gone: Vec<ConnId>,
    closed: bool,
    /// How many waiters the dial that just failed would have served.
    share: u32,
}

impl MConn {
    fn expiry(&self, config: &PoolConfig) -> Instant {
        let never = Instant::from_duration(Duration::MAX);
        let idle = config.idle_timeout.map_or(never, |timeout| self.idle_since + timeout);
        let announced =
            self.announced.map_or(never, |timeout| self.quiet_since + timeout.saturating_sub(config.keep_alive_margin));
        let age = config.age_max.map_or(never, |age| self.created + age);
        idle.min(announced).min(age)
    }

    /// Whether it may be given one more exchange.
    fn is_usable(&self, config: &PoolConfig, now: Instant) -> bool {
        let young = config.age_max.is_none_or(|age| now < self.created + age);
        let few = config.requests_max.is_none_or(|max| self.handed < max) && self.left != Some(0);
        let alive = self.in_use > 0 || now < self.expiry(config);
        self.open && !self.retired && self.in_use < self.streams && young && few && alive
    }

    fn is_idle(&self) -> bool {
        self.open && self.in_use == 0 && self.streams > 0
    }
}

impl Pair {
    fn nth(&self, nth: u8, which: impl Fn(&MConn) -> bool) -> Option<ConnId> {
        let found: Vec<_> = self.conns.iter().filter(|(_, conn)| which(conn)).map(|(&id, _)| id).collect();
        (!found.is_empty()).then(|| found[usize::from(nth) % found.len()])
    }

    fn of<'a>(&'a self, key: &'a PoolKey) -> impl Iterator<Item = &'a MConn> {
        self.conns.values().filter(move |conn| conn.key == *key)
    }

    fn counts(&self, which: impl Fn(&PoolKey) -> bool) -> Counts {
        let conns: Vec<_> = self.conns.values().filter(|conn| which(&conn.key)).collect();
        Counts {
            dialing: conns.iter().filter(|conn| !conn.open).count() as u32,
            open: conns.iter().filter(|conn| conn.open).count() as u32,
            idle: conns.iter().filter(|conn| conn.is_idle()).count() as u32,
            exchanges: conns.iter().map(|conn| u64::from(conn.in_use)).sum(),
            waiting: self.waiters.iter().filter(|waiter| which(&waiter.key)).count() as u32,
        }
    }

    /// Where a destination that could dial stands among the others: those without connections first, then by who waits longest.
    fn rank(&self, key: &PoolKey) -> Option<(bool, usize)> {
        let here = self.counts(|other| other == key);
        let entry = self.destinations.get(key).cloned().unwrap_or_default();
        let wants = entry.backoff.failures() == 0
            && here.open + here.dialing < self.config.per_destination_max
            && here.dialing < here.waiting.div_ceil(entry.streams.unwrap_or(1));
        let turn = self.waiters.iter().position(|waiter| waiter.key == *key)?;
        wants.then_some((here.open + here.dialing > 0, turn))
    }

    fn fail(&mut self, key: &PoolKey, began: Instant) {
        let (now, config) = (self.now, self.config.backoff);
        let entry = self.destinations.entry(key.clone()).or_default();
        if entry.backoff.failures() == 0 || began >= entry.failed_at {
            entry.failed_at = now;
            entry.backoff.handle_failure(&config, now, 0);
        }
    }

    fn prove(&mut self, id: ConnId) {
        let conn = self.conns.get_mut(&id).expect("picked");
        if !core::mem::replace(&mut conn.proven, true) {
            self.destinations.entry(conn.key.clone()).or_default().backoff.handle_success();
        }
    }

    fn lose(&mut self, id: ConnId, how: Loss) {
        let conn = self.conns.remove(&id).expect("picked");
        if !conn.open || (how == Loss::Broken && !conn.proven && conn.handed > 0) {
            self.fail(&conn.key, conn.created);
        }
        if !conn.open {
            self.share = self.destinations[&conn.key].streams.unwrap_or(1);
        }
        self.gone.push(id);
    }

    fn perform(&mut self, step: Step) {
        let now = self.now;
        self.share = 0;
        match step {
            Step::Acquire { key, fresh, deadline } => {
                let key = PoolKey::new(["a", "b", "c", "d"][usize::from(key)]);
                let want = if fresh { Want::Fresh } else { Want::Any };
                let deadline = deadline.map(|wait| now + MS(wait.into()));
                match self.pool.acquire(&key, want, deadline, now) {
                    Ok(id) => {
                        assert!(!self.closed && self.waiters.len() < self.config.waiting_max as usize);
                        self.waiters.push(MWaiter { id, key, want, deadline });
                    }
                    Err(PoolError::Closed) => assert!(self.closed),
                    Err(error) => {
                        let waiting = self.config.waiting_max;
                        assert_eq!(error, PoolError::QueueFull { waiting });
                        assert_eq!(self.waiters.len(), waiting as usize);
                    }
                }
            }
            Step::Take(key) => {
                let key = PoolKey::new(["a", "b", "c", "d"][usize::from(key)]);
                let room = self.of(&key).any(|conn| conn.is_usable(&self.config, now));
                let waits = self.waiters.iter().any(|waiter| waiter.key == key);
                let taken = self.pool.take(&key, now);
                assert_eq!(
                    taken.is_some(),
                    room && !waits && !self.closed,
                    "whatever has room, unless others come first"
                );
                if let Some((conn, reused)) = taken {
                    self.handed(&key, Want::Any, conn, reused);
                }
            }
            Step::Cancel(nth) if !self.waiters.is_empty() => {
                let waiter = self.waiters.remove(usize::from(nth) % self.waiters.len());
                assert!(self.pool.cancel(waiter.id, now));
                assert!(!self.pool.cancel(waiter.id, now), "a waiter is cancelled once");
            }
            Step::Dialed { nth, streams } => {
                let Some(id) = self.nth(nth, |conn| !conn.open) else { return };
                let conn = self.conns.get_mut(&id).expect("picked");
                (conn.open, conn.streams, conn.used_at_step) = (true, streams, self.step);
                (conn.created, conn.idle_since, conn.quiet_since) = (now, now, now);
                self.destinations.entry(conn.key.clone()).or_default().streams = Some(streams);
                self.pool.handle_dialed(id, streams, now);
            }
            Step::DialFailed(nth) => {
                let Some(id) = self.nth(nth, |conn| !conn.open) else { return };
                self.lose(id, Loss::Broken);
                self.pool.handle_dial_failed(id, now, 0);
            }
            Step::Response { nth, timeout, max } => {
                let Some(id) = self.nth(nth, |conn| conn.in_use > 0) else { return };
                self.prove(id);
                let conn = self.conns.get_mut(&id).expect("picked");
                let timeout = timeout.map(|seconds| Duration::from_secs(seconds.into()));
                let max = max.map(u64::from);
                conn.quiet_since = now;
                (conn.announced, conn.left) = (timeout.or(conn.announced), max.or(conn.left));
                self.pool.handle_response(id, Some(KeepAlive { timeout, max }), now);
            }
            Step::Release { nth, how } => {
                let Some(id) = self.nth(nth, |conn| conn.in_use > 0) else { return };
                if how != Use::Unused {
                    self.prove(id);
                }
                let conn = self.conns.get_mut(&id).expect("picked");
                conn.in_use -= 1;
                match how {
                    Use::Completed => {
                        (conn.idle_since, conn.quiet_since, conn.used_at_step) = (now, now, self.step);
                    }
                    Use::Probed => conn.quiet_since = now,
                    Use::Unused => {
                        conn.handed -= 1;
                        conn.left = conn.left.map(|left| left + 1);
                    }
                }
                self.pool.release(id, how, now);
            }
            Step::Closed { nth, how } => {
                let Some(id) = self.nth(nth, |_| true) else { return };
                self.lose(id, how);
                self.pool.handle_closed(id, how, now, 0);
            }
            Step::Retire(nth) => {
                let Some(id) = self.nth(nth, |conn| conn.open) else { return };
                self.conns.get_mut(&id).expect("picked").retired = true;
                self.pool.retire(id, CloseReason::PeerSaidClose, now);
            }
            Step::SetStreams { nth, streams } => {
                let Some(id) = self.nth(nth, |conn| conn.open) else { return };
                self.conns.get_mut(&id).expect("picked").streams = streams;
                self.pool.set_streams(id, streams, now);
            }
            Step::CheckOut(nth) => {
                let Some(id) = self.nth(nth, MConn::is_idle) else { return };
                let conn = self.conns.get_mut(&id).expect("picked");
                (conn.in_use, conn.handed) = (1, conn.handed + 1);
                conn.left = conn.left.map(|left| left.saturating_sub(1));
                assert!(self.pool.check_out(id, now));
                assert!(!self.pool.check_out(id, now), "nobody else gets it");
            }
            Step::Advance { by, told } => {
                self.now = now + MS(by.into());
                if !told {
                    return;
                }
                let (now, forget) = (self.now, self.config.backoff.max);
                for entry in self.destinations.values_mut() {
                    if entry.backoff.ready_at().is_some_and(|ready| now >= ready + forget) {
                        entry.backoff.handle_success();
                    }
                }
                self.pool.handle_timeout(now);
            }
            Step::Ghost(nth) if !self.gone.is_empty() => {
                let id = self.gone[usize::from(nth) % self.gone.len()];
                let before = self.pool.counts();
                self.pool.release(id, Use::Completed, now);
                self.pool.handle_dialed(id, 1, now);
                self.pool.handle_dial_failed(id, now, 0);
                self.pool.handle_response(id, None, now);
                self.pool.retire(id, CloseReason::Aborted, now);
                self.pool.set_streams(id, 9, now);
                self.pool.handle_closed(id, Loss::Broken, now, 0);
                assert!(!self.pool.check_out(id, now));
                assert_eq!((self.pool.counts(), self.pool.poll_action()), (before, None));
            }
            Step::CloseAll => {
                self.closed = true;
                self.conns.values_mut().for_each(|conn| conn.retired |= conn.open);
                self.pool.close(now);
            }
            Step::Cancel(_) | Step::Ghost(_) => {}
        }
    }

    /// Whether the action may be done now; and what it changes.
    fn check(&mut self, action: Action) {
        let (config, now) = (self.config, self.now);
        match action {
            Action::Dial { conn, key } => {
                assert!(!self.closed, "a closed pool dials");
                assert!(self.conns.len() < config.total_max as usize, "more than total_max");
                assert!(self.of(&key).count() < config.per_destination_max as usize, "more than per_destination_max");
                let counts = self.counts(|other| *other == key);
                assert!(counts.dialing < counts.waiting, "more dials than waiters");
                let backoff = self.destinations.entry(key.clone()).or_default().backoff;
                assert!(backoff.is_ready(now), "dialled before its backoff was over");
                let probing = backoff.failures() > 0;
                assert!(!(probing && self.of(&key).any(|conn| !conn.proven)), "more than one probe");
                let turn = self.waiters.iter().position(|waiter| waiter.key == key).expect("counted above");
                let own = (self.of(&key).count() > 0, turn);
                for other in ["a", "b", "c", "d"].map(PoolKey::new).iter().filter(|other| **other != key) {
                    assert!(self.rank(other).is_none_or(|rank| own < rank), "{other} has less, or waits longer");
                }
                let new = MConn {
                    key,
                    open: false,
                    in_use: 0,
                    streams: 0,
                    handed: 0,
                    proven: false,
                    created: now,
                    idle_since: now,
                    quiet_since: now,
                    used_at_step: 0,
                    announced: None,
                    left: None,
                    retired: false,
                };
                assert!(self.conns.insert(conn, new).is_none() && !self.gone.contains(&conn), "a number used twice");
            }
            Action::Hand { waiter, conn, reused } => {
                let at = self.waiters.iter().position(|entry| entry.id == waiter).expect("a waiter that waits");
                let waiter = self.waiters.remove(at);
                let earlier = |other: &MWaiter| other.key == waiter.key && other.want == waiter.want;
                assert!(!self.waiters[..at].iter().any(earlier), "handed past somebody who waited longer");
                self.handed(&waiter.key, waiter.want, conn, reused);
            }
            Action::Close { conn, reason } => {
                let entry = &self.conns[&conn];
                assert!(entry.open && entry.in_use == 0, "closed in use: {entry:?}");
                let here = self.counts(|other| *other == entry.key);
                let all = self.counts(|_| true);
                let fits = match reason {
                    CloseReason::Idle => now >= entry.expiry(&config),
                    CloseReason::MaxAge => config.age_max.is_some_and(|age| now >= entry.created + age),
                    CloseReason::MaxRequests => {
                        config.requests_max.is_some_and(|max| entry.handed >= max) || entry.left == Some(0)
                    }
                    CloseReason::OurClose => {
                        let room = all.open + all.dialing < config.total_max
                            && here.open + here.dialing < config.per_destination_max;
                        let spare = here.idle > config.idle_per_destination_max || all.idle > config.idle_max;
                        self.closed || !room || spare
                    }
                    _ => entry.retired,
                };
                assert!(fits, "closed for no reason: {reason:?}, {entry:?}");
                self.conns.remove(&conn);
                self.gone.push(conn);
            }
            Action::Fail { waiter, error } => {
                let at = self.waiters.iter().position(|entry| entry.id == waiter).expect("a waiter that waits");
                let waiter = self.waiters.remove(at);
                match error {
                    PoolError::Deadline { .. } => assert!(waiter.deadline.is_some_and(|deadline| deadline <= now)),
                    PoolError::DialFailed { .. } => {
                        let left = self.of(&waiter.key).count() > 0;
                        assert!(!left || self.share > 0, "failed though something is left");
                        self.share = self.share.saturating_sub(1);
                        let here = |other: &MWaiter| other.key == waiter.key;
                        assert!(!self.waiters[..at].iter().any(here), "failed before somebody who waited longer");
                    }
                    PoolError::Closed => assert!(self.closed),
                    PoolError::QueueFull { .. } => panic!("said by acquire alone"),
                }
            }
        }
    }

    /// A connection was given to somebody: the right one, and what that changes.
    fn handed(&mut self, key: &PoolKey, want: Want, conn: ConnId, reused: bool) {
        let (config, now) = (self.config, self.now);
        let entry = &self.conns[&conn];
        assert!(entry.key == *key && entry.is_usable(&config, now), "{entry:?} is of no use at {now:?}");
        assert_eq!(reused, entry.handed > 0);
        assert!(want == Want::Any || entry.handed == 0, "not fresh");
        if entry.is_idle() && entry.handed > 0 {
            let newer = |other: &MConn| other.is_idle() && other.handed > 0 && other.used_at_step > entry.used_at_step;
            assert!(!self.of(key).any(newer), "not the newest");
        }
        let entry = self.conns.get_mut(&conn).expect("looked up above");
        (entry.in_use, entry.handed) = (entry.in_use + 1, entry.handed + 1);
        entry.left = entry.left.map(|left| left.saturating_sub(1));
    }

    /// What must hold whenever all actions are done.
    fn check_rest(&mut self) {
        let (config, now) = (self.config, self.now);
        let (pool, conns, waiters) = (&self.pool, &self.conns, &self.waiters);
        self.destinations.retain(|key, entry| {
            let held = conns.values().any(|conn| conn.key == *key) || waiters.iter().any(|waiter| waiter.key == *key);
            held || entry.backoff.failures() > 0
        });
        assert_eq!(pool.destinations(), {
            let mut keys: Vec<_> = self.destinations.keys().collect();
            keys.extend(conns.values().map(|conn| &conn.key).chain(waiters.iter().map(|waiter| &waiter.key)));
            keys.sort_unstable();
            keys.dedup();
            keys.len()
        });
        let all = self.counts(|_| true);
        assert_eq!(pool.counts(), all);
        assert!(all.open + all.dialing <= config.total_max);
        for key in ["a", "b", "c", "d"].map(PoolKey::new) {
            let here = self.counts(|other| *other == key);
            assert_eq!(pool.counts_of(&key), here);
            assert!(here.open + here.dialing <= config.per_destination_max);
            assert!(here.idle <= config.idle_per_destination_max);
            let waits = |want| self.waiters.iter().any(|waiter| waiter.key == key && waiter.want == want);
            let usable = |conn: &MConn| conn.is_usable(&config, now);
            let fresh = self.of(&key).any(|conn| usable(conn) && conn.handed == 0);
            assert!(!(waits(Want::Fresh) && fresh), "somebody waits beside a fresh connection");
            // Whoever wants any may leave a connection to somebody who waits longer for a fresh one; never without reason.
            let idle = self.of(&key).any(usable);
            assert!(!(waits(Want::Any) && idle), "somebody waits beside a connection that could serve");
            let entry = self.destinations.get(&key).cloned().unwrap_or_default();
            let probing = entry.backoff.failures() > 0;
            let may_dial = pool.poll_timeout().is_none_or(|at| at > now)
                && entry.backoff.is_ready(now)
                && !(probing && self.of(&key).any(|conn| !conn.proven))
                && here.open + here.dialing < config.per_destination_max
                && (all.open + all.dialing < config.total_max || all.idle > 0);
            let enough = here.dialing >= here.waiting.div_ceil(entry.streams.unwrap_or(1));
            assert!(self.closed || !may_dial || enough, "somebody waits, and nobody dials: {here:?} {all:?}");
            if here.waiting > 0 && probing && !entry.backoff.is_ready(now) {
                assert!(pool.poll_timeout() <= entry.backoff.ready_at(), "the backoff's end is not waited for");
            }
        }
        let deadlines = self.waiters.iter().filter_map(|waiter| waiter.deadline);
        let limited = config.idle_timeout.or(config.age_max).is_some();
        let expiries = self.conns.values().filter(|conn| conn.is_idle() && limited).map(|conn| conn.expiry(&config));
        for due in deadlines.chain(expiries) {
            assert!(pool.poll_timeout().is_some_and(|at| at <= due), "a deadline is not waited for");
        }
        assert!(all.idle <= config.idle_max);
    }
}

struct PoolTest;

impl StateMachineTest for PoolTest {
    type SystemUnderTest = Pair;
    type Reference = Histories;

    fn init_test(config: &PoolConfig) -> Pair {
        Pair {
            pool: Pool::new(*config).expect("made without contradictions"),
            config: *config,
            now: Instant::default(),
            step: 0,
            conns: BTreeMap::new(),
            waiters: Vec::new(),
            destinations: BTreeMap::new(),
            gone: Vec::new(),
            closed: false,
            share: 0,
        }
    }

    fn apply(mut pair: Pair, _: &PoolConfig, step: Step) -> Pair {
        pair.step += 1;
        let advanced = matches!(step, Step::Advance { told: true, .. });
        pair.perform(step);
        while let Some(action) = pair.pool.poll_action() {
            pair.check(action);
        }
        if advanced {
            let now = pair.now;
            assert!(pair.waiters.iter().all(|waiter| waiter.deadline.is_none_or(|at| at > now)), "past its deadline");
            let overdue = |conn: &MConn| conn.is_idle() && conn.expiry(&pair.config) <= now;
            assert!(!pair.conns.values().any(overdue), "idle past its end");
        }
        pair.check_rest();
        pair
    }

    /// Whatever happened: when everything has ended, nothing is left.
    fn teardown(mut pair: Pair, _: PoolConfig) {
        pair.perform(Step::CloseAll);
        loop {
            while let Some(action) = pair.pool.poll_action() {
                pair.check(action);
            }
            let Some(id) = pair.nth(0, |_| true) else { break };
            let step = if !pair.conns[&id].open {
                Step::Dialed { nth: 0, streams: 1 }
            } else if pair.conns[&id].in_use > 0 {
                Step::Release { nth: 0, how: Use::Completed }
            } else {
                Step::Closed { nth: 0, how: Loss::Expected }
            };
            pair.perform(step);
        }
        assert!(pair.waiters.is_empty() && pair.pool.counts() == Counts::default());
        pair.perform(Step::Advance { by: u16::MAX, told: true });
        assert_eq!((pair.pool.destinations(), pair.pool.poll_timeout()), (0, None));
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 1024, ..crate::property_tests::config() })]

    #[test]
    fn the_pool_does_what_the_model_allows_and_forgets_nobody(sequential 1..80 => PoolTest);
}
