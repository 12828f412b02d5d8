//! The pool of a client: the core decides, and this carries it out.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};

use persist_core::keep_alive::KeepAlive;
use persist_core::pool::{Action, ConnId, Counts, Loss, Pool, PoolError, Use, WaiterId, Want};
use persist_core::{
    Checking, ClientConfig, ClientStats, Config, Contradiction, Destination, Instant, Ledger, Pending, Phase, PoolKey,
    Route, Upkeep,
};

use super::jobs::Work;
use super::lease::Lease;
use super::random;
use super::upkeep::{Bell, Held, Keeper, Runs, Wake};
use crate::client_conn::ClientConn;
use crate::clock::Clock;
use crate::dial::Connector;
use crate::error::{Error, Result};
use crate::stream::Stream;
use crate::sync::{self, Mutex, MutexGuard};
use crate::trace::tell;

/// What all clones of a client share.
pub(crate) struct Shared {
    pub(super) config: ClientConfig,
    conn_config: Arc<Config>,
    connector: Connector,
    state: Mutex<State>,
    ledger: Mutex<Ledger>,
    pub(super) bell: Arc<Bell>,
    clock: Clock,
}

struct State {
    pool: Pool,
    upkeep: Upkeep,
    conns: BTreeMap<ConnId, Open>,
    waiting: HashMap<WaiterId, Waiting>,
    /// How to dial under each key that somebody waits for, and how many do.
    routes: HashMap<PoolKey, (Arc<Route>, usize)>,
    /// The upkeep that runs, if one does, and when it wakes by itself.
    keeper: Option<u64>,
    keepers: u64,
    wakes_at: Option<Instant>,
    /// Counts, and what the connections that are gone had carried.
    stats: ClientStats,
}

struct Open {
    conn: Arc<ClientConn<Stream>>,
    route: Arc<Route>,
}

#[derive(Default)]
struct Waiting {
    waker: Option<Waker>,
    outcome: Option<Result<Handed>>,
}

/// A connection that is a waiter's, and whether it was used before.
type Handed = (ConnId, Arc<ClientConn<Stream>>, bool);

/// Somebody who asks for a connection just now, and may have it at once.
struct Asking<'a> {
    waiter: WaiterId,
    route: &'a Arc<Route>,
    outcome: Option<Result<Handed>>,
}

/// What is to be done once the lock is released.
#[derive(Default)]
struct Todo {
    dials: Vec<(ConnId, Arc<Route>)>,
    wakers: Vec<Waker>,
    closed: Vec<Open>,
    /// The upkeep must know: wake it, or start it.
    upkeep: Option<Call>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Wake,
    Start,
}

