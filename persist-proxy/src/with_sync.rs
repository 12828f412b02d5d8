//! A client that goes through one proxy, over `persist-sync`.

use std::borrow::Borrow;
use std::sync::Arc;

use persist_core::pool::Counts;
use persist_core::{Contradiction, ExchangeError, Request};
use persist_sync::{Body, Client, ClientConfig, Connector, Dialer, Reply};

use crate::{InvalidProxy, Network, Proxy, ProxyFailure};

/// Requests through one proxy, in the form that each URL's scheme asks for:
///
/// - `http://`: in absolute form, over persistent connections to the proxy that all origins share;
/// - `https://` (feature `tls`): over a tunnel for each origin, and TLS within.
///
/// A SOCKS proxy tunnels both. It is a [`Client`] whose router is the proxy, and pools, retries and keeps deadlines as that does. Cheap to
/// clone: clones share the connections.
///
/// ```no_run
/// use persist_proxy::persist_core::Request;
/// use persist_proxy::with_sync::ProxyClientConn;
///
/// let proxy = ProxyClientConn::new("http://user:password@proxy.example:3128".parse()?);
/// let reply = proxy.send(Request::get("http://example.com/"), ())?;
/// println!("{}", reply.head.status());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProxyClientConn {
    client: Client,
    proxy: Arc<Proxy>,
}

/// A client through the proxy at `address`, with the defaults of [`ClientConfig`]; `dialer` opens the connections to it, sockets if there is none.
///
/// ```
/// use persist_proxy::Network;
/// use persist_proxy::with_sync::new_proxy_client_conn;
///
/// let proxy = new_proxy_client_conn(Network::Tcp, "socks5h://proxy.example:9050", None)?;
/// assert_eq!(proxy.proxy().to_string(), "socks5h://proxy.example:9050");
/// # Ok::<(), persist_proxy::InvalidProxy>(())
/// ```
///
/// # Errors
/// [`InvalidProxy`]: the address names no proxy. Nothing is dialled before the first request.
pub fn new_proxy_client_conn(
    network: Network,
    address: &str,
    dialer: Option<Arc<dyn Dialer>>,
) -> Result<ProxyClientConn, InvalidProxy> {
    let (proxy, config) = (network.proxy(address)?, ClientConfig::default());
    let connector = Connector::new(&config);
    let connector = match dialer {
        Some(dialer) => connector.with_dialer(dialer),
        None => connector,
    };
    let conn = ProxyClientConn::with_connector(proxy, config, connector);
    Ok(conn.expect("the defaults do not contradict each other: tested"))
}

impl ProxyClientConn {
    /// A client through `proxy`, with the defaults of [`ClientConfig`].
    pub fn new(proxy: Proxy) -> Self {
        Self::with_config(proxy, ClientConfig::default()).expect("the defaults do not contradict each other: tested")
    }

    /// The same, configured; the proxy takes the place of the configuration's router.
    ///
    /// # Errors
    /// Two settings that cannot both hold.
    pub fn with_config(proxy: Proxy, config: ClientConfig) -> Result<Self, Contradiction> {
        let connector = Connector::new(&config);
        Self::with_connector(proxy, config, connector)
    }

    /// The same, with a connector of the caller's, who has put a dialer, a resolver or TLS settings of their own into it.
    ///
    /// # Errors
    /// Two settings that cannot both hold.
    pub fn with_connector(proxy: Proxy, mut config: ClientConfig, connector: Connector) -> Result<Self, Contradiction> {
        let proxy = Arc::new(proxy);
        config.router = proxy.clone();
        Ok(Self { client: Client::with_connector(config, connector)?, proxy })
    }

    /// Sends a request with an absolute URL, and gives its reply: as [`Client::send`].
    ///
    /// # Errors
    /// As there; [`failure`](Self::failure) tells what of it is the proxy's.
    pub fn send(&self, request: impl Borrow<Request>, body: impl Into<Body>) -> Result<Reply, ExchangeError> {
        self.client.send(request, body)
    }

    /// What `error` says about the proxy; `None` if it is about something else.
    pub fn failure<'e>(&self, error: &'e ExchangeError) -> Option<ProxyFailure<'e>> {
        self.proxy.failure(error)
    }

    /// The proxy.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The client, for what this type does not repeat.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What the pool holds: connections to the proxy, tunnels included.
    pub fn counts(&self) -> Counts {
        self.client.counts()
    }
}
