//! One proxy: where it is, how it is spoken to, how it is itself reached, and the route it makes of a destination.

use std::fmt;
use std::sync::Arc;

use persist_core::{
    Credentials, Destination, Field, FieldName, FieldValue, Fields, Hop, Host, Means, PoolKey, Resolve, Route,
    RouteError, Router, Scheme, TargetForm, Tunnel,
};

use crate::InvalidProxy;
use crate::handshake::{self, Handshake};

/// A proxy. As a [`Router`] it takes everything but Unix sockets through itself; [`Proxies`](crate::Proxies) chooses between several.
///
/// As text it is a URL: `http://user:password@proxy:3128`, `https://`, `socks4a://`, `socks5://` (we resolve names), `socks5h://` (it does).
/// Without a scheme it is an HTTP proxy; without a port, 1080 as in curl (443 for `https://`). User and password may be percent-encoded.
///
/// ```
/// use persist_core::Router;
/// use persist_proxy::Proxy;
///
/// let near: Proxy = "socks5h://me:secret@near.example".parse()?;
/// assert_eq!(near.to_string(), "socks5h://near.example:1080"); // no credential is ever shown
///
/// let far: Proxy = "http://far.example:3128".parse()?;
/// let route = far.via(near).route(&"https://example.com".parse()?)?;
/// let steps: Vec<_> = route.hops.iter().map(|hop| hop.to.to_string()).collect();
/// assert_eq!(steps, ["http://near.example:1080", "http://far.example:3128", "https://example.com"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: ProxyKind,
    at: Destination,
    credentials: Option<Credentials>,
    connect_fields: Fields,
    plain: Plain,
    before: Option<Arc<Proxy>>,
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

/// What an HTTP proxy does for a plain `http` destination. SOCKS knows tunnels only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plain {
    /// It forwards requests in absolute form, over connections that all origins share. It reads them, and may answer from a cache.
    #[default]
    Forwarded,
    /// It tunnels, as for `https` (curl's `--proxytunnel`): a connection for each origin, which the proxy does not look into. Many allow that to port
    /// 443 only.
    Tunnelled,
}

impl ProxyKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Http, Self::Https, Self::Socks4a, Self::Socks5, Self::Socks5h];

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

    /// Whether it speaks HTTP, in the open or inside TLS.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// The scheme of the proxy as a destination: a TLS handshake follows where it is `https`.
    pub(crate) const fn scheme(self) -> Scheme {
        match self {
            Self::Https => Scheme::Https,
            _ => Scheme::Http,
        }
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
    /// A proxy at a host and TCP port.
    pub fn new(kind: ProxyKind, host: Host, port: u16) -> Self {
        Self::at(kind, Destination::tcp(kind.scheme(), host, port))
    }

    /// A proxy that listens on a Unix socket.
    pub fn unix(kind: ProxyKind, path: &str) -> Self {
        Self::at(kind, Destination::unix(kind.scheme(), path))
    }

    fn at(kind: ProxyKind, at: Destination) -> Self {
        Self { kind, at, credentials: None, connect_fields: Fields::new(), plain: Plain::default(), before: None }
    }

    /// With a user and a password: Basic for HTTP (RFC 7617), RFC 1929's for SOCKS 5; SOCKS 4 sends the user only.
    ///
    /// They go to the proxy and nowhere else, the password in the open unless the proxy is an `https` one.
    ///
    /// # Errors
    /// [`InvalidProxy::Credentials`]: they cannot be sent to a proxy of this kind. Control characters never can; for HTTP no colon in the user;
    /// for SOCKS at most 255 bytes each, and for SOCKS 5 a user that is not empty.
    pub fn with_credentials(mut self, credentials: Credentials) -> Result<Self, InvalidProxy> {
        match self.kind {
            ProxyKind::Http | ProxyKind::Https => handshake::basic_authorization(&credentials).map(drop)?,
            ProxyKind::Socks4a => handshake::check_socks4_user(&credentials)?,
            ProxyKind::Socks5 | ProxyKind::Socks5h => handshake::socks5_login(&credentials).map(drop)?,
        }
        self.credentials = Some(credentials);
        Ok(self)
    }

    /// With fields of the caller's in each `CONNECT`: a `User-Agent` that the proxy insists on, a token. They never go to an origin, and so are
    /// not in requests that the proxy forwards.
    ///
    /// # Errors
    /// [`InvalidProxy::Credentials`]: a field that is the handshake's own to write (`Host`, framing), or that SOCKS cannot carry.
    pub fn with_connect_fields(mut self, fields: Fields) -> Result<Self, InvalidProxy> {
        handshake::check_connect_fields(self.kind.is_http(), &fields)?;
        self.connect_fields = fields;
        Ok(self)
    }

    /// Says what an HTTP proxy is to do for plain `http` destinations.
    #[must_use]
    pub fn with_plain(mut self, plain: Plain) -> Self {
        self.plain = plain;
        self
    }

    /// Reached through `nearer`, which is reached first: a chain. If this one already is reached through others, `nearer` comes in front of those.
    #[must_use]
    pub fn via(mut self, nearer: Self) -> Self {
        let before = match self.before.take() {
            None => nearer,
            Some(before) => Arc::unwrap_or_clone(before).via(nearer),
        };
        self.before = Some(Arc::new(before));
        self
    }

    /// What it speaks.
    pub fn kind(&self) -> ProxyKind {
        self.kind
    }

    /// The proxy that this one is reached through, if any.
    pub fn before(&self) -> Option<&Self> {
        self.before.as_deref()
    }

    /// Whether it has a user and a password.
    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Where it is, as a destination: `https` if it is spoken to inside TLS.
    pub fn destination(&self) -> &Destination {
        &self.at
    }

    /// What has to be dialled before something can be said to this proxy.
    fn hops(&self) -> Vec<Hop> {
        match &self.before {
            None => vec![Hop::socket(self.at.clone())],
            Some(before) => before.hops_to(&self.at),
        }
    }

    /// What has to be dialled before something can be said to `to`, by a tunnel.
    fn hops_to(&self, to: &Destination) -> Vec<Hop> {
        let mut hops = self.hops();
        let hop = Hop::through(self.kind.means(), to.clone(), self.credentials.clone());
        hops.push(hop.with_fields(self.connect_fields.clone()));
        hops
    }

    fn authorization_field(&self) -> Fields {
        let mut fields = Fields::new();
        // Both were checked when the proxy got its credentials.
        if let Some(Ok(authorization)) = self.credentials.as_ref().map(handshake::basic_authorization)
            && let Ok(value) = FieldValue::new(authorization.as_bytes())
        {
            fields.push_field(Field { name: FieldName::from_static("Proxy-Authorization"), value });
        }
        fields
    }

    /// Whether it was asked for as one user, by any proxy on the way; everything that tells users apart.
    fn identity(&self) -> Option<String> {
        let mut identity = String::new();
        let mut proxy = Some(self);
        while let Some(this) = proxy {
            let credentials = this.credentials.iter().flat_map(|Credentials { user, password }| [user, password]);
            // Lengths in front, so that no two lists read the same.
            for part in credentials {
                identity += &format!("{}:{part}", part.len());
            }
            for field in this.connect_fields.iter() {
                identity += &format!("{field:?}");
            }
            identity.push(';');
            proxy = this.before.as_deref();
        }
        identity.contains(|c| c != ';').then_some(identity)
    }
}

