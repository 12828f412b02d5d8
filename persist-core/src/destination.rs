//! Where a connection goes: scheme, host and port, or the path of a Unix socket.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;
use core::str::FromStr;

use crate::host::{Host, push_decimal};
use crate::url::{UrlError, UrlParts};

/// Plain or secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `http`: plain, port 80 unless another is given.
    Http,
    /// `https`: TLS, port 443 unless another is given.
    Https,
}

/// Where a connection goes. Cheap to clone; never holds a credential, so it may be logged.
///
/// ```
/// use persist_core::{Destination, Scheme};
///
/// let destination: Destination = "HTTP://Example.com".parse()?;
/// assert_eq!(destination, Destination::tcp(Scheme::Http, "example.com".parse()?, 80));
/// assert_eq!(destination.to_string(), "http://example.com");
/// assert_eq!("http+unix://%2Frun%2Fapp.sock".parse::<Destination>()?.unix_path(), Some("/run/app.sock"));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    scheme: Scheme,
    place: Place,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Place {
    Tcp { host: Host, port: u16 },
    Unix { path: Arc<str> },
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// 80 or 443 (RFC 9110 §4.2.1, §4.2.2).
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Destination {
    /// A host and a TCP port.
    pub const fn tcp(scheme: Scheme, host: Host, port: u16) -> Self {
        Self { scheme, place: Place::Tcp { host, port } }
    }

    /// The socket at `path` in the file system. Its requests say `Host: localhost`.
    pub fn unix(scheme: Scheme, path: &str) -> Self {
        Self { scheme, place: Place::Unix { path: path.into() } }
    }

    /// Takes an absolute URL apart: where to go, and the origin-form target to ask for there ([RFC 9112 §3.2.1]).
    ///
    /// The fragment is dropped, and an empty path becomes `/`.
    ///
    /// ```
    /// use persist_core::Destination;
    ///
    /// let (destination, target) = Destination::split_url("http://[::1]:8080/a?b=c#d")?;
    /// assert_eq!((destination.to_string().as_str(), target.as_str()), ("http://[::1]:8080", "/a?b=c"));
    /// # Ok::<(), persist_core::UrlError>(())
    /// ```
    ///
    /// # Errors
    /// [`UrlError`]: not an absolute `http`, `https`, `http+unix` or `https+unix` URL, or one with user information.
    ///
    /// [RFC 9112 §3.2.1]: https://www.rfc-editor.org/rfc/rfc9112#section-3.2.1
    pub fn split_url(url: &str) -> Result<(Self, String), UrlError> {
        let parts = UrlParts::parse(url)?;
        let destination = Self::from_parts(&parts)?;
        let mut target = String::with_capacity(parts.path_and_query.len() + 1);
        if !parts.path_and_query.starts_with('/') {
            target.push('/');
        }
        target.push_str(parts.path_and_query);
        Ok((destination, target))
    }

    fn from_parts(parts: &UrlParts<'_>) -> Result<Self, UrlError> {
        // RFC 9110 §4.2.4: a sender writes no user information; taking it silently would drop somebody's password into nothing.
        if parts.user_info.is_some() {
            return Err(UrlError::UserInfo);
        }
        let is = |scheme: &str| parts.scheme.eq_ignore_ascii_case(scheme);
        let (scheme, unix) = match () {
            () if is("http") => (Scheme::Http, false),
            () if is("https") => (Scheme::Https, false),
            () if is("http+unix") => (Scheme::Http, true),
            () if is("https+unix") => (Scheme::Https, true),
            () => return Err(UrlError::UnsupportedScheme(parts.scheme.to_string())),
        };
        if unix {
            return match parts.port {
                Some(_) => Err(UrlError::UnixPath),
                None => Ok(Self::unix(scheme, &percent_decode(parts.host)?)),
            };
        }
        let host = parts.host.parse()?;
        Ok(Self::tcp(scheme, host, parts.port.unwrap_or(scheme.default_port())))
    }

    /// Plain or secured.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host, unless this is a Unix socket.
    pub const fn host(&self) -> Option<&Host> {
        match &self.place {
            Place::Tcp { host, .. } => Some(host),
            Place::Unix { .. } => None,
        }
    }

    /// The port, unless this is a Unix socket.
    pub const fn port(&self) -> Option<u16> {
        match self.place {
            Place::Tcp { port, .. } => Some(port),
            Place::Unix { .. } => None,
        }
    }

    /// The path of the Unix socket, if this is one.
    pub fn unix_path(&self) -> Option<&str> {
        match &self.place {
            Place::Tcp { .. } => None,
            Place::Unix { path } => Some(path),
        }
    }

    /// The value of `Host`: the port is left out where it is the scheme's own (RFC 9110 §7.2).
    pub fn authority(&self) -> String {
        let mut authority = String::with_capacity(32);
        self.push_authority(&mut authority);
        authority
    }

    /// Without the machinery of formatting, which would cost more than the rest of a pooled request's way to its connection.
    fn push_authority(&self, out: &mut String) {
        match &self.place {
            Place::Tcp { host, port } => {
                host.push_to(out);
                if *port != self.scheme.default_port() {
                    out.push(':');
                    push_decimal(out, *port);
                }
            }
            Place::Unix { .. } => out.push_str("localhost"),
        }
    }

    /// What [`Display`](fmt::Display) says.
    pub(crate) fn label(&self) -> String {
        let Place::Tcp { .. } = &self.place else { return self.to_string() };
        let mut label = String::with_capacity(32);
        label.push_str(self.scheme.as_str());
        label.push_str("://");
        self.push_authority(&mut label);
        label
    }

    /// The target of a `CONNECT`: the port always stands (RFC 9112 §3.2.3).
    pub fn authority_with_port(&self) -> String {
        match &self.place {
            Place::Tcp { host, port } => alloc::format!("{host}:{port}"),
            Place::Unix { .. } => alloc::format!("localhost:{}", self.scheme.default_port()),
        }
    }
}

impl FromStr for Destination {
    type Err = UrlError;

    /// Takes a URL without a path (a lone `/` passes).
    fn from_str(url: &str) -> Result<Self, UrlError> {
        let parts = UrlParts::parse(url)?;
        let destination = Self::from_parts(&parts)?;
        match parts.path_and_query {
            "" | "/" => Ok(destination),
            path => Err(UrlError::UnexpectedPath(path.to_string())),
        }
    }
}

/// As a URL without a path, which parses back. Ports are left out where they are the scheme's own.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port } if *port == self.scheme.default_port() => {
                write!(f, "{}://{host}", self.scheme.as_str())
            }
            Place::Tcp { host, port } => write!(f, "{}://{host}:{port}", self.scheme.as_str()),
            Place::Unix { path } => {
                write!(f, "{}+unix://", self.scheme.as_str())?;
                percent_encode(path, f)
            }
        }
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Everything but unreserved characters (RFC 3986 §2.3) is encoded, so that the path stands where a host would.
fn percent_encode(path: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    path.bytes().try_for_each(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => write!(f, "{}", byte as char),
        _ => write!(f, "%{byte:02X}"),
    })
}

fn percent_decode(text: &str) -> Result<String, UrlError> {
    let mut path = alloc::vec::Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let decoded = if byte == b'%' {
            let mut digit = || bytes.next().and_then(|byte| (byte as char).to_digit(16));
            match (digit(), digit()) {
                (Some(high), Some(low)) => (high * 16 + low) as u8,
                _ => return Err(UrlError::UnixPath),
            }
        } else {
            byte
        };
        path.push(decoded);
    }
    match String::from_utf8(path) {
        Ok(path) if !path.is_empty() && !path.contains('\0') => Ok(path),
        _ => Err(UrlError::UnixPath),
    }
}

#[cfg(test)]
mod tests;
