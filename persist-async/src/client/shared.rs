//! The pool of a client: the core decides, and this carries it out.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use persist_core::keep_alive::KeepAlive;
use persist_core::pool::{Action, ConnId, Counts, Loss, Pool, PoolError, Use, WaiterId, Want};
use persist_core::{ClientConfig, Config, Contradiction, Phase, PoolKey, Route};
use tokio::sync::Notify;

use super::lease::Lease;
use super::random;
use crate::client_conn::ClientConn;
use crate::clock::Clock;
use crate::dial::Connector;
use crate::error::{Error, Result};
use crate::race::race;
use crate::stream::Stream;

/// What all clones of a client share.
pub(crate) struct Shared {
    pub(super) config: ClientConfig,
    conn_config: Arc<Config>,
    connector: Connector,
    state: Mutex<State>,
    /// The upkeep has something new to wait for.
    sooner: Arc<Notify>,
    clock: Clock,
}

struct State {
    pool: Pool,
    conns: HashMap<ConnId, Arc<ClientConn<Stream>>>,
    waiting: HashMap<WaiterId, Waiting>,
    /// How to dial under each key that somebody waits for, and how many do.
    routes: HashMap<PoolKey, (Arc<Route>, usize)>,
    upkeep: Upkeep,
}

struct Waiting {
    waker: Option<Waker>,
    outcome: Option<Result<Handed>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Upkeep {
    NotStarted,
    Runs,
}

/// A connection that is a waiter's, and whether it was used before.
type Handed = (ConnId, Arc<ClientConn<Stream>>, bool);

/// What is to be done once the lock is released.
#[derive(Default)]
struct Todo {
    dials: Vec<(ConnId, Arc<Route>)>,
    wakers: Vec<Waker>,
    closed: Vec<Arc<ClientConn<Stream>>>,
}

impl Shared {
    pub(super) fn new(config: ClientConfig, connector: Connector) -> Result<Arc<Self>, Contradiction> {
        let pool = Pool::new(config.pool)?;
        // RFC 9112 §9.3.2: nobody knows, before its first reply, whether a peer can be pipelined to.
        let conn_config = Arc::new(config.conn.clone().replacement());
        let state = State {
            pool,
            conns: HashMap::new(),
            waiting: HashMap::new(),
            routes: HashMap::new(),
            upkeep: Upkeep::NotStarted,
        };
        let (state, sooner, clock) = (Mutex::new(state), Arc::new(Notify::new()), Clock::start());
        Ok(Arc::new(Self { config, conn_config, connector, state, sooner, clock }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counts(&self) -> Counts {
        self.state().pool.counts()
    }

    /// Tells the pool something, and carries out what it decides.
    fn tell<T>(self: &Arc<Self>, failed: Option<&Error>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let before = state.pool.poll_timeout();
        let result = change(&mut state);
        let mut todo = Todo::default();
        state.carry_out(&mut todo, failed);
        let after = state.pool.poll_timeout();
        if after.is_some() && state.upkeep == Upkeep::NotStarted {
            state.upkeep = Upkeep::Runs;
            tokio::spawn(upkeep(Arc::downgrade(self), self.sooner.clone()));
        } else if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.sooner.notify_one();
        }
        drop(state);
        for (id, route) in todo.dials {
            tokio::spawn(dial_for(self.clone(), id, route));
        }
        todo.wakers.into_iter().for_each(Waker::wake);
        todo.closed.iter().for_each(|conn| conn.close_idle());
        result
    }

    /// A connection for one exchange, in its turn.
    pub(super) async fn acquire(self: &Arc<Self>, route: &Arc<Route>, want: Want) -> Result<Lease> {
        let key = &route.pool_key;
        loop {
            let now = self.clock.now();
            let deadline = self.config.wait_timeout.map(|timeout| now + timeout);
            let waiter = self.tell(None, |state| {
                let waiter = state.pool.acquire(key, want, deadline, now)?;
                state.routes.entry(key.clone()).or_insert_with(|| (route.clone(), 0)).1 += 1;
                state.waiting.insert(waiter, Waiting { waker: None, outcome: None });
                Ok::<_, PoolError>(waiter)
            });
            let waiter = waiter.map_err(|error| Error::new(Phase::Wait, error))?;
            let turn = Turn { shared: self, waiter, key };
            let (id, conn, reused) = poll_fn(|cx| turn.poll(cx)).await?;
            drop(turn);
            let lease = Lease::new(self, id, conn);
            // Row 20 of the promise: one look at the socket before a connection is used again.
            if !reused || !lease.conn().is_idle() || lease.conn().is_reusable() {
                return Ok(lease);
            }
            lease.end(Loss::Expected);
        }
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
        drop(gone);
    }

    fn dialed(self: &Arc<Self>, id: ConnId, outcome: Result<Stream>) {
        let now = self.clock.now();
        match outcome {
            Ok(stream) => {
                let conn = Arc::new(ClientConn::with_config(stream, self.conn_config.clone()));
                let depth = self.conn_config.pipelining.depth;
                self.tell(None, |state| {
                    state.conns.insert(id, conn);
                    state.pool.handle_dialed(id, depth, now);
                });
            }
            Err(error) => {
                self.tell(Some(&error), |state| state.pool.handle_dial_failed(id, now, random()));
            }
        }
    }
}

impl State {
    fn carry_out(&mut self, todo: &mut Todo, failed: Option<&Error>) {
        while let Some(action) = self.pool.poll_action() {
            match action {
                Action::Dial { conn, key } => {
                    if let Some((route, _)) = self.routes.get(&key) {
                        todo.dials.push((conn, route.clone()));
                    }
                }
                Action::Hand { waiter, conn, reused } => {
                    if let Some(open) = self.conns.get(&conn) {
                        let outcome = Ok((conn, open.clone(), reused));
                        self.answer(waiter, outcome, todo);
                    }
                }
                Action::Close { conn, .. } => todo.closed.extend(self.conns.remove(&conn)),
                Action::Fail { waiter, error } => {
                    let outcome = match (&error, failed) {
                        (PoolError::DialFailed { .. }, Some(cause)) => Err(cause.clone()),
                        (PoolError::DialFailed { .. }, None) => Err(Error::new(Phase::Connect, error)),
                        _ => Err(Error::new(Phase::Wait, error)),
                    };
                    self.answer(waiter, outcome, todo);
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, waiter: WaiterId, outcome: Result<Handed>, todo: &mut Todo) {
        if let Some(waiting) = self.waiting.get_mut(&waiter) {
            waiting.outcome = Some(outcome);
            todo.wakers.extend(waiting.waker.take());
        }
    }
}

/// A place in the pool's queue. Dropped before its turn was taken, it goes to the next.
struct Turn<'a> {
    shared: &'a Arc<Shared>,
    waiter: WaiterId,
    key: &'a PoolKey,
}

impl Turn<'_> {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Handed>> {
        let mut state = self.shared.state();
        let Some(waiting) = state.waiting.get_mut(&self.waiter) else { return Poll::Pending };
        match waiting.outcome.take() {
            Some(outcome) => {
                state.waiting.remove(&self.waiter);
                Poll::Ready(outcome)
            }
            None => {
                waiting.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
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
    }
}

async fn dial_for(shared: Arc<Shared>, id: ConnId, route: Arc<Route>) {
    let outcome = shared.connector.connect(&route, &*shared.config.router).await;
    #[cfg(feature = "tls")]
    let outcome = outcome.and_then(|stream| crate::tls::judge_alpn(&stream).map(|()| stream));
    shared.dialed(id, outcome);
}

/// Tells the pool the time when it asks for it, as long as the client exists.
async fn upkeep(client: Weak<Shared>, sooner: Arc<Notify>) {
    while let Some(shared) = client.upgrade() {
        let now = shared.clock.now();
        shared.tell(None, |state| state.pool.handle_timeout(now));
        let due = {
            let mut state = shared.state();
            let Some(due) = state.pool.poll_timeout() else {
                // Nothing is open and nobody waits: whoever comes next starts another one.
                state.upkeep = Upkeep::NotStarted;
                return;
            };
            shared.clock.deadline(due)
        };
        drop(shared);
        race(sooner.notified(), tokio::time::sleep_until(due)).await;
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.sooner.notify_one();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
