//! What follows from a change: who is handed what, who dials, who makes room, and what is closed.

use super::action::{Action, ConnId, PoolError, WaiterId, Want};
use super::arena::Id;
use super::entry::{Conn, Destination, Hunger, Listed, State, Waiter};
use super::index::Timer;
use super::{Placing, Pool};
use crate::close::CloseReason;
use crate::time::Instant;

impl Pool {
    /// Whether nobody waits, here or for room: then nothing follows from a change here.
    pub(super) fn is_calm(&self, destination: Id) -> bool {
        self.index.hungriest().is_none() && self.destinations.get(destination).is_some_and(Destination::is_calm)
    }

    /// Brings one destination, and through it the pool, to rest: nothing is idle that a waiter could use, nothing is not dialled that could be.
    pub(super) fn settle(&mut self, destination: Id, now: Instant) {
        self.hand_out(destination, now);
        self.reindex(destination, now);
        self.dial_for_the_hungry(now);
    }

    /// Gives connections to waiters while both are there.
    fn hand_out(&mut self, destination: Id, now: Instant) {
        while self.destinations.get(destination).is_some_and(|entry| entry.waiting > 0) {
            let any = self.index.first_waiter(destination, Want::Any);
            let fresh = self.index.first_waiter(destination, Want::Fresh);
            let fresh_conn = fresh.and_then(|_| self.find(destination, Want::Fresh, now));
            match (fresh, fresh_conn) {
                (Some((turn, waiter)), Some(conn)) if any.is_none_or(|(other, _)| turn < other) => {
                    self.hand(waiter, conn, now);
                    continue;
                }
                _ => {}
            }
            let Some((turn, waiter)) = any else {
                match (fresh, fresh_conn) {
                    (Some((_, waiter)), Some(conn)) => self.hand(waiter, conn, now),
                    _ => return,
                }
                continue;
            };
            let Some(conn) = self.find(destination, Want::Any, now) else { return };
            // Whoever waits longer for a fresh connection, where no room is left to dial it, takes the place of this one.
            if fresh.is_some_and(|(other, _)| other < turn) && self.must_make_room(destination, conn, now) {
                self.drop_conn(conn, Some(CloseReason::OurClose), now);
            } else {
                self.hand(waiter, conn, now);
            }
        }
    }

    /// The connection to be used next, if any. Closes those that have outlived their use, on the way.
    pub(super) fn find(&mut self, destination: Id, want: Want, now: Instant) -> Option<Id> {
        while let Some(conn) = self.destinations.get(destination)?.ready.newest_idle(want) {
            let entry = self.conns.get(conn)?;
            // Its timer is never set for later than that.
            if entry.timer.is_some_and(|timer| now < timer) {
                return Some(conn);
            }
            match entry.expiry(&self.config).filter(|(at, _)| *at <= now) {
                None => return Some(conn),
                Some((_, expiry)) => self.drop_conn(conn, Some(expiry.into()), now),
            }
        }
        if want != Want::Any {
            return None;
        }
        while let Some((_, conn)) = self.destinations.get(destination)?.ready.shared.last() {
            match self.conns.get(conn)?.spent(&self.config, now) {
                None => return Some(conn),
                Some(_) => self.place(conn, Placing::AsBefore, now),
            }
        }
        None
    }

    /// Whether only closing this idle connection would let a fresh one be dialled.
    fn must_make_room(&self, destination: Id, conn: Id, now: Instant) -> bool {
        let idle = self.conns.get(conn).is_some_and(|entry| entry.listed == Listed::Idle);
        let full = self.conns.len() as u64 >= u64::from(self.config.total_max);
        self.destinations.get(destination).is_some_and(|entry| {
            let full_here = entry.connections() >= self.config.per_destination_max;
            idle && entry.dialing == 0 && (full || full_here) && entry.wants_dial(&self.config, now)
        })
    }

    fn hand(&mut self, waiter: Id, conn: Id, now: Instant) {
        if self.dequeue(waiter).is_none() {
            return;
        }
        let reused = self.begin_exchange(conn, now);
        self.actions.push_back(Action::Hand { waiter: WaiterId(waiter), conn: ConnId(conn), reused });
    }

    /// Whether the connection carried another exchange before.
    pub(super) fn begin_exchange(&mut self, conn: Id, now: Instant) -> bool {
        let Some(entry) = self.conns.get_mut(conn) else { return false };
        let Some(destination) = self.destinations.get_mut(entry.destination) else { return false };
        self.index.unlist(destination, conn, entry);
        let reused = entry.handed > 0;
        entry.in_use += 1;
        entry.handed += 1;
        entry.announced_left = entry.announced_left.map(|left| left.saturating_sub(1));
        destination.exchanges += 1;
        self.exchanges += 1;
        if entry.in_use < entry.streams {
            self.place(conn, Placing::AsBefore, now);
        }
        reused
    }

