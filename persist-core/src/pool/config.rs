//! How many connections a pool holds, and for how long.

use core::time::Duration;

use crate::backoff::BackoffConfig;
use crate::contradiction::{Contradiction, at_most};

/// Limits and ages of a pool. [`Pool::new`](super::Pool::new) refuses contradictions.
///
/// ```
/// use persist_core::{Pool, PoolConfig};
///
/// let mut config = PoolConfig::default();
/// config.per_destination_max = 4;
/// let refused = Pool::new(config).unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "idle_per_destination_max 64 contradicts per_destination_max 4: no more connections can be idle than can be open",
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Connections in all, those being dialled included. 512: half of the 1,024 file descriptors that many systems grant a process.
    pub total_max: u32,
    /// Connections to one destination, those being dialled included. 64: more than one server serves well at a time, few enough that eight such destinations fit.
    pub per_destination_max: u32,
    /// Idle connections in all. 256: half of all; the least recently used goes first.
    pub idle_max: u32,
    /// Idle connections to one destination. 64, as many as can be open: a lower number makes a busy client close and dial all the time.
    pub idle_per_destination_max: u32,
    /// Requests that may wait for a connection, in all. 10,000: beyond that, waiting only hides that too much is asked.
    pub waiting_max: u32,
    /// An idle connection is closed after this time. 90 s: longer than most pauses of a person, shorter than most middleboxes remember.
    pub idle_timeout: Option<Duration>,
    /// A connection takes no further request at this age. None by default; a few minutes make clients follow changes of name resolution and of load balancing.
    pub age_max: Option<Duration>,
    /// A connection takes no further request after so many. None by default.
    pub requests_max: Option<u64>,
    /// Subtracted from what the peer announced in `Keep-Alive: timeout=`, so that we stop using a connection before the peer closes it. 1 s: a round trip, and clocks that tick in seconds.
    pub keep_alive_margin: Duration,
    /// How long a destination that failed is left alone.
    pub backoff: BackoffConfig,
}

impl PoolConfig {
    /// Checks it.
    ///
    /// # Errors
    /// [`Contradiction`], naming the two settings and their values.
    pub fn check(&self) -> Result<(), Contradiction> {
        let total = ("total_max", self.total_max);
        let per_destination = ("per_destination_max", self.per_destination_max);
        let idle = ("idle_max", self.idle_max);
        let idle_per_destination = ("idle_per_destination_max", self.idle_per_destination_max);
        at_most(("the least", 1), per_destination, "no request could ever be sent")?;
        at_most(("the least", 1), ("waiting_max", self.waiting_max), "no request could wait for its connection")?;
        at_most(per_destination, total, "one destination cannot have more connections than all together")?;
        at_most(idle_per_destination, per_destination, "no more connections can be idle than can be open")?;
        at_most(idle, total, "no more connections can be idle than can be open")?;
        at_most(idle_per_destination, idle, "one destination cannot have more idle connections than all together")?;
        if let Some(requests_max) = self.requests_max {
            at_most(("the least", 1), ("requests_max", requests_max), "no request could ever be sent")?;
        }
        let tick = ("the least", Duration::from_nanos(1));
        for (name, age) in [("idle_timeout", self.idle_timeout), ("age_max", self.age_max)] {
            at_most(
                tick,
                (name, age.unwrap_or(Duration::MAX)),
                "a connection would be too old before its first request",
            )?;
        }
        self.backoff.check()
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            total_max: 512,
            per_destination_max: 64,
            idle_max: 256,
            idle_per_destination_max: 64,
            waiting_max: 10_000,
            idle_timeout: Some(Duration::from_secs(90)),
            age_max: None,
            requests_max: None,
            keep_alive_margin: Duration::from_secs(1),
            backoff: BackoffConfig::default(),
        }
    }
}
