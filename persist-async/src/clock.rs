//! The one place that reads the clock, which is tokio's: in tests its time can be paused. All instants of a process have one epoch, so that those of different
//! connections compare.

use std::sync::OnceLock;
use std::time::{Duration, Instant as Moment};

use persist_core::Instant;

/// The epoch lies so far back, for the time of a runtime may have been paused before the first reading.
const DAY: Duration = Duration::from_secs(86_400);

fn epoch() -> Moment {
    static EPOCH: OnceLock<Moment> = OnceLock::new();
    *EPOCH.get_or_init(|| {
        let now = Moment::now();
        now.checked_sub(DAY).unwrap_or(now)
    })
}

/// Now, in the machine's terms.
#[inline]
pub(crate) fn now() -> Instant {
    of(tokio::time::Instant::now())
}

/// An instant of tokio's clock, in the machine's terms.
#[inline]
pub(crate) fn of(time: tokio::time::Instant) -> Instant {
    Instant::from_duration(time.into_std().saturating_duration_since(epoch()))
}

/// So long from now, on tokio's clock.
pub(crate) fn after(within: Duration) -> tokio::time::Instant {
    at(now() + within)
}

/// One of our instants on tokio's clock; far in the future if that cannot be said.
pub(crate) fn at(instant: Instant) -> tokio::time::Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    (epoch() + instant.since_epoch().min(CENTURY)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_is_tokios_and_no_deadline_is_too_far_for_it() {
        let before = now();
        tokio::time::advance(DAY).await;
        assert_eq!(now().saturating_since(before), DAY);
        assert_eq!(at(now()), tokio::time::Instant::now());
        assert_eq!(of(at(before)), before);
        assert_eq!(after(DAY), tokio::time::Instant::now() + DAY);
        assert!(after(Duration::MAX) > at(now()));
    }
}
