//! Looking after idle connections: when each is checked, and what a look at one means.
//!
//! A look is one non-blocking read (through TLS where there is TLS, for a TLS 1.3 socket is readable from session tickets alone). The
//! same look is taken right before a connection is reused.

use alloc::vec::Vec;
use core::time::Duration;

use crate::close::CloseReason;
use crate::contradiction::{Contradiction, at_most};
use crate::pool::{ConnId, Pool};
use crate::time::Instant;

/// How often idle connections are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpkeepConfig {
    /// From one round of looks to the next. 5 s: dead connections are noticed before they are needed, at the price of one system call each.
    pub interval: Duration,
    /// Sends `OPTIONS *` on a connection that was quiet for so long, to learn whether the peer still answers. `None`, the default: idle servers are left alone.
    pub probe_after: Option<Duration>,
    /// Checks in one round at most; the rest come in the next, least recently used first. 64.
    pub checks_max: u32,
}

/// One connection to be checked. The pool has lent it out (`check_out`): answer with `release` or `handle_closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checking {
    /// Which.
    pub conn: ConnId,
    /// How.
    pub check: Check,
}

/// How a connection is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// One non-blocking read; then `release(Use::Unused)` or `handle_closed`.
    Look,
    /// An `OPTIONS *` request; then `release(Use::Probed)` or `handle_closed`.
    Probe,
}

/// What one non-blocking read on an idle connection gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance<'a> {
    /// Nothing to read.
    Nothing,
    /// The peer closed its side.
    Eof,
    /// The peer sent something, after decryption.
    Bytes(&'a [u8]),
    /// Reading failed.
    Failed,
}

/// What that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Use it.
    Usable,
    /// A stray CRLF, which is dropped (RFC 9112 §2.2): look again, for more may follow.
    LookAgain,
    /// Never use it, and why.
    Stale(CloseReason),
}

/// The rounds of checks of one pool.
#[derive(Clone, Debug)]
pub struct Upkeep {
    config: UpkeepConfig,
    next_at: Instant,
    /// Where the last round stopped, so that the next goes on behind it.
    last: Option<ConnId>,
}

impl Glance<'_> {
    /// Judges an idle HTTP/1.1 connection.
    ///
    /// ```
    /// use persist_core::{CloseReason, Glance, Verdict};
    ///
    /// assert_eq!(Glance::Nothing.verdict(), Verdict::Usable);
    /// assert_eq!(Glance::Eof.verdict(), Verdict::Stale(CloseReason::PeerClosed));
    /// assert_eq!(Glance::Bytes(b"HTTP/1.1 200 OK\r\n").verdict(), Verdict::Stale(CloseReason::Poisoned));
    /// assert_eq!(Glance::Bytes(b"\r\n").verdict(), Verdict::LookAgain);
    /// ```
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Nothing => Verdict::Usable,
            Self::Eof => Verdict::Stale(CloseReason::PeerClosed),
            Self::Failed => Verdict::Stale(CloseReason::Io(crate::Side::Read)),
            Self::Bytes(bytes) if is_stray_line_end(bytes) => Verdict::LookAgain,
            // RFC 9110 §15.5.9: a 408 on an idle connection says that the server closes it; nobody's answer.
            Self::Bytes([b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', b'4', b'0', b'8', ..]) => {
                Verdict::Stale(CloseReason::PeerClosed)
            }
            // RFC 9112 §9.2: what answers no request is no response. Whoever sent it might have meant the next one.
            Self::Bytes(_) => Verdict::Stale(CloseReason::Poisoned),
        }
    }
}

/// At most two line ends: a body that was longer than it said by a CRLF, as old servers wrote it. More is something else.
fn is_stray_line_end(bytes: &[u8]) -> bool {
    matches!(bytes, b"\r\n" | b"\n" | b"\r\n\r\n" | b"\n\n")
}

impl UpkeepConfig {
    /// Checks it.
    ///
    /// # Errors
    /// No interval, no checks, or probes more often than rounds.
    pub fn check(&self) -> Result<(), Contradiction> {
        let interval = ("interval", self.interval);
        at_most(("the least", Duration::from_millis(1)), interval, "checking would be all that is done")?;
        at_most(("the least", 1), ("checks_max", self.checks_max), "no connection would be checked")?;
        let probe = ("probe_after", self.probe_after.unwrap_or(Duration::MAX));
        at_most(interval, probe, "a probe is sent in a round, so no earlier than the next one")
    }
}

impl Default for UpkeepConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), probe_after: None, checks_max: 64 }
    }
}

impl Upkeep {
    /// The first round is one interval away.
    ///
    /// # Errors
    /// [`Contradiction`] in the configuration.
    pub fn new(config: UpkeepConfig, now: Instant) -> Result<Self, Contradiction> {
        config.check()?;
        Ok(Self { config, next_at: now + config.interval, last: None })
    }

    /// The connections to be checked now; none if no round is due.
    pub fn handle_timeout(&mut self, pool: &mut Pool, now: Instant) -> Vec<Checking> {
        if now < self.next_at {
            return Vec::new();
        }
        self.next_at = now + self.config.interval;
        let max = self.config.checks_max as usize;
        let idle: Vec<_> = pool.idle().collect();
        let start = self.last.and_then(|last| idle.iter().position(|idle| idle.conn == last)).map_or(0, |at| at + 1);
        let round: Vec<_> = idle[start..].iter().chain(&idle[..start]).take(max).collect();
        self.last = round.last().filter(|_| round.len() < idle.len()).map(|idle| idle.conn);
        let checks = round.into_iter().map(|idle| {
            let quiet = now.saturating_since(idle.quiet_since);
            let probes = self.config.probe_after.is_some_and(|after| quiet >= after);
            Checking { conn: idle.conn, check: if probes { Check::Probe } else { Check::Look } }
        });
        checks.filter(|checking| pool.check_out(checking.conn, now)).collect()
    }

    /// When the next round is due; `None` while nothing is idle, so that an empty pool wakes nobody.
    pub fn poll_timeout(&self, pool: &Pool) -> Option<Instant> {
        (pool.counts().idle > 0).then_some(self.next_at)
    }
}

#[cfg(test)]
mod tests;
