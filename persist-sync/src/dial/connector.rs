//! Walks a route: the socket, then for each further hop its handshake, and TLS wherever a hop leads to an `https` destination.

use std::net::SocketAddr;
use std::sync::Arc;

use persist_core::{
    Blame, ClientConfig, Destination, DialConfig, Hop, Host, Means, Phase, Resolve, Route, Router, Scheme,
    SocketConfig, TargetForm,
};

use super::resolver::{Resolver, SystemResolver};
use super::socket::{Dialer, SocketDialer, addresses};
use super::timer::DialTimer;
use super::tunnel;
use crate::error::{Error, Result};
use crate::stream::Stream;
#[cfg(feature = "tls")]
use crate::tls::ClientTls;

/// Makes the stream of a route. Cheap to clone.
///
/// ```no_run
/// use persist_sync::persist_core::{Direct, Router};
/// use persist_sync::Connector;
///
/// let route = Direct.route(&"http://127.0.0.1:8080".parse()?)?;
/// let stream = Connector::default().connect(&route, &Direct)?;
/// println!("connected to {:?}", stream.peer_addr());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Connector {
    dial: DialConfig,
    dialer: Arc<dyn Dialer>,
    /// Ours, as long as nobody gave another one.
    sockets: Option<SocketDialer>,
    resolver: Arc<dyn Resolver>,
    #[cfg(feature = "tls")]
    tls: Tls,
}

/// How TLS is spoken: as the user says, or by the platform's roots, which are read when they are first needed.
#[cfg(feature = "tls")]
#[derive(Clone, Debug, Default)]
struct Tls {
    chosen: Arc<std::sync::OnceLock<ClientTls>>,
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

/// The addresses of a hop whose name is resolved here, and which of them is tried.
type Choice = Option<(Vec<SocketAddr>, usize)>;

impl Connector {
    /// Sockets as the configuration says, the system's resolver.
    pub fn new(config: &ClientConfig) -> Self {
        Self::of_parts(config.dial, config.socket)
    }

    /// The same, of the two parts that it needs.
    pub fn of_parts(dial: DialConfig, socket: SocketConfig) -> Self {
        let resolver: Arc<dyn Resolver> = Arc::new(SystemResolver);
        let sockets = SocketDialer::new(resolver.clone(), socket, dial.happy_eyeballs);
        Self {
            dial,
            dialer: Arc::new(sockets.clone()),
            sockets: Some(sockets),
            resolver,
            #[cfg(feature = "tls")]
            tls: Tls::default(),
        }
    }

    /// Opens the first hop by other means. A resolver that is set afterwards serves only hops whose names are resolved here.
    #[must_use]
    pub fn with_dialer(mut self, dialer: Arc<dyn Dialer>) -> Self {
        self.dialer = dialer;
        self.sockets = None;
        self
    }

