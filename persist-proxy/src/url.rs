//! A proxy as text: a URL in curl's spelling.

use std::str::FromStr;

use persist_core::{Credentials, InvalidHost, UrlError, UrlParts};

use crate::handshake::InvalidHandshake;
use crate::{Proxy, ProxyKind};

/// The text names no proxy, or one that cannot be used as asked. No credential stands in any message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidProxy {
    /// A scheme that no proxy here has.
    #[error("{scheme}:// is not a kind of proxy: http, https, socks4a, socks5 or socks5h")]
    UnsupportedScheme {
        /// The scheme.
        scheme: String,
    },
    /// Not a URL.
    #[error("the proxy is not a url: {0}")]
    Url(#[from] UrlError),
    /// Not a host.
    #[error("the proxy is not a url: {0}")]
    Host(#[from] InvalidHost),
    /// The user or the password is not percent-encoded UTF-8.
    #[error("the user or the password of the proxy is not percent-encoded text")]
    UserInfo,
    /// What ends a user or a password too early stands in them as it is. The text is not shown, for it may be a part of them.
    #[error(
        "the proxy is not a url: in its user and password `/`, `?`, `#` and `@` must be percent-encoded (%2F, %3F, %23, %40)"
    )]
    Unencoded,
    /// The path of a Unix socket is not percent-encoded UTF-8, or a port follows it.
    #[error("the proxy's socket must be a percent-encoded path, as in socks5h+unix://%2Frun%2Fproxy.sock")]
    UnixPath,
    /// The credentials or fields cannot be sent to it.
    #[error("{0}")]
    Credentials(#[from] InvalidHandshake),
}

impl FromStr for ProxyKind {
    type Err = InvalidProxy;

    fn from_str(scheme: &str) -> Result<Self, InvalidProxy> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(scheme));
        known.ok_or_else(|| InvalidProxy::UnsupportedScheme { scheme: scheme.to_owned() })
    }
}

impl Proxy {
    /// As [`from_str`](Self::from_str), but text without a scheme is a proxy of this kind.
    ///
    /// # Errors
    /// [`InvalidProxy`].
    pub fn parse(text: &str, without_scheme: ProxyKind) -> Result<Self, InvalidProxy> {
        // Of `http://me:pass/word@proxy` the host is `me` and the port `pass`: no message may say so, and no proxy come of it.
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let ends_early = rest.find(['/', '?', '#']).is_some_and(|at| rest[at..].contains('@'));
        match Self::read(text, without_scheme) {
            Ok(proxy) if proxy.destination().unix_path().is_some() => Ok(proxy),
            _ if ends_early => Err(InvalidProxy::Unencoded),
            other => other,
        }
    }

    fn read(text: &str, without_scheme: ProxyKind) -> Result<Self, InvalidProxy> {
        let with_scheme;
        let text = if text.contains("://") {
            text
        } else {
            with_scheme = format!("{}://{text}", without_scheme.as_str());
            &with_scheme
        };
        let parts = UrlParts::parse(text)?;
        let (scheme, is_unix) = match parts.scheme.split_once('+') {
            Some((scheme, unix)) if unix.eq_ignore_ascii_case("unix") => (scheme, true),
            _ => (parts.scheme, false),
        };
        let kind: ProxyKind = scheme.parse()?;
        let proxy = if is_unix {
            if parts.port.is_some() {
                return Err(InvalidProxy::UnixPath);
            }
            let path = percent_decode(parts.host).filter(|path| !path.is_empty() && !path.contains('\0'));
            Self::unix(kind, &path.ok_or(InvalidProxy::UnixPath)?)
        } else if !kind.is_http() && parts.host.eq_ignore_ascii_case("localhost") && is_path(parts.path_and_query) {
            // curl's spelling of a SOCKS proxy on a Unix socket.
            Self::unix(kind, &percent_decode(parts.path_and_query).ok_or(InvalidProxy::UnixPath)?)
        } else {
            // curl's default, whatever the kind but https.
            let port = parts.port.unwrap_or(if kind == ProxyKind::Https { 443 } else { 1080 });
            Self::new(kind, parts.host.parse()?, port)
        };
        match parts.user_info {
            Some(user_info) => proxy.with_credentials(credentials(user_info)?),
            None => Ok(proxy),
        }
    }
}

impl FromStr for Proxy {
    type Err = InvalidProxy;

    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        Self::parse(text, ProxyKind::Http)
    }
}

