//! Heartbeats: when to send one, and when silence means that the peer is gone.

use core::time::Duration;

use crate::contradiction::{Contradiction, at_most};
use crate::time::Instant;

/// How often, and how long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeartbeatConfig {
    /// How long the peer may be silent before a heartbeat is sent; and from one heartbeat to the next.
    pub interval: Duration,
    /// How long after a heartbeat the peer may stay silent before it counts as gone. `None`: for ever, where the protocol has no answer to heartbeats.
    pub answer: Option<Duration>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Send the payload.
    Send,
    /// The peer did not answer in time: the connection is broken.
    Dead {
        /// How long it had been silent.
        silent: Duration,
    },
}

/// The cause of a connection's end where [`Beat::Dead`] said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer was silent for {silent:?}, and did not answer the heartbeat")]
#[non_exhaustive]
pub struct PeerSilent {
    /// How long it had been silent.
    pub silent: Duration,
}

impl PeerSilent {
    /// Silent for so long.
    pub const fn new(silent: Duration) -> Self {
        Self { silent }
    }
}

/// The heartbeat of one connection. Any received byte is an answer.
///
/// ```
/// use core::time::Duration;
/// use persist_core::{Beat, Heartbeat, HeartbeatConfig, Instant};
///
/// let second = Duration::from_secs(1);
/// let start = Instant::ZERO;
/// let mut heartbeat = Heartbeat::new(HeartbeatConfig::every(30 * second).answered_within(5 * second), start)?;
/// assert_eq!(heartbeat.poll_timeout(), Some(start + 30 * second));
/// assert_eq!(heartbeat.handle_timeout(start + 30 * second), Some(Beat::Send));
/// assert_eq!(heartbeat.handle_timeout(start + 35 * second), Some(Beat::Dead { silent: 35 * second }));
/// # Ok::<(), persist_core::Contradiction>(())
/// ```
#[derive(Clone, Debug)]
pub struct Heartbeat {
    config: HeartbeatConfig,
    heard_at: Instant,
    sent_at: Instant,
    /// The first heartbeat since the peer was last heard.
    unanswered_since: Option<Instant>,
    dead: bool,
}

impl HeartbeatConfig {
    /// A heartbeat after so long a silence; no answer is expected.
    pub const fn every(interval: Duration) -> Self {
        Self { interval, answer: None }
    }

    /// The same, with an answer expected.
    #[must_use]
    pub const fn answered_within(mut self, answer: Duration) -> Self {
        self.answer = Some(answer);
        self
    }

    /// Checks it.
    ///
    /// # Errors
    /// An interval or an answer time of nothing.
    pub fn check(&self) -> Result<(), Contradiction> {
        let least = ("the least", Duration::from_millis(1));
        at_most(least, ("interval", self.interval), "heartbeats would be all that is sent")?;
        at_most(least, ("answer", self.answer.unwrap_or(Duration::MAX)), "no peer answers that fast")
    }
}

impl Heartbeat {
    /// The connection was just made.
    ///
    /// # Errors
    /// [`Contradiction`] in the configuration.
    pub fn new(config: HeartbeatConfig, now: Instant) -> Result<Self, Contradiction> {
        config.check()?;
        Ok(Self { config, heard_at: now, sent_at: now, unanswered_since: None, dead: false })
    }

    /// Bytes came from the peer.
    pub fn handle_received(&mut self, now: Instant) {
        self.heard_at = now;
        self.unanswered_since = None;
    }

    /// Time has passed; call when [`poll_timeout`](Self::poll_timeout) is due, and do what it says. Spurious calls are no-ops.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Beat> {
        if self.dead {
            return None;
        }
        if self.answer_due().is_some_and(|at| at <= now) {
            self.dead = true;
            return Some(Beat::Dead { silent: now.saturating_since(self.heard_at) });
        }
        if now < self.beat_due() {
            return None;
        }
        self.sent_at = now;
        self.unanswered_since.get_or_insert(now);
        Some(Beat::Send)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.answer_due().map_or(self.beat_due(), |answer| answer.min(self.beat_due()));
        (!self.dead).then_some(due)
    }

    fn beat_due(&self) -> Instant {
        self.heard_at.max(self.sent_at) + self.config.interval
    }

    fn answer_due(&self) -> Option<Instant> {
        Some(self.unanswered_since? + self.config.answer?)
    }
}

#[cfg(test)]
mod tests;
