//! How long dialling may take, phase by phase.

use core::time::Duration;

use crate::contradiction::{Contradiction, at_most};
use crate::exchange_error::Phase;
use crate::happy_eyeballs::HappyEyeballsConfig;
use crate::time::Instant;

/// Deadlines of a dial, and how several addresses are tried. `None` means: no deadline of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialConfig {
    /// Turning a name into addresses. 5 s: what a stub resolver takes to ask one silent server and then another.
    pub resolve: Option<Duration>,
    /// Opening a socket, all addresses together. 10 s: three lost SYN packets.
    pub connect: Option<Duration>,
    /// Each proxy, each TLS handshake, and the session that `on_connect` sets up. 10 s.
    pub handshake: Option<Duration>,
    /// The whole dial. 30 s.
    pub total: Option<Duration>,
    /// How addresses are raced.
    pub happy_eyeballs: HappyEyeballsConfig,
}

/// The deadlines of one dial that is under way.
///
/// ```
/// use core::time::Duration;
/// use persist_core::{DialClock, DialConfig, Instant, Phase};
///
/// let start = Instant::ZERO;
/// let mut clock = DialClock::new(DialConfig::default(), start);
/// clock.enter(Phase::Connect, start + Duration::from_secs(1));
/// assert_eq!(clock.poll_timeout(), Some(start + Duration::from_secs(11)));
/// let timeout = clock.check(start + Duration::from_secs(11)).unwrap_err();
/// assert_eq!(timeout.to_string(), "no connection within 10s");
/// # use std::string::ToString;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DialClock {
    config: DialConfig,
    phase: Phase,
    began: Instant,
    entered: Instant,
}

/// A phase of a dial took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} within {after:?}", missing(*phase))]
#[non_exhaustive]
pub struct DialTimeout {
    /// What was being done.
    pub phase: Phase,
    /// How long it was given: the phase's time, or what was left of the whole dial's when it began.
    pub after: Duration,
}

fn missing(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolve => "no addresses",
        Phase::Connect => "no connection",
        Phase::Tunnel => "no answer of the proxy",
        _ => "no end of the handshake",
    }
}

impl DialConfig {
    /// No deadline at all, for callers with their own.
    pub const fn unlimited() -> Self {
        Self { resolve: None, connect: None, handshake: None, total: None, happy_eyeballs: HappyEyeballsConfig::rfc() }
    }

    /// Checks it.
    ///
    /// # Errors
    /// A phase longer than the whole, or a race whose next attempt begins only when connecting has timed out.
    pub fn check(&self) -> Result<(), Contradiction> {
        let total = ("total", self.total.unwrap_or(Duration::MAX));
        for (name, phase) in [("resolve", self.resolve), ("connect", self.connect), ("handshake", self.handshake)] {
            at_most(
                (name, phase.unwrap_or(Duration::ZERO)),
                total,
                "a part of a dial cannot take longer than all of it",
            )?;
        }
        let connect = ("connect", self.connect.unwrap_or(Duration::MAX));
        let delay = ("attempt_delay", self.happy_eyeballs.attempt_delay);
        at_most(delay, connect, "connecting would end before the second address is tried")?;
        self.happy_eyeballs.check()
    }
}

impl Default for DialConfig {
    fn default() -> Self {
        Self {
            resolve: Some(Duration::from_secs(5)),
            connect: Some(Duration::from_secs(10)),
            handshake: Some(Duration::from_secs(10)),
            total: Some(Duration::from_secs(30)),
            happy_eyeballs: HappyEyeballsConfig::rfc(),
        }
    }
}

impl DialClock {
    /// A dial begins, with resolving.
    pub const fn new(config: DialConfig, now: Instant) -> Self {
        Self { config, phase: Phase::Resolve, began: now, entered: now }
    }

    /// The next phase begins: `Connect`, `Tunnel` or `Handshake`, the last two once for each proxy and handshake.
    pub fn enter(&mut self, phase: Phase, now: Instant) {
        (self.phase, self.entered) = (phase, now);
    }

    /// When to call [`check`](Self::check).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Resolve => self.config.resolve,
            Phase::Connect => self.config.connect,
            _ => self.config.handshake,
        };
        let ends = [phase.map(|time| self.entered + time), self.config.total.map(|time| self.began + time)];
        ends.into_iter().flatten().min()
    }

    /// Whether there is time left.
    ///
    /// # Errors
    /// [`DialTimeout`], with the phase that it ends.
    pub fn check(&self, now: Instant) -> Result<(), DialTimeout> {
        match self.poll_timeout().filter(|at| *at <= now) {
            None => Ok(()),
            Some(at) => Err(DialTimeout { phase: self.phase, after: at - self.entered }),
        }
    }

    /// The current phase.
    pub const fn phase(&self) -> Phase {
        self.phase
    }
}

#[cfg(test)]
mod tests;