    /// Takes a waiter off the queue.
    pub(super) fn dequeue(&mut self, id: Id) -> Option<Waiter> {
        let waiter = self.waiters.remove(id)?;
        self.index.dequeue(waiter.destination, waiter.want, waiter.turn, id);
        self.index.set_timer(waiter.deadline, None, Timer::Waiter(id));
        if let Some(entry) = self.destinations.get_mut(waiter.destination) {
            entry.waiting -= 1;
            entry.waiting_fresh -= u32::from(waiter.want == Want::Fresh);
        }
        Some(waiter)
    }

    pub(super) fn fail(&mut self, id: Id, error: PoolError, now: Instant) {
        let Some(waiter) = self.dequeue(id) else { return };
        self.actions.push_back(Action::Fail { waiter: WaiterId(id), error });
        self.reindex(waiter.destination, now);
    }
}

/// Connections come and go.
impl Pool {
    /// Lists a connection where it can be found, or closes it when it is of no more use.
    pub(super) fn place(&mut self, id: Id, placing: Placing, now: Instant) {
        let turn = (placing == Placing::AsNewest).then(|| self.next_turn());
        let Some(entry) = self.conns.get_mut(id).filter(|entry| entry.state == State::Open) else { return };
        let Some(destination) = self.destinations.get_mut(entry.destination) else { return };
        self.index.unlist(destination, id, entry);
        if let Some(turn) = turn {
            entry.idle_turn = turn;
            entry.ordered = false;
        }
        let turn = entry.idle_turn;
        if entry.in_use > 0 {
            if entry.in_use < entry.streams && entry.spent(&self.config, now).is_none() {
                entry.listed = Listed::Shared;
                destination.ready.shared.insert((turn, id));
            }
            return;
        }
        // Its end only moves away, unless the peer announces one: what is timed for later need not be looked at again.
        let is_timed = entry.announced_timeout.is_none() && entry.timer.is_some_and(|timer| now < timer);
        let expiry = if is_timed { None } else { entry.expiry(&self.config) };
        let expired = expiry.filter(|(at, _)| *at <= now).map(|(_, expiry)| expiry.into());
        if let Some(reason) = entry.spent(&self.config, now).or(expired) {
            self.drop_conn(id, Some(reason), now);
            return;
        }
        if entry.streams == 0 {
            return;
        }
        entry.listed = Listed::Idle;
        destination.ready.idle.insert((entry.handed > 0, turn, id));
        if let Some((at, _)) = expiry
            && entry.timer.is_none_or(|timer| timer > at)
        {
            self.index.set_timer(entry.timer.replace(at), Some(at), Timer::Conn(id));
        }
        self.index.add_idle(&mut self.conns, id);
    }

    /// Forgets a connection; with a reason, the caller must close it.
    pub(super) fn drop_conn(&mut self, id: Id, reason: Option<CloseReason>, now: Instant) {
        let Some(mut gone) = self.conns.remove(id) else { return };
        self.index.set_timer(gone.timer, None, Timer::Conn(id));
        self.exchanges -= u64::from(gone.in_use);
        if let Some(entry) = self.destinations.get_mut(gone.destination) {
            self.index.unlist(entry, id, &mut gone);
            entry.exchanges -= u64::from(gone.in_use);
            match gone.state {
                State::Dialing => entry.dialing -= 1,
                State::Open => {
                    entry.open -= 1;
                    entry.unproven -= u32::from(!gone.proven);
                }
            }
        }
        self.dialing -= u32::from(gone.state == State::Dialing);
        if let Some(reason) = reason {
            self.actions.push_back(Action::Close { conn: ConnId(id), reason });
        }
        self.reindex(gone.destination, now);
    }

    /// Closes the least recently used of what is idle beyond the limits.
    #[inline]
    pub(super) fn enforce_idle_limits(&mut self, destination: Id, now: Instant) {
        let here = self.destinations.get(destination).map_or(0, Destination::idle);
        if here > self.config.idle_per_destination_max || self.index.idle_len() > self.config.idle_max as usize {
            self.close_superfluous(destination, now);
        }
    }

    #[cold]
    fn close_superfluous(&mut self, destination: Id, now: Instant) {
        let most = self.config.idle_per_destination_max;
        while let Some(entry) = self.destinations.get(destination).filter(|entry| entry.idle() > most) {
            let Some(oldest) = entry.ready.oldest_idle() else { break };
            self.drop_conn(oldest, Some(CloseReason::OurClose), now);
        }
        while self.index.idle_len() > self.config.idle_max as usize {
            let Some(oldest) = self.index.oldest_idle(&mut self.conns) else { break };
            self.drop_conn(oldest, Some(CloseReason::OurClose), now);
        }
    }
}

/// Dialling, and room for it.
impl Pool {
    /// Notes whether a destination wants to dial, sets its timer, and forgets it when nothing is left of it.
    pub(super) fn reindex(&mut self, id: Id, now: Instant) {
        let Some(entry) = self.destinations.get_mut(id) else { return };
        if entry.is_calm() {
            return;
        }
        let wants_dial = !self.closed && entry.wants_dial(&self.config, now);
        let turn = if wants_dial { self.index.first_turn(id) } else { None };
        let hunger = turn.map(|turn| Hunger { has_some: entry.connections() > 0, turn });
        self.index.set_hunger(core::mem::replace(&mut entry.hunger, hunger), hunger, id);
        // The end of the backoff; and, once that is past, the time when old failures mean nothing any more.
        let timer =
            entry.backoff.ready_at().map(|ready| if now < ready { ready } else { ready + self.config.backoff.max });
        self.index.set_timer(core::mem::replace(&mut entry.timer, timer), timer, Timer::Destination(id));
        if entry.is_forgettable() {
            let key = entry.key.clone();
            self.keys.remove(&key);
            self.destinations.remove(id);
        }
    }

