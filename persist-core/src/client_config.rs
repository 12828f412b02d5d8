//! Everything that a pooled client decides by, in one place.

use alloc::sync::Arc;
use core::time::Duration;

use crate::config::Config;
use crate::contradiction::{Contradiction, at_most};
use crate::dialing::DialConfig;
use crate::pool::PoolConfig;
use crate::retry::RetryPolicy;
use crate::route::{Direct, Router};
use crate::socket_config::SocketConfig;
use crate::upkeep::UpkeepConfig;

/// The configuration of a pooled client. Each part's defaults, with their reasons, stand at its fields.
///
/// ```
/// use core::time::Duration;
/// use persist_core::ClientConfig;
///
/// let mut config = ClientConfig::default();
/// config.pool.idle_timeout = Some(Duration::from_secs(300));
/// assert_eq!(
///     config.check().unwrap_err().to_string(),
///     "pool idle_timeout 300s contradicts conn idle 90s: a connection would close itself while the pool still lends it",
/// );
/// config.conn.timeouts.idle = None;
/// assert_eq!(config.check(), Ok(()));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Each connection: limits, deadlines, leniency, pipelining.
    pub conn: Config,
    /// How many connections there may be, and for how long.
    pub pool: PoolConfig,
    /// How long dialling may take, and how addresses are raced.
    pub dial: DialConfig,
    /// How sockets are set up.
    pub socket: SocketConfig,
    /// What is sent again after a failure.
    pub retry: RetryPolicy,
    /// How idle connections are looked after.
    pub upkeep: UpkeepConfig,
    /// How long a request waits for a connection at most, dialling included. 60 s: longer than any dial may take, so that it ends only what is stuck in a queue.
    pub wait_timeout: Option<Duration>,
    /// How long a request may take as a whole: waiting, dialling, retries, the exchange, and the reply's content. None by default: content may be as long as it likes.
    pub deadline: Option<Duration>,
    /// How many failed requests, all destinations together, are kept for whoever asks for them (`Client::pending_to`); the oldest make room. 64: a burst on one
    /// connection that broke; 0 keeps none.
    pub failures_max: usize,
    /// How destinations are reached.
    pub router: Arc<dyn Router>,
}

impl ClientConfig {
    /// Checks all parts, and that they fit together.
    ///
    /// # Errors
    /// [`Contradiction`], naming the two settings and their values.
    pub fn check(&self) -> Result<(), Contradiction> {
        self.pool.check()?;
        self.dial.check()?;
        self.socket.check()?;
        self.retry.check()?;
        self.upkeep.check()?;
        at_most(("the least", 1), ("pipelining depth", self.conn.pipelining.depth), "no request could ever be sent")?;
        let never = Duration::MAX;
        let deadline = ("deadline", self.deadline.unwrap_or(never));
        at_most(("the least", Duration::from_nanos(1)), deadline, "every request would be too late")?;
        let (pool, conn) = (self.pool.idle_timeout.unwrap_or(never), self.conn.timeouts.idle.unwrap_or(never));
        let why = "a connection would close itself while the pool still lends it";
        at_most(("pool idle_timeout", pool), ("conn idle", conn), why)?;
        let (dial, wait) = (self.dial.total.unwrap_or(Duration::ZERO), self.wait_timeout.unwrap_or(never));
        at_most(("dial total", dial), ("wait_timeout", wait), "a request would stop waiting before its dial may end")
    }
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            conn: Config::client(),
            pool: PoolConfig::default(),
            dial: DialConfig::default(),
            socket: SocketConfig::default(),
            retry: RetryPolicy::default(),
            upkeep: UpkeepConfig::default(),
            wait_timeout: Some(Duration::from_secs(60)),
            deadline: None,
            failures_max: 64,
            router: Arc::new(Direct),
        }
    }
}

#[cfg(test)]
mod tests;
