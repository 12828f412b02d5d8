//! The first hop of a route: a socket, set up as configured.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use persist_core::{Destination, HappyEyeballsConfig, Host, Phase, SocketConfig};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

use super::resolver::{Resolver, SystemResolver};
use super::{DialTimer, eyeballs};
use crate::error::{Error, Result};
use crate::stream::Stream;

/// Opens the first hop of a route: a stream to a destination, without TLS, which is the [`Connector`](crate::Connector)'s.
///
/// Implement it to reach destinations by other means than sockets of this system; any [`Transport`](crate::Transport) will do
/// ([`Stream::new`]).
///
/// ```
/// use persist_async::persist_core::Destination;
/// use persist_async::{DialTimer, Dialer, Error, Phase, Result, Stream, async_trait};
/// use tokio::net::TcpStream;
///
/// /// Whatever is asked for, it is found on this port of this machine.
/// #[derive(Debug)]
/// struct Local(u16);
///
/// #[async_trait]
/// impl Dialer for Local {
///     async fn dial(&self, _to: &Destination, timer: &mut DialTimer) -> Result<Stream> {
///         let connecting = async {
///             let stream = TcpStream::connect(("127.0.0.1", self.0)).await;
///             stream.map(Stream::from).map_err(|cause| Error::new(Phase::Connect, cause))
///         };
///         timer.within(Phase::Connect, connecting).await
///     }
/// }
/// ```
#[async_trait]
pub trait Dialer: fmt::Debug + Send + Sync {
    /// A stream to `to`, whose scheme does not matter here. Phases with deadlines are run by [`DialTimer::within`].
    ///
    /// # Errors
    /// With the phase that failed, usually `Resolve` or `Connect`.
    async fn dial(&self, to: &Destination, timer: &mut DialTimer) -> Result<Stream>;
}

/// TCP, with Happy Eyeballs (RFC 8305) behind a [`Resolver`], and Unix sockets.
///
/// ```
/// use std::sync::Arc;
/// use persist_async::persist_core::{DialConfig, SocketConfig};
/// use persist_async::{DialTimer, Dialer, SocketDialer, SystemResolver};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let there = format!("http://{}", listener.local_addr()?).parse()?;
/// let dialer = SocketDialer::new(Arc::new(SystemResolver), SocketConfig::default(), DialConfig::default().happy_eyeballs);
/// let stream = dialer.dial(&there, &mut DialTimer::new(DialConfig::default())).await?;
/// assert_eq!(stream.peer_addr(), Some(listener.local_addr()?));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SocketDialer {
    resolver: Arc<dyn Resolver>,
    socket: SocketConfig,
    happy_eyeballs: HappyEyeballsConfig,
}

impl SocketDialer {
    /// With this resolver, sockets as configured, and this way of racing addresses.
    pub fn new(resolver: Arc<dyn Resolver>, socket: SocketConfig, happy_eyeballs: HappyEyeballsConfig) -> Self {
        Self { resolver, socket, happy_eyeballs }
    }

    /// Resolves names by other means.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Who resolves names.
    pub fn resolver(&self) -> &Arc<dyn Resolver> {
        &self.resolver
    }

    pub(super) async fn resolve(&self, host: &Host, port: u16, timer: &mut DialTimer) -> Result<Vec<SocketAddr>> {
        if let Some(address) = host.address() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let name = host.name().unwrap_or_default();
        let failed = |cause: io::Error| Error::new(Phase::Resolve, cause);
        let work = async {
            let addresses = self.resolver.resolve(name, port).await.map_err(failed)?;
            if addresses.is_empty() {
                return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no addresses")));
            }
            Ok(addresses)
        };
        timer.within(Phase::Resolve, work).await
    }
}

impl Default for SocketDialer {
    fn default() -> Self {
        Self::new(Arc::new(SystemResolver), SocketConfig::default(), HappyEyeballsConfig::default())
    }
}

#[async_trait]
impl Dialer for SocketDialer {
    async fn dial(&self, to: &Destination, timer: &mut DialTimer) -> Result<Stream> {
        let failed = |cause: io::Error| Error::new(Phase::Connect, cause);
        #[cfg(unix)]
        if let Some(path) = to.unix_path() {
            let work = async { tokio::net::UnixStream::connect(path).await.map(Stream::from).map_err(failed) };
            return timer.within(Phase::Connect, work).await;
        }
        let (Some(host), Some(port)) = (to.host(), to.port()) else {
            return Err(failed(io::Error::new(io::ErrorKind::Unsupported, "this system has no unix sockets")));
        };
        let mut addresses = self.resolve(host, port, timer).await?;
        if let Some(bind) = self.socket.bind {
            addresses.retain(|address| address.is_ipv4() == bind.is_ipv4());
            if addresses.is_empty() {
                let what = format!("it has no address of the family of {bind}, which connections are bound to");
                return Err(failed(io::Error::new(io::ErrorKind::AddrNotAvailable, what)));
            }
        }
        let connected = eyeballs::first(addresses, self.happy_eyeballs, |address| connect(address, self.socket));
        timer.within(Phase::Connect, async { connected.await.map(Stream::from).map_err(failed) }).await
    }
}

async fn connect(address: SocketAddr, config: SocketConfig) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    set_up(&socket, &config)?;
    if let Some(bind) = config.bind {
        socket.bind(SocketAddr::new(bind, 0)).map_err(|error| not_bound(bind, &error))?;
    }
    socket.connect(address).await
}

fn not_bound(bind: IpAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot bind to {bind}: {error}"))
}

/// Before connecting: a receive buffer's size decides the window that the handshake announces.
fn set_up(socket: &TcpSocket, config: &SocketConfig) -> io::Result<()> {
    let SocketConfig { nodelay, keep_alive, user_timeout, send_buffer, recv_buffer, .. } = *config;
    // Failing to say so does no harm.
    let _ = socket.set_nodelay(nodelay);
    let socket = SockRef::from(socket);
    if let Some(probes) = keep_alive {
        let keepalive = TcpKeepalive::new().with_time(probes.idle).with_interval(probes.interval);
        #[cfg(not(windows))]
        let keepalive = keepalive.with_retries(probes.count);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if user_timeout.is_some() {
        socket.set_tcp_user_timeout(user_timeout)?;
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = user_timeout;
    if let Some(size) = send_buffer {
        socket.set_send_buffer_size(size as usize)?;
    }
    if let Some(size) = recv_buffer {
        socket.set_recv_buffer_size(size as usize)?;
    }
    Ok(())
}
