//! What a server listens on: sockets that are bound here or were handed over by whoever started the process, or anything else that brings streams.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::net::{TcpListener, TcpSocket, ToSocketAddrs, lookup_host};

use crate::stream::Stream;

/// A listening socket of either kind, or whatever else connections come from.
///
/// ```
/// use persist_async::{Listener, Server};
/// use tokio::net::TcpListener;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = TcpListener::bind("127.0.0.1:0").await?; // set up as the program likes
/// let address = listener.local_addr()?;
/// let server = Server::new(Listener::from(listener));
/// assert_eq!(server.local_addr(), Some(address));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
    /// Anything else.
    Other(Box<dyn Accept>),
}

/// Brings the connections of a [`Server`](crate::Server) that does not listen on a socket of tokio's: pipes in memory, a network that is simulated, another
/// transport. The counterpart of [`Dialer`](crate::Dialer).
///
/// ```
/// use std::io;
/// use std::net::SocketAddr;
///
/// use persist_async::{Accept, ClientConn, Listener, Request, Response, Server, Stream, async_trait};
/// use tokio::io::DuplexStream;
/// use tokio::sync::{Mutex, mpsc};
///
/// #[derive(Debug)]
/// struct Pipes(Mutex<mpsc::Receiver<DuplexStream>>);
///
/// #[async_trait]
/// impl Accept for Pipes {
///     async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
///         match self.0.lock().await.recv().await {
///             Some(pipe) => Ok((Stream::new(pipe), None)),
///             None => std::future::pending().await, // nobody will come any more
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (connect, connected) = mpsc::channel(1);
/// let server = Server::new(Listener::of(Pipes(Mutex::new(connected))));
/// tokio::spawn(server.serve(|received| async move { received.responder.send(Response::ok(), "hello").await }));
///
/// let (near, far) = tokio::io::duplex(1024);
/// connect.send(far).await?;
/// let mut reply = ClientConn::new(near).send(Request::get("/").field("Host", "pipe")?, ()).await?;
/// assert_eq!(reply.body.bytes(100).await?, "hello");
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Accept: fmt::Debug + Send + Sync {
    /// The next connection, and where it comes from if that is known. Dropping the future must lose none.
    ///
    /// # Errors
    /// The server tries again: at once if the peer was gone ([`ConnectionAborted`](io::ErrorKind::ConnectionAborted) and its like), else after a pause that grows.
    async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)>;
}

/// How a TCP port is listened on.
///
/// ```
/// use persist_async::{ListenConfig, PortUse, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = ListenConfig::default();
/// config.port = PortUse::Shared;
/// let old = Server::bind_with("127.0.0.1:0", config).await?;
/// let new = Server::bind_with(old.local_addr().expect("TCP"), config).await?; // the same port
/// # drop(new);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenConfig {
    /// Connections that the kernel keeps until they are accepted; it cuts the number to a limit of its own. 4,096: with the customary 128, a burst of
    /// clients waits for a second, until their first packets are sent again.
    pub backlog: u32,
    /// Who else may listen there.
    pub port: PortUse,
}

/// Whether a port may have several listeners.
///
/// ```
/// use persist_async::{ListenConfig, PortUse, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind("127.0.0.1:0").await?; // `Exclusive`
/// let address = server.local_addr().expect("TCP");
/// let mut shared = ListenConfig::default();
/// shared.port = PortUse::Shared;
/// // One who shares is of no use beside one who does not.
/// let error = Server::bind_with(address, shared).await.err().expect("taken");
/// assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortUse {
    /// One.
    #[default]
    Exclusive,
    /// As many as say so (`SO_REUSEPORT`): the kernel shares connections out among them. For one runtime per core, or a new process beside the old
    /// one. On systems without it, as `Exclusive`.
    Shared,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self { backlog: 4096, port: PortUse::Exclusive }
    }
}

impl Listener {
    /// Connections from elsewhere.
    pub fn of(accept: impl Accept + 'static) -> Self {
        Self::Other(Box::new(accept))
    }

    /// Listens on the first of the addresses that can be had.
    pub(super) async fn bind(address: impl ToSocketAddrs, config: ListenConfig) -> io::Result<Self> {
        let mut failed = None;
        for address in lookup_host(address).await? {
            match listen(address, config) {
                Ok(listener) => return Ok(Self::Tcp(listener)),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed
            .unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the name has no address to listen on")))
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
            Self::Other(_) => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                // Responses leave when they are complete; waiting for more to send only delays them. Failing to say so does no harm.
                let _ = stream.set_nodelay(true);
                (Stream::from(stream), Some(peer))
            }),
            #[cfg(unix)]
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| (Stream::from(stream), None)),
            Self::Other(listener) => listener.accept().await,
        }
    }
}

fn listen(address: SocketAddr, config: ListenConfig) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a former process that linger must not keep the next one from its port. (On Windows the option means something else.)
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))))]
    if config.port == PortUse::Shared {
        socket.set_reuseport(true)?;
    }
    socket.bind(address)?;
    socket.listen(config.backlog)
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

#[cfg(unix)]
impl From<tokio::net::UnixListener> for Listener {
    fn from(listener: tokio::net::UnixListener) -> Self {
        Self::Unix(listener)
    }
}

/// A listener of the standard library's. Call in a runtime.
impl TryFrom<std::net::TcpListener> for Listener {
    type Error = io::Error;

    fn try_from(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Tcp)
    }
}

/// A socket that was inherited and listens already, TCP or Unix: from the process before this one, or from whatever activates sockets. Call in a runtime.
///
/// ```
/// use std::os::fd::OwnedFd;
/// use persist_async::{Listener, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let inherited: OwnedFd = std::net::TcpListener::bind("127.0.0.1:0")?.into();
/// let server = Server::new(Listener::try_from(inherited)?);
/// # assert!(server.local_addr().is_some());
/// # Ok(())
/// # }
/// ```
#[cfg(unix)]
impl TryFrom<std::os::fd::OwnedFd> for Listener {
    type Error = io::Error;

    fn try_from(inherited: std::os::fd::OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(inherited);
        socket.set_nonblocking(true)?;
        if socket.local_addr()?.is_unix() {
            return tokio::net::UnixListener::from_std(std::os::fd::OwnedFd::from(socket).into()).map(Self::Unix);
        }
        TcpListener::from_std(socket.into()).map(Self::Tcp)
    }
}
