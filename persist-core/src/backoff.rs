//! How long to wait after a failure: capped exponential, with jitter from the caller's random numbers.

use core::time::Duration;

use crate::contradiction::{Contradiction, at_most};
use crate::time::Instant;

/// How waiting grows with each failure in a row.
///
/// The n-th failure in a row waits for `first * 2^(n-1)`, at most `max`; of that, a random part of up to `jitter_percent` is
/// taken off, so that those who failed together do not come back together.
///
/// ```
/// use core::time::Duration;
/// use persist_core::BackoffConfig;
///
/// let config = BackoffConfig::default();
/// assert_eq!(config.delay(1, 0), Duration::from_millis(100));
/// assert_eq!(config.delay(4, 0), Duration::from_millis(800));
/// assert_eq!(config.delay(4, u64::MAX), Duration::from_millis(400)); // all of the jitter
/// assert_eq!(config.delay(99, 0), config.max);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackoffConfig {
    /// After the first failure. 100 ms: longer than most round trips, too short for a person to notice.
    pub first: Duration,
    /// The longest wait. 10 s: a server that comes back is found soon, and one dial in ten seconds hurts nobody.
    pub max: Duration,
    /// How much of each wait is random, in percent, 0 to 100. 50: half of it, so that a thousand clients spread over half a delay.
    pub jitter_percent: u32,
}

/// Failures in a row, and when to try again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    ready_at: Instant,
}

impl BackoffConfig {
    /// Never waits. For tests, and for comparing.
    pub const fn none() -> Self {
        Self { first: Duration::ZERO, max: Duration::ZERO, jitter_percent: 0 }
    }

    /// The wait after so many failures in a row; none after none. `random` is any number, all of its bits equally likely.
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let whole = match 1u32.checked_shl(doublings) {
            Some(factor) => self.first.checked_mul(factor).unwrap_or(self.max).min(self.max),
            None if self.first.is_zero() => Duration::ZERO,
            None => self.max,
        };
        let jitter = u128::from(random >> 32) * whole.as_nanos() * u128::from(self.jitter_percent.min(100));
        // `random >> 32` is below 2^32, so that dividing by 2^32 - 1 reaches the whole of it.
        let jitter = jitter / (100 * u128::from(u32::MAX));
        whole - Duration::from_nanos(u64::try_from(jitter).unwrap_or(u64::MAX)).min(whole)
    }

    /// Checks it.
    ///
    /// # Errors
    /// `first` above `max`, or a jitter of more than all of it.
    pub fn check(&self) -> Result<(), Contradiction> {
        let why = "the first wait cannot be longer than the longest";
        at_most(("backoff first", self.first), ("backoff max", self.max), why)?;
        at_most(("jitter_percent", self.jitter_percent), ("the whole", 100), "no more than all of a wait can be random")
    }
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), max: Duration::from_secs(10), jitter_percent: 50 }
    }
}

impl Backoff {
    /// One more failure; returns when to try again.
    pub fn handle_failure(&mut self, config: &BackoffConfig, now: Instant, random: u64) -> Instant {
        self.failures = self.failures.saturating_add(1);
        self.ready_at = now + config.delay(self.failures, random);
        self.ready_at
    }

    /// It works again: the next failure is a first one.
    pub fn handle_success(&mut self) {
        *self = Self::default();
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When to try again; `None` after a success.
    pub fn ready_at(&self) -> Option<Instant> {
        (self.failures > 0).then_some(self.ready_at)
    }

    /// Whether to try now.
    pub fn is_ready(&self, now: Instant) -> bool {
        self.failures == 0 || now >= self.ready_at
    }
}

#[cfg(test)]
mod tests;
