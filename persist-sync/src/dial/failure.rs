//! A failed dial whose cause is more than one value: several addresses that did not answer.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// No address of a name could be connected to: what each of them answered, in the order tried.
///
/// Stands inside of the [`io::Error`] that is the cause of an error in the phase [`Connect`](persist_core::Phase::Connect); a
/// single address gives the system's own error instead.
///
/// ```
/// use std::error::Error as _;
/// use persist_sync::{ConnectFailures, Error};
///
/// /// What each address of the destination answered.
/// fn attempts(error: &Error) -> &[(std::net::SocketAddr, std::io::Error)] {
///     let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
///     let failures = cause.and_then(|cause| cause.get_ref()).and_then(|inner| inner.downcast_ref::<ConnectFailures>());
///     failures.map_or(&[], |failures| &failures.attempts)
/// }
/// # assert!(attempts(&Error::new(persist_sync::Phase::Connect, "refused")).is_empty());
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectFailures {
    /// Each address, and why it was none. At least two.
    pub attempts: Vec<(SocketAddr, io::Error)>,
}

impl ConnectFailures {
    /// One error for all of them; its kind is that of the last.
    pub(super) fn into_error(mut attempts: Vec<(SocketAddr, io::Error)>) -> io::Error {
        match attempts.pop() {
            None => io::Error::new(io::ErrorKind::NotFound, "there is no address to try"),
            Some((_, only)) if attempts.is_empty() => only,
            Some(last) => {
                let kind = last.1.kind();
                attempts.push(last);
                io::Error::new(kind, Self { attempts })
            }
        }
    }
}

impl fmt::Display for ConnectFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (address, error)) in self.attempts.iter().enumerate() {
            let separator = if n == 0 { "" } else { ", " };
            write!(f, "{separator}{address}: {error}")?;
        }
        Ok(())
    }
}

impl StdError for ConnectFailures {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.attempts.last().map(|(_, error)| error as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_addresses_each_says_why_it_was_none() {
        let attempt = |port, kind| (SocketAddr::from(([127, 0, 0, 1], port)), io::Error::from(kind));
        let only = ConnectFailures::into_error(vec![attempt(1, io::ErrorKind::TimedOut)]);
        assert!(only.kind() == io::ErrorKind::TimedOut && only.get_ref().is_none());
        let refused = io::ErrorKind::ConnectionRefused;
        let both = ConnectFailures::into_error(vec![attempt(1, io::ErrorKind::TimedOut), attempt(2, refused)]);
        assert_eq!(both.kind(), refused);
        let text = both.to_string();
        assert!(text.starts_with("127.0.0.1:1: ") && text.contains(", 127.0.0.1:2: connection refused"), "{text}");
    }
}
