//! `--max-time`: how much time a URL has left. Only what is done for it counts, not what others in front of it take.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::time::timeout;

/// The time that a URL has left; without a limit, any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: Option<Duration>,
}

/// The time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent;

impl Budget {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { left: limit }
    }

    /// Waits for this, at the budget's expense.
    pub(super) async fn spend<T>(&mut self, on: impl Future<Output = T>) -> Result<T, Spent> {
        let Some(left) = self.left else { return Ok(on.await) };
        let begun = Instant::now();
        let result = timeout(left, on).await;
        self.left = Some(left.saturating_sub(begun.elapsed()));
        result.map_err(|_| Spent)
    }
}
