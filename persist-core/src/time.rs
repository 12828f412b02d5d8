//! The core's own instant: a duration since an epoch that the caller chose.

use core::ops::{Add, Sub};
use core::time::Duration;

/// A point in time, as nanoseconds since any epoch that the caller keeps to (584 years fit).
///
/// The core has no clock. An adapter passes the time into every call that needs it; a test passes whatever it likes.
///
/// ```
/// use core::time::Duration;
/// use persist_core::Instant;
///
/// let start = Instant::from_duration(Duration::from_secs(5));
/// assert_eq!((start + Duration::from_secs(2)) - start, Duration::from_secs(2));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The epoch itself.
    pub const ZERO: Self = Self(0);

    /// The instant that lies `since_epoch` after the epoch; saturates after 584 years.
    #[inline]
    pub const fn from_duration(since_epoch: Duration) -> Self {
        let seconds = since_epoch.as_secs().saturating_mul(1_000_000_000);
        Self(seconds.saturating_add(since_epoch.subsec_nanos() as u64))
    }

    /// How far from the epoch this instant lies.
    pub const fn since_epoch(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// The time from `earlier` to here; zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates: a deadline further than 584 years away is never reached anyway.
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(Self::from_duration(by).0))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// [`Instant::saturating_since`].
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}