fn is_path(text: &str) -> bool {
    text.len() > 1 && text.starts_with('/')
}

fn credentials(user_info: &str) -> Result<Credentials, InvalidProxy> {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let decode = |text| percent_decode(text).ok_or(InvalidProxy::UserInfo);
    Ok(Credentials { user: decode(user)?, password: decode(password)? })
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_first_chunk::<2>()?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().expect("a proxy")
    }

    #[test]
    fn a_proxy_is_read_as_curl_reads_it() {
        assert_eq!(proxy("proxy.example").to_string(), "http://proxy.example:1080");
        assert_eq!(proxy("10.0.0.1:3128").to_string(), "http://10.0.0.1:3128");
        assert_eq!(proxy("HTTPS://p").to_string(), "https://p:443");
        assert_eq!(proxy("socks5h://[::1]:9050/").to_string(), "socks5h://[::1]:9050");
        assert_eq!(proxy("socks5://localhost/run/s").to_string(), "socks5+unix://%2Frun%2Fs");
        assert_eq!(proxy("http+unix://%2Frun%2Fs").destination().unix_path(), Some("/run/s"));
        assert_eq!(proxy("http://localhost/x").to_string(), "http://localhost:1080");
        assert_eq!(Proxy::parse("p:9", ProxyKind::Socks5h).expect("a proxy").to_string(), "socks5h://p:9");
        let refused = "ftp://p".parse::<Proxy>().expect_err("no such kind");
        assert_eq!(refused.to_string(), "ftp:// is not a kind of proxy: http, https, socks4a, socks5 or socks5h");
        for bad in ["http+unix://%2Fx:80", "http+unix://%zz", "socks5://localhost/%ff", "http+tcp://p"] {
            assert!(bad.parse::<Proxy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_that_could_forge_what_follows_it_is_no_host() {
        for host in ["a%0d%0aX-Evil:1", "a\r\nb", "a b", "a\0b", "%00", "[::1%0d]", "a\u{301}"] {
            for kind in ProxyKind::ALL {
                let refused = format!("{}://{host}:1", kind.as_str()).parse::<Proxy>();
                assert!(matches!(refused, Err(InvalidProxy::Url(_) | InvalidProxy::Host(_))), "{refused:?}");
            }
        }
        let long = format!("http://{}.example", ["a"; 150].join("."));
        let refused = long.parse::<Proxy>().expect_err("too long").to_string();
        assert_eq!(refused, "the proxy is not a url: the host name has 307 bytes; 253 is the longest there is");
    }

    #[test]
    fn credentials_are_decoded_checked_and_never_shown() {
        let with = proxy("http://me%40here:p%3Aw@p");
        let same = proxy("http://p").with_credentials(Credentials { user: "me@here".into(), password: "p:w".into() });
        assert_eq!(Ok(&with), same.as_ref());
        assert_eq!(format!("{with:?}"), "Proxy(http://p:1080, with credentials)");
        for kind in ProxyKind::ALL {
            for user_info in ["a%0d%0aX:b", "a:b%0a", "a%00:b"] {
                let refused = format!("{}://{user_info}@p", kind.as_str()).parse::<Proxy>();
                // SOCKS 4 sends no password, so it may be anything.
                if kind != ProxyKind::Socks4a || user_info != "a:b%0a" {
                    assert_eq!(refused, Err(InvalidProxy::Credentials(InvalidHandshake::Credentials)), "{kind:?}");
                }
            }
        }
        for unencoded in
            ["http://me:secret/word@p", "me:secret?word@p", "socks5://me:secret#word@p:1", "http://secret/word@p"]
        {
            assert_eq!(unencoded.parse::<Proxy>(), Err(InvalidProxy::Unencoded), "{unencoded}");
        }
        let at = proxy("http://me:pass@word@p");
        assert_eq!(at, proxy("http://me:pass%40word@p"));
        let colon = "http://a%3Ab:c@p".parse::<Proxy>();
        assert_eq!(colon, Err(InvalidProxy::Credentials(InvalidHandshake::Credentials)));
        assert_eq!("http://a%zz:b@p".parse::<Proxy>(), Err(InvalidProxy::UserInfo));
        let long = format!("socks5://{}:b@p", "u".repeat(256));
        assert_eq!(long.parse::<Proxy>(), Err(InvalidHandshake::UserLength { len: 256 }.into()));
    }
}
