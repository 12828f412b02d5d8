//! Which proxy for which destination: told, or read from the environment.

use persist_core::{Destination, Hop, Route, RouteError, Router, Scheme, Tunnel};

use crate::proxy::handshake_of;
use crate::{InvalidProxy, NoProxy, Proxy};

/// The proxies of a program, by scheme, and what is reached without one. A [`Router`] for `Client`s.
///
/// ```
/// use persist_core::{Router, TargetForm};
/// use persist_proxy::Proxies;
///
/// let environment = |name: &str| match name {
///     "http_proxy" => Some("http://proxy.example:3128".to_owned()),
///     "no_proxy" => Some("localhost".to_owned()),
///     _ => None,
/// };
/// let proxies = Proxies::from_variables(environment)?;
/// assert_eq!(proxies.route(&"http://example.com".parse()?)?.target_form, TargetForm::Absolute);
/// assert_eq!(proxies.route(&"http://localhost".parse()?)?.target_form, TargetForm::Origin);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    no_proxy: NoProxy,
}

/// A variable of the environment names no proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {error}")]
pub struct InvalidVariable {
    /// Its name.
    pub variable: &'static str,
    /// What is wrong with its value, which may hold a password and so is not shown.
    #[source]
    pub error: InvalidProxy,
}

impl Proxies {
    /// None: everything is reached directly.
    pub fn none() -> Self {
        Self::default()
    }

    /// One proxy for everything.
    pub fn all(proxy: Proxy) -> Self {
        Self { http: Some(proxy.clone()), https: Some(proxy), no_proxy: NoProxy::default() }
    }

    /// The same, but for what `list` matches.
    #[must_use]
    pub fn except(mut self, list: NoProxy) -> Self {
        self.no_proxy = list;
        self
    }

    /// From this process's environment: see [`from_variables`](Self::from_variables).
    ///
    /// # Errors
    /// [`InvalidVariable`]: a variable is set, is not empty, and names no proxy.
    pub fn from_env() -> Result<Self, InvalidVariable> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// From variables as `get` gives them: `http_proxy`, `https_proxy`, then `all_proxy` for what has none; `no_proxy`.
    /// Lower case first, then upper case; but `HTTP_PROXY` not under CGI, where a request's `Proxy` field would set it (httpoxy). An empty
    /// variable means no proxy.
    ///
    /// # Errors
    /// [`InvalidVariable`].
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidVariable> {
        let is_cgi = get("REQUEST_METHOD").is_some();
        let read = |names: [&'static str; 2]| {
            let names = names.into_iter().filter(|name| !(is_cgi && *name == "HTTP_PROXY"));
            let Some((variable, text)) = names.filter_map(|name| Some((name, get(name)?))).next() else {
                return Ok(None);
            };
            let text = text.trim();
            let proxy = if text.is_empty() { Ok(None) } else { text.parse().map(Some) };
            proxy.map(Some).map_err(|error| InvalidVariable { variable, error })
        };
        let all = read(["all_proxy", "ALL_PROXY"])?.flatten();
        let list = get("no_proxy").or_else(|| get("NO_PROXY")).unwrap_or_default();
        Ok(Self {
            http: read(["http_proxy", "HTTP_PROXY"])?.unwrap_or_else(|| all.clone()),
            https: read(["https_proxy", "HTTPS_PROXY"])?.unwrap_or(all),
            no_proxy: NoProxy::parse(&list),
        })
    }

    /// The proxy for `destination`; `None`: directly.
    pub fn proxy_for(&self, destination: &Destination) -> Option<&Proxy> {
        let proxy = match destination.scheme() {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        };
        proxy.filter(|_| !self.no_proxy.matches(destination))
    }
}

impl Router for Proxies {
    fn route(&self, destination: &Destination) -> Result<Route, RouteError> {
        match self.proxy_for(destination) {
            Some(proxy) => proxy.route(destination),
            None => Ok(Route::direct(destination)),
        }
    }

    fn tunnel(&self, hop: &Hop) -> Result<Box<dyn Tunnel>, RouteError> {
        handshake_of(hop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, InvalidVariable> {
        Proxies::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn chosen(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let proxies = proxies(variables).expect("valid variables");
        proxies.proxy_for(&url.parse().expect("a destination")).map(ToString::to_string)
    }

    #[test]
    fn lower_case_comes_first_and_the_schemes_own_before_all() {
        let all = [("all_proxy", "socks5h://s"), ("HTTPS_PROXY", "http://upper"), ("https_proxy", "http://lower")];
        assert_eq!(chosen(&all, "https://x").as_deref(), Some("http://lower:1080"));
        assert_eq!(chosen(&all, "http://x").as_deref(), Some("socks5h://s:1080"));
        assert_eq!(chosen(&[("HTTP_PROXY", "p")], "http://x").as_deref(), Some("http://p:1080"));
    }

    #[test]
    fn under_cgi_http_proxy_in_upper_case_is_ignored() {
        let cgi = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil"), ("HTTPS_PROXY", "http://fine")];
        assert_eq!(chosen(&cgi, "http://x"), None);
        assert_eq!(chosen(&cgi, "https://x").as_deref(), Some("http://fine:1080"));
    }

    #[test]
    fn an_empty_variable_means_no_proxy_even_beside_all_proxy() {
        assert_eq!(chosen(&[("http_proxy", ""), ("all_proxy", "p")], "http://x"), None);
    }

    #[test]
    fn a_bad_variable_is_named_and_its_value_is_not_shown() {
        let error = proxies(&[("https_proxy", "gopher://me:secret@p")]).expect_err("no such kind");
        assert_eq!(error.variable, "https_proxy");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn what_no_proxy_matches_and_unix_sockets_are_reached_directly() {
        let variables = [("all_proxy", "p"), ("NO_PROXY", "inner.example")];
        assert_eq!(chosen(&variables, "http://a.inner.example"), None);
        assert_eq!(chosen(&variables, "http+unix://%2Fx"), None);
        assert!(chosen(&variables, "http://outer.example").is_some());
    }
}
