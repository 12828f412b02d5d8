//! What a pooled client knows of its connections and of those who wait for them, under one lock: what the core's pool decides becomes what is to be done
//! once the lock is released.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;

use persist_core::pool::{Action, ByNumber, ConnId, Loss, Pool, PoolError, WaiterId};
use persist_core::{ClientStats, Instant, Phase, PoolKey, Route, Upkeep};

use super::account::Book;
use super::random;
use crate::client_conn::ClientConn;
use crate::error::{Error, Result};
use crate::stream::Stream;

pub(super) struct State {
    pub(super) pool: Pool,
    pub(super) upkeep: Upkeep,
    pub(super) book: Book,
    pub(super) conns: HashMap<ConnId, Open, ByNumber>,
    pub(super) waiting: HashMap<WaiterId, Waiting>,
    /// How to dial under each key that somebody waits for, and how many do.
    pub(super) routes: HashMap<PoolKey, (Arc<Route>, usize)>,
    /// The upkeep that runs, if one does, and when it wakes by itself.
    pub(super) keeper: Option<u64>,
    pub(super) keepers: u64,
    pub(super) wakes_at: Option<Instant>,
    /// Counts, and what the connections that are gone had carried.
    pub(super) stats: ClientStats,
}

pub(super) struct Open {
    pub(super) conn: Arc<ClientConn<Stream>>,
    pub(super) route: Arc<Route>,
}

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) waker: Option<Waker>,
    pub(super) outcome: Option<Result<Handed>>,
}

/// A connection that is a waiter's, and whether many are under way.
pub(super) type Handed = (ConnId, Arc<ClientConn<Stream>>, bool);

/// So many exchanges under way are many: their requests leave in bursts (`gather.rs`).
pub(super) const MANY: u64 = 4;

/// Somebody who asks for a connection just now, and may have it at once.
pub(super) struct Asking<'a> {
    pub(super) waiter: WaiterId,
    pub(super) route: &'a Arc<Route>,
    pub(super) outcome: Option<Result<Handed>>,
}

/// What is to be done once the lock is released.
#[derive(Default)]
pub(super) struct Todo {
    pub(super) dials: Vec<(ConnId, Arc<Route>)>,
    pub(super) wakers: Vec<Waker>,
    pub(super) closed: Vec<Open>,
    /// The upkeep must know: wake it, or start it.
    pub(super) upkeep: Option<Call>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Wake,
    Start,
}

impl State {
    pub(super) fn new(pool: Pool, upkeep: Upkeep, book: Book) -> Self {
        Self {
            pool,
            upkeep,
            book,
            conns: HashMap::default(),
            waiting: HashMap::new(),
            routes: HashMap::new(),
            keeper: None,
            keepers: 0,
            wakes_at: None,
            stats: ClientStats::default(),
        }
    }

    /// A connection that is at hand, for one exchange.
    pub(super) fn take(&mut self, key: &PoolKey, now: Instant) -> Option<Handed> {
        while let Some((id, _)) = self.pool.take(key, now) {
            match self.conns.get(&id) {
                Some(open) => return Some(self.hand(id, open)),
                None => self.pool.handle_closed(id, Loss::Expected, now, random()),
            }
        }
        None
    }

    fn hand(&self, id: ConnId, open: &Open) -> Handed {
        (id, open.conn.clone(), self.pool.counts().exchanges >= MANY)
    }

    /// Everything that the pool has decided.
    pub(super) fn carry_out(&mut self, todo: &mut Todo, failed: Option<&Error>, mut asking: Option<&mut Asking<'_>>) {
        while let Some(action) = self.pool.poll_action() {
            match action {
                Action::Dial { conn, key } => {
                    let asked = asking.as_ref().filter(|asking| asking.route.pool_key == key);
                    let route =
                        asked.map(|asking| asking.route).or_else(|| self.routes.get(&key).map(|(route, _)| route));
                    todo.dials.extend(route.map(|route| (conn, route.clone())));
                }
                Action::Hand { waiter, conn, .. } => {
                    if let Some(open) = self.conns.get(&conn) {
                        let handed = self.hand(conn, open);
                        self.answer(waiter, Ok(handed), todo, asking.as_deref_mut());
                    }
                }
                Action::Close { conn, .. } => todo.closed.extend(self.conns.remove(&conn)),
                Action::Fail { waiter, error } => {
                    let outcome = match (&error, failed) {
                        (PoolError::DialFailed { .. }, Some(cause)) => Err(cause.clone()),
                        (PoolError::DialFailed { .. }, None) => Err(Error::new(Phase::Connect, error)),
                        _ => Err(Error::new(Phase::Wait, error)),
                    };
                    self.answer(waiter, outcome, todo, asking.as_deref_mut());
                }
                _ => {}
            }
        }
        let due = self.due();
        todo.upkeep = match (self.keeper, due) {
            (_, None) => None,
            (None, Some(_)) => Some(Call::Start),
            (Some(_), Some(due)) => self.wakes_at.is_none_or(|at| due < at).then_some(Call::Wake),
        };
        if todo.upkeep == Some(Call::Wake) {
            self.wakes_at = due; // it is on its way
        }
    }

    fn answer(&mut self, waiter: WaiterId, outcome: Result<Handed>, todo: &mut Todo, asking: Option<&mut Asking<'_>>) {
        if let Some(asking) = asking.filter(|asking| asking.waiter == waiter) {
            asking.outcome = Some(outcome);
        } else if let Some(waiting) = self.waiting.get_mut(&waiter) {
            waiting.outcome = Some(outcome);
            todo.wakers.extend(waiting.waker.take());
        }
    }

    /// Whether nothing is to be carried out, and the upkeep wakes soon enough: as after most requests.
    pub(super) fn is_at_rest(&self) -> bool {
        let is_known = |due| self.keeper.is_some() && self.wakes_at.is_some_and(|at| at <= due);
        !self.pool.has_action() && self.due().is_none_or(is_known)
    }

    /// When time alone changes something.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pool.poll_timeout().into_iter().chain(self.upkeep.poll_timeout(&self.pool)).min()
    }
}
