//! Dialling: from a route to a stream, through resolvers, sockets, proxies and TLS, within its deadlines.

use persist_core::{DialClock, DialConfig, Phase};

use crate::clock;
use crate::error::{Error, Result};
use crate::race::{Either, race};

mod connector;
mod eyeballs;
mod resolver;
mod socket;
mod tunnel;

pub use connector::Connector;
pub use eyeballs::ConnectFailures;
pub use resolver::{Resolver, SystemResolver};
pub use socket::{Dialer, SocketDialer};

/// The deadlines of one dial that is under way: the core's [`DialClock`] on tokio's clock.
///
/// ```
/// use persist_async::persist_core::{DialConfig, Phase};
/// use persist_async::{DialTimer, Error};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mut timer = DialTimer::new(DialConfig::default());
/// let never = std::future::pending::<Result<(), Error>>();
/// let error = timer.within(Phase::Connect, never).await.unwrap_err();
/// assert_eq!(error.to_string(), "cannot connect: no connection within 10s; is the server running, and the port right?");
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DialTimer {
    phases: DialClock,
}

impl DialTimer {
    /// A dial begins now.
    pub fn new(config: DialConfig) -> Self {
        Self { phases: DialClock::new(config, clock::now()) }
    }

    /// Does the work of one phase, which begins now, and drops it when the phase's time, or the whole dial's, is over.
    ///
    /// # Errors
    /// What `work` fails with; [`DialTimeout`](persist_core::DialTimeout) is the cause if there was no time left.
    pub async fn within<T>(&mut self, phase: Phase, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.phases.enter(phase, clock::now());
        let Some(due) = self.phases.poll_timeout() else { return work.await };
        match race(work, tokio::time::sleep_until(clock::at(due))).await {
            Either::Left(outcome) => outcome,
            // The timer may be a hair early: the deadline counts as passed all the same.
            Either::Right(()) => match self.phases.check(clock::now().max(due)) {
                Err(timeout) => Err(Error::new(phase, timeout)),
                Ok(()) => unreachable!("the deadline is not before `due`"),
            },
        }
    }
}
