//! How destinations are reached: the routes to them, and connections by these.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use persist_async::{Connector, Error, Stream};
use persist_core::{
    Destination, DialConfig, DialTimeout, Hop, Means, Phase, PoolKey, Route, RouteError, Router, Scheme, SocketConfig,
};
use persist_proxy::{Proxies, ProxyFailure};

use super::args::Args;
use super::failure::Failed;
use crate::exit::Exit;

/// How long connecting may take in all, as in curl, if the command line does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(300);

/// Routes and connections.
#[derive(Clone, Debug)]
pub(super) struct Way {
    router: Arc<dyn Router>,
    proxies: Proxies,
    connector: Connector,
}

/// `--unix-socket`: whatever the destination, it is reached there.
#[derive(Debug)]
struct UnixSocket(String);

impl Router for UnixSocket {
    fn route(&self, destination: &Destination) -> Result<Route, RouteError> {
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
        let (proxies, router): (_, Arc<dyn Router>) = match &args.unix_socket {
            Some(path) => {
                let path = path.to_str().ok_or("--unix-socket: the path is not UTF-8")?;
                (Proxies::none(), Arc::new(UnixSocket(path.to_owned())))
            }
            None => {
                let proxies = args.proxy.proxies(|name| std::env::var(name).ok())?;
                (proxies.clone(), Arc::new(proxies))
            }
        };
        Ok(Self { router, proxies, connector: connector(args.connect_timeout) })
    }

    /// Straight to everywhere.
    pub(super) fn direct() -> Self {
        let proxies = Proxies::none();
        Self { router: Arc::new(proxies.clone()), proxies, connector: connector(None) }
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
        self.connector.connect(route, &*self.router).await.map_err(|error| self.failed(route, &error))
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
        Failed::new(format!("{doing}: {cause}"), exit(error, failure.as_ref(), route))
    }
}

fn connector(limit: Option<Duration>) -> Connector {
    let mut dial = DialConfig::unlimited();
    dial.total = Some(limit.unwrap_or(CONNECT_TIMEOUT));
    Connector::of_parts(dial, SocketConfig::default())
}

/// curl's code for the same thing.
fn exit(error: &Error, failure: Option<&ProxyFailure<'_>>, route: &Route) -> Exit {
    if error.source().is_some_and(|cause| cause.is::<DialTimeout>()) {
        return Exit::Timeout;
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
