//! Connects to whichever address answers first, by the core's schedule (RFC 8305).

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use persist_core::{HappyEyeballs, HappyEyeballsConfig};
use tokio::time::Sleep;

use crate::clock;

/// Several addresses were tried, and none took the connection. The value inside an [`io::Error`] of the last one's kind.
///
/// ```
/// use std::error::Error as _;
/// use persist_async::{ConnectFailures, Error};
///
/// /// What each address of the destination answered.
/// fn attempts(error: &Error) -> &[(std::net::SocketAddr, std::io::Error)] {
///     let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
///     let failures = cause.and_then(|cause| cause.get_ref()).and_then(|inner| inner.downcast_ref::<ConnectFailures>());
///     failures.map_or(&[], |failures| &failures.attempts)
/// }
/// # assert!(attempts(&Error::new(persist_async::Phase::Connect, "refused")).is_empty());
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectFailures {
    /// Each address with its error, in the order in which they failed.
    pub attempts: Vec<(SocketAddr, io::Error)>,
}

impl fmt::Display for ConnectFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("none of the addresses takes a connection")?;
        self.attempts.iter().enumerate().try_for_each(|(n, (address, error))| {
            f.write_str(if n == 0 { ": " } else { ", " })?;
            write!(f, "{address} ({error})")
        })
    }
}

impl Error for ConnectFailures {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.attempts.last().map(|(_, error)| error as &(dyn Error + 'static))
    }
}

/// The first of `addresses` that `connect` succeeds with; the other attempts are dropped.
pub(super) async fn first<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    config: HappyEyeballsConfig,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut schedule = HappyEyeballs::new(config);
    schedule.handle_resolved(addresses, clock::now());
    let mut race = Race { schedule, under_way: Vec::new(), failed: Vec::new(), timer: None };
    poll_fn(|cx| race.poll(cx, &connect)).await
}

struct Race<F> {
    schedule: HappyEyeballs,
    under_way: Vec<(SocketAddr, Pin<Box<F>>)>,
    failed: Vec<(SocketAddr, io::Error)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T, F: Future<Output = io::Result<T>>> Race<F> {
    fn poll(&mut self, cx: &mut Context<'_>, connect: &impl Fn(SocketAddr) -> F) -> Poll<io::Result<T>> {
        loop {
            while let Some(address) = self.schedule.poll_attempt(clock::now()) {
                self.under_way.push((address, Box::pin(connect(address))));
            }
            let before = self.failed.len();
            if let Some(connected) = self.poll_attempts(cx) {
                return Poll::Ready(Ok(connected));
            }
            if self.schedule.is_exhausted() {
                return Poll::Ready(Err(self.failure()));
            }
            if self.failed.len() > before {
                continue; // the next address need not wait
            }
            let Some(due) = self.schedule.poll_timeout() else { return Poll::Pending };
            let due = clock::at(due);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None; // one that has fired must not be polled again
        }
    }

    fn poll_attempts(&mut self, cx: &mut Context<'_>) -> Option<T> {
        let mut at = 0;
        while let Some((address, attempt)) = self.under_way.get_mut(at) {
            match attempt.as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(Ok(connected)) => return Some(connected),
                Poll::Ready(Err(error)) => {
                    self.failed.push((*address, error));
                    self.schedule.handle_failed();
                    drop(self.under_way.remove(at));
                }
            }
        }
        None
    }

    fn failure(&mut self) -> io::Error {
        let mut attempts = std::mem::take(&mut self.failed);
        match attempts.len() {
            0 => io::Error::new(io::ErrorKind::NotFound, "the name has no addresses"),
            1 => attempts.remove(0).1,
            n => io::Error::new(attempts[n - 1].1.kind(), ConnectFailures { attempts }),
        }
    }
}

#[cfg(test)]
mod tests;
