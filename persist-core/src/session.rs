//! The session of a `PersistentStream`: when to dial, when to wait, when to give up, and what counts as having worked.
//!
//! One line per transition:
//!
//! | state | event | next |
//! |---|---|---|
//! | `Idle` | use | `Dialing` |
//! | `Dialing` | dialled | `Greeting` |
//! | `Greeting` | greeted | `Healthy` |
//! | `Dialing`, `Greeting` | failed | `Waiting`, or `GivenUp` after the last retry |
//! | `Waiting` | use, once the wait is over | `Dialing` |
//! | `Healthy` | broken, after a received byte or a life longer than the backoff | `Idle` |
//! | `Healthy` | broken before | `Waiting`, or `GivenUp` |
//! | any | close | `Idle`, nothing remembered |

use core::time::Duration;

use crate::backoff::{Backoff, BackoffConfig};
use crate::contradiction::Contradiction;
use crate::time::Instant;

/// How a session redials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionConfig {
    /// Waits between dials that fail in a row.
    pub backoff: BackoffConfig,
    /// Dials in a row that may fail after the first. 10: with the default backoff, about a minute. `None`: never gives up.
    pub retries_max: Option<u32>,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionState {
    /// No connection, and nothing against making one.
    Idle,
    /// Dialling failed, or a connection broke at once; the next dial waits.
    Waiting {
        /// Until then.
        until: Instant,
    },
    /// A dial is under way.
    Dialing,
    /// Connected; the `on_connect` hook re-establishes the session, and user bytes wait.
    Greeting,
    /// User bytes flow.
    Healthy,
    /// The last retry failed. Only [`Session::close`] leads out of here.
    GivenUp,
}

/// What whoever wants to read or write must do first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStep {
    /// Dial, then run the hook; tell the session how each went.
    Dial,
    /// Wait until then, and ask again.
    Wait(Instant),
    /// Somebody else dials or greets: wait for them.
    Busy,
    /// Nothing: use the connection.
    Go,
}

/// All retries failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gave up after {failures} connections in a row that failed; close the stream to begin anew")]
#[non_exhaustive]
pub struct GaveUp {
    /// How many.
    pub failures: u32,
}

/// The session of one `PersistentStream`.
///
/// An end of file or an error of the connection is the caller's to see, once, where it happened; [`handle_broken`](Self::handle_broken) notes it. The **next** read or write
/// asks [`poll_use`](Self::poll_use), which leads to a new connection.
///
/// ```
/// use persist_core::{Instant, Session, SessionConfig, SessionStep};
///
/// let now = Instant::ZERO;
/// let mut session = Session::new(SessionConfig::default())?;
/// assert_eq!(session.poll_use(now)?, SessionStep::Dial);
/// session.handle_dialed();
/// session.handle_greeted(now); // after the `on_connect` hook, or at once where there is none
/// assert_eq!(session.poll_use(now)?, SessionStep::Go);
/// session.handle_received();
/// session.handle_broken(now, 0); // the caller got the error
/// assert_eq!(session.poll_use(now)?, SessionStep::Dial); // a connection that worked is replaced at once
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    config: SessionConfig,
    state: SessionState,
    backoff: Backoff,
    greeted_at: Instant,
    received: bool,
    connections: u64,
}

impl SessionConfig {
    /// Checks it.
    ///
    /// # Errors
    /// What [`BackoffConfig::check`] says.
    pub fn check(&self) -> Result<(), Contradiction> {
        self.backoff.check()
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self { backoff: BackoffConfig::default(), retries_max: Some(10) }
    }
}

impl Session {
    /// A session that has not dialled yet.
    ///
    /// # Errors
    /// [`Contradiction`] in the configuration.
    pub fn new(config: SessionConfig) -> Result<Self, Contradiction> {
        config.check()?;
        Ok(Self {
            config,
            state: SessionState::Idle,
            backoff: Backoff::default(),
            greeted_at: Instant::ZERO,
            received: false,
            connections: 0,
        })
    }

    /// Somebody wants to read or write: what must happen first. [`SessionStep::Dial`] is said once for each dial.
    ///
    /// # Errors
    /// [`GaveUp`], until [`close`](Self::close).
    pub fn poll_use(&mut self, now: Instant) -> Result<SessionStep, GaveUp> {
        match self.state {
            SessionState::Waiting { until } if now < until => Ok(SessionStep::Wait(until)),
            SessionState::Idle | SessionState::Waiting { .. } => {
                self.state = SessionState::Dialing;
                Ok(SessionStep::Dial)
            }
            SessionState::Dialing | SessionState::Greeting => Ok(SessionStep::Busy),
            SessionState::Healthy => Ok(SessionStep::Go),
            SessionState::GivenUp => Err(GaveUp { failures: self.backoff.failures() }),
        }
    }

    /// The dial succeeded: now the hook runs.
    pub fn handle_dialed(&mut self) {
        if self.state == SessionState::Dialing {
            self.state = SessionState::Greeting;
        }
    }

    /// The hook succeeded, or there is none: user bytes may flow.
    pub fn handle_greeted(&mut self, now: Instant) {
        if self.state == SessionState::Greeting {
            (self.state, self.greeted_at, self.received) = (SessionState::Healthy, now, false);
            self.connections += 1;
        }
    }

    /// The dial or the hook failed, or whoever did it gave up. `random` is any number, for the jitter.
    pub fn handle_failed(&mut self, now: Instant, random: u64) {
        if matches!(self.state, SessionState::Dialing | SessionState::Greeting) {
            self.count_failure(now, random);
        }
    }

    /// User bytes came from the peer: it works, and earlier failures mean nothing any more.
    ///
    /// There is no such call for bytes written: the kernel takes them from anybody, and a server that accepts and closes would be stormed.
    pub fn handle_received(&mut self) {
        if self.state == SessionState::Healthy {
            self.received = true;
            self.backoff.handle_success();
        }
    }

    /// The connection ended or failed, and the caller was told.
    pub fn handle_broken(&mut self, now: Instant, random: u64) {
        if self.state != SessionState::Healthy {
            return;
        }
        let lived = now.saturating_since(self.greeted_at);
        let outlived = lived > self.config.backoff.delay(self.backoff.failures() + 1, 0);
        if self.received || outlived {
            self.backoff.handle_success();
            self.state = SessionState::Idle;
        } else {
            self.count_failure(now, random);
        }
    }

    /// The caller closed it: forgets everything. It can be used again.
    pub fn close(&mut self) {
        self.state = SessionState::Idle;
        self.backoff.handle_success();
    }

    /// Where it stands.
    pub fn state(&self) -> SessionState {
        self.state
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// How many connections became healthy, in all.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// How long the current connection has been healthy.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        (self.state == SessionState::Healthy).then(|| now.saturating_since(self.greeted_at))
    }

    fn count_failure(&mut self, now: Instant, random: u64) {
        let until = self.backoff.handle_failure(&self.config.backoff, now, random);
        let given_up = self.config.retries_max.is_some_and(|max| self.backoff.failures() > max);
        self.state = if given_up { SessionState::GivenUp } else { SessionState::Waiting { until } };
    }
}

#[cfg(test)]
mod tests;
