//! What can go wrong between us and a proxy, each in its own variant. No credential stands in any of them.

use persist_core::{ProtocolError, StatusCode};

use super::{Socks4Error, Socks5Error};

/// The caller asked for a handshake that cannot be put into bytes. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHandshake {
    /// SOCKS counts a name in one byte.
    #[error("the host name has {len} bytes, and SOCKS takes 255")]
    HostTooLong {
        /// How long it is.
        len: usize,
    },
    /// SOCKS 4 has no IPv6.
    #[error("SOCKS 4 cannot reach an IPv6 address")]
    Ipv6,
    /// SOCKS 5 counts users in one byte, and needs at least one; SOCKS 4 gets the same upper limit.
    #[error("the user name for the proxy has {len} bytes, and it takes 1 to 255")]
    UserLength {
        /// How long it is.
        len: usize,
    },
    /// SOCKS 5 counts passwords in one byte.
    #[error("the password for the proxy has {len} bytes, and it takes 255")]
    PasswordLength {
        /// How long it is.
        len: usize,
    },
    /// HTTP has no limit for them, but no proxy takes more: their heads end at 8 KiB or before.
    #[error("the user and the password for the proxy have {len} bytes together, and 4096 are sent at most")]
    CredentialsLength {
        /// How long they are, with the colon between them.
        len: usize,
    },
    /// A control character could forge what follows; a colon in a Basic user name would begin the password (RFC 7617 §2).
    #[error("the credentials for the proxy hold a character that cannot be sent")]
    Credentials,
    /// Fields for `CONNECT` that would change what it means, or fields for a proxy that takes none.
    #[error("these fields cannot be sent to the proxy: {0}")]
    Fields(&'static str),
    /// A proxy reaches hosts, not files.
    #[error("a unix socket cannot be reached through a proxy")]
    UnixPath,
    /// A way of reaching a hop that this version does not know.
    #[error("this way through a proxy is not known")]
    UnknownMeans,
}

/// The proxy did not let us through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// 407: the proxy wants credentials, or others.
    #[error("the proxy wants authentication ({})", schemes(challenges))]
    AuthenticationRequired {
        /// What it accepts.
        challenges: Vec<Challenge>,
        /// Its whole answer.
        refusal: Box<Refusal>,
    },
    /// The proxy answered `CONNECT` with something else than 2xx.
    #[error("the proxy refused the tunnel: {refusal}")]
    Refused {
        /// Its answer.
        refusal: Box<Refusal>,
    },
    /// 502, 503 or 504: the proxy would have let us through, but cannot reach the target (RFC 9110 §15.6.3 to §15.6.5). Some say 500 for that,
    /// which is a `Refused`.
    #[error("the proxy cannot reach the target: {refusal}")]
    TargetUnreachable {
        /// Its answer.
        refusal: Box<Refusal>,
    },
    /// SOCKS 4 said no.
    #[error("the proxy refused: {0}")]
    Socks4(#[from] Socks4Error),
    /// SOCKS 5 said no.
    #[error("the proxy refused: {0}")]
    Socks5(#[from] Socks5Error),
    /// SOCKS 5: the proxy takes none of the ways to authenticate that we can offer.
    #[error("the proxy accepts none of the ways to authenticate that were offered{}", if *.with_password { "" } else { "; it may want a user and a password" })]
    NoAcceptableMethod {
        /// Whether user and password were offered.
        with_password: bool,
    },
    /// SOCKS 5: user and password were rejected.
    #[error("the proxy rejected the user or the password (status {status})")]
    CredentialsRejected {
        /// RFC 1929 §2: anything but 0.
        status: u8,
    },
    /// What came is not this protocol.
    #[error("the proxy does not speak {protocol}: byte {byte:#04x} where {expected} belongs")]
    Garbage {
        /// Which protocol was expected.
        protocol: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// What came.
        byte: u8,
    },
    /// What came is not HTTP.
    #[error("the proxy does not speak HTTP: {0}")]
    Protocol(#[source] ProtocolError),
    /// The proxy closed before it had answered.
    #[error("the proxy closed the connection before it had sent {waiting_for}")]
    Closed {
        /// What was missing.
        waiting_for: &'static str,
    },
    /// More was asked of a handshake that is over.
    #[error("the handshake is over already")]
    Over,
}

impl HandshakeError {
    /// The proxy's whole answer, where it was one in HTTP.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::AuthenticationRequired { refusal, .. }
            | Self::Refused { refusal }
            | Self::TargetUnreachable { refusal } => Some(refusal),
            _ => None,
        }
    }

    /// Whether the proxy says that it cannot reach the target: it did its part, and another target may do.
    pub fn is_targets(&self) -> bool {
        match self {
            Self::TargetUnreachable { .. } => true,
            Self::Socks5(error) => error.is_targets(),
            _ => false,
        }
    }

    /// Whether the proxy wants credentials, or others. So does a 401: nobody but the proxy answers `CONNECT`, and tinyproxy says that to a wrong
    /// password.
    pub fn wants_credentials(&self) -> bool {
        match self {
            Self::AuthenticationRequired { .. }
            | Self::NoAcceptableMethod { .. }
            | Self::CredentialsRejected { .. }
            | Self::Socks4(Socks4Error::NoIdentd | Socks4Error::UserMismatch) => true,
            Self::Refused { refusal } => refusal.status == StatusCode::UNAUTHORIZED,
            _ => false,
        }
    }
}

/// One `Proxy-Authenticate` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// As it came: a scheme and its parameters.
    pub text: String,
}

impl Challenge {
    /// The authentication scheme: `Basic`, `Digest`, ...
    pub fn scheme(&self) -> &str {
        self.text.split([' ', ',', '\t']).next().unwrap_or_default()
    }
}

/// How a proxy refused. `Debug` shows how long the content is, not what it says: some echo the request.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    /// Its reason phrase.
    pub reason: String,
    /// Its content, up to [`REFUSAL_BODY_BYTES_MAX`](super::REFUSAL_BODY_BYTES_MAX) bytes.
    pub body: Vec<u8>,
    /// Whether there was more.
    pub body_is_cut: bool,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reason = if self.reason.is_empty() { self.status.reason() } else { &self.reason };
        write!(f, "{} {reason}", self.status)
    }
}

impl std::fmt::Debug for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cut = if self.body_is_cut { ", cut" } else { "" };
        write!(f, "Refusal({self}, {} bytes of content{cut})", self.body.len())
    }
}

fn schemes(challenges: &[Challenge]) -> String {
    let schemes: Vec<&str> = challenges.iter().map(Challenge::scheme).collect();
    if schemes.is_empty() { "it does not say which".into() } else { schemes.join(", ") }
}
