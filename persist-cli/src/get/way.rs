//! How destinations are reached: the routes to them, and connections by these.

use std::error::Error as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use persist_async::tls::{ClientTls, rustls};
use persist_async::{Connector, Dialer, Error, SocketDialer, Stream};
use persist_core::{
    Destination, DialConfig, DialTimeout, Hop, Means, Phase, PoolKey, Route, RouteError, Router, Scheme, SocketConfig,
};
use persist_proxy::{Proxies, ProxyFailure};

use super::args::Args;
use super::elsewhere::{Always, ByRules, PlaceOptions, Redirected, Rule, resolver};
use super::failure::Failed;
use super::secure::TlsOptions;
use crate::exit::Exit;

/// How long connecting may take in all, as in curl, if the command line does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(300);

/// Routes and connections.
#[derive(Clone, Debug)]
pub(super) struct Way {
    router: Arc<dyn Router>,
    proxies: Proxies,
    /// For routes with a proxy.
    connector: Connector,
    /// For those without.
    direct: Connector,
    rules: Arc<[Rule]>,
    tls: TlsOptions,
    /// What `tls` came to, once somebody has needed it.
    made: Arc<OnceLock<Result<ClientTls, Failed>>>,
}

/// `--unix-socket`: whatever the destination, it is reached there.
#[derive(Debug)]
struct UnixSocket(String);

impl Router for UnixSocket {
    fn route(&self, destination: &Destination) -> Result<Route, RouteError> {
        // With TLS each host has connections of its own: the server was asked for its name.
        if destination.scheme() == Scheme::Https {
            return Ok(Route::direct(destination));
        }
        let socket = Destination::unix(Scheme::Http, &self.0);
        Ok(Route { pool_key: PoolKey::from(&socket), hops: vec![Hop::socket(socket)], ..Route::direct(destination) })
    }
}

impl Way {
    /// What the command line and the environment say.
    ///
    /// # Errors
    /// What is wrong with them, for a person.
    pub(super) fn new(args: &Args) -> Result<Self, String> {
        let connector = connector(args.connect_timeout, &args.place);
        let sockets = || sockets(&args.place);
        let (proxies, router, dialer): (_, Arc<dyn Router>, Option<Arc<dyn Dialer>>) = match &args.unix_socket {
            Some(path) => {
                let path = path.to_str().ok_or("--unix-socket: the path is not UTF-8")?;
                let always = Always { sockets: sockets(), to: Destination::unix(Scheme::Http, path) };
                (Proxies::none(), Arc::new(UnixSocket(path.to_owned())), Some(Arc::new(always)))
            }
            None => {
                let proxies = args.proxy.proxies(|name| std::env::var(name).ok())?;
                let rules = args.place.connect_to.clone();
                let by_rules = || -> Arc<dyn Dialer> { Arc::new(ByRules { sockets: sockets(), rules }) };
                let dialer = (!args.place.connect_to.is_empty()).then(by_rules);
                (proxies.clone(), Arc::new(proxies), dialer)
            }
        };
        let direct = match dialer {
            Some(dialer) => connector.clone().with_dialer(dialer),
            None => connector.clone(),
        };
        let (rules, tls) = (args.place.connect_to.clone().into(), args.tls.clone());
        Ok(Self { router, proxies, connector, direct, rules, tls, made: Arc::default() })
    }

    /// Straight to everywhere.
    pub(super) fn direct() -> Self {
        let proxies = Proxies::none();
        let connector = connector(None, &PlaceOptions::default());
        Self {
            router: Arc::new(proxies.clone()),
            proxies,
            direct: connector.clone(),
            connector,
            rules: Arc::default(),
            tls: TlsOptions::default(),
            made: Arc::default(),
        }
    }

    /// The route to a destination.
    ///
    /// # Errors
    /// [`RouteError`]
    pub(super) fn route(&self, destination: &Destination) -> Result<Route, RouteError> {
        self.router.route(destination)
    }

