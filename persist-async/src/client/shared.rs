//! The pool of a client: the core decides, and this carries it out.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, PoisonError};
use std::task::Waker;

use persist_core::pool::{ConnId, Counts, Loss, Pool, Use, Want};
use persist_core::{
    Checking, ClientConfig, ClientStats, Config, Contradiction, Destination, Instant, Ledger, Pending, Phase, Request,
    Route, Upkeep, Way, Ways,
};

use super::account::{Account, Book};
use super::dialing::Dial;
#[cfg(feature = "tracing")]
use super::dialing::end_of;
use super::jobs::Work;
use super::lease::Lease;
use super::random;
use super::state::{Asking, Call, Open, State, Todo, Waiting};
use super::turn::{Asked, Turn};
use super::upkeep::{Bell, Held, Keeper, Runs, Wake};
use crate::client_conn::ClientConn;
use crate::clock;
use crate::dial::Connector;
use crate::error::{Error, Result};
use crate::round_trip::Standing;
use crate::stream::Stream;
use crate::sync::{self, Mutex, MutexGuard};
use crate::trace::tell;

/// What all clones of a client share.
pub(crate) struct Shared {
    pub(super) config: ClientConfig,
    pub(super) conn_config: Arc<Config>,
    pub(super) connector: Connector,
    state: Mutex<State>,
    pub(super) bell: Arc<Bell>,
}

