//! The one place that reads the clock. All instants of a process have one epoch, so that those of different connections compare.

use std::sync::OnceLock;
use std::time::{Duration, Instant as Moment};

use persist_core::Instant;

use crate::sys;

/// Now, in the machine's terms.
#[inline]
pub(crate) fn now() -> Instant {
    Instant::from_nanos(sys::monotonic_nanos())
}

/// One of our instants, in the standard library's terms.
pub(crate) fn moment(instant: Instant) -> Moment {
    static BOTH: OnceLock<(Moment, Instant)> = OnceLock::new();
    let &(moment, same) = BOTH.get_or_init(|| (Moment::now(), now()));
    // One of the two is zero.
    moment + (instant - same) - (same - instant)
}

/// How long to wait until `deadline`: zero once it has passed, `None` for ever.
pub(crate) fn until(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline - now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on_and_distances_are_those_of_the_standard_library_before_and_behind_any_instant() {
        let hour = Duration::from_secs(3_600);
        let first = now();
        assert!(now() >= first && until(Some(first + hour)) <= Some(hour));
        assert_eq!((until(Some(first)), until(None)), (Some(Duration::ZERO), None));
        // The first of these is mostly before, the second behind the one from which both clocks are told.
        let late = now() + hour;
        assert_eq!(moment(late) - moment(first), late - first);
    }
}
