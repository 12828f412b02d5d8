//! The pool of a client: the core decides, and this carries it out.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use persist_core::pool::{Action, ByNumber, ConnId, Counts, Loss, Pool, PoolError, Use, WaiterId, Want};
use persist_core::stats::{ClientStats, Traffic};
use persist_core::{
    Check, ClientConfig, Config, Contradiction, Destination, Instant, Ledger, Pending, Phase, PoolKey, Request, Route,
    Router, TargetForm, Upkeep, Way, Ways,
};

use super::account::Account;
use super::lease::Lease;
use super::random;
use super::tally::Tally;
use super::upkeep::{self, Bell, Held};
use crate::client_conn::ClientConn;
use crate::clock;
use crate::dial::Connector;
use crate::driver::After;
use crate::error::{Error, Result};
use crate::trace::tell;

/// What all clones of a client share.
pub(crate) struct Shared {
    pub(super) config: ClientConfig,
    connector: Connector,
    state: Mutex<State>,
    /// A leaf, like every lock here.
    ways: Mutex<Ways>,
    pub(super) tally: Tally,
    /// An answer has come for somebody who waits.
    answered: Condvar,
    /// The upkeep has something new to wait for.
    sooner: Arc<Bell>,
}

struct State {
    pool: Pool,
    upkeep: Upkeep,
    /// The book of requests.
    ledger: Ledger,
    conns: HashMap<ConnId, Open, ByNumber>,
    waiting: HashMap<WaiterId, Option<Answer>, ByNumber>,
    /// Threads that sleep until somebody is answered. Waking nobody is a system call, too.
    sleepers: usize,
    /// What to dial under each key that somebody waits for, and how many do.
    places: HashMap<PoolKey, (Arc<Route>, usize)>,
    keeper: Keeper,
    /// What the connections carried that have left the pool.
    gone: Traffic,
}

struct Open {
    conn: Arc<ClientConn>,
    route: Arc<Route>,
}

/// A connection that a request may use.
pub(super) struct Taken {
    pub(super) lease: Lease,
    /// It was used before, so that it must be looked at first.
    pub(super) reused: bool,
    /// When it was taken, if it had not to be waited for.
    pub(super) at: Option<Instant>,
}

/// A connection, and whether it was used before; or why there is none.
type Answer = Result<(ConnId, Arc<ClientConn>, bool)>;

/// The thread for the upkeep.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeper {
    NotStarted,
    /// It looks again then; `None`: when it is told that there is something to look after.
    Sleeps(Option<Instant>),
}

/// What is to be done once the lock is released.
#[derive(Default)]
struct Todo {
    dials: Vec<(ConnId, Arc<Route>)>,
    closed: Vec<Open>,
}

