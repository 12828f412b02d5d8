//! Walks a whole route: a socket, then each hop's handshake, and TLS wherever a hop leads to an `https` destination.

use std::sync::Arc;

use persist_core::{
    Blame, ClientConfig, Destination, DialConfig, Hop, Host, Means, Phase, Resolve, Route, Router, Scheme,
    SocketConfig, TargetForm,
};

use super::resolver::{Resolver, SystemResolver};
use super::socket::{Dialer, SocketDialer};
use super::{DialTimer, tunnel};
use crate::error::{Error, Result};
use crate::stream::Stream;
#[cfg(feature = "tls")]
use crate::tls::ClientTls;

/// Makes streams of routes. Cheap to clone.
///
/// Each step has its deadline ([`DialConfig`]), and so has the whole. Bytes that came behind a proxy's last reply stand in front of the stream.
///
/// ```
/// use persist_async::persist_core::{ClientConfig, Direct, Route};
/// use persist_async::{ClientConn, Connector, Request};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = persist_async::Server::bind("127.0.0.1:0").await?;
/// # let address = server.local_addr().expect("TCP");
/// # tokio::spawn(server.serve(|got| async move { got.responder.send(persist_async::Response::ok(), "hello").await }));
/// let connector = Connector::new(&ClientConfig::default());
/// let route = Route::direct(&format!("http://{address}").parse()?);
/// let conn = ClientConn::new(connector.connect(&route, &Direct).await?);
/// let request = Request::get("/").field("Host", address.to_string())?;
/// assert_eq!(conn.send(request, ()).await?.body.bytes(100).await?, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Connector {
    dial: DialConfig,
    sockets: SocketDialer,
    /// Instead of `sockets`, for the first hop.
    dialer: Option<Arc<dyn Dialer>>,
    #[cfg(feature = "tls")]
    tls: Tls,
    #[cfg(feature = "http2")]
    http2: Option<Arc<crate::http2::Http2Config>>,
}

/// How TLS is spoken: as the user says, or by the platform's roots, which are read when they are first needed.
#[cfg(feature = "tls")]
#[derive(Clone, Debug, Default)]
struct Tls {
    chosen: Arc<tokio::sync::OnceCell<ClientTls>>,
    /// With proxies, if not in the same way.
    with_proxies: Option<ClientTls>,
    offer: Offer,
}

/// What is offered by ALPN, unless the user says it.
#[cfg(feature = "tls")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Offer {
    #[default]
    Http,
    #[cfg(feature = "http2")]
    Http2,
    Nothing,
}

/// Who is at the other end of a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Proxy,
    Origin,
}

impl End {
    /// Of the hop with this number: the last one leads to the origin, unless its requests are for a proxy to forward.
    fn of(n: usize, route: &Route) -> Self {
        let is_last = n + 1 == route.hops.len();
        if is_last && route.target_form == TargetForm::Origin { Self::Origin } else { Self::Proxy }
    }
}

/// Addresses of a name that are tried for one hop whose proxy cannot resolve it. Each costs the whole way up to there.
const HOP_ADDRESSES_MAX: usize = 4;

impl Connector {
    /// Sockets as the configuration says, the system's resolver.
    pub fn new(config: &ClientConfig) -> Self {
        Self::of_parts(config.dial, config.socket)
    }

    /// The same, of the two parts that it needs.
    pub fn of_parts(dial: DialConfig, socket: SocketConfig) -> Self {
        let sockets = SocketDialer::new(Arc::new(SystemResolver), socket, dial.happy_eyeballs);
        Self {
            dial,
            sockets,
            dialer: None,
            #[cfg(feature = "tls")]
            tls: Tls::default(),
            #[cfg(feature = "http2")]
            http2: None,
        }
    }

    /// Opens the first hop by other means. The resolver then serves only hops whose names are resolved here.
    #[must_use]
    pub fn with_dialer(mut self, dialer: Arc<dyn Dialer>) -> Self {
        self.dialer = Some(dialer);
        self
    }