    /// A connection by this route.
    pub(super) async fn connect(&self, route: &Route) -> Result<Stream, Failed> {
        let mut connector = match route.hops.as_slice() {
            [_] => self.direct.clone(),
            _ => self.connector.clone(),
        };
        if route.hops.iter().any(|hop| hop.to.scheme() == Scheme::Https) {
            // The platform's roots are a file of a few hundred: read once, and by whoever needs them.
            connector = connector.with_tls(self.made.get_or_init(|| self.tls.build()).clone()?);
        }
        let end = route.hops.last().map(|hop| &hop.to);
        let connected = match end.filter(|_| !self.rules.is_empty()) {
            Some(end) => {
                let router = Redirected { router: &*self.router, rules: &self.rules, end };
                connector.connect(route, &router).await
            }
            None => connector.connect(route, &*self.router).await,
        };
        connected.map_err(|error| self.failed(route, &error))
    }

    fn failed(&self, route: &Route, error: &Error) -> Failed {
        let failure = self.proxies.failure(error);
        let is_proxy =
            matches!(failure, Some(ProxyFailure::NotResolved | ProxyFailure::Unreachable | ProxyFailure::NotSecured));
        let at = error.destination().or(route.hops.last().map(|hop| &hop.to));
        let host = at.and_then(Destination::host).map(ToString::to_string).unwrap_or_default();
        let place = at.map_or_else(String::new, |at| match at.unix_path() {
            Some(path) => path.to_owned(),
            None => at.authority_with_port(),
        });
        let proxy = if is_proxy { "the proxy " } else { "" };
        let doing = match error.phase() {
            Phase::Resolve if is_proxy => format!("resolving the proxy {host}"),
            Phase::Resolve => format!("resolving the host {host}"),
            Phase::Tunnel => format!("going through the proxy to {place}"),
            Phase::Handshake => format!("securing the connection to {proxy}{place}"),
            _ => format!("connecting to {proxy}{place}"),
        };
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        // OpenSSL's `req -x509` makes such certificates unless told otherwise, and takes them; rustls has no code for them that could be matched.
        let hint = match cause.contains("CaUsedAsEndEntity") {
            true => Some(
                "it is an authority's, not a server's; `openssl req -x509` makes a server's with -addext basicConstraints=critical,CA:FALSE",
            ),
            false => error.hint().filter(|_| error.phase() == Phase::Handshake),
        };
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        Failed::new(format!("{doing}: {cause}{hint}"), exit(error, failure.as_ref(), route))
    }
}

fn connector(limit: Option<Duration>, place: &PlaceOptions) -> Connector {
    let mut dial = DialConfig::unlimited();
    dial.total = Some(limit.unwrap_or(CONNECT_TIMEOUT));
    Connector::of_parts(dial, SocketConfig::default()).with_resolver(resolver(place))
}

fn sockets(place: &PlaceOptions) -> SocketDialer {
    SocketDialer::default().with_resolver(resolver(place))
}

/// curl's code for the same thing.
fn exit(error: &Error, failure: Option<&ProxyFailure<'_>>, route: &Route) -> Exit {
    if error.source().is_some_and(|cause| cause.is::<DialTimeout>()) {
        return Exit::Timeout;
    }
    if let Some(rustls::Error::InvalidCertificate(_)) = error.source().and_then(|cause| cause.downcast_ref()) {
        return Exit::Untrusted;
    }
    match failure {
        Some(ProxyFailure::NotResolved) => return Exit::ResolveProxy,
        Some(ProxyFailure::Unreachable) => return Exit::Connect,
        Some(ProxyFailure::NotSecured) => return Exit::Secure,
        // For HTTP proxies curl has no code of its own.
        Some(_) if speaks_http(error, route) => return Exit::Receive,
        Some(_) => return Exit::Proxy,
        None => {}
    }
    match error.phase() {
        Phase::Resolve => Exit::Resolve,
        Phase::Handshake => Exit::Secure,
        Phase::Prepare | Phase::Route => Exit::Failed,
        _ => Exit::Connect,
    }
}

/// Whether the hop that failed was asked for with `CONNECT`.
fn speaks_http(error: &Error, route: &Route) -> bool {
    let hop = route.hops.iter().find(|hop| Some(&hop.to) == error.destination());
    hop.is_some_and(|hop| hop.means == Means::HttpConnect)
}