impl Shared {
    pub(super) fn new(config: ClientConfig, connector: Connector) -> Result<Arc<Self>, Contradiction> {
        let pool = Pool::new(config.pool)?;
        // RFC 9112 §9.3.2: nobody knows, before its first reply, whether a peer can be pipelined to.
        let conn_config = Arc::new(config.conn.clone().replacement());
        let book = Book { ledger: Ledger::new(config.failures_max), ways: Ways::default(), requests: 0 };
        let state = State::new(pool, Upkeep::new(config.upkeep, clock::now())?, book);
        let (state, bell) = (Mutex::new(state), Arc::default());
        Ok(Arc::new(Self { config, conn_config, connector, state, bell }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request, if the way of its URL is known: that way, and a connection if one is at hand. With the way, the request is in the book.
    pub(super) fn begin(self: &Arc<Self>, url: &str) -> (Option<Arc<Way>>, Option<Lease>) {
        let now = clock::now();
        let mut state = self.state();
        let Some(way) = state.book.ways.find(url).cloned() else { return (None, None) };
        state.book.begin(way.destination());
        let taken = state.take(&way.route().pool_key, now);
        // Mostly nothing follows from it.
        if state.pool.has_action() {
            self.carry_out(state, None);
        } else {
            drop(state);
        }
        (Some(way), taken.map(|handed| Lease::new(self, handed, Some(now))))
    }

    /// The way that `url` takes to `destination`, as the router knows it.
    pub(super) fn find_way(&self, url: &str, destination: &Destination) -> Result<Arc<Way>> {
        let router = &*self.config.router;
        let route = router.route(destination).map_err(|error| Error::new(Phase::Route, error))?;
        let way = Arc::new(Way::new(destination.clone(), route));
        if router.routes_last() {
            self.state().book.ways.keep(url, way.clone());
        }
        Ok(way)
    }

    pub(super) fn counts(&self) -> Counts {
        self.state().pool.counts()
    }

    pub(super) fn stats(&self) -> ClientStats {
        let state = self.state();
        let mut stats = state.stats;
        stats.pool = state.pool.counts();
        stats.requests = state.book.requests;
        let open: Vec<_> = state.conns.values().map(|open| open.conn.clone()).collect();
        drop(state);
        for conn in open.iter().map(|conn| conn.stats()) {
            stats.oldest = stats.oldest.max(conn.age);
            stats.traffic += conn;
        }
        stats
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut ClientStats)) {
        count(&mut self.state().stats);
    }

    pub(super) fn pending_to(&self, destination: &Destination) -> Pending {
        self.state().book.ledger.take(destination, clock::now())
    }

    pub(super) fn failed(&self, destination: &Destination, request: &Request, error: &Error) {
        let now = clock::now();
        self.state().book.ledger.fail(destination, request, error, now);
    }

    /// Tells the pool something, and carries out what it decides.
    pub(super) fn tell<T>(self: &Arc<Self>, failed: Option<&Error>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        self.carry_out(state, failed);
        result
    }

    /// Carries out what the pool has decided, where nobody waits who could dial; and releases the lock.
    fn carry_out(self: &Arc<Self>, mut state: MutexGuard<'_, State>, failed: Option<&Error>) {
        if state.is_at_rest() {
            return;
        }
        let mut todo = Todo::default();
        state.carry_out(&mut todo, failed, None);
        drop(state);
        let dials = std::mem::take(&mut todo.dials);
        self.finish(todo);
        self.leave_to_upkeep(dials.into_iter().map(|(id, route)| Dial::begin(self, id, route)));
    }

    fn finish(self: &Arc<Self>, todo: Todo) {
        todo.wakers.into_iter().for_each(Waker::wake);
        for open in todo.closed {
            open.conn.close_idle();
            self.gone(Some(open));
        }
        match todo.upkeep {
            Some(Call::Wake) => self.bell.ring(),
            Some(Call::Start) => self.start_upkeep(),
            None => {}
        }
    }

    /// A look found that an idle connection cannot be used again.
    #[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "there is nothing to tell"))]
    pub(super) fn stale(&self, conn: &ClientConn<Stream>) {
        tell!(connection = conn.id(), "stale");
        self.count(|stats| stats.stale += 1);
    }

    /// A connection has left the pool: what it carried goes into the sum.
    fn gone(&self, open: Option<Open>) {
        if let Some(open) = open {
            let carried = open.conn.stats();
            self.count(|stats| stats.traffic += carried);
        }
    }

    fn leave_to_upkeep(self: &Arc<Self>, dials: impl Iterator<Item = Dial>) {
        let mut dials = dials.map(|dial| Box::pin(dial) as Work).peekable();
        if dials.peek().is_some() {
            self.bell.push(dials);
            self.start_upkeep();
        }
    }

    /// The upkeep is a task, unless it runs already, or somebody runs it himself. Outside of a runtime it waits for the next use.
    pub(super) fn start_upkeep(self: &Arc<Self>) {
        let Some(runtime) = sync::runtime() else { return };
        if let Some(keeper) = self.keeper(Runs::Spawned) {
            runtime.spawn(keeper.run());
        }
    }

    /// The right to run the upkeep: one at a time has it. The user's own takes it over.
    pub(super) fn keeper(self: &Arc<Self>, runs: Runs) -> Option<Keeper> {
        let mut state = self.state();
        if state.keeper.is_some() && runs == Runs::Spawned {
            return None;
        }
        state.keepers += 1;
        state.keeper = Some(state.keepers);
        let turn = state.keepers;
        drop(state);
        self.bell.ring();
        Some(Keeper::new(self, turn, runs))
    }

    pub(super) fn keeper_gone(self: &Arc<Self>, turn: u64) {
        self.state().keeper.take_if(|keeper| *keeper == turn);
    }

    pub(super) fn is_kept_by(&self, turn: u64) -> bool {
        self.state().keeper == Some(turn)
    }

    /// No idle connection is used again.
    pub(super) fn close_idle(self: &Arc<Self>) {
        let idle: Vec<_> = self.state().pool.idle().map(|idle| idle.conn).collect();
        for id in idle {
            let now = clock::now();
            if self.tell(None, |state| state.pool.check_out(id, now)) {
                self.lost(id, Loss::Expected);
            }
        }
    }

    /// Tells the pool the time.
    pub(super) fn pass_time(self: &Arc<Self>) {
        let now = clock::now();
        self.tell(None, |state| state.pool.handle_timeout(now));
    }

    /// The idle connections that are to be checked now; they are lent out.
    pub(super) fn checks(self: &Arc<Self>) -> Vec<Checking> {
        let now = clock::now();
        self.tell(None, |state| state.upkeep.handle_timeout(&mut state.pool, now))
    }

    pub(super) fn find(&self, id: ConnId) -> Option<(Arc<ClientConn<Stream>>, Arc<Route>)> {
        self.state().conns.get(&id).map(|open| (open.conn.clone(), open.route.clone()))
    }

    /// When the upkeep of this turn must wake. One that may end is forgotten in the same breath, so that whoever comes next starts another.
    pub(super) fn next_wake(&self, turn: u64, stays: bool) -> Wake {
        let mut state = self.state();
        if state.keeper != Some(turn) {
            return Wake::Never;
        }
        let mut due = state.due();
        if state.pool.counts().open > 0 {
            // While connections carry requests there is nothing to do, but mostly there will be soon: ending and beginning again with each
            // request, or being called each time, would cost more than waking in vain.
            let now = clock::now();
            let soon = state.wakes_at.filter(|at| *at > now).unwrap_or_else(|| now + self.config.upkeep.interval);
            due = Some(due.map_or(soon, |due| due.min(soon)));
        } else if due.is_none() && !stays && !self.bell.has_work() {
            state.keeper = None;
            return Wake::Never;
        }
        state.wakes_at = due;
        Wake::At(due.map(clock::at))
    }

    /// A connection for one exchange, in its turn.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        route: &Arc<Route>,
        want: Want,
        until: Option<tokio::time::Instant>,
    ) -> Result<Lease> {
        let now = clock::now();
        let patience = self.config.wait_timeout.map(|timeout| now + timeout);
        let until = until.map(clock::of);
        let deadline = patience.into_iter().chain(until).min();
        let handed = match self.ask(route, want, deadline, now)? {
            Asked::Answered(outcome) => outcome?,
            Asked::Waits(mut turn) => poll_fn(|cx| turn.poll(cx)).await?,
        };
        Ok(Lease::new(self, handed, None))
    }

    fn ask<'a>(
        self: &'a Arc<Self>,
        route: &'a Arc<Route>,
        want: Want,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<Asked<'a>> {
        let key = &route.pool_key;
        let mut state = self.state();
        // Mostly nobody waits, and something is idle.
        if want == Want::Any
            && let Some(handed) = state.take(key, now)
        {
            self.carry_out(state, None);
            return Ok(Asked::Answered(Ok(handed)));
        }
        let mut todo = Todo::default();
        let waiter = state.pool.acquire(key, want, deadline, now).map_err(|error| Error::new(Phase::Wait, error))?;
        let mut asking = Asking { waiter, route, outcome: None };
        state.carry_out(&mut todo, None, Some(&mut asking));
        let outcome = asking.outcome;
        if outcome.is_none() {
            state.routes.entry(key.clone()).or_insert_with(|| (route.clone(), 0)).1 += 1;
            state.waiting.insert(waiter, Waiting::default());
        }
        drop(state);
        let dials = std::mem::take(&mut todo.dials);
        let mut dials = dials.into_iter().map(|(id, route)| Dial::begin(self, id, route));
        let asked = match outcome {
            Some(outcome) => {
                self.leave_to_upkeep(dials);
                Asked::Answered(outcome)
            }
            // Whoever waits dials: in most programs that is all the dialling there is, and it needs no task.
            None => Asked::Waits(Turn { shared: self, waiter, key, dials: dials.by_ref().map(Box::pin).collect() }),
        };
        self.finish(todo);
        Ok(asked)
    }

