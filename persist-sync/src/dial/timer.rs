//! The deadlines of one dial, by this system's clock.

use std::io;
use std::time::Duration;

use persist_core::{DialClock, DialConfig, DialTimeout, Phase};

use crate::clock;
use crate::error::Error;
use crate::ready::{Directions, wait_alone};
use crate::stream::Stream;

/// The deadlines of one dial that is under way: [`DialClock`], told the time. Passed along to whoever does a part of the dial.
///
/// ```
/// use std::time::Duration;
/// use persist_sync::persist_core::{DialConfig, Phase};
/// use persist_sync::DialTimer;
///
/// let mut timer = DialTimer::new(DialConfig::default());
/// timer.enter(Phase::Connect);
/// assert!(timer.left()?.is_some_and(|left| left <= Duration::from_secs(10)));
/// # Ok::<(), persist_sync::persist_core::DialTimeout>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DialTimer(DialClock);

impl DialTimer {
    /// A dial begins, with resolving.
    pub fn new(config: DialConfig) -> Self {
        Self(DialClock::new(config, clock::now()))
    }

    /// The next phase begins.
    pub fn enter(&mut self, phase: Phase) {
        self.0.enter(phase, clock::now());
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        self.0.phase()
    }

    /// What is left of the phase or of the whole dial, whichever is less; `None` for any time.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn left(&self) -> Result<Option<Duration>, DialTimeout> {
        self.0.check(clock::now())?;
        Ok(clock::until(self.0.poll_timeout()))
    }

    /// A failure in the current phase.
    pub(crate) fn failed(&self, cause: impl Into<persist_core::BoxError>) -> Error {
        Error::new(self.phase(), cause)
    }

    /// Waits until the stream is ready; 'not yet' is no failure as long as there is time.
    pub(crate) fn wait(&self, stream: &Stream, wanted: Directions) -> Result<(), persist_core::BoxError> {
        let left = self.left()?;
        wait_alone(stream, wanted, left)?;
        Ok(())
    }
}

/// Whether a call only has to be made again later.
pub(crate) fn not_yet(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
