//! The clients. Each has workers, one a connection, that ask in bursts and read what comes to its end. All requests are alike: each client has its own made
//! before it begins, as far as its interface lets it (the floors have bytes).

pub mod floor;
mod hyper;
mod ours;
mod reqwest;
mod tokio_floor;
mod ureq;

use std::sync::{Arc, Barrier};

use crate::plan::Plan;
use crate::{Error, actor};

/// A connection in blocking code: with several, each has a thread.
pub trait BlockingWorker: Send {
    /// Asks so often, a burst each time, and reads every answer to its end.
    fn run(&mut self, bursts: u64) -> Result<(), Error>;
}

/// A connection on a runtime: each is a task.
pub trait Worker: Send + Sized + 'static {
    fn run(self, bursts: u64) -> impl Future<Output = Result<Self, Error>> + Send;
}

pub fn run(kind: &str, plan: Plan) -> Result<(), Error> {
    let plan = Arc::new(plan);
    match kind {
        "std-floor" => blocking(&plan, |plan| floor::Blocking::connect(plan)),
        "tokio-floor" => on_tokio(&plan, tokio_floor::Floor::connect),
        "hyper" => on_tokio(&plan, hyper::Conn::connect),
        "hyper-util" => {
            let client = hyper::pool();
            on_tokio(&plan, async |plan| hyper::Pooled::new(client.clone(), plan))
        }
        "reqwest" => {
            let client = reqwest::client()?;
            on_tokio(&plan, async |plan| reqwest::Pooled::new(client.clone(), plan))
        }
        "ureq" => {
            let agent = ureq::agent();
            blocking(&plan, |plan| ureq::Pooled::new(agent.clone(), plan))
        }
        "persist-sync conn" => blocking(&plan, ours::SyncConn::connect),
        "persist-sync" => {
            let client = ours::sync_client(&plan)?;
            blocking(&plan, |plan| Ok(ours::SyncPooled::new(client.clone(), plan)))
        }
        "persist-async conn" => on_tokio(&plan, ours::AsyncConn::connect),
        "persist-async" => {
            let client = ours::async_client(&plan)?;
            on_tokio(&plan, async |plan| Ok(ours::AsyncPooled::new(client.clone(), plan)))
        }
        _ => Err(format!("there is no client `{kind}`").into()),
    }
}

fn blocking<W: BlockingWorker>(
    plan: &Arc<Plan>,
    connect: impl Fn(&Arc<Plan>) -> Result<W, Error>,
) -> Result<(), Error> {
    let mut workers = (0..plan.connections).map(|_| connect(plan)).collect::<Result<Vec<W>, Error>>()?;
    all(&mut workers, 1, || Ok(()))?;
    let begun = actor::ready()?;
    all(&mut workers, plan.bursts(), || actor::done(begun))
}

/// Lets all work, and then does that while they are still there: the processor time of a thread that has ended cannot be read.
fn all<W: BlockingWorker>(
    workers: &mut [W],
    bursts: u64,
    then: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    if let [alone] = workers {
        alone.run(bursts)?;
        return then();
    }
    let (worked, let_go) = (Barrier::new(workers.len() + 1), Barrier::new(workers.len() + 1));
    let work = |worker: &mut W| {
        let outcome = worker.run(bursts);
        worked.wait();
        let_go.wait();
        outcome
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = workers.iter_mut().map(|worker| scope.spawn(|| work(worker))).collect();
        worked.wait();
        let told = then();
        let_go.wait();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a worker panicked")?)?;
        told
    })
}

fn on_tokio<W: Worker>(plan: &Arc<Plan>, connect: impl AsyncFn(Arc<Plan>) -> Result<W, Error>) -> Result<(), Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut workers = Vec::new();
        for _ in 0..plan.connections {
            workers.push(connect(plan.clone()).await?);
        }
        let workers = together(workers, 1).await?;
        let begun = actor::ready()?;
        let workers = together(workers, plan.bursts()).await?;
        actor::done(begun)?;
        drop(workers);
        Ok(())
    })
}

async fn together<W: Worker>(workers: Vec<W>, bursts: u64) -> Result<Vec<W>, Error> {
    if workers.len() == 1 {
        let mut back = Vec::new();
        for worker in workers {
            back.push(worker.run(bursts).await?);
        }
        return Ok(back);
    }
    let tasks: Vec<_> = workers.into_iter().map(|worker| tokio::spawn(worker.run(bursts))).collect();
    let mut back = Vec::new();
    for task in tasks {
        back.push(task.await??);
    }
    Ok(back)
}

/// # Errors
/// The answer is not the one that was asked for.
fn require(status: u16, length: u64, plan: &Plan) -> Result<(), Error> {
    if status == 200 && length == plan.content_len() {
        return Ok(());
    }
    Err(format!("status {status}, {length} bytes of content; expected 200 and {}", plan.content_len()).into())
}
