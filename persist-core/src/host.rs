//! The host of a destination: a name, or an address.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// A registered name in lower case, or a literal address (RFC 3986 §3.2.2).
///
/// ```
/// use persist_core::Host;
///
/// assert_eq!("Example.COM".parse::<Host>()?.to_string(), "example.com");
/// assert_eq!("[::1]".parse::<Host>()?.to_string(), "[::1]");
/// assert!("127.1".parse::<Host>().is_err()); // some would read 127.0.0.1, others a name
/// # Ok::<(), persist_core::InvalidHost>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name for a resolver: letters, digits, `-`, `_` and `.`, in lower case, at most 253 bytes. A final dot is kept.
    Name(Arc<str>),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address; stands in brackets in a URL and in `Host`.
    V6(Ipv6Addr),
}

/// The text is not a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHost {
    /// There is none.
    #[error("the host is empty")]
    Empty,
    /// A name longer than the domain name system carries.
    #[error("the host name has {len} bytes; 253 is the longest there is")]
    TooLong {
        /// How many bytes.
        len: usize,
    },
    /// Labels are 1 to 63 bytes long.
    #[error("host name {0:?} has an empty label, or one of more than 63 bytes")]
    Label(String),
    /// A byte that stands in no host name.
    #[error("{byte:?} may not stand in host name {host:?}")]
    Byte {
        /// The whole text.
        host: String,
        /// The first such character.
        byte: char,
    },
    /// Resolvers disagree about it, so that a filter in front of one could be passed by.
    #[error("{0:?} ends in a number but is not a dotted IPv4 address")]
    AmbiguousV4(String),
    /// In brackets, but not an IPv6 address.
    #[error("{0:?} is not an IPv6 address (zone identifiers are not taken: they mean nothing to the peer)")]
    V6(String),
    /// An IPv6 address stands in brackets, for its colons are no port's.
    #[error("IPv6 address {0:?} must stand in brackets")]
    Unbracketed(String),
}

impl Host {
    /// The address, if the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        match *self {
            Self::Name(_) => None,
            Self::V4(address) => Some(IpAddr::V4(address)),
            Self::V6(address) => Some(IpAddr::V6(address)),
        }
    }

    /// The name, if the host is one: what a resolver and TLS server name indication take.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::V4(_) | Self::V6(_) => None,
        }
    }
}

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(|| InvalidHost::V6(text.to_string()))?;
            return inner.parse().map(Self::V6).map_err(|_| InvalidHost::V6(inner.to_string()));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(InvalidHost::Unbracketed(text.to_string()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::V4(address));
        }
        check_name(text)?;
        Ok(Self::Name(text.to_ascii_lowercase().into()))
    }
}

fn check_name(text: &str) -> Result<(), InvalidHost> {
    if text.is_empty() {
        return Err(InvalidHost::Empty);
    }
    if let Some(byte) = text.chars().find(|&c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        return Err(InvalidHost::Byte { host: text.to_string(), byte });
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > 253 {
        return Err(InvalidHost::TooLong { len: name.len() });
    }
    if name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(InvalidHost::Label(text.to_string()));
    }
    // `127.1`, `0x7f000001` and `017700000001` are addresses to some resolvers and names to others.
    let last = name.rsplit('.').next().unwrap_or(name);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let numeric = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if numeric(last) || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return Err(InvalidHost::AmbiguousV4(text.to_string()));
    }
    Ok(())
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address),
        }
    }
}

/// As it stands in a URL and in `Host`: IPv6 in brackets.
impl Host {
    /// Appends what [`Display`](fmt::Display) says.
    pub(crate) fn push_to(&self, out: &mut String) {
        match self {
            Self::Name(name) => out.push_str(name),
            Self::V4(address) => {
                for (n, octet) in address.octets().into_iter().enumerate() {
                    if n > 0 {
                        out.push('.');
                    }
                    push_decimal(out, octet.into());
                }
            }
            Self::V6(_) => out.push_str(&self.to_string()),
        }
    }
}

/// Appends a number.
pub(crate) fn push_decimal(out: &mut String, number: u16) {
    let (mut digits, mut rest, mut at) = ([0; 5], number, 5);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.push_str(core::str::from_utf8(&digits[at..]).expect("digits are ASCII"));
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
