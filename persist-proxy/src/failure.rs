//! What a failed exchange says about the proxy: which of the things that can go wrong on the way did.

use std::error::Error;
use std::fmt;

use persist_core::{Destination, ExchangeError, Phase};

use crate::handshake::HandshakeError;
use crate::{Proxies, Proxy};

/// What went wrong on the way through a proxy.
///
/// ```
/// use persist_proxy::persist_core::{ExchangeError, Phase};
/// use persist_proxy::{Proxy, ProxyFailure};
///
/// let proxy: Proxy = "http://proxy.example:3128".parse()?;
/// let error = ExchangeError::new(Phase::Connect, "connection refused").at(proxy.destination());
/// assert!(matches!(proxy.failure(&error), Some(ProxyFailure::Unreachable)));
/// let error = ExchangeError::new(Phase::Connect, "connection refused").at(&"http://example.com".parse()?);
/// assert!(proxy.failure(&error).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ProxyFailure<'e> {
    /// The proxy's name did not resolve.
    NotResolved,
    /// Nobody took the connection at the proxy's address.
    Unreachable,
    /// The TLS handshake with the proxy failed.
    NotSecured,
    /// It wants credentials, or others. [`HandshakeError::AuthenticationRequired`] has the challenges.
    AuthenticationRequired(&'e HandshakeError),
    /// It would have let us through, but cannot reach the target: so it says.
    TargetUnreachable(&'e HandshakeError),
    /// It does not let us through. [`HandshakeError::refusal`] has its status, reason and content where it answered in HTTP.
    Refused(&'e HandshakeError),
    /// It spoke something else than its protocol, or closed in the middle of it.
    Garbage(&'e HandshakeError),
    /// It did not answer in time, or the connection to it broke.
    Silent,
}

impl Proxy {
    /// What `error` says about this proxy, or about one that it is reached through; `None` if it is about something else.
    ///
    /// A plain `http` request that a proxy forwards is not tunnelled: what the proxy says to it (407, 502) is a response like any other.
    pub fn failure<'e>(&self, error: &'e ExchangeError) -> Option<ProxyFailure<'e>> {
        ProxyFailure::of(error, |at| {
            std::iter::successors(Some(self), |proxy| proxy.before()).any(|proxy| proxy.destination() == at)
        })
    }
}

impl Proxies {
    /// As [`Proxy::failure`], for whichever of the proxies it was.
    pub fn failure<'e>(&self, error: &'e ExchangeError) -> Option<ProxyFailure<'e>> {
        self.iter().find_map(|proxy| proxy.failure(error))
    }
}

impl<'e> ProxyFailure<'e> {
    fn of(error: &'e ExchangeError, is_proxy: impl Fn(&Destination) -> bool) -> Option<Self> {
        let phase = error.phase();
        if phase == Phase::Tunnel {
            return Some(cause(error).map_or(Self::Silent, Self::of_handshake));
        }
        error.destination().filter(|at| is_proxy(at))?;
        match phase {
            Phase::Resolve => Some(Self::NotResolved),
            Phase::Connect => Some(Self::Unreachable),
            Phase::Handshake => Some(Self::NotSecured),
            _ => None,
        }
    }

    fn of_handshake(error: &'e HandshakeError) -> Self {
        match error {
            _ if error.wants_credentials() => Self::AuthenticationRequired(error),
            _ if error.is_targets() => Self::TargetUnreachable(error),
            HandshakeError::Garbage { .. } | HandshakeError::Protocol(_) | HandshakeError::Closed { .. } => {
                Self::Garbage(error)
            }
            _ => Self::Refused(error),
        }
    }
}

/// The handshake's own error, however many others stand in front of it.
fn cause(error: &ExchangeError) -> Option<&HandshakeError> {
    std::iter::successors(error.source(), |&error| error.source()).find_map(|error| error.downcast_ref())
}

impl fmt::Display for ProxyFailure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotResolved => f.write_str("the proxy's name did not resolve"),
            Self::Unreachable => f.write_str("the proxy cannot be reached"),
            Self::NotSecured => f.write_str("the TLS handshake with the proxy failed"),
            Self::AuthenticationRequired(error)
            | Self::TargetUnreachable(error)
            | Self::Refused(error)
            | Self::Garbage(error) => error.fmt(f),
            Self::Silent => f.write_str("the proxy did not answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{Socks4Error, Socks5Error};

    fn shown(cause: HandshakeError) -> String {
        let proxy: Proxy = "http://p:1".parse().expect("a proxy");
        let error = ExchangeError::new(Phase::Tunnel, cause).at(&"https://a".parse().expect("a destination"));
        let failure = Proxies::all(proxy.clone()).failure(&error).expect("it is about the proxy");
        let kind = format!("{:?}", proxy.failure(&error).expect("it is about the proxy"));
        assert_eq!(format!("{failure:?}"), kind);
        kind.split('(').next().expect("a name").to_owned()
    }

    #[test]
    fn each_way_to_fail_is_told_from_the_others() {
        let garbage = HandshakeError::Garbage { protocol: "SOCKS 5", expected: "version 5", byte: b'H' };
        let table = [
            (HandshakeError::CredentialsRejected { status: 1 }, "AuthenticationRequired"),
            (HandshakeError::NoAcceptableMethod { with_password: false }, "AuthenticationRequired"),
            (Socks4Error::UserMismatch.into(), "AuthenticationRequired"),
            (Socks4Error::Rejected.into(), "Refused"),
            (Socks5Error::NotAllowed.into(), "Refused"),
            (Socks5Error::General.into(), "Refused"),
            (Socks5Error::HostUnreachable.into(), "TargetUnreachable"),
            (Socks5Error::ConnectionRefused.into(), "TargetUnreachable"),
            (HandshakeError::Closed { waiting_for: "its answer" }, "Garbage"),
            (garbage, "Garbage"),
        ];
        for (cause, kind) in table {
            assert_eq!(shown(cause.clone()), kind, "{cause}");
        }
    }

    #[test]
    fn what_happens_at_a_proxy_is_told_from_what_happens_at_the_target() {
        let near: Proxy = "socks5h://near".parse().expect("a proxy");
        let chain = "https://far".parse::<Proxy>().expect("a proxy").via(near.clone());
        let kind = |phase, at: &Destination| {
            let error = ExchangeError::new(phase, "no").at(at);
            chain.failure(&error).map(|failure| format!("{failure:?}"))
        };
        let target = "https://target".parse().expect("a destination");
        assert_eq!(kind(Phase::Resolve, near.destination()).as_deref(), Some("NotResolved"));
        assert_eq!(kind(Phase::Connect, near.destination()).as_deref(), Some("Unreachable"));
        assert_eq!(kind(Phase::Handshake, chain.destination()).as_deref(), Some("NotSecured"));
        assert_eq!(kind(Phase::Tunnel, &target).as_deref(), Some("Silent"));
        assert_eq!(kind(Phase::Handshake, &target), None);
        assert_eq!(kind(Phase::Receive, near.destination()), None);
    }
}