    /// A reply's head came on this connection. If it is the `whole` of it, its account is settled; and the connection, if it is not over, is free again.
    pub(super) fn answered(self: &Arc<Self>, id: ConnId, standing: Standing, whole: Option<&mut Account<'_>>) {
        let Standing { announced, is_over, at: now } = standing;
        self.tell(None, |state| {
            let is_whole = whole.is_some();
            if let Some(account) = whole {
                account.settle(&mut state.book);
            }
            if is_whole && !is_over {
                state.pool.handle_whole_response(id, announced, now);
            } else {
                state.pool.handle_response(id, announced, now);
            }
        });
    }

    pub(super) fn released(self: &Arc<Self>, id: ConnId, how: Use) {
        let now = clock::now();
        self.tell(None, |state| state.pool.release(id, how, now));
    }

    pub(super) fn lost(self: &Arc<Self>, id: ConnId, how: Loss) {
        let now = clock::now();
        let gone = self.tell(None, |state| {
            state.pool.handle_closed(id, how, now, random());
            state.conns.remove(&id)
        });
        self.gone(gone);
    }

    /// Drains what an exchange left behind before the connection is lent again. False if nobody can.
    pub(super) fn drain(self: &Arc<Self>, id: ConnId, conn: &Arc<ClientConn<Stream>>) -> bool {
        if sync::runtime().is_none() && self.state().keeper.is_none() {
            return false;
        }
        self.bell.push([Box::pin(Held::new(self, id, conn.clone()).drain()) as Work]);
        self.start_upkeep();
        true
    }

    pub(super) fn dialed(self: &Arc<Self>, id: ConnId, route: &Arc<Route>, outcome: Result<ClientConn<Stream>>) {
        let now = clock::now();
        match outcome {
            Ok(conn) => {
                tell!(connection = conn.id(), to = %end_of(route), local = ?conn.local_addr(), peer = ?conn.peer_addr(), "dialled");
                let depth = self.conn_config.pipelining.depth;
                #[cfg(feature = "http2")]
                let depth = if conn.is_http2() { conn.available() as u32 } else { depth };
                let conn = Arc::new(conn);
                self.tell(None, |state| {
                    state.conns.insert(id, Open { conn, route: route.clone() });
                    state.pool.handle_dialed(id, depth, now);
                });
            }
            Err(error) => {
                tell!(to = %end_of(route), phase = ?error.phase(), "dial failed");
                self.tell(Some(&error), |state| {
                    state.stats.dials_failed += 1;
                    state.pool.handle_dial_failed(id, now, random());
                });
            }
        }
    }
}

/// Nobody has a client of it any more: idle connections end in an orderly way.
impl Drop for Shared {
    fn drop(&mut self) {
        self.bell.ring();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.conns.values().for_each(|open| open.conn.close_idle());
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
