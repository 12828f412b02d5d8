//! One lane: one connection at a time to one destination, and the requests that go over it, pipelined.
//!
//! A lane asks in the order asked, so that standard output never waits for itself. What a connection leaves unanswered goes again over the next
//! one, where the core's retry policy allows it; the requests behind the one that failed are not to blame, and are asked for once more, too.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;

use persist_async::{ClientConn, Exchange, Stream};
use persist_core::{Attempts, Config, Decision, Failure, OnFresh, Repeatable, Replay, RetryPolicy, SendError};
use tokio::time::sleep;

use super::budget::Budget;
use super::failure::{Failed, as_lost, refused};
use super::fetcher::Fetcher;
use super::job::Job;
use super::queue::Queue;
use super::receive::{Arrived, Trouble, receive};
use super::sink::Sink;
use super::upload;
use crate::exit::Exit;

/// A URL that is being fetched.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) job: Job,
    pub(super) sink: Sink,
    pub(super) attempts: Attempts,
    pub(super) left: Budget,
}

/// Which of the lanes of a destination one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// Every URL is fetched by it, if no other lane does, and fails with it.
    First,
    /// Takes URLs only once it has a connection: when the server takes no more connections than there are, that costs no URL.
    Further,
}

/// One connection at a time to one destination.
pub(super) struct Lane {
    rank: Rank,
    fetcher: Arc<Fetcher>,
    queue: Arc<Queue>,
    /// Tasks that come back, in the order asked, all before what is in the queue.
    own: VecDeque<Task>,
    /// Whether nothing is pipelined on a new connection until its first answer has come: unless the last one has shown that the server keeps
    /// connections. (One that closes with requests unread resets the connection, and a reply that only its end delimits is lost.)
    cautious: bool,
    /// Requests under way at once on a new connection: no more than the last one answered before it left others unanswered, so that none
    /// of them is unlucky again and again.
    depth: usize,
    /// The last connection answered nothing.
    in_vain: bool,
    /// Connections in a row that could not be made.
    dead: u32,
}

/// A connection with what is under way on it.
struct Current {
    conn: ClientConn<Stream>,
    number: u64,
    in_flight: VecDeque<(Task, Exchange)>,
    /// Exchanges that completed.
    completed: u64,
    /// An exchange has failed; those behind it failed because of it.
    failed: bool,
}

impl Current {
    /// Whether a request has been written to it.
    fn carries_any(&self) -> bool {
        self.completed > 0 || self.failed || !self.in_flight.is_empty()
    }
}

/// Connections in a row that could not be made before a destination is given up.
const DEAD_AFTER: u32 = 3;

impl Lane {
    pub(super) fn new(rank: Rank, fetcher: Arc<Fetcher>, queue: Arc<Queue>) -> Self {
        let depth = fetcher.options.depth;
        Self { rank, fetcher, queue, own: VecDeque::new(), cautious: true, depth, in_vain: false, dead: 0 }
    }

    /// Fetches until nothing is left for this lane.
    pub(super) async fn run(mut self) {
        while !self.fetcher.is_halted() {
            if self.own.is_empty() && self.rank == Rank::First {
                self.own.extend(self.queue.take());
            }
            if self.own.is_empty() && (self.rank == Rank::First || self.queue.is_empty()) {
                return;
            }
            match self.connect().await {
                Ok(mut current) => {
                    self.dead = 0;
                    self.use_up(&mut current).await;
                    self.learn(&current);
                    current.conn.abort();
                }
                Err(failed) => {
                    self.dead += 1;
                    let first = self.own.pop_front();
                    let alone = first.is_none();
                    let rest = if self.dead < DEAD_AFTER { Vec::new() } else { self.rest() };
                    for task in first.into_iter().chain(rest) {
                        self.fetcher.failed(task, failed.clone(), Arrived::default());
                    }
                    if alone {
                        return;
                    }
                }
            }
        }
    }

    /// What a connection has shown of the server.
    fn learn(&mut self, current: &Current) {
        self.cautious = current.failed || current.completed < 2;
        self.in_vain = current.completed == 0;
        if current.failed {
            self.depth = usize::try_from(current.completed).unwrap_or(usize::MAX).clamp(1, self.fetcher.options.depth);
        }
    }

    fn next(&mut self) -> Option<Task> {
        if self.fetcher.is_halted() {
            return None;
        }
        self.own.pop_front().or_else(|| self.queue.take())
    }

    /// All that is left for this lane, when the destination is given up.
    fn rest(&mut self) -> Vec<Task> {
        let queued = std::iter::from_fn(|| if self.rank == Rank::First { self.queue.take() } else { None });
        self.own.drain(..).chain(queued).collect()
    }

    /// Connects, at the expense of the first of its own tasks if there is one.
    async fn connect(&mut self) -> Result<Current, Failed> {
        // A destination that takes connections and drops them is not stormed.
        if let Some(first) = self.own.front().filter(|_| self.in_vain) {
            sleep(RetryPolicy::default().delay(first.attempts, random())).await;
        }
        let options = &self.fetcher.options;
        let route = self.queue.route();
        let dialling = options.way.connect(route);
        let mut nobodys = Budget::new(options.max_time);
        let left = self.own.front_mut().map_or(&mut nobodys, |first| &mut first.left);
        let stream = left.spend(dialling).await.map_err(|_| {
            let to = route.pool_key.label();
            Failed::new(format!("connecting to {to}: no connection within --max-time"), Exit::Timeout)
        })??;
        let number = self.fetcher.connected(route, &stream);
        let mut config = Config::client();
        config.pipelining.depth = u32::try_from(options.depth).unwrap_or(u32::MAX);
        if self.cautious {
            config = config.replacement();
        }
        let conn = ClientConn::with_config(stream, config);
        Ok(Current { conn, number, in_flight: VecDeque::new(), completed: 0, failed: false })
    }

