//! One proxy: where it is, how it is spoken to, and the route it makes of a destination.

use std::fmt;
use std::str::FromStr;

use persist_core::{
    Credentials, Destination, Field, FieldName, FieldValue, Fields, Hop, Host, InvalidHost, Means, PoolKey, Resolve,
    Route, Scheme, TargetForm, UrlError, UrlParts,
};

use crate::handshake::{InvalidHandshake, basic_authorization};

/// A proxy.
///
/// As text it is a URL: `http://user:password@proxy:3128`, `https://`, `socks4a://`, `socks5://` (we resolve names), `socks5h://` (it does).
/// Without a scheme it is an HTTP proxy; without a port, 1080 as in curl. User and password may be percent-encoded.
///
/// ```
/// use persist_proxy::Proxy;
///
/// let proxy: Proxy = "socks5h://me:secret@proxy.example".parse()?;
/// assert_eq!(proxy.to_string(), "socks5h://proxy.example:1080"); // no credential is ever shown
/// # Ok::<(), persist_proxy::InvalidProxy>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: ProxyKind,
    host: Host,
    port: u16,
    credentials: Option<Credentials>,
    /// Checked when the proxy was built, so that a route cannot fail.
    authorization: Option<String>,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProxyKind {
    /// HTTP: absolute-form requests for `http` destinations, `CONNECT` tunnels for `https` ones.
    Http,
    /// The same inside TLS.
    Https,
    /// SOCKS 4a.
    Socks4a,
    /// SOCKS 5, names resolved here.
    Socks5,
    /// SOCKS 5, names resolved by the proxy.
    Socks5h,
}

/// The text names no proxy. No credential stands in any message.
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
    /// The credentials cannot be sent.
    #[error("{0}")]
    Credentials(#[from] InvalidHandshake),
}

impl ProxyKind {
    /// The URL scheme.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks4a => "socks4a",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    fn parse(scheme: &str) -> Option<Self> {
        [Self::Http, Self::Https, Self::Socks4a, Self::Socks5, Self::Socks5h]
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(scheme))
    }

    /// How a tunnel through it is made.
    const fn means(self) -> Means {
        match self {
            Self::Http | Self::Https => Means::HttpConnect,
            Self::Socks4a => Means::Socks4a,
            Self::Socks5 => Means::Socks5 { resolve: Resolve::Here },
            Self::Socks5h => Means::Socks5 { resolve: Resolve::There },
        }
    }
}

impl Proxy {
    /// A proxy.
    ///
    /// # Errors
    /// [`InvalidProxy::Credentials`]: they cannot be sent to a proxy of this kind.
    pub fn new(kind: ProxyKind, host: Host, port: u16, credentials: Option<Credentials>) -> Result<Self, InvalidProxy> {
        let authorization = match (kind, &credentials) {
            (ProxyKind::Http | ProxyKind::Https, Some(credentials)) => Some(basic_authorization(credentials)?),
            _ => None,
        };
        Ok(Self { kind, host, port, credentials, authorization })
    }

    /// What it speaks.
    pub fn kind(&self) -> ProxyKind {
        self.kind
    }

    /// Its address, as a destination: `https` if it is spoken to inside TLS.
    pub fn destination(&self) -> Destination {
        let scheme = if self.kind == ProxyKind::Https { Scheme::Https } else { Scheme::Http };
        Destination::tcp(scheme, self.host.clone(), self.port)
    }

    /// The route to `destination` through this proxy, reached by `before` (no hops: a socket of our own).
    ///
    /// A plain `http` destination behind an HTTP proxy shares its connections with all others there: the pool key leaves the target out.
    pub fn route(&self, destination: &Destination, before: &[Hop]) -> Route {
        let mut hops = before.to_vec();
        if hops.is_empty() {
            hops.push(Hop::socket(self.destination()));
        }
        let forwards = matches!(self.kind, ProxyKind::Http | ProxyKind::Https) && destination.scheme() == Scheme::Http;
        let (label, target_form, fields) = if forwards {
            (format!("{self}"), TargetForm::Absolute, self.authorization_field())
        } else {
            hops.push(Hop::through(self.kind.means(), destination.clone(), self.credentials.clone()));
            (format!("{destination} through {self}"), TargetForm::Origin, Fields::new())
        };
        let key = PoolKey::new(&label);
        let pool_key = match &self.credentials {
            Some(Credentials { user, password }) => key.with_identity(&format!("{user}:{password}")),
            None => key,
        };
        Route { pool_key, hops, target_form, fields }
    }

    fn authorization_field(&self) -> Fields {
        let mut fields = Fields::new();
        if let Some(authorization) = &self.authorization
            && let Ok(value) = FieldValue::new(authorization.as_bytes())
        {
            fields.push_field(Field { name: FieldName::from_static("Proxy-Authorization"), value });
        }
        fields
    }
}

