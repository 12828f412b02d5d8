//! Models of what tasks share, for a checker that runs the real code under interleavings of its own choice: wherever a lock is taken, another task may
//! go first. A wake-up that is lost shows as a deadlock, which the checker reports with the schedule that leads there.
//!
//! Only with `--cfg persist_model`, so that no build but this one knows the checker; `cargo xtask test --full` runs it, and so does
//!
//! ```text
//! RUSTFLAGS="--cfg persist_model" CARGO_TARGET_DIR=target/model PERSIST_MODEL_RUNS=20000 cargo test -p persist-async --lib models
//! ```
//!
//! That models can fail was seen. Each of these changes is found, within the default number of runs, by the model behind it:
//! - `Link::poll` does not pass on what its waker was woken for when it is done: `connection::replies_reach_whoever_asked_whoever_drives_and_whoever_leaves`;
//! - an answer that is given wakes nobody who drives: `connection::answers_that_other_tasks_give_leave_without_a_task_behind_the_connection`;
//! - an upkeep that ends starts none for the work it leaves: `pool::what_requests_leave_behind_is_kept_by_one_upkeep_or_the_next`;
//! - a server's task that is gone makes nobody drive, and the end of its connection wakes nobody (one of the two makes up for the other):
//!   `connection::a_server_whose_task_is_dropped_leaves_nobody_waiting`.
//!
//! Not found, in 15,000 runs: a waiter that is registered only after the connection's lock was released. Whoever drove passes the driving on when he leaves, which makes
//! up for it here; `tests/tests/abuse_tokio.rs` is what found that one.

mod connection;
mod pipe;
mod pool;
mod wakers;

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use shuttle::Runner;
use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler};

/// Spawns the checker's tasks, as tokio's handle spawns its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runtime;

impl Runtime {
    pub(crate) fn spawn(self, task: impl Future<Output = ()> + Send + 'static) {
        drop(shuttle::future::spawn(task));
    }
}

/// Runs a model, half of the time with schedules drawn at random, and half with those that preempt seldom but at the worst of moments.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let runs = std::env::var("PERSIST_MODEL_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(1_000);
    // Time stands still: a timer that somebody would have to wait for shows as a deadlock. It is never shut down, for that would wake what was left in it.
    static TIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let time = || tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = TIME.get_or_init(time).enter();
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20; // futures of a debug build are large
    let model = Arc::new(model);
    let again = model.clone();
    Runner::new(RandomScheduler::new(runs), config.clone()).run(move || model());
    Runner::new(PctScheduler::new(3, runs), config).run(move || again());
}

/// Any number below `n`, of the checker's choice.
fn below(n: usize) -> usize {
    shuttle::rand::thread_rng().gen_range(0..n)
}

/// Polls so often at most, and drops it.
async fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for _ in 0..times {
        let once = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = once {
            return Some(output);
        }
        shuttle::future::yield_now().await;
    }
    None
}
