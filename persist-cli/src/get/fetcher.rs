//! What all lanes share: the options, standard output, the report; and which destinations are worked on.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use persist_async::Stream;
use persist_core::{Attempts, PoolKey, Route};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::budget::Budget;
use super::failure::Failed;
use super::job::Job;
use super::lane::{Lane, Rank, Task};
use super::order::InOrder;
use super::outputs::Target;
use super::plan::Plan;
use super::queue::Queue;
use super::receive::Arrived;
use super::record::{COMPLETE, Record, Reporter};
use super::show::Show;
use super::sink::Sink;
use super::way::Way;
use crate::exit::Exit;

/// Destinations worked on at once.
const DESTINATIONS_MAX: usize = 16;

/// What the command line says about how to fetch.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) depth: usize,
    pub(super) connections: usize,
    pub(super) way: Way,
    pub(super) include: bool,
    pub(super) fail: bool,
    pub(super) create_dirs: bool,
    pub(super) max_time: Option<Duration>,
    pub(super) show: Show,
}

/// What all lanes share.
#[derive(Debug)]
pub(super) struct Fetcher {
    pub(super) options: Options,
    pub(super) stdout: InOrder<Stdout>,
    pub(super) reporter: Reporter,
    connections: AtomicU64,
    /// Standard output is gone: nobody wants the rest.
    halted: watch::Sender<bool>,
}

impl Fetcher {
    pub(super) fn new(options: Options, reporter: Reporter) -> Self {
        let stdout = InOrder::new(io::stdout());
        Self { options, stdout, reporter, connections: AtomicU64::new(0), halted: watch::Sender::new(false) }
    }

    /// Carries out the plan.
    pub(super) async fn run(self: &Arc<Self>, plan: Plan) {
        for (part, url, bad) in plan.bad {
            self.leave_stdout(part);
            let failed = Failed::new(bad.message, bad.exit);
            self.reporter.done(part, record(url, "", Arrived::default(), 0, None, Err(&failed)));
        }
        let mut destinations: BTreeMap<PoolKey, VecDeque<Task>> = BTreeMap::new();
        let mut routes = plan.routes;
        for job in plan.jobs {
            if job.output != Target::Stdout {
                self.leave_stdout(job.part);
            }
            let sink = Sink::new(job.part, &job.output, self.options.create_dirs);
            let task = Task { sink, attempts: Attempts::default(), left: Budget::new(self.options.max_time), job };
            destinations.entry(task.job.key.clone()).or_default().push_back(task);
        }
        // In the order asked, so that the first URL's destination is not the last to be served.
        let mut destinations: Vec<_> = destinations.into_iter().collect();
        destinations.sort_by_key(|(_, tasks)| tasks.front().map(|task| task.job.part));
        let places = Arc::new(Semaphore::new(DESTINATIONS_MAX));
        let mut running = JoinSet::new();
        for (key, tasks) in destinations {
            let route = routes.remove(&key).expect("each job has its route");
            running.spawn(Arc::clone(self).destination(route, tasks, Arc::clone(&places)));
        }
        let all = async {
            while let Some(ended) = running.join_next().await {
                // A panic in a task is a bug here, not something to report on as a failed URL.
                ended.expect("lanes do not panic");
            }
        };
        let mut halted = self.halted.subscribe();
        tokio::select! {
            () = all => {}
            // Some may be waiting for a turn that will never come.
            _ = halted.wait_for(|halted| *halted) => {}
        }
    }

    async fn destination(self: Arc<Self>, route: Route, tasks: VecDeque<Task>, places: Arc<Semaphore>) {
        let on_stdout = tasks.iter().find(|task| task.job.output == Target::Stdout).map(|task| task.job.part);
        let turn = async {
            match on_stdout {
                Some(part) => self.stdout.wait_for(part).await,
                None => std::future::pending().await,
            }
        };
        // A place, or that everybody waits for these: whoever holds the places may be waiting for them on standard output.
        let _place = tokio::select! {
            place = places.acquire() => place.ok(),
            () = turn => None,
        };
        // No more lanes than the pipelines of fewer could not hold.
        let lanes = self.options.connections.min(tasks.len().div_ceil(self.options.depth));
        let queue = Arc::new(Queue::new(route, tasks));
        let mut running = JoinSet::new();
        for rank in std::iter::once(Rank::First).chain(std::iter::repeat(Rank::Further)).take(lanes) {
            running.spawn(Lane::new(rank, Arc::clone(&self), Arc::clone(&queue)).run());
        }
        while let Some(ended) = running.join_next().await {
            ended.expect("lanes do not panic");
        }
    }

    /// A connection was made; returns its number.
    pub(super) fn connected(&self, route: &Route, stream: &Stream) -> u64 {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        self.reporter.connected();
        self.options.show.connected(number, route.pool_key.label(), stream);
        number
    }

    /// An output could not be written. When that is standard output, there is no point in going on.
    pub(super) fn write_failed(&self, sink: &Sink, error: &io::Error) -> Failed {
        if matches!(sink, Sink::Stdout { .. }) {
            self.halted.send_replace(true);
        }
        Failed::writing(&sink.name(), error)
    }

    pub(super) fn is_halted(&self) -> bool {
        *self.halted.borrow()
    }

    /// The URL is done.
    pub(super) fn done(&self, task: Task, arrived: Arrived) {
        self.finish(task, arrived, None);
    }

    /// The URL has failed for good.
    pub(super) fn failed(&self, task: Task, failed: Failed, arrived: Arrived) {
        self.finish(task, arrived, Some(failed));
    }

    fn finish(&self, task: Task, arrived: Arrived, mut failed: Option<Failed>) {
        if matches!(task.sink, Sink::Stdout { .. })
            && let Err(error) = self.stdout.finish(task.job.part)
        {
            failed.get_or_insert(self.write_failed(&task.sink, &error));
        }
        let retries = task.attempts.counted + task.attempts.unprocessed;
        let outcome = failed.as_ref().map_or(Ok(()), Err);
        let file = task.sink.file();
        let record = record(task.job.url, task.job.method.as_str(), arrived, retries, file, outcome);
        self.reporter.done(task.job.part, record);
    }

    /// This part writes nothing there.
    fn leave_stdout(&self, part: usize) {
        // Nothing of it is written; what waited behind it may be, and its owner learns of a failure when it writes.
        let _ = self.stdout.finish(part);
    }
}

fn record(
    url: String,
    method: &str,
    arrived: Arrived,
    retries: u32,
    file: Option<String>,
    outcome: Result<(), &Failed>,
) -> Record {
    Record {
        url,
        method: method.to_owned(),
        status: arrived.status,
        bytes: arrived.bytes,
        connection: arrived.connection,
        reused: arrived.reused,
        retries,
        disposition: outcome.map_or_else(|failed| failed.disposition, |()| COMPLETE),
        file,
        error: outcome.err().map(|failed| failed.line.clone()),
        exit: outcome.map_or_else(|failed| failed.exit, |()| Exit::Success),
    }
}

impl Job {
    /// The head to be sent.
    pub(super) fn request(&self) -> persist_core::Request {
        persist_core::Request { method: self.method.clone(), target: self.target.clone(), fields: self.fields.clone() }
    }
}