impl FromStr for Proxy {
    type Err = InvalidProxy;

    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        let with_scheme;
        let text = if text.contains("://") {
            text
        } else {
            with_scheme = format!("http://{text}");
            &with_scheme
        };
        let parts = UrlParts::parse(text)?;
        let kind = ProxyKind::parse(parts.scheme)
            .ok_or_else(|| InvalidProxy::UnsupportedScheme { scheme: parts.scheme.to_owned() })?;
        let credentials = parts.user_info.map(credentials).transpose()?;
        // curl's default, whatever the kind but https.
        let port = parts.port.unwrap_or(if kind == ProxyKind::Https { 443 } else { 1080 });
        Self::new(kind, parts.host.parse()?, port, credentials)
    }
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

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.kind.as_str(), self.host, self.port)
    }
}

/// As `Display`, and whether there are credentials.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self}{})", if self.credentials.is_some() { ", with credentials" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().expect("a proxy")
    }

    fn destination(text: &str) -> Destination {
        text.parse().expect("a destination")
    }

    #[test]
    fn a_proxy_is_read_as_curl_reads_it() {
        assert_eq!(proxy("proxy.example").to_string(), "http://proxy.example:1080");
        assert_eq!(proxy("10.0.0.1:3128").to_string(), "http://10.0.0.1:3128");
        assert_eq!(proxy("HTTPS://p").to_string(), "https://p:443");
        assert_eq!(proxy("socks5h://[::1]:9050/").to_string(), "socks5h://[::1]:9050");
        let refused = "ftp://p".parse::<Proxy>().expect_err("no such kind");
        assert_eq!(refused.to_string(), "ftp:// is not a kind of proxy: http, https, socks4a, socks5 or socks5h");
    }

    #[test]
    fn credentials_are_decoded_checked_and_never_shown() {
        let with = proxy("http://me%40here:p%3Aw@p");
        assert_eq!(with.credentials.as_ref().map(|c| (c.user.as_str(), c.password.as_str())), Some(("me@here", "p:w")));
        assert_eq!(format!("{with:?}"), "Proxy(http://p:1080, with credentials)");
        for text in ["http://a%0d%0aX:b@p", "http://a%3Ab:c@p"] {
            let refused = text.parse::<Proxy>().expect_err("cannot be sent");
            assert_eq!(refused, InvalidProxy::Credentials(InvalidHandshake::Credentials));
        }
        assert_eq!("http://a%zz:b@p".parse::<Proxy>(), Err(InvalidProxy::UserInfo));
        let text = "http://me:secret@bad host".parse::<Proxy>().expect_err("a space").to_string();
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn plain_destinations_share_the_proxys_connections_and_get_the_absolute_form() {
        let proxy = proxy("http://me:pw@p:3128");
        let (one, two) = (proxy.route(&destination("http://a"), &[]), proxy.route(&destination("http://b"), &[]));
        assert_eq!(one.pool_key, two.pool_key);
        assert_eq!(one.target_form, TargetForm::Absolute);
        assert_eq!(one.hops, [Hop::socket(destination("http://p:3128"))]);
        let authorization = one.fields.get("proxy-authorization").and_then(|value| value.to_str());
        assert_eq!(authorization, Some("Basic bWU6cHc="));
        assert_ne!(
            one.pool_key,
            super::tests::proxy("http://you:pw@p:3128").route(&destination("http://a"), &[]).pool_key
        );
    }

    #[test]
    fn secured_destinations_get_a_tunnel_each_and_no_proxy_field() {
        let proxy = proxy("http://me:pw@p:3128");
        let one = proxy.route(&destination("https://a"), &[]);
        assert_ne!(one.pool_key, proxy.route(&destination("https://b"), &[]).pool_key);
        assert_eq!((one.target_form, one.fields.is_empty()), (TargetForm::Origin, true));
        assert_eq!(one.hops.len(), 2);
        assert_eq!((one.hops[1].means, &one.hops[1].to), (Means::HttpConnect, &destination("https://a")));
        assert!(one.hops[1].credentials.is_some());
    }

    #[test]
    fn socks_tunnels_everything_and_chains_follow_one_another() {
        let far = proxy("http://far:3128");
        let near = proxy("socks5h://near");
        let way = near.route(&far.destination(), &[]);
        assert_eq!(way.target_form, TargetForm::Origin);
        let whole = far.route(&destination("https://a"), &way.hops);
        let steps: Vec<_> = whole.hops.iter().map(|hop| (hop.means, hop.to.to_string())).collect();
        let expected = [
            (Means::Socket, "http://near:1080".to_owned()),
            (Means::Socks5 { resolve: Resolve::There }, "http://far:3128".to_owned()),
            (Means::HttpConnect, "https://a".to_owned()),
        ];
        assert_eq!(steps, expected);
    }
}
