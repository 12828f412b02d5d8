//! What a client counts as it happens.

use std::sync::atomic::{AtomicU64, Ordering};

use persist_core::stats::ClientStats;

/// One count. It orders nothing: whoever asks gets a number that was true a moment ago.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

/// All that is not counted by the pool or the connections.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: Count,
    pub(super) failed: Count,
    pub(super) retries: Count,
    pub(super) dials: Count,
    pub(super) dials_failed: Count,
    pub(super) stale: Count,
}

impl Count {
    /// One more.
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    pub(super) fn stats(&self) -> ClientStats {
        let mut stats = ClientStats::default();
        (stats.requests, stats.failed, stats.retries) = (self.requests.get(), self.failed.get(), self.retries.get());
        (stats.dials, stats.dials_failed, stats.stale) = (self.dials.get(), self.dials_failed.get(), self.stale.get());
        stats
    }
}