    /// Resolves names by other means.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        if let Some(sockets) = self.sockets.take() {
            let sockets = sockets.with_resolver(resolver.clone());
            self.dialer = Arc::new(sockets.clone());
            self.sockets = Some(sockets);
        }
        self.resolver = resolver;
        self
    }

    /// Speaks TLS in another way than by default: the platform's roots, no client certificate, `http/1.1`.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: ClientTls) -> Self {
        self.tls.chosen = Arc::new(tls.into());
        self
    }

    /// Speaks TLS with proxies in another way than with origins: other roots, another client certificate.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_proxy_tls(mut self, tls: ClientTls) -> Self {
        self.tls.with_proxies = Some(tls);
        self
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

    /// Makes the stream of a route: blocks until it is there, at most as long as [`DialConfig`] allows. `router` gives the handshakes.
    ///
    /// # Errors
    /// [`Error`] with the phase, the hop's destination, and the cause as a value. Nothing was sent for any request.
    pub fn connect(&self, route: &Route, router: &dyn Router) -> Result<Stream> {
        let hops = &route.hops;
        self.check(route)?;
        let mut timer = DialTimer::new(self.dial);
        let mut choices: Vec<Choice> = Vec::new();
        for hop in hops {
            choices.push(self.choice(hop, &mut timer).map_err(|error| error.at(&hop.to))?);
        }
        loop {
            let (reached, error) = match self.walk(route, &choices, router, &mut timer) {
                Ok(stream) => {
                    // Fails on a dead socket only, which reads and writes will tell.
                    let _ = stream.detach();
                    return Ok(stream);
                }
                Err(failed) => failed,
            };
            let error = error.at(&hops[reached].to);
            // A proxy that could not reach one address may reach the next; but it has to be asked anew.
            match &mut choices[reached] {
                Some((addresses, at)) if error.phase() == Phase::Tunnel && *at + 1 < addresses.len() => *at += 1,
                _ => return Err(error),
            }
        }
    }

    /// What can be said before anything is dialled.
    fn check(&self, route: &Route) -> Result<()> {
        let hops = &route.hops;
        if hops.first().is_none_or(|first| first.means != Means::Socket) {
            return Err(unsupported("a route begins with a socket"));
        }
        for (n, hop) in hops.iter().enumerate() {
            if n > 0 && hop.means == Means::Socket {
                return Err(unsupported("only the first hop of a route can be a socket").at(&hop.to));
            }
            if hop.to.scheme() == Scheme::Https {
                self.check_tls(End::of(n, route)).map_err(|error| error.at(&hop.to))?;
            }
        }
        Ok(())
    }

    #[cfg(not(feature = "tls"))]
    fn check_tls(&self, _: End) -> Result<()> {
        Err(unsupported("https needs TLS, which persist-sync has with its feature `tls`"))
    }

    #[cfg(feature = "tls")]
    fn check_tls(&self, end: End) -> Result<()> {
        if self.tls_with(end).is_none() {
            let mut builder = ClientTls::builder();
            if self.tls.offer == Offer::Nothing {
                builder = builder.alpn([] as [&[u8]; 0]);
            }
            let built = builder.build();
            let built = built.map_err(|error| Error::new(Phase::Prepare, error).blaming(Blame::Caller))?;
            // Another thread may have been first.
            let _ = self.tls.chosen.set(built);
        }
        Ok(())
    }

    #[cfg(feature = "tls")]
    fn tls_with(&self, end: End) -> Option<&ClientTls> {
        let with_proxies = self.tls.with_proxies.as_ref().filter(|_| end == End::Proxy);
        with_proxies.or_else(|| self.tls.chosen.get())
    }

    fn choice(&self, hop: &Hop, timer: &mut DialTimer) -> Result<Choice> {
        let here = matches!(hop.means, Means::Socks5 { resolve: Resolve::Here });
        if !here || hop.to.host().is_none_or(|host| host.address().is_some()) {
            return Ok(None);
        }
        timer.enter(Phase::Resolve);
        addresses(&self.resolver, &hop.to, timer).map(|addresses| Some((addresses, 0)))
    }

    /// Goes all the way; or says at which hop it ended, and why.
    fn walk(
        &self,
        route: &Route,
        choices: &[Choice],
        router: &dyn Router,
        timer: &mut DialTimer,
    ) -> Result<Stream, (usize, Error)> {
        let hops = &route.hops;
        let mut stream = self.dialer.dial(&hops[0].to, timer).map_err(|error| (0, error))?;
        stream.attach().map_err(|error| (0, timer.failed(error)))?;
        stream = self.secure(stream, &hops[0].to, End::of(0, route), timer).map_err(|error| (0, error))?;
        for (n, hop) in hops.iter().enumerate().skip(1) {
            timer.enter(Phase::Tunnel);
            let leftover = self.tunnel(&stream, hop, &choices[n], router, timer).map_err(|error| (n, error))?;
            let stream_of_hop = stream.with_leftover(leftover);
            stream = self.secure(stream_of_hop, &hop.to, End::of(n, route), timer).map_err(|error| (n, error))?;
        }
        Ok(stream)
    }

    fn tunnel(
        &self,
        stream: &Stream,
        hop: &Hop,
        choice: &Choice,
        router: &dyn Router,
        timer: &DialTimer,
    ) -> Result<Vec<u8>> {
        let mut asked = hop.clone();
        if let Some((addresses, at)) = choice {
            let address = addresses[*at];
            asked.to = Destination::tcp(hop.to.scheme(), Host::from(address.ip()), address.port());
        }
        let mut tunnel = router.tunnel(&asked).map_err(|error| Error::new(Phase::Route, error))?;
        tunnel::carry_out(stream, &mut *tunnel, timer).map_err(|cause| timer.failed(cause))
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "with TLS it can fail")]
    fn secure(&self, stream: Stream, _: &Destination, _: End, _: &mut DialTimer) -> Result<Stream> {
        Ok(stream)
    }

    /// TLS, if the destination asks for it.
    #[cfg(feature = "tls")]
    fn secure(&self, stream: Stream, to: &Destination, end: End, timer: &mut DialTimer) -> Result<Stream> {
        match self.tls_with(end) {
            Some(tls) if to.scheme() == Scheme::Https => {
                let local = || Host::Name("localhost".into());
                tls.connect(stream, &to.host().cloned().unwrap_or_else(local), timer)
            }
            _ => Ok(stream),
        }
    }
}

impl Default for Connector {
    fn default() -> Self {
        Self::new(&ClientConfig::default())
    }
}

fn unsupported(what: &'static str) -> Error {
    Error::new(Phase::Prepare, what).blaming(Blame::Caller)
}
