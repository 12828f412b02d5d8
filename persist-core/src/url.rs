//! Takes the text of an absolute URL apart, without allocating and without giving any part a meaning.

use alloc::string::{String, ToString};
use core::fmt;

use crate::host::InvalidHost;

/// The parts of `scheme://user-info@host:port/path?query#fragment` (RFC 3986 §3), each as it was written; the fragment is checked and dropped.
///
/// [`Destination`](crate::Destination) is built on it; so are the addresses of proxies, whose user information means something.
///
/// ```
/// use persist_core::UrlParts;
///
/// let parts = UrlParts::parse("socks5h://me:secret@[::1]:1080")?;
/// assert_eq!((parts.scheme, parts.host, parts.port), ("socks5h", "[::1]", Some(1080)));
/// assert!(!format!("{parts:?}").contains("secret"));
/// # Ok::<(), persist_core::UrlError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UrlParts<'u> {
    /// In the writer's case; schemes compare without it.
    pub scheme: &'u str,
    /// `user:password`, percent-encoded.
    pub user_info: Option<&'u str>,
    /// Not yet checked to be a [`Host`](crate::Host); IPv6 addresses are still in brackets.
    pub host: &'u str,
    /// `None` also for `host:` with nothing behind the colon (RFC 3986 §3.2.3).
    pub port: Option<u16>,
    /// Empty, or begins with `/` or `?`. Printable ASCII.
    pub path_and_query: &'u str,
}

/// The text is not a URL that can be used here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// No `scheme://` in front.
    #[error("the url has no scheme: write it out, as in http://host/path")]
    NoScheme,
    /// A scheme that goes nowhere we can go.
    #[error("scheme {0:?} is not supported here: http, https, http+unix and https+unix are")]
    UnsupportedScheme(String),
    /// `user:password@` would be sent nowhere (RFC 9110 §4.2.4).
    #[error("the url holds user information: send it in an Authorization field instead")]
    UserInfo,
    /// The host.
    #[error(transparent)]
    Host(#[from] InvalidHost),
    /// The port is not a number from 1 to 65535.
    #[error("{0:?} is not a port: 1 to 65535")]
    Port(String),
    /// White space, a control character, or anything but ASCII.
    #[error("byte {at} of the url is a space, a control character or not ascii: percent-encode it")]
    Byte {
        /// Where.
        at: usize,
    },
    /// A path where only a destination is wanted.
    #[error("the url has a path, {0:?}, where only a destination is wanted")]
    UnexpectedPath(String),
    /// The host part of a `http+unix` URL is no percent-encoded path, or a port follows it.
    #[error("the host part of a unix url must be a percent-encoded path, as in http+unix://%2Frun%2Fapp.sock/")]
    UnixPath,
}

impl<'u> UrlParts<'u> {
    /// Takes `url` apart.
    ///
    /// # Errors
    /// `NoScheme`, `Byte`, `Port`, and `Host` if there is none. None of the messages shows user information.
    pub fn parse(url: &'u str) -> Result<Self, UrlError> {
        if let Some(at) = url.bytes().position(|byte| !byte.is_ascii_graphic()) {
            return Err(UrlError::Byte { at });
        }
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::NoScheme)?;
        if !is_scheme(scheme) {
            return Err(UrlError::NoScheme);
        }
        let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (authority, path_and_query) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user_info, host_and_port) = match authority.rsplit_once('@') {
            Some((user_info, rest)) => (Some(user_info), rest),
            None => (None, authority),
        };
        let (host, port) = split_port(host_and_port)?;
        if host.is_empty() {
            return Err(InvalidHost::Empty.into());
        }
        Ok(Self { scheme, user_info, host, port, path_and_query })
    }
}

/// RFC 3986 §3.1
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), UrlError> {
    // The colons within brackets are the address's own.
    let host_end = text.rfind(']').map_or(0, |bracket| bracket + 1);
    let (head, tail) = text.split_at(host_end);
    let (host, port) = match tail.rfind(':') {
        None => return Ok((text, None)),
        Some(colon) => (&text[..head.len() + colon], &tail[colon + 1..]),
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    // `u16::from_str` would take a plus sign.
    match port.parse() {
        Ok(number @ 1..) if port.bytes().all(|byte| byte.is_ascii_digit()) => Ok((host, Some(number))),
        _ => Err(UrlError::Port(port.to_string())),
    }
}

/// Shows that there is user information, never which.
impl fmt::Debug for UrlParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlParts")
            .field("scheme", &self.scheme)
            .field("user_info", &self.user_info.map(|_| format_args!("***")))
            .field("host", &self.host)
            .field("port", &self.port)
            .field("path_and_query", &self.path_and_query)
            .finish()
    }
}
