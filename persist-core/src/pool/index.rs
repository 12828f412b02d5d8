//! The orders in which a pool finds things. What every exchange changes is kept in rows, where it stands at an end; the rest in ordered sets.

use alloc::collections::{BTreeSet, VecDeque};
use core::ops::RangeInclusive;

use super::action::Want;
use super::arena::{Arena, Id};
use super::entry::{Conn, Destination, Hunger, Listed};
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

/// Some in their order. Adding the last and taking the first or the last is cheap, anything else costs a search and a move of those behind.
#[derive(Debug)]
pub(super) struct Row<T>(VecDeque<T>);

impl<T> Default for Row<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Copy + Ord> Row<T> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn last(&self) -> Option<T> {
        self.0.back().copied()
    }

    /// The last of those below `bound`.
    fn last_below(&self, bound: T) -> Option<T> {
        let below = self.0.partition_point(|one| *one < bound);
        self.0.get(below.checked_sub(1)?).copied()
    }

    /// The first of those from `bound` on.
    fn first_from(&self, bound: T) -> Option<T> {
        self.0.get(self.0.partition_point(|one| *one < bound)).copied()
    }

    pub(super) fn insert(&mut self, one: T) {
        if self.0.back().is_none_or(|last| *last < one) {
            self.0.push_back(one);
        } else {
            let at = self.0.partition_point(|other| *other < one);
            self.0.insert(at, one);
        }
    }

    pub(super) fn remove(&mut self, one: T) {
        if self.0.back() == Some(&one) {
            self.0.pop_back();
        } else if self.0.front() == Some(&one) {
            self.0.pop_front();
        } else if let Ok(at) = self.0.binary_search(&one) {
            self.0.remove(at);
        }
    }
}

/// The connections of one destination that could carry another exchange.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Idle: those that were used before after those that were not, then by turn.
    pub(super) idle: Row<(bool, u64, Id)>,
    /// They carry exchanges and could carry more.
    pub(super) shared: Row<(u64, Id)>,
}

impl Ready {
    /// The one to be reused: used before rather than not (it is proven), and of these the newest.
    pub(super) fn newest_idle(&self, want: Want) -> Option<Id> {
        let newest = match want {
            Want::Any => self.idle.last(),
            Want::Fresh => self.idle.last_below((true, 0, Id::MIN)),
        };
        newest.map(|(.., conn)| conn)
    }

    /// The one to be closed when there are too many here.
    pub(super) fn oldest_idle(&self) -> Option<Id> {
        let first = |used| self.idle.first_from((used, 0, Id::MIN)).map(|(_, turn, conn)| (turn, conn));
        [first(false), first(true)].into_iter().flatten().min().map(|(_, conn)| conn)
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    /// Idle connections by turn, and some that were: whoever leaves the idle stays here until he is met at the front, or too many are like him.
    order: VecDeque<(u64, Id)>,
    idle: usize,
    queue: BTreeSet<(Id, Want, u64, Id)>,
    hungry: BTreeSet<(Hunger, Id)>,
    timers: BTreeSet<(Instant, Timer)>,
}

/// Those that are gone make up at most so many more than half of the order.
const GONE_SPARE: usize = 32;

/// Idle connections of all destinations.
impl Index {
    /// `id` has become idle.
    pub(super) fn add_idle(&mut self, conns: &mut Arena<Conn>, id: Id) {
        self.idle += 1;
        let Some(conn) = conns.get_mut(id) else { return };
        if core::mem::replace(&mut conn.ordered, true) {
            return; // it has its place still
        }
        let one = (conn.idle_turn, id);
        if self.order.back().is_none_or(|last| *last < one) {
            self.order.push_back(one);
        } else {
            self.order.insert(self.order.partition_point(|other| *other < one), one);
        }
        if self.order.len() > 2 * conns.len() + GONE_SPARE {
            self.order.retain(|&(turn, id)| conns.get(id).is_some_and(|conn| conn.idle_turn == turn));
        }
    }

    /// `id` stands in no row of its destination's any more.
    #[inline]
    pub(super) fn unlist(&mut self, destination: &mut Destination, id: Id, conn: &mut Conn) {
        match core::mem::replace(&mut conn.listed, Listed::Nowhere) {
            Listed::Nowhere => {}
            Listed::Shared => destination.ready.shared.remove((conn.idle_turn, id)),
            Listed::Idle => {
                destination.ready.idle.remove((conn.handed > 0, conn.idle_turn, id));
                self.idle -= 1;
            }
        }
    }

    /// The one to be closed when there are too many in all.
    pub(super) fn oldest_idle(&mut self, conns: &mut Arena<Conn>) -> Option<Id> {
        while let Some(&(turn, id)) = self.order.front() {
            if let Some(conn) = conns.get_mut(id).filter(|conn| conn.idle_turn == turn) {
                if conn.listed == Listed::Idle {
                    return Some(id);
                }
                conn.ordered = false;
            }
            self.order.pop_front();
        }
        None
    }

    pub(super) fn idle_len(&self) -> usize {
        self.idle
    }

    pub(super) fn idle_oldest_first<'a>(&'a self, conns: &'a Arena<Conn>) -> impl Iterator<Item = (Id, &'a Conn)> {
        self.order.iter().filter_map(move |&(turn, id)| {
            let conn = conns.get(id).filter(|conn| conn.idle_turn == turn && conn.listed == Listed::Idle)?;
            Some((id, conn))
        })
    }
}

/// Waiters.
impl Index {
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
