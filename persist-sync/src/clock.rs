//! The one place that reads the clock: the machine's instants count from a moment early in the life of the process.

use std::sync::OnceLock;
use std::time::{Duration, Instant as Moment};

use persist_core::Instant;

/// Now, in the machine's terms. One epoch for the whole process, so that instants of different connections compare.
pub(crate) fn now() -> Instant {
    // 584 years fit.
    Instant::from_nanos(epoch().elapsed().as_nanos() as u64)
}

/// One of our instants, in the standard library's terms.
pub(crate) fn moment(instant: Instant) -> Moment {
    epoch() + instant.since_epoch()
}

fn epoch() -> Moment {
    static EPOCH: OnceLock<Moment> = OnceLock::new();
    *EPOCH.get_or_init(Moment::now)
}

/// How long to wait until `deadline`: zero once it has passed, `None` for ever.
pub(crate) fn until(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline - now())
}