impl Router for Proxy {
    /// A plain `http` destination behind an HTTP proxy shares its connections with all others there: the pool key leaves the target out.
    fn route(&self, destination: &Destination) -> Result<Route, RouteError> {
        if destination.unix_path().is_some() {
            return Ok(Route::direct(destination));
        }
        let forwards = self.kind.is_http() && self.plain == Plain::Forwarded && destination.scheme() == Scheme::Http;
        let (what, hops, target_form, fields) = if forwards {
            ("http".to_owned(), self.hops(), TargetForm::Absolute, self.authorization_field())
        } else {
            (destination.to_string(), self.hops_to(destination), TargetForm::Origin, Fields::new())
        };
        let key = PoolKey::new(&format!("{what} through {}", Chain(self)));
        let pool_key = match self.identity() {
            Some(identity) => key.with_identity(&identity),
            None => key,
        };
        Ok(Route { pool_key, hops, target_form, fields })
    }

    fn tunnel(&self, hop: &Hop) -> Result<Box<dyn Tunnel>, RouteError> {
        handshake_of(hop)
    }

    fn routes_last(&self) -> bool {
        true
    }
}

/// The handshake of a hop that is no socket: all that it takes stands in the hop.
pub(crate) fn handshake_of(hop: &Hop) -> Result<Box<dyn Tunnel>, RouteError> {
    match Handshake::for_hop(hop).map_err(RouteError::new)? {
        Some(handshake) => Ok(Box::new(handshake)),
        None => Err(RouteError::new("a socket needs no handshake")),
    }
}

/// A proxy, and those that it is reached through.
struct Chain<'p>(&'p Proxy);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        self.0.before().map_or(Ok(()), |before| write!(f, " through {}", Chain(before)))
    }
}

/// As a URL without credentials: the proxy itself, not those it is reached through.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.as_str();
        match (self.at.host(), self.at.port()) {
            (Some(host), Some(port)) => write!(f, "{kind}://{host}:{port}"),
            // The path, percent-encoded, stands behind the destination's own scheme.
            _ => {
                let at = self.at.to_string();
                write!(f, "{kind}+unix://{}", at.split_once("://").map_or("", |(_, path)| path))
            }
        }
    }
}

/// As `Display`, whether there are credentials, and the chain.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = if self.credentials.is_some() { ", with credentials" } else { "" };
        write!(f, "Proxy({self}{with})")?;
        self.before.as_ref().map_or(Ok(()), |before| write!(f, " through {before:?}"))
    }
}

#[cfg(test)]
mod tests;
