//! Causes of failed dials that are more than one value: several addresses that did not answer, and one cause for several who waited.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::error::Error;

/// No address of a name could be connected to: what each of them answered, in the order tried.
///
/// Stands inside of the [`io::Error`] that is the cause of an error in the phase [`Connect`](persist_core::Phase::Connect); a
/// single address gives the system's own error instead.
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

/// The cause of a dial for which several requests waited, and which they all got: the cause itself is its
/// [`source`](StdError::source).
#[derive(Clone, Debug)]
pub struct SharedCause(Arc<Error>);

impl fmt::Display for SharedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match StdError::source(&*self.0) {
            Some(cause) => fmt::Display::fmt(cause, f),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl StdError for SharedCause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        StdError::source(&*self.0)
    }
}

/// The same error for each of those who waited for one dial: itself where it was one, else with a shared cause.
pub(crate) fn shared(error: Error, waiting: usize) -> Vec<Error> {
    if waiting <= 1 {
        return vec![error];
    }
    let error = Arc::new(error);
    let copy = || {
        let mut copy = Error::new(error.phase(), SharedCause(error.clone())).blaming(error.blame());
        if let Some(there) = error.destination() {
            copy = copy.at(there);
        }
        match error.hint() {
            Some(hint) => copy.hinting(hint.to_owned()),
            None => copy,
        }
    };
    (0..waiting).map(|_| copy()).collect()
}

#[cfg(test)]
mod tests {
    use persist_core::Phase;

    use super::*;

    #[test]
    fn those_who_waited_for_one_dial_all_find_its_cause() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let there = "http://127.0.0.1:9".parse().expect("a destination");
        let alone = shared(Error::new(Phase::Connect, refused()), 1).pop().expect("one");
        assert!(alone.source().is_some_and(|cause| cause.is::<io::Error>()));
        for error in shared(Error::new(Phase::Connect, refused()).at(&there), 3) {
            let text = error.to_string();
            assert_eq!((error.phase(), error.destination()), (Phase::Connect, Some(&there)));
            assert!(text.contains("refused") && text.contains("is the server running"), "{text}");
            let cause = error.source().and_then(|shared| shared.source()).and_then(|cause| cause.downcast_ref());
            assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::ConnectionRefused));
        }
    }

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
