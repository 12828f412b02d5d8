//! Tokio's clock, as the core's instants.

use std::time::Duration;

use persist_core::Instant;

/// The time of one connection: it begins at the core's zero. Follows tokio's paused time in tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: tokio::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { epoch: tokio::time::Instant::now() }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_duration(tokio::time::Instant::now().saturating_duration_since(self.epoch))
    }

    /// The same instant on tokio's clock, which all connections share.
    pub(crate) fn at(&self, now: Instant) -> tokio::time::Instant {
        self.epoch + now.since_epoch()
    }

    /// An instant of tokio's clock, as this clock's.
    pub(crate) fn of(&self, time: tokio::time::Instant) -> Instant {
        Instant::from_duration(time.saturating_duration_since(self.epoch))
    }

    /// When `deadline` is on tokio's clock; far in the future if that cannot be said.
    pub(crate) fn deadline(&self, deadline: Instant) -> tokio::time::Instant {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
        self.epoch + deadline.since_epoch().min(CENTURY)
    }
}
