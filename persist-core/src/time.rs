//! The core's own instant: a duration since an epoch that the caller chose.

use core::fmt;
use core::num::NonZeroU64;
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(NonZeroU64); // one more than that, so that an instant or none takes no more room

impl Instant {
    /// The epoch itself.
    pub const ZERO: Self = Self(NonZeroU64::MIN);

    /// The instant that lies `since_epoch` after the epoch; saturates after 584 years.
    #[inline]
    pub const fn from_duration(since_epoch: Duration) -> Self {
        Self::from_nanos(nanos(since_epoch))
    }

    /// The same for a clock that counts nanoseconds.
    #[inline]
    pub const fn from_nanos(since_epoch: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(since_epoch))
    }

    /// How far from the epoch this instant lies.
    pub const fn since_epoch(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }

    /// The time from `earlier` to here; zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

/// Saturates.
#[inline]
const fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos() as u64)
}

impl Default for Instant {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instant").field(&(self.0.get() - 1)).finish()
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates: a deadline further than 584 years away is never reached anyway.
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// [`Instant::saturating_since`].
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_zero_and_the_far_end_is_never_passed() {
        let far = Instant::from_duration(Duration::MAX);
        assert_eq!(Instant::from_duration(Duration::ZERO), Instant::ZERO);
        assert_eq!(Instant::ZERO.since_epoch(), Duration::ZERO);
        assert_eq!(
            (Instant::from_nanos(u64::MAX), Instant::from_nanos(7)),
            (far, Instant::ZERO + Duration::from_nanos(7))
        );
        assert_eq!((far + Duration::MAX, Instant::ZERO - far), (far, Duration::ZERO));
        let nano = Duration::from_nanos(1);
        assert_eq!((Instant::ZERO + nano).since_epoch(), nano);
        assert!(Instant::ZERO < Instant::ZERO + nano && Instant::ZERO + nano < far);
        assert_eq!(size_of::<Option<Instant>>(), size_of::<u64>());
    }
}