impl Shared {
    pub(super) fn new(config: ClientConfig, connector: Connector) -> Result<Arc<Self>, Contradiction> {
        let pool = Pool::new(config.pool)?;
        // RFC 9112 §9.3.2: nobody knows, before its first reply, whether a peer can be pipelined to.
        let conn_config = Arc::new(config.conn.clone().replacement());
        let clock = Clock::start();
        let state = State {
            pool,
            upkeep: Upkeep::new(config.upkeep, clock.now())?,
            conns: BTreeMap::new(),
            waiting: HashMap::new(),
            routes: HashMap::new(),
            keeper: None,
            keepers: 0,
            wakes_at: None,
            stats: ClientStats::default(),
        };
        let ledger = Mutex::new(Ledger::new(config.failures_max));
        let (state, bell) = (Mutex::new(state), Arc::default());
        Ok(Arc::new(Self { config, conn_config, connector, state, ledger, bell, clock }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The book of requests. Its lock is a leaf.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn counts(&self) -> Counts {
        self.state().pool.counts()
    }

    pub(super) fn stats(&self) -> ClientStats {
        let state = self.state();
        let mut stats = state.stats;
        stats.pool = state.pool.counts();
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
        self.ledger().take(destination, self.clock.now())
    }

    /// Tells the pool something, and carries out what it decides.
    fn tell<T>(self: &Arc<Self>, failed: Option<&Error>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        let mut todo = Todo::default();
        state.carry_out(&mut todo, failed, None);
        drop(state);
        let dials = std::mem::take(&mut todo.dials);
        self.finish(todo);
        self.leave_to_upkeep(dials.into_iter().map(|(id, route)| Dial::begin(self, id, route)));
        result
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
            let now = self.clock.now();
            if self.tell(None, |state| state.pool.check_out(id, now)) {
                self.lost(id, Loss::Expected);
            }
        }
    }

    /// Tells the pool the time.
    pub(super) fn pass_time(self: &Arc<Self>) {
        let now = self.clock.now();
        self.tell(None, |state| state.pool.handle_timeout(now));
    }

    /// The idle connections that are to be checked now; they are lent out.
    pub(super) fn checks(self: &Arc<Self>) -> Vec<Checking> {
        let now = self.clock.now();
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
        let due = state.due();
        if due.is_none() && !stays && !self.bell.has_work() {
            state.keeper = None;
            return Wake::Never;
        }
        state.wakes_at = due;
        Wake::At(due.map(|due| self.clock.deadline(due)))
    }

    /// A connection for one exchange, in its turn.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        route: &Arc<Route>,
        want: Want,
        until: Option<tokio::time::Instant>,
    ) -> Result<Lease> {
        loop {
            let now = self.clock.now();
            let patience = self.config.wait_timeout.map(|timeout| now + timeout);
            let until = until.map(|until| self.clock.of(until));
            let deadline = patience.into_iter().chain(until).min();
            let (id, conn, reused) = match self.ask(route, want, deadline, now)? {
                Asked::Answered(outcome) => outcome?,
                Asked::Waits(mut turn) => poll_fn(|cx| turn.poll(cx)).await?,
            };
            let lease = Lease::new(self, id, conn);
            // Row 20 of the promise: one look at the socket before a connection is used again.
            if !reused || !lease.conn().is_idle() || lease.conn().is_reusable() {
                return Ok(lease);
            }
            self.stale(lease.conn());
            lease.end(Loss::Expected);
        }
    }

    fn ask<'a>(
        self: &'a Arc<Self>,
        route: &'a Arc<Route>,
        want: Want,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<Asked<'a>> {
        let key = &route.pool_key;
        let mut todo = Todo::default();
        let mut state = self.state();
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

    pub(super) fn answered(self: &Arc<Self>, lease: &Lease, announced: Option<KeepAlive>) {
        let now = self.clock.now();
        self.tell(None, |state| state.pool.handle_response(lease.id(), announced, now));
    }

    pub(super) fn released(self: &Arc<Self>, id: ConnId, how: Use) {
        let now = self.clock.now();
        self.tell(None, |state| state.pool.release(id, how, now));
    }

    pub(super) fn lost(self: &Arc<Self>, id: ConnId, how: Loss) {
        let now = self.clock.now();
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

    fn dialed(self: &Arc<Self>, id: ConnId, route: &Arc<Route>, outcome: Result<ClientConn<Stream>>) {
        let now = self.clock.now();
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

impl State {
    fn carry_out(&mut self, todo: &mut Todo, failed: Option<&Error>, mut asking: Option<&mut Asking<'_>>) {
        while let Some(action) = self.pool.poll_action() {
            match action {
                Action::Dial { conn, key } => {
                    let asked = asking.as_ref().filter(|asking| asking.route.pool_key == key);
                    let route =
                        asked.map(|asking| asking.route).or_else(|| self.routes.get(&key).map(|(route, _)| route));
                    todo.dials.extend(route.map(|route| (conn, route.clone())));
                }
                Action::Hand { waiter, conn, reused } => {
                    if let Some(open) = self.conns.get(&conn) {
                        let outcome = Ok((conn, open.conn.clone(), reused));
                        self.answer(waiter, outcome, todo, asking.as_deref_mut());
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

    /// When time alone changes something.
    fn due(&self) -> Option<Instant> {
        self.pool.poll_timeout().into_iter().chain(self.upkeep.poll_timeout(&self.pool)).min()
    }
}

/// What became of a call for a connection.
enum Asked<'a> {
    Answered(Result<Handed>),
    Waits(Turn<'a>),
}

/// A place in the pool's queue. Dropped before its turn was taken, it goes to the next.
struct Turn<'a> {
    shared: &'a Arc<Shared>,
    waiter: WaiterId,
    key: &'a PoolKey,
    /// Dials that began when this began to wait.
    dials: Vec<Pin<Box<Dial>>>,
}

impl Turn<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Handed>> {
        loop {
            if let Some(outcome) = self.outcome(cx) {
                return Poll::Ready(outcome);
            }
            let before = self.dials.len();
            self.dials.retain_mut(|dial| dial.as_mut().poll(cx).is_pending());
            if self.dials.len() == before {
                return Poll::Pending;
            }
        }
    }

    fn outcome(&self, cx: &Context<'_>) -> Option<Result<Handed>> {
        let mut state = self.shared.state();
        let waiting = state.waiting.get_mut(&self.waiter)?;
        if waiting.outcome.is_some() {
            return state.waiting.remove(&self.waiter)?.outcome;
        }
        if !waiting.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            waiting.waker = Some(cx.waker().clone());
        }
        None
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        self.shared.tell(None, |state| {
            if let Some((_, waiting)) = state.routes.get_mut(self.key) {
                *waiting -= 1;
                if *waiting == 0 {
                    state.routes.remove(self.key);
                }
            }
            match state.waiting.remove(&self.waiter).map(|waiting| waiting.outcome) {
                Some(Some(Ok((id, ..)))) => state.pool.release(id, Use::Unused, now),
                Some(None) => _ = state.pool.cancel(self.waiter, now),
                Some(Some(Err(_))) | None => {}
            }
        });
        // A connection that is nearly there is not wasted, but one of a runtime that is gone is lost.
        let dials = std::mem::take(&mut self.dials);
        if !dials.is_empty() && sync::runtime().is_some() {
            self.shared.bell.push(dials.into_iter().map(|dial| dial as Work));
            self.shared.start_upkeep();
        }
    }
}

/// A dial that is under way. Dropped before its end (with its runtime), it counts as one that failed.
struct Dial {
    client: Weak<Shared>,
    id: ConnId,
    route: Arc<Route>,
    work: Pin<Box<dyn Future<Output = Result<ClientConn<Stream>>> + Send>>,
    is_done: bool,
}

impl Dial {
    fn begin(shared: &Arc<Shared>, id: ConnId, route: Arc<Route>) -> Self {
        tell!(to = %end_of(&route), "dialling");
        shared.count(|stats| stats.dials += 1);
        let (connector, router, to) = (shared.connector.clone(), shared.config.router.clone(), route.clone());
        let config = shared.conn_config.clone();
        let work = async move {
            let stream = connector.connect(&to, &*router).await?;
            #[cfg(feature = "http2")]
            if let Some(http2) = connector.http2_over(&stream) {
                return ClientConn::http2(stream, http2.with_timeouts_of(&config)).await;
            }
            #[cfg(feature = "tls")]
            crate::tls::judge_alpn(&stream)?;
            Ok(ClientConn::with_config(stream, config))
        };
        Self { client: Arc::downgrade(shared), id, route, work: Box::pin(work), is_done: false }
    }

    fn end(&mut self, outcome: Result<ClientConn<Stream>>) {
        self.is_done = true;
        if let Some(shared) = self.client.upgrade() {
            shared.dialed(self.id, &self.route, outcome);
        }
    }
}

impl Future for Dial {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let outcome = ready!(self.work.as_mut().poll(cx));
        self.end(outcome);
        Poll::Ready(())
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        if !self.is_done {
            self.end(Err(Error::new(Phase::Connect, "whoever dialled is gone: its runtime has shut down")));
        }
    }
}

/// Where a route's socket or last tunnel leads.
#[cfg(feature = "tracing")]
fn end_of(route: &Route) -> String {
    route.hops.last().map(|hop| hop.to.to_string()).unwrap_or_default()
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
