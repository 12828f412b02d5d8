//! Requests and streams through a proxy, by either adapter, so that a test is written once.

use std::io::{Read, Write};

use persist_proxy::persist_core::{ClientConfig, ExchangeError, Request, Router};
use persist_proxy::{Proxy, with_async, with_sync};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Adapter {
    Blocking,
    Async,
}

pub(crate) const BOTH: [Adapter; 2] = [Adapter::Blocking, Adapter::Async];

/// Whom to trust, as PEM.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Roots<'r> {
    /// For origins, and for proxies if there is nothing else.
    pub(crate) all: Option<&'r str>,
    pub(crate) proxies: Option<&'r str>,
}

#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) body: String,
    pub(crate) reused: bool,
}

/// A client of one adapter through one proxy, and one request after the other.
pub(crate) fn get(
    adapter: Adapter,
    proxy: &Proxy,
    config: ClientConfig,
    roots: Roots<'_>,
    urls: &[&str],
) -> Vec<Result<Got, ExchangeError>> {
    match adapter {
        Adapter::Blocking => {
            use persist_sync::tls::ClientTls;
            let tls = |pem: &str| ClientTls::builder().root_certificates(pem).build().expect("a configuration");
            let mut connector = persist_sync::Connector::new(&config);
            if let Some(pem) = roots.all {
                connector = connector.with_tls(tls(pem));
            }
            if let Some(pem) = roots.proxies {
                connector = connector.with_proxy_tls(tls(pem));
            }
            let client = with_sync::ProxyClientConn::with_connector(proxy.clone(), config, connector);
            let client = client.expect("no contradiction");
            let one = |url: &&str| {
                let reply = client.send(Request::get(*url), ())?;
                let reused = reply.reused;
                let body = reply.body.bytes(100_000)?;
                Ok(Got { body: String::from_utf8_lossy(&body).into_owned(), reused })
            };
            urls.iter().map(one).collect()
        }
        Adapter::Async => runtime().block_on(async {
            use persist_async::tls::ClientTls;
            let tls = |pem: &str| ClientTls::builder().root_certificates(pem).build().expect("a configuration");
            let mut connector = persist_async::Connector::new(&config);
            if let Some(pem) = roots.all {
                connector = connector.with_tls(tls(pem));
            }
            if let Some(pem) = roots.proxies {
                connector = connector.with_proxy_tls(tls(pem));
            }
            let client = with_async::ProxyClientConn::with_connector(proxy.clone(), config, connector);
            let client = client.expect("no contradiction");
            let one = async |url: &&str| {
                let mut reply = client.send(Request::get(*url), ()).await?;
                let reused = reply.reused;
                let body = reply.body.bytes(100_000).await?;
                Ok(Got { body: String::from_utf8_lossy(&body).into_owned(), reused })
            };
            let mut all = Vec::new();
            for url in urls {
                all.push(one(url).await);
            }
            all
        }),
    }
}

/// A stream to `to` through the proxy: reads `first` bytes of it, says something, and reads the rest.
pub(crate) fn talk(adapter: Adapter, proxy: &Proxy, to: &str, first: usize, say: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let route = proxy.route(&to.parse().expect("a destination")).expect("a route");
    let (mut greeting, mut rest) = (vec![0; first], Vec::new());
    match adapter {
        Adapter::Blocking => {
            let mut stream = persist_sync::Connector::default().connect(&route, proxy).expect("a tunnel");
            stream.read_exact(&mut greeting).expect("a greeting");
            stream.write_all(say).expect("written");
            stream.read_to_end(&mut rest).expect("the rest");
        }
        Adapter::Async => runtime().block_on(async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = persist_async::Connector::default().connect(&route, proxy).await.expect("a tunnel");
            stream.read_exact(&mut greeting).await.expect("a greeting");
            stream.write_all(say).await.expect("written");
            stream.read_to_end(&mut rest).await.expect("the rest");
        }),
    }
    (greeting, rest)
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
