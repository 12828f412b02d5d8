//! How a destination is reached: what is dialled, under which key connections are pooled, and how requests are then written.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::destination::Destination;
use crate::field::Fields;
use crate::method::Method;
use crate::tunnel::Tunnel;

/// Decides how a destination is reached. Pure: it looks at the destination, not at the network.
pub trait Router: fmt::Debug + Send + Sync {
    /// The route to `destination`.
    ///
    /// # Errors
    /// [`RouteError`] if this router knows none; nothing was dialled.
    fn route(&self, destination: &Destination) -> Result<Route, RouteError>;

    /// The handshake that makes `hop`, one of a route of this router's that is no socket.
    ///
    /// # Errors
    /// [`RouteError`]: this router makes no tunnels, or the hop's protocol cannot express the target.
    fn tunnel(&self, hop: &Hop) -> Result<Box<dyn Tunnel>, RouteError> {
        Err(RouteError::new(alloc::format!("this router has no handshake for a hop to {}", hop.to)))
    }

    /// Whether the route to a destination is the same whenever it is asked for, so that a client may [keep](crate::Ways) it rather than ask for each
    /// request. `false`, unless a router says otherwise.
    fn routes_last(&self) -> bool {
        false
    }
}

/// Goes straight to every destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direct;

/// One way to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Connections with the same key may stand in for each other.
    pub pool_key: PoolKey,
    /// What to dial, in order; at least one. Each hop begins inside the stream that the hop before it has made.
    pub hops: Vec<Hop>,
    /// How the request target is written for whoever is at the end of the last hop.
    pub target_form: TargetForm,
    /// Fields that every request on this route carries (a proxy's credentials, for one).
    pub fields: Fields,
}

/// One step of a route. Where `to` is `https`, a TLS handshake with its host follows the step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hop {
    /// Where the step leads.
    pub to: Destination,
    /// How.
    pub means: Means,
    /// What the step's protocol authenticates with.
    pub credentials: Option<Credentials>,
    /// Fields that a `CONNECT` carries besides its own; other means have none.
    pub fields: Fields,
}

/// How one hop is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Means {
    /// A socket of our own. Only ever the first hop.
    Socket,
    /// A `CONNECT` request to the HTTP proxy that the previous hop reached (RFC 9110 §9.3.6).
    HttpConnect,
    /// SOCKS 4a: the proxy resolves names.
    Socks4a,
    /// SOCKS 5 (RFC 1928).
    Socks5 {
        /// Who resolves names.
        resolve: Resolve,
    },
}

/// Who turns a host name into addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolve {
    /// We do, before the hop.
    Here,
    /// The proxy does (`socks5h`).
    There,
}

/// A user name and a password. `Debug` shows neither.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

/// How a request target is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetForm {
    /// `/path?query`, for the origin itself (RFC 9112 §3.2.1).
    Origin,
    /// `http://host/path?query`, for a proxy that forwards (RFC 9112 §3.2.2).
    Absolute,
}

/// Connections with equal keys may stand in for each other: they end at the same place, by the same way, as the same user.
///
/// Shows its label only; what keeps users apart stays hidden.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey {
    label: Arc<str>,
    identity: Option<Arc<str>>,
}

/// No route to a destination.
#[derive(Debug)]
pub struct RouteError(Box<dyn core::error::Error + Send + Sync>);

impl Router for Direct {
    fn route(&self, destination: &Destination) -> Result<Route, RouteError> {
        Ok(Route::direct(destination))
    }

    fn routes_last(&self) -> bool {
        true
    }
}

impl Route {
    /// Straight to `destination`.
    pub fn direct(destination: &Destination) -> Self {
        Self {
            pool_key: PoolKey::from(destination),
            hops: alloc::vec![Hop::socket(destination.clone())],
            target_form: TargetForm::Origin,
            fields: Fields::new(),
        }
    }
}

impl Hop {
    /// A socket to `to`.
    pub const fn socket(to: Destination) -> Self {
        Self { to, means: Means::Socket, credentials: None, fields: Fields::new() }
    }

    /// From inside the previous hop's stream on to `to`.
    pub const fn through(means: Means, to: Destination, credentials: Option<Credentials>) -> Self {
        Self { to, means, credentials, fields: Fields::new() }
    }

    /// With fields for the proxy, where the hop is a `CONNECT`.
    #[must_use]
    pub fn with_fields(mut self, fields: Fields) -> Self {
        self.fields = fields;
        self
    }
}

impl TargetForm {
    /// The request target for `origin_target` (`/path?query`, or `*`) at `destination`.
    ///
    /// `CONNECT` always gets the authority form, and an `OPTIONS *` to a proxy the destination without a path
    /// (RFC 9112 §3.2.3, §3.2.4).
    ///
    /// ```
    /// use persist_core::{Destination, Method, TargetForm};
    ///
    /// let there: Destination = "http://example.com:8080".parse()?;
    /// assert_eq!(TargetForm::Origin.target(&Method::GET, &there, "/a"), "/a");
    /// assert_eq!(TargetForm::Absolute.target(&Method::GET, &there, "/a"), "http://example.com:8080/a");
    /// assert_eq!(TargetForm::Origin.target(&Method::CONNECT, &there, "/"), "example.com:8080");
    /// # Ok::<(), persist_core::UrlError>(())
    /// ```
    pub fn target(self, method: &Method, destination: &Destination, origin_target: &str) -> String {
        if *method == Method::CONNECT {
            return destination.authority_with_port();
        }
        match self {
            Self::Origin => origin_target.to_owned(),
            Self::Absolute => {
                let path = if origin_target == "*" { "" } else { origin_target };
                alloc::format!("{}://{}{path}", destination.scheme(), destination.authority())
            }
        }
    }
}

impl PoolKey {
    /// A key of its own. Two parts of a program that use the same label share connections.
    pub fn new(label: &str) -> Self {
        Self { label: label.into(), identity: None }
    }

    /// The same way, but only for one user: connections that were authenticated serve nobody else. `identity` is never shown.
    #[must_use]
    pub fn with_identity(mut self, identity: &str) -> Self {
        self.identity = Some(identity.into());
        self
    }

    /// What is shown of it.
    pub fn label(&self) -> &str {
        &self.label
    }
}

impl From<&Destination> for PoolKey {
    fn from(destination: &Destination) -> Self {
        Self { label: destination.label().into(), identity: None }
    }
}

impl RouteError {
    /// With its cause.
    pub fn new(cause: impl Into<Box<dyn core::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no route: {}", self.0)
    }
}

impl core::error::Error for RouteError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&*self.0)
    }
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl fmt::Debug for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)?;
        f.write_str(if self.identity.is_some() { " (as one user)" } else { "" })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

mod request;
#[cfg(test)]
mod tests;

pub use request::HostDisagrees;