    /// Dials while somebody wants to and there is room, or room can be made by closing what is idle.
    pub(super) fn dial_for_the_hungry(&mut self, now: Instant) {
        while let Some((_, destination)) = self.index.hungriest() {
            let Some(entry) = self.destinations.get(destination) else { return };
            let full_here = entry.connections() >= self.config.per_destination_max;
            let full = self.conns.len() as u64 >= u64::from(self.config.total_max);
            if full_here || full {
                let idle = if full_here { entry.ready.oldest_idle() } else { self.index.oldest_idle(&mut self.conns) };
                let Some(idle) = idle else { return };
                self.drop_conn(idle, Some(CloseReason::OurClose), now);
                continue;
            }
            let key = entry.key.clone();
            let conn = ConnId(self.conns.insert(Conn::dialing(destination, now)));
            self.dialing += 1;
            if let Some(entry) = self.destinations.get_mut(destination) {
                entry.dialing += 1;
            }
            self.actions.push_back(Action::Dial { conn, key });
            self.reindex(destination, now);
        }
    }

    /// When all room is taken, an idle connection whose own destination has waiters may still have to make room for another
    /// destination's, who wait longer and have less: none at all, or at least two connections fewer (so that room is never passed to and fro).
    pub(super) fn yield_to_the_starved(&mut self, conn: Id, now: Instant) {
        let Some(entry) = self.conns.get(conn).filter(|entry| entry.listed == Listed::Idle) else { return };
        let destination = entry.destination;
        let full = self.conns.len() as u64 >= u64::from(self.config.total_max);
        let Some((hunger, other)) = self.index.hungriest() else { return };
        let Some(own_turn) = self.index.first_turn(destination) else { return };
        let connections = |id| self.destinations.get(id).map_or(0, |entry| entry.connections());
        let has_less = !hunger.has_some || connections(other) + 2 <= connections(destination);
        if full && other != destination && hunger.turn < own_turn && has_less {
            self.drop_conn(conn, Some(CloseReason::OurClose), now);
        }
    }

    pub(super) fn fail_dial(&mut self, conn: ConnId, now: Instant, random: u64) {
        let Some(entry) = self.conns.get(conn.0) else { return };
        let (destination, began) = (entry.destination, entry.created);
        // Counted first: with a failure to remember, the destination is not forgotten with its last connection.
        self.count_failure(destination, began, now, random);
        self.drop_conn(conn.0, None, now);
        // Those that this dial would have served; or, if nothing is left that could serve them, everybody.
        let share = self.destinations.get(destination).map_or(0, |entry| match entry.connections() {
            0 => entry.waiting,
            _ => entry.streams,
        });
        for _ in 0..share {
            let first = |want| self.index.first_waiter(destination, want);
            let Some((_, waiter)) = [first(Want::Fresh), first(Want::Any)].into_iter().flatten().min() else { break };
            self.fail(waiter, PoolError::DialFailed { conn }, now);
        }
        self.settle(destination, now);
    }

    /// Dials that were under way together and fail together are one failure, not many.
    pub(super) fn count_failure(&mut self, destination: Id, began: Instant, now: Instant, random: u64) {
        let backoff = self.config.backoff;
        let Some(entry) = self.destinations.get_mut(destination) else { return };
        if entry.backoff.failures() == 0 || began >= entry.failed_at {
            entry.failed_at = now;
            entry.backoff.handle_failure(&backoff, now, random);
        }
    }
}

/// Deadlines. Whatever they make possible is dialled once all that are due were seen.
impl Pool {
    pub(super) fn expire_waiter(&mut self, id: Id, now: Instant) {
        let Some(waiter) = self.waiters.get_mut(id) else { return };
        // The timer has been taken from the index already.
        waiter.deadline = None;
        let waited = now - waiter.since;
        let failures = self.destinations.get(waiter.destination).map_or(0, |entry| entry.backoff.failures());
        self.fail(id, PoolError::Deadline { waited, failures }, now);
    }

    pub(super) fn expire_conn(&mut self, id: Id, now: Instant) {
        let Some(entry) = self.conns.get_mut(id) else { return };
        entry.timer = None;
        // Placing it again closes it, since its time is over.
        self.place(id, Placing::AsBefore, now);
    }

    pub(super) fn expire_backoff(&mut self, id: Id, now: Instant) {
        let forget_after = self.config.backoff.max;
        let Some(entry) = self.destinations.get_mut(id) else { return };
        entry.timer = None;
        if entry.backoff.ready_at().is_some_and(|ready| now >= ready + forget_after) {
            entry.backoff.handle_success();
        }
        self.reindex(id, now);
    }
}