    /// Asks and reads until the connection takes no more, or nothing is left.
    async fn use_up(&mut self, current: &mut Current) {
        loop {
            self.fill(current).await;
            let Some((task, exchange)) = current.in_flight.pop_front() else { return };
            if self.fetcher.is_halted() {
                return;
            }
            self.answer(current, task, exchange).await;
        }
    }

    /// Writes requests as far as the depth and the gates allow.
    async fn fill(&mut self, current: &mut Current) {
        let carried = usize::try_from(current.completed).unwrap_or(usize::MAX);
        let depth = self.depth.max(carried).min(self.fetcher.options.depth);
        // Half a pipeline at a time, so that requests leave together: one write for many.
        if current.in_flight.len() > depth / 2 {
            return;
        }
        while current.in_flight.len() < depth && !current.conn.is_closing() {
            let Some(task) = self.next() else { return };
            // What may have been processed once goes first on a fresh connection, so that it can only fail for a fault of its own. An upload
            // has the pipeline to itself.
            let first = task.attempts.counted > 0 && current.carries_any();
            let alone = task.job.content.is_streamed() && !current.in_flight.is_empty();
            if first || alone {
                return self.own.push_front(task);
            }
            let body = match upload::body(&task.job.content).await {
                Ok(body) => body,
                Err(failed) => {
                    self.fetcher.failed(task, failed, Arrived::default());
                    continue;
                }
            };
            let streamed = task.job.content.is_streamed();
            match current.conn.write(task.job.request(), body).await {
                Ok(exchange) => {
                    self.fetcher.options.show.request(current.number, &task.job);
                    current.in_flight.push_back((task, exchange));
                }
                Err(error) => match refused(&error) {
                    Some(SendError::Full { .. } | SendError::AnswerFirst | SendError::BodyUnfinished) => {
                        self.own.push_front(task);
                        // With nothing of ours under way, it is the rest of a body that we dropped: wait until that is gone, or the connection.
                        if current.in_flight.is_empty() && current.conn.ready().await.is_ok() {
                            continue;
                        }
                        return;
                    }
                    Some(SendError::Closed) | None => return self.not_taken(current, task, &error),
                    Some(_) => {
                        self.fetcher.failed(task, Failed::of_exchange(&error, None), Arrived::default());
                    }
                },
            }
            if streamed {
                return;
            }
        }
    }

    /// The connection ended before it took the request. Unless it was good for another, that counts as a try.
    fn not_taken(&mut self, current: &mut Current, mut task: Task, error: &persist_async::Error) {
        current.failed = true;
        if current.completed == 0 && current.in_flight.is_empty() {
            task.attempts.unprocessed += 1;
        }
        if task.attempts.unprocessed > RetryPolicy::default().unprocessed_max {
            self.fetcher.failed(task, Failed::of_exchange(error, None), Arrived::default());
        } else {
            self.own.push_front(task);
        }
    }

    async fn answer(&mut self, current: &mut Current, mut task: Task, exchange: Exchange) {
        let mut arrived = Arrived::on(current.number, exchange.id().number() > 0);
        let conn = &current.conn;
        match receive(&self.fetcher, conn, &mut task.sink, exchange, &mut task.left, &mut arrived).await {
            Ok(()) => {
                current.completed += 1;
                self.fetcher.done(task, arrived);
            }
            Err(Trouble::Lost(error)) => self.lost(current, task, &error, arrived),
            Err(Trouble::Ours(failed)) => {
                current.completed += 1;
                self.fetcher.failed(task, failed, arrived);
            }
            Err(Trouble::TooSlow) => {
                current.failed = true;
                current.conn.abort();
                self.fetcher.failed(task, Failed::too_slow(arrived.disposition()), arrived);
            }
        }
    }

    /// The connection could not complete the exchange: once more, or not.
    fn lost(&mut self, current: &mut Current, mut task: Task, error: &persist_async::Error, arrived: Arrived) {
        let blameless = std::mem::replace(&mut current.failed, true);
        match error.failure().and_then(|failure| decide(&task, failure, blameless)) {
            Some(attempts) => {
                task.attempts = attempts;
                self.fetcher.options.show.again(&task.job.url, error);
                self.come_back(task);
            }
            None => self.fetcher.failed(task, Failed::of_exchange(error, arrived.progress()), arrived),
        }
    }

    /// Back into the lane's own list, which stays in the order asked.
    fn come_back(&mut self, task: Task) {
        let at = self.own.partition_point(|other| other.job.part < task.job.part);
        self.own.insert(at, task);
    }
}

/// What the core's policy says. `blameless`: an exchange in front of this one had failed already.
fn decide(task: &Task, failure: &Failure, blameless: bool) -> Option<Attempts> {
    let mut policy = RetryPolicy::default();
    let mut failure = failure.clone();
    if blameless {
        policy.on_fresh = OnFresh::Retry;
        failure = as_lost(&failure);
    }
    let repeatable = Repeatable::of(&task.job.method, &task.job.fields);
    let replay = if task.job.content.is_replayable() { Replay::Whole } else { Replay::Spent };
    match policy.decide(&failure, repeatable, replay, task.attempts) {
        Decision::Retry { attempts, .. } => Some(attempts),
        Decision::GiveUp(_) => None,
    }
}

/// For the jitter of a wait: no two runs in step is all that is needed.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
