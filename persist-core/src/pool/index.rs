//! The orders in which a pool finds things: each one an ordered set, so that every look-up and change is logarithmic.

use alloc::collections::BTreeSet;
use core::ops::RangeInclusive;

use super::action::Want;
use super::arena::Id;
use super::entry::Hunger;
use crate::time::Instant;

/// What a deadline belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A waiter's deadline.
    Waiter(Id),
    /// An idle connection's end.
    Conn(Id),
    /// The end of a destination's backoff, and then of its being remembered.
    Destination(Id),
}

#[derive(Debug, Default)]
pub(super) struct Index {
    /// Idle connections by destination, those that were used before after those that were not, then by turn.
    idle: BTreeSet<(Id, bool, u64, Id)>,
    idle_by_turn: BTreeSet<(u64, Id)>,
    /// Connections that carry exchanges and could carry more.
    shared: BTreeSet<(Id, u64, Id)>,
    queue: BTreeSet<(Id, Want, u64, Id)>,
    hungry: BTreeSet<(Hunger, Id)>,
    timers: BTreeSet<(Instant, Timer)>,
}

/// Idle connections.
impl Index {
    pub(super) fn add_idle(&mut self, destination: Id, used: bool, turn: u64, conn: Id) {
        self.idle.insert((destination, used, turn, conn));
        self.idle_by_turn.insert((turn, conn));
    }

    pub(super) fn remove_idle(&mut self, destination: Id, used: bool, turn: u64, conn: Id) {
        self.idle.remove(&(destination, used, turn, conn));
        self.idle_by_turn.remove(&(turn, conn));
    }

    /// The one to be reused: used before rather than not (it is proven), and of these the newest.
    pub(super) fn newest_idle(&self, destination: Id, want: Want) -> Option<Id> {
        let last_used = want == Want::Any;
        let range = (destination, false, 0, Id::MIN)..=(destination, last_used, u64::MAX, Id::MAX);
        self.idle.range(range).next_back().map(|&(.., conn)| conn)
    }

    /// The one to be closed when there are too many here.
    pub(super) fn oldest_idle_of(&self, destination: Id) -> Option<Id> {
        let first = |used| {
            let range = (destination, used, 0, Id::MIN)..=(destination, used, u64::MAX, Id::MAX);
            self.idle.range(range).next().map(|&(_, _, turn, conn)| (turn, conn))
        };
        [first(false), first(true)].into_iter().flatten().min().map(|(_, conn)| conn)
    }

    /// The one to be closed when there are too many in all.
    pub(super) fn oldest_idle(&self) -> Option<Id> {
        self.idle_by_turn.first().map(|&(_, conn)| conn)
    }

    pub(super) fn idle_len(&self) -> usize {
        self.idle_by_turn.len()
    }

    pub(super) fn idle_oldest_first(&self) -> impl Iterator<Item = Id> {
        self.idle_by_turn.iter().map(|&(_, conn)| conn)
    }
}

/// Connections that are shared, and waiters.
impl Index {
    pub(super) fn add_shared(&mut self, destination: Id, turn: u64, conn: Id) {
        self.shared.insert((destination, turn, conn));
    }

    pub(super) fn remove_shared(&mut self, destination: Id, turn: u64, conn: Id) {
        self.shared.remove(&(destination, turn, conn));
    }

    pub(super) fn newest_shared(&self, destination: Id) -> Option<Id> {
        let range = (destination, 0, Id::MIN)..=(destination, u64::MAX, Id::MAX);
        self.shared.range(range).next_back().map(|&(.., conn)| conn)
    }

    pub(super) fn enqueue(&mut self, destination: Id, want: Want, turn: u64, waiter: Id) {
        self.queue.insert((destination, want, turn, waiter));
    }

    pub(super) fn dequeue(&mut self, destination: Id, want: Want, turn: u64, waiter: Id) {
        self.queue.remove(&(destination, want, turn, waiter));
    }

    /// Who has waited longest for this, and since which turn.
    pub(super) fn first_waiter(&self, destination: Id, want: Want) -> Option<(u64, Id)> {
        let range: RangeInclusive<_> = (destination, want, 0, Id::MIN)..=(destination, want, u64::MAX, Id::MAX);
        self.queue.range(range).next().map(|&(_, _, turn, waiter)| (turn, waiter))
    }

    /// The turn of whoever has waited longest, whatever they want.
    pub(super) fn first_turn(&self, destination: Id) -> Option<u64> {
        let [any, fresh] = [Want::Any, Want::Fresh].map(|want| self.first_waiter(destination, want));
        [any, fresh].into_iter().flatten().min().map(|(turn, _)| turn)
    }
}

/// Destinations that want to dial, and deadlines.
impl Index {
    pub(super) fn set_hunger(&mut self, before: Option<Hunger>, after: Option<Hunger>, destination: Id) {
        if before == after {
            return;
        }
        if let Some(hunger) = before {
            self.hungry.remove(&(hunger, destination));
        }
        if let Some(hunger) = after {
            self.hungry.insert((hunger, destination));
        }
    }

    pub(super) fn hungriest(&self) -> Option<(Hunger, Id)> {
        self.hungry.first().copied()
    }

    pub(super) fn set_timer(&mut self, before: Option<Instant>, after: Option<Instant>, timer: Timer) {
        if before == after {
            return;
        }
        if let Some(at) = before {
            self.timers.remove(&(at, timer));
        }
        if let Some(at) = after {
            self.timers.insert((at, timer));
        }
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let &due = self.timers.first().filter(|(at, _)| *at <= now)?;
        self.timers.remove(&due);
        Some(due.1)
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }
}
