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

    /// The same, with this proxy for `http` destinations.
    #[must_use]
    pub fn http(mut self, proxy: Proxy) -> Self {
        self.http = Some(proxy);
        self
    }

    /// The same, with this proxy for `https` destinations.
    #[must_use]
    pub fn https(mut self, proxy: Proxy) -> Self {
        self.https = Some(proxy);
        self
    }

    /// The same, with each proxy changed: given credentials, say, or put behind another.
    ///
    /// # Errors
    /// What `change` says.
    pub fn map<E>(mut self, mut change: impl FnMut(Proxy) -> Result<Proxy, E>) -> Result<Self, E> {
        self.http = self.http.map(&mut change).transpose()?;
        self.https = self.https.map(change).transpose()?;
        Ok(self)
    }

    /// The same, but for what `list` matches; it replaces any such list from before.
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
    /// variable is like none, as in curl.
    ///
    /// # Errors
    /// [`InvalidVariable`].
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidVariable> {
        let is_cgi = get("REQUEST_METHOD").is_some();
        let set = |names: [&'static str; 2]| {
            let mut names = names.into_iter().filter(|name| !(is_cgi && *name == "HTTP_PROXY"));
            names.find_map(|name| get(name).filter(|text| !text.trim().is_empty()).map(|text| (name, text)))
        };
        let read = |names| match set(names) {
            Some((variable, text)) => {
                text.trim().parse().map(Some).map_err(|error| InvalidVariable { variable, error })
            }
            None => Ok(None),
        };
        let all: Option<Proxy> = read(["all_proxy", "ALL_PROXY"])?;
        Ok(Self {
            http: read(["http_proxy", "HTTP_PROXY"])?.or_else(|| all.clone()),
            https: read(["https_proxy", "HTTPS_PROXY"])?.or(all),
            no_proxy: NoProxy::from_variables(&get),
        })
    }

    /// The proxies, one for each scheme that has one.
    pub fn iter(&self) -> impl Iterator<Item = &Proxy> {
        self.http.iter().chain(&self.https)
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

    fn routes_last(&self) -> bool {
        true
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
    fn an_empty_variable_is_like_none() {
        let variables =
            [("http_proxy", " "), ("HTTP_PROXY", ""), ("all_proxy", "p"), ("no_proxy", ""), ("NO_PROXY", "y")];
        assert_eq!(chosen(&variables, "http://x").as_deref(), Some("http://p:1080"));
        assert_eq!(chosen(&variables, "http://y"), None);
        assert_eq!(chosen(&[("http_proxy", "")], "http://x"), None);
    }

    #[test]
    fn proxies_are_told_by_scheme_and_changed_all_together() {
        let proxies = Proxies::none().http("p".parse().expect("a proxy")).https("q".parse().expect("a proxy"));
        let near: Proxy = "socks5h://s".parse().expect("a proxy");
        let changed = proxies.map(|proxy| Ok::<_, ()>(proxy.via(near.clone()))).expect("nothing fails");
        for (url, proxy) in [("http://x", "http://p:1080"), ("https://x", "http://q:1080")] {
            let chosen = changed.proxy_for(&url.parse().expect("a destination")).expect("there is one");
            assert_eq!((chosen.to_string().as_str(), chosen.before()), (proxy, Some(&near)));
        }
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
