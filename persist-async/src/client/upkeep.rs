//! What a client does beside its requests, as one future: it ends connections that are old, looks at idle ones, drains those whose last reply nobody
//! wanted, and finishes the dials of requests that were dropped or served otherwise.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, PoisonError, Weak};
use std::task::Poll;

use persist_core::pool::{ConnId, Loss, Use};
use persist_core::{Check, Method, Request, Route, TargetForm};
use tokio::sync::Notify;
use tokio::time::Sleep;

use super::jobs::{Jobs, Work};
use super::shared::Shared;
use crate::client_conn::ClientConn;
use crate::clock;
use crate::round_trip::Trip;
use crate::stream::Stream;
use crate::sync::Mutex;

/// What the upkeep is told from outside.
#[derive(Default)]
pub(super) struct Bell {
    rings: Notify,
    work: Mutex<Vec<Work>>,
}

impl Bell {
    /// There is something new to wait for.
    pub(super) fn ring(&self) {
        self.rings.notify_one();
    }

    pub(super) fn push(&self, work: impl IntoIterator<Item = Work>) {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).extend(work);
        self.ring();
    }

    pub(super) fn has_work(&self) -> bool {
        !self.work.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn take(&self) -> Vec<Work> {
        std::mem::take(&mut self.work.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Who runs an upkeep.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// A task that ends when there is nothing to do; whoever comes next starts another one.
    Spawned,
    /// The user, until the client is gone.
    Users,
}

/// One run.
pub(super) struct Keeper {
    client: Weak<Shared>,
    bell: Arc<Bell>,
    /// The newest run is the one that counts.
    turn: u64,
    runs: Runs,
    jobs: Jobs,
}

impl Keeper {
    pub(super) fn new(shared: &Arc<Shared>, turn: u64, runs: Runs) -> Self {
        Self { client: Arc::downgrade(shared), bell: shared.bell.clone(), turn, runs, jobs: Jobs::default() }
    }

    pub(super) async fn run(mut self) {
        let bell = self.bell.clone();
        loop {
            self.bell.take().into_iter().for_each(|work| self.jobs.push(work));
            let due = {
                let Some(shared) = self.client.upgrade() else { return };
                shared.pass_time();
                for checking in shared.checks() {
                    if let Some((conn, route)) = shared.find(checking.conn) {
                        self.check(&shared, (checking.conn, conn, route), checking.check);
                    }
                }
                match shared.next_wake(self.turn, self.runs == Runs::Users || !self.jobs.is_empty()) {
                    Wake::At(due) => due,
                    Wake::Never => return,
                }
            };
            let mut sleep = pin!(due.map(tokio::time::sleep_until));
            let mut rung = pin!(bell.rings.notified());
            poll_fn(|cx| {
                let timer = sleep.as_mut().as_pin_mut().map(|sleep: std::pin::Pin<&mut Sleep>| sleep.poll(cx));
                let woken = [self.jobs.poll(cx), rung.as_mut().poll(cx), timer.unwrap_or(Poll::Pending)];
                if woken.iter().any(Poll::is_ready) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    fn check(&mut self, shared: &Arc<Shared>, (id, conn, route): (ConnId, Conn, Arc<Route>), check: Check) {
        let held = Held { client: self.client.clone(), id, conn, how: Use::Unused };
        // RFC 9110 §7.1: only an origin can be asked for itself.
        let origin = route.hops.last().filter(|_| route.target_form == TargetForm::Origin);
        if !held.conn.is_reusable() {
            shared.stale(&held.conn);
        } else if let (Check::Probe, Some(hop)) = (check, origin) {
            let host = hop.to.authority();
            let within = shared.config.upkeep.interval;
            self.jobs.push(Box::pin(probe(held, host, within)));
        }
    }
}

/// When the upkeep is next needed.
pub(super) enum Wake {
    /// Then, or when it is rung for.
    At(Option<tokio::time::Instant>),
    /// Another one runs, or nothing is left to do.
    Never,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let Some(shared) = self.client.upgrade() else { return };
        let left: Vec<_> = self.jobs.take().collect();
        let shuts_down = self.runs == Runs::Spawned && shared.is_kept_by(self.turn);
        if shuts_down {
            // Its runtime does. What was registered there is of no use to the next one, and some of it would not even notice.
            shared.close_idle();
            drop(left);
        } else {
            self.bell.push(left);
        }
        shared.keeper_gone(self.turn);
        // Another one goes on with it: the one that took over from this one may be gone as well, and whoever brought work meanwhile relied on it.
        if !shuts_down && self.bell.has_work() {
            shared.start_upkeep();
        }
    }
}

type Conn = Arc<ClientConn<Stream>>;

/// A connection that the upkeep has in its hands. Goes back to the pool when it is dropped, if it can be used again.
pub(super) struct Held {
    client: Weak<Shared>,
    id: ConnId,
    conn: Conn,
    how: Use,
}

impl Held {
    pub(super) fn new(shared: &Arc<Shared>, id: ConnId, conn: Conn) -> Self {
        Self { client: Arc::downgrade(shared), id, conn, how: Use::Completed }
    }

    /// Waits until the reply that nobody wanted is through, or the connection is closed: its own deadlines see to that.
    pub(super) async fn drain(self) {
        self.conn.settled().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(shared) = self.client.upgrade() else { return };
        if self.conn.is_closing() {
            shared.lost(self.id, Loss::Expected);
        } else {
            shared.released(self.id, self.how);
        }
    }
}

/// Asks a server whether it still answers. One that does not is no use to anybody.
async fn probe(mut held: Held, host: String, within: std::time::Duration) {
    let until = clock::after(within);
    let Ok(request) = Request::new(Method::OPTIONS, "*").field("Host", host) else { return };
    let mut reply = None;
    let asked = held.conn.exchange((&request).into(), &mut None, Some(until), &mut reply).await;
    let answered = match (asked, reply) {
        (Ok(Trip::Replied(_)), Some(mut reply)) => {
            tokio::io::copy(&mut reply.body, &mut tokio::io::sink()).await.is_ok()
        }
        _ => false,
    };
    if answered {
        held.how = Use::Probed;
    } else {
        held.conn.abort();
    }
}