    /// Resolves names by other means.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.sockets = self.sockets.with_resolver(resolver);
        self
    }

    /// Speaks TLS in another way than by default: the platform's roots, no client certificate, `http/1.1`.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: ClientTls) -> Self {
        self.tls.chosen = Arc::new(tokio::sync::OnceCell::new_with(Some(tls)));
        self
    }

    /// Speaks TLS with proxies in another way than with origins: other roots, another client certificate.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_proxy_tls(mut self, tls: ClientTls) -> Self {
        self.tls.with_proxies = Some(tls);
        self
    }

    /// Has a [`Client`](crate::Client) speak HTTP/2: wherever the server chooses `h2` by ALPN, and over cleartext if `http2` says so. It is offered beside `http/1.1` by the
    /// default way to speak TLS; [one of the user's own](Self::with_tls) offers what the user says. Deadlines are those of the client.
    #[cfg(feature = "http2")]
    #[must_use]
    pub fn with_http2(mut self, http2: crate::http2::Http2Config) -> Self {
        self.http2 = Some(Arc::new(http2));
        #[cfg(feature = "tls")]
        if self.tls.offer == Offer::Http {
            self.tls.offer = Offer::Http2;
        }
        self
    }

    /// How HTTP/2 is spoken over this stream, if it is.
    #[cfg(feature = "http2")]
    pub(crate) fn http2_over(&self, stream: &Stream) -> Option<&crate::http2::Http2Config> {
        let http2 = self.http2.as_deref()?;
        #[cfg(feature = "tls")]
        if stream.is_secure() {
            return stream.alpn().is_some_and(|protocol| protocol == crate::http2::ALPN).then_some(http2);
        }
        let _ = stream;
        (http2.cleartext == crate::http2::Cleartext::Http2).then_some(http2)
    }

    /// For streams of any protocol: unless the user says how TLS is spoken, no protocol is offered by ALPN.
    #[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "there is nothing to set"))]
    pub(crate) fn for_any_protocol(mut self) -> Self {
        #[cfg(feature = "tls")]
        {
            self.tls.offer = Offer::Nothing;
        }
        self
    }

    /// A stream by this route, ready for requests. `router` gives the handshakes of hops that are no socket.
    ///
    /// # Errors
    /// Phase, destination of the hop that failed, and the cause as a value: an [`io::Error`](std::io::Error), a
    /// [`DialTimeout`](persist_core::DialTimeout), or whatever the hop's [`Tunnel`](persist_core::Tunnel) says.
    pub async fn connect(&self, route: &Route, router: &dyn Router) -> Result<Stream> {
        let mut timer = DialTimer::new(self.dial);
        let rest = self.check(route).await?;
        let mut choices = Vec::with_capacity(rest.len());
        for hop in rest {
            choices.push(self.choices(hop, &mut timer).await.map_err(|error| error.at(&hop.to))?);
        }
        loop {
            match self.walk(route, &choices, router, &mut timer).await {
                Ok(stream) => return Ok(stream),
                // The proxy did not get to this address: again with the next one, all the way.
                Err((at, error)) => match choices.get_mut(at).filter(|left| left.len() > 1) {
                    Some(left) if !error_is_final(&error) => drop(left.remove(0)),
                    _ => return Err(error),
                },
            }
        }
    }

    /// What can be said before anything is dialled.
    async fn check<'a>(&self, route: &'a Route) -> Result<&'a [Hop]> {
        let hops = &route.hops;
        let Some((_, rest)) = hops.split_first().filter(|(first, _)| first.means == Means::Socket) else {
            return Err(unsupported("a route begins with a socket"));
        };
        if let Some(hop) = rest.iter().find(|hop| hop.means == Means::Socket) {
            return Err(unsupported("only the first hop of a route can be a socket").at(&hop.to));
        }
        for (n, hop) in hops.iter().enumerate().filter(|(_, hop)| hop.to.scheme() == Scheme::Https) {
            self.check_tls(End::of(n, route)).await.map_err(|error| error.at(&hop.to))?;
        }
        Ok(rest)
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_async, reason = "with TLS, roots are read")]
    async fn check_tls(&self, _: End) -> Result<()> {
        Err(unsupported("https needs TLS, which persist-async has with its feature `tls`"))
    }

    #[cfg(feature = "tls")]
    async fn check_tls(&self, end: End) -> Result<()> {
        if self.tls_with(end).is_some() {
            return Ok(());
        }
        // Reading a few hundred certificates takes milliseconds: not on a thread that others wait for.
        let offer = self.tls.offer;
        let build = move || match offer {
            Offer::Http => ClientTls::builder().build(),
            #[cfg(feature = "http2")]
            Offer::Http2 => ClientTls::builder().alpn(["h2", "http/1.1"]).build(),
            Offer::Nothing => ClientTls::builder().alpn([] as [&[u8]; 0]).build(),
        };
        let built = self.tls.chosen.get_or_try_init(|| async {
            let built = tokio::task::spawn_blocking(build).await;
            built.map_err(persist_core::BoxError::from)?.map_err(persist_core::BoxError::from)
        });
        built.await.map(drop).map_err(|error| Error::new(Phase::Prepare, error).blaming(Blame::Caller))
    }

    #[cfg(feature = "tls")]
    fn tls_with(&self, end: End) -> Option<&ClientTls> {
        let with_proxies = self.tls.with_proxies.as_ref().filter(|_| end == End::Proxy);
        with_proxies.or_else(|| self.tls.chosen.get())
    }

    /// What the hop's proxy may be asked for, best first.
    async fn choices(&self, hop: &Hop, timer: &mut DialTimer) -> Result<Vec<Hop>> {
        let (Means::Socks5 { resolve: Resolve::Here }, Some(host), Some(port)) =
            (hop.means, hop.to.host(), hop.to.port())
        else {
            return Ok(vec![hop.clone()]);
        };
        if host.address().is_some() {
            return Ok(vec![hop.clone()]);
        }
        let addresses = self.sockets.resolve(host, port, timer).await?;
        let at = |address: std::net::SocketAddr| {
            let host = match address.ip() {
                std::net::IpAddr::V4(address) => Host::V4(address),
                std::net::IpAddr::V6(address) => Host::V6(address),
            };
            let to = Destination::tcp(hop.to.scheme(), host, port);
            Hop::through(hop.means, to, hop.credentials.clone())
        };
        Ok(addresses.into_iter().take(HOP_ADDRESSES_MAX).map(at).collect())
    }

    /// Once along the route, with the first choice of each hop. A failure comes with the number of its hop behind the first.
    async fn walk(
        &self,
        route: &Route,
        choices: &[Vec<Hop>],
        router: &dyn Router,
        timer: &mut DialTimer,
    ) -> Result<Stream, (usize, Error)> {
        let nowhere = usize::MAX;
        let (first, rest) = (&route.hops[0], &route.hops[1..]);
        let dialer: &dyn Dialer = self.dialer.as_deref().unwrap_or(&self.sockets);
        let dialed = dialer.dial(&first.to, timer).await;
        let mut stream = dialed.map_err(|error| (nowhere, error.at(&first.to)))?;
        let end = End::of(0, route);
        stream = self.secure(stream, &first.to, end, timer).await.map_err(|error| (nowhere, error.at(&first.to)))?;
        for (at, (hop, choices)) in rest.iter().zip(choices).enumerate() {
            let failed = |error: Error| (at, error.at(&hop.to));
            let tunnel = router.tunnel(&choices[0]).map_err(|error| failed(Error::new(Phase::Route, error)))?;
            stream = timer.within(Phase::Tunnel, tunnel::pass(stream, tunnel)).await.map_err(failed)?;
            let end = End::of(at + 1, route);
            stream = self.secure(stream, &hop.to, end, timer).await.map_err(|error| (nowhere, error.at(&hop.to)))?;
        }
        Ok(stream)
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_async, reason = "with TLS, hands are shaken")]
    async fn secure(&self, stream: Stream, _: &Destination, _: End, _: &mut DialTimer) -> Result<Stream> {
        Ok(stream)
    }

    /// TLS, if the destination asks for it.
    #[cfg(feature = "tls")]
    async fn secure(&self, stream: Stream, to: &Destination, end: End, timer: &mut DialTimer) -> Result<Stream> {
        match self.tls_with(end) {
            Some(tls) if to.scheme() == Scheme::Https => {
                // Proxies are spoken to by HTTP/1.1, whatever origins are.
                #[cfg(feature = "http2")]
                let tls = &if end == End::Proxy { tls.without_http2() } else { tls.clone() };
                let local = || Host::Name("localhost".into());
                tls.connect(stream, &to.host().cloned().unwrap_or_else(local), timer).await
            }
            _ => Ok(stream),
        }
    }
}

fn unsupported(what: &'static str) -> Error {
    Error::new(Phase::Prepare, what).blaming(Blame::Caller)
}

/// There would be no time for another try.
fn error_is_final(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<persist_core::DialTimeout>())
}

impl Default for Connector {
    fn default() -> Self {
        Self::new(&ClientConfig::default())
    }
}
