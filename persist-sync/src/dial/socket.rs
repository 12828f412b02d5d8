//! The first hop: a socket to a destination.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;

use persist_core::{Destination, HappyEyeballsConfig, Phase, SocketConfig};

use super::connect;
use super::resolver::{Resolver, SystemResolver, resolve};
use super::timer::DialTimer;
use crate::error::Result;
use crate::stream::Stream;

/// Opens the first hop of a route: a stream to a destination, without TLS, which is the connector's.
///
/// ```
/// use std::net::TcpStream;
/// use persist_sync::persist_core::{Destination, Phase};
/// use persist_sync::{DialTimer, Dialer, Error, Stream};
///
/// /// Whatever is asked for, it is found on this port of this machine.
/// #[derive(Debug)]
/// struct Local(u16);
///
/// impl Dialer for Local {
///     fn dial(&self, _to: &Destination, timer: &mut DialTimer) -> Result<Stream, Error> {
///         timer.enter(Phase::Connect);
///         let there = ([127, 0, 0, 1], self.0).into();
///         let stream = match timer.left().map_err(|late| Error::new(Phase::Connect, late))? {
///             Some(left) => TcpStream::connect_timeout(&there, left),
///             None => TcpStream::connect(there),
///         };
///         stream.map(Stream::from).map_err(|cause| Error::new(Phase::Connect, cause))
///     }
/// }
/// ```
pub trait Dialer: Debug + Send + Sync {
    /// A stream to `to`. Enters the phases [`Resolve`](Phase::Resolve) and [`Connect`](Phase::Connect), as far as it has them, and keeps to
    /// the time that is left.
    ///
    /// # Errors
    /// An error in one of these phases. The connector adds the destination.
    fn dial(&self, to: &Destination, timer: &mut DialTimer) -> Result<Stream>;
}

/// Opens TCP sockets, several addresses raced by the schedule of RFC 8305 on the calling thread; and Unix sockets.
///
/// ```
/// use std::sync::Arc;
/// use persist_sync::persist_core::{DialConfig, SocketConfig};
/// use persist_sync::{DialTimer, Dialer, SocketDialer, SystemResolver};
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let there = format!("http://{}", listener.local_addr()?).parse()?;
/// let dialer = SocketDialer::new(Arc::new(SystemResolver), SocketConfig::default(), DialConfig::default().happy_eyeballs);
/// let stream = dialer.dial(&there, &mut DialTimer::new(DialConfig::default()))?;
/// assert_eq!(stream.peer_addr(), Some(listener.local_addr()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SocketDialer {
    resolver: Arc<dyn Resolver>,
    socket: SocketConfig,
    happy_eyeballs: HappyEyeballsConfig,
}

impl SocketDialer {
    /// One of these parts. [`SocketConfig::check`] and [`HappyEyeballsConfig::check`] are the caller's to ask.
    pub fn new(resolver: Arc<dyn Resolver>, socket: SocketConfig, happy_eyeballs: HappyEyeballsConfig) -> Self {
        Self { resolver, socket, happy_eyeballs }
    }

    /// What it resolves names with.
    pub fn resolver(&self) -> &Arc<dyn Resolver> {
        &self.resolver
    }

    /// The same, with another resolver.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = resolver;
        self
    }
}

impl Default for SocketDialer {
    fn default() -> Self {
        Self::new(Arc::new(SystemResolver), SocketConfig::default(), HappyEyeballsConfig::default())
    }
}

impl Dialer for SocketDialer {
    fn dial(&self, to: &Destination, timer: &mut DialTimer) -> Result<Stream> {
        if let Some(path) = to.unix_path() {
            timer.enter(Phase::Connect);
            return connect::unix(path, &self.socket, timer);
        }
        timer.enter(Phase::Resolve);
        let addresses = addresses(&self.resolver, to, timer)?;
        timer.enter(Phase::Connect);
        connect::race(addresses, self.happy_eyeballs, &self.socket, timer)
    }
}

/// The addresses of a destination that has a host.
pub(super) fn addresses(resolver: &Arc<dyn Resolver>, to: &Destination, timer: &DialTimer) -> Result<Vec<SocketAddr>> {
    let port = to.port().unwrap_or(to.scheme().default_port());
    match to.host() {
        None => Err(timer.failed("a unix socket has no address")),
        Some(host) => match (host.address(), host.name()) {
            (Some(address), _) => Ok(vec![SocketAddr::new(address, port)]),
            (None, name) => resolve(resolver, name.unwrap_or_default(), port, timer),
        },
    }
}