impl Shared {
    pub(super) fn new(config: ClientConfig, connector: Connector) -> Result<Arc<Self>, Contradiction> {
        let state = State {
            pool: Pool::new(config.pool)?,
            upkeep: Upkeep::new(config.upkeep, clock::now())?,
            ledger: Ledger::new(config.failures_max),
            conns: HashMap::default(),
            waiting: HashMap::default(),
            sleepers: 0,
            places: HashMap::new(),
            keeper: Keeper::NotStarted,
            gone: Traffic::default(),
        };
        let (state, ways, tally) = (Mutex::new(state), Mutex::default(), Tally::default());
        let (answered, sooner) = (Condvar::new(), Arc::new(Bell::default()));
        Ok(Arc::new(Self { config, connector, state, ways, tally, answered, sooner }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way of requests to the scheme and authority of `url`, if it is known.
    pub(super) fn way(&self, url: &str) -> Option<Arc<Way>> {
        self.ways().find(url).cloned()
    }

    /// The way to the destination of `url`.
    pub(super) fn find_way(&self, url: &str, destination: &Destination) -> Result<Arc<Way>> {
        let router = &*self.config.router;
        let route = router.route(destination).map_err(|error| Error::new(Phase::Route, error))?;
        let way = Arc::new(Way::new(destination.clone(), route));
        if router.routes_last() {
            self.ways().keep(url, way.clone());
        }
        Ok(way)
    }

    /// A request begins.
    pub(super) fn begin(&self, destination: &Destination) {
        self.tally.requests.add();
        self.state().ledger.begin(destination);
    }

    /// A request begins; and a connection for it, if one is to be had at once.
    pub(super) fn begin_at_once(self: &Arc<Self>, way: &Way) -> Option<Taken> {
        self.tally.requests.add();
        let now = clock::now();
        let taken = self.tell(None, |state| {
            state.ledger.begin(way.destination());
            // Whoever uses the client also sees to what is due, should the upkeep be late.
            state.pool.handle_timeout(now);
            let (id, reused) = state.pool.take(&way.route().pool_key, now)?;
            state.conns.get(&id).map(|open| (id, open.conn.clone(), reused))
        });
        taken.map(|(id, conn, reused)| Taken { lease: Lease::new(self, id, conn), reused, at: Some(now) })
    }

    /// A request is over, well or not.
    pub(super) fn end(&self, destination: &Destination) {
        self.state().ledger.end(destination);
    }

    /// A request failed.
    pub(super) fn note(&self, destination: &Destination, request: &Request, error: &Error) {
        self.state().ledger.fail(destination, request, error, clock::now());
    }

    pub(super) fn pending_to(&self, destination: &Destination) -> Pending {
        self.state().ledger.take(destination, clock::now())
    }

    pub(super) fn counts(&self) -> Counts {
        self.state().pool.counts()
    }

    pub(super) fn stats(&self) -> ClientStats {
        let mut stats = self.tally.stats();
        let state = self.state();
        (stats.pool, stats.traffic) = (state.pool.counts(), state.gone);
        let open: Vec<_> = state.conns.values().map(|open| open.conn.clone()).collect();
        drop(state);
        for conn in open.iter().map(|conn| conn.stats()) {
            stats.oldest = stats.oldest.max(conn.age);
            stats.traffic += conn;
        }
        stats
    }

    /// Connections have left the pool: what they carried goes into the sum.
    fn gone(&self, left: impl IntoIterator<Item = Open>) {
        for open in left {
            let carried = open.conn.stats();
            self.state().gone += carried;
        }
    }

    /// Tells the pool something, and carries out what it decides.
    fn tell<T>(self: &Arc<Self>, failed: Option<Error>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        // Most often nothing follows from what was told.
        let todo = state.pool.poll_action().map(|first| {
            let mut todo = Todo::default();
            if state.carry_out(first, &mut todo, failed) && state.sleepers > 0 {
                self.answered.notify_all();
            }
            todo
        });
        if let Some(due) = state.due() {
            match state.keeper {
                Keeper::NotStarted => self.start_upkeep(&mut state),
                // A look that comes too early finds that out by itself, so only an earlier one counts: not every request's.
                Keeper::Sleeps(until) if until.is_none_or(|until| due < until) => {
                    state.keeper = Keeper::Sleeps(Some(due));
                    self.sooner.ring();
                }
                Keeper::Sleeps(_) => {}
            }
        }
        drop(state);
        if let Some(todo) = todo {
            for (id, route) in todo.dials {
                self.dial(id, route);
            }
            self.gone(todo.closed);
        }
        result
    }

    fn start_upkeep(self: &Arc<Self>, state: &mut State) {
        let (client, sooner) = (Arc::downgrade(self), self.sooner.clone());
        // Without a thread for it, idle connections are closed when the client is used next.
        if thread::Builder::new().name("persist-upkeep".into()).spawn(move || upkeep::run(&client, &sooner)).is_ok() {
            state.keeper = Keeper::Sleeps(None);
        }
    }

    /// Tells the pool the time, and gives the idle connections that are to be checked now, with the host to be asked where a look is not enough. They
    /// are lent out.
    pub(super) fn checks(self: &Arc<Self>) -> Vec<(Held, Option<String>)> {
        let now = clock::now();
        let checks = self.tell(None, |state| {
            state.pool.handle_timeout(now);
            state.upkeep.handle_timeout(&mut state.pool, now)
        });
        let state = self.state();
        let checks = checks.into_iter().filter_map(|checking| {
            let Open { conn, route } = state.conns.get(&checking.conn)?;
            // RFC 9110 §7.1: only an origin can be asked for itself.
            let origin = route.hops.last().filter(|_| route.target_form == TargetForm::Origin);
            let host = origin.filter(|_| checking.check == Check::Probe).map(|hop| hop.to.authority());
            Some((Held::new(self, checking.conn, conn.clone()), host))
        });
        checks.collect()
    }

    /// When the upkeep must wake; `None` if there is nothing left to look after. Then it is forgotten in the same breath, and whoever comes next starts
    /// another.
    pub(super) fn next_wake(&self) -> Option<Option<Instant>> {
        let mut state = self.state();
        let (due, counts) = (state.due(), state.pool.counts());
        if due.is_none() && counts.open == 0 && counts.dialing == 0 {
            state.keeper = Keeper::NotStarted;
            return None;
        }
        state.keeper = Keeper::Sleeps(due);
        Some(due)
    }

    /// A connection for one exchange, in its turn.
    pub(super) fn acquire(self: &Arc<Self>, route: &Arc<Route>, want: Want, until: Option<Instant>) -> Result<Taken> {
        let key = &route.pool_key;
        let now = clock::now();
        let patience = self.config.wait_timeout.map(|timeout| now + timeout);
        let deadline = patience.into_iter().chain(until).min();
        let waiter = self.tell(None, |state| {
            // Whoever uses the client also sees to what is due, should the upkeep be late.
            state.pool.handle_timeout(now);
            let waiter = state.pool.acquire(key, want, deadline, now)?;
            state.places.entry(key.clone()).or_insert_with(|| (route.clone(), 0)).1 += 1;
            state.waiting.insert(waiter, None);
            Ok::<_, PoolError>(waiter)
        });
        let waiter = waiter.map_err(|error| Error::new(Phase::Wait, error))?;
        let (id, conn, reused) = self.wait_for(waiter, key)?;
        Ok(Taken { lease: Lease::new(self, id, conn), reused, at: None })
    }

    /// The look before its use has found that a connection is over.
    pub(super) fn stale(&self, lease: Lease) {
        self.tally.stale.add();
        tell!(connection = lease.conn().id(), "stale");
        lease.end(Loss::Expected);
    }

    fn wait_for(self: &Arc<Self>, waiter: WaiterId, key: &PoolKey) -> Answer {
        let mut state = self.state();
        loop {
            if let Some(answer) = state.waiting.get_mut(&waiter).and_then(Option::take) {
                state.waiting.remove(&waiter);
                state.no_longer_waits(key);
                return answer;
            }
            let left = clock::until(state.pool.poll_timeout());
            if left == Some(Duration::ZERO) {
                drop(state);
                let now = clock::now();
                self.tell(None, |state| state.pool.handle_timeout(now));
                state = self.state();
                continue;
            }
            state.sleepers += 1;
            state = match left {
                None => self.answered.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.answered.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
            state.sleepers -= 1;
        }
    }

    /// A reply has begun, and the connection is its body's.
    pub(super) fn answered(self: &Arc<Self>, lease: &Lease, after: After) {
        self.tell(None, |state| state.pool.handle_response(lease.id(), after.announced, after.at));
    }

    /// A reply is there as a whole.
    pub(super) fn completed(self: &Arc<Self>, mut lease: Lease, mut account: Account, after: After) {
        if after.is_over {
            self.answered(&lease, after);
            return;
        }
        lease.hand_over();
        account.close();
        self.tell(None, |state| {
            state.pool.handle_whole_response(lease.id(), after.announced, after.at);
            state.ledger.end(account.destination());
        });
    }

    pub(super) fn released(self: &Arc<Self>, id: ConnId, how: Use) {
        let now = clock::now();
        self.tell(None, |state| state.pool.release(id, how, now));
    }

    pub(super) fn lost(self: &Arc<Self>, id: ConnId, how: Loss) {
        let now = clock::now();
        let left = self.tell(None, |state| {
            state.pool.handle_closed(id, how, now, random());
            state.conns.remove(&id)
        });
        self.gone(left);
    }

    /// Dials on a thread of its own: whoever waits takes what comes first, this connection or another that becomes free.
    fn dial(self: &Arc<Self>, id: ConnId, route: Arc<Route>) {
        self.tally.dials.add();
        tell!(to = %end_of(&route), "dialling");
        let (client, there) = (Arc::downgrade(self), route.clone());
        let (connector, router, conn) = (self.connector.clone(), self.config.router.clone(), self.config.conn.clone());
        let dialing = move || {
            let conn = open(&connector, &there, &*router, conn);
            if let Some(shared) = client.upgrade() {
                shared.dialed(id, there, conn);
            }
        };
        if let Err(error) = thread::Builder::new().name("persist-dial".into()).spawn(dialing) {
            self.dialed(id, route, Err(Error::new(Phase::Connect, error)));
        }
    }

    fn dialed(self: &Arc<Self>, id: ConnId, route: Arc<Route>, conn: Result<ClientConn>) {
        let now = clock::now();
        match conn {
            Ok(conn) => {
                tell!(connection = conn.id(), to = %end_of(&route), local = ?conn.local_addr(), peer = ?conn.peer_addr(), "dialled");
                self.tell(None, |state| {
                    state.conns.insert(id, Open { conn: Arc::new(conn), route });
                    state.pool.handle_dialed(id, 1, now);
                });
            }
            Err(error) => {
                self.tally.dials_failed.add();
                tell!(to = %end_of(&route), phase = ?error.phase(), "dial failed");
                self.tell(Some(error), |state| state.pool.handle_dial_failed(id, now, random()));
            }
        }
    }
}

/// Where a route leads.
#[cfg(feature = "tracing")]
fn end_of(route: &Route) -> String {
    route.hops.last().map(|hop| hop.to.to_string()).unwrap_or_default()
}

fn open(connector: &Connector, route: &Route, router: &dyn Router, config: Config) -> Result<ClientConn> {
    let stream = connector.connect(route, router)?;
    #[cfg(feature = "tls")]
    crate::tls::judge_alpn(&stream)?;
    ClientConn::with_config(stream, config).map_err(|error| Error::new(Phase::Connect, error))
}

impl State {
    /// Says whether anybody was answered.
    fn carry_out(&mut self, first: Action, todo: &mut Todo, failed: Option<Error>) -> bool {
        let mut next = Some(first);
        let mut answers = Vec::new();
        let mut unreached = Vec::new();
        while let Some(action) = next.take().or_else(|| self.pool.poll_action()) {
            match action {
                Action::Dial { conn, key } => {
                    let place = self.places.get(&key).map(|(place, _)| place.clone());
                    todo.dials.extend(place.map(|place| (conn, place)));
                }
                Action::Close { conn, .. } => todo.closed.extend(self.conns.remove(&conn)),
                Action::Hand { waiter, conn, reused } => {
                    let open = self.conns.get(&conn).map(|open| open.conn.clone());
                    answers.extend(open.map(|open| (waiter, Ok((conn, open, reused)))));
                }
                Action::Fail { waiter, error: PoolError::DialFailed { .. } } if failed.is_some() => {
                    unreached.push(waiter)
                }
                Action::Fail { waiter, error } => answers.push((waiter, Err(Error::new(Phase::Wait, error)))),
                _ => {}
            }
        }
        if let Some(error) = failed {
            answers.extend(unreached.into_iter().map(|waiter| (waiter, Err(error.clone()))));
        }
        let any = !answers.is_empty();
        for (waiter, answer) in answers {
            if let Some(waiting) = self.waiting.get_mut(&waiter) {
                *waiting = Some(answer);
            }
        }
        any
    }

    /// When time alone changes something.
    fn due(&self) -> Option<Instant> {
        self.pool.poll_timeout().into_iter().chain(self.upkeep.poll_timeout(&self.pool)).min()
    }

    fn no_longer_waits(&mut self, key: &PoolKey) {
        if let Some((_, waiting)) = self.places.get_mut(key) {
            *waiting -= 1;
            if *waiting == 0 {
                self.places.remove(key);
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.sooner.ring();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
