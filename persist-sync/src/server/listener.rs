//! The sockets a server listens on: bound here, or handed over by whoever started the process.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use mio::event::Source;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::stream::Stream;

/// A listening socket of either kind.
///
/// ```
/// use std::net::TcpListener;
/// use persist_sync::{Listener, Server};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?; // set up as the program likes
/// let address = listener.local_addr()?;
/// let server = Server::new(Listener::from(listener))?;
/// assert_eq!(server.local_addr(), Some(address));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// How a TCP port is listened on.
///
/// ```
/// use persist_sync::{ListenConfig, PortUse, Server};
///
/// let mut config = ListenConfig::default();
/// config.port = PortUse::Shared;
/// let old = Server::bind_with("127.0.0.1:0", config)?;
/// let new = Server::bind_with(old.local_addr().expect("TCP"), config)?; // the same port
/// # drop(new);
/// # Ok::<(), std::io::Error>(())
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
/// use persist_sync::{ListenConfig, PortUse, Server};
///
/// let server = Server::bind("127.0.0.1:0")?; // `Exclusive`
/// let address = server.local_addr().expect("TCP");
/// let mut shared = ListenConfig::default();
/// shared.port = PortUse::Shared;
/// // One who shares is of no use beside one who does not.
/// let error = Server::bind_with(address, shared).expect_err("taken");
/// assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortUse {
    /// One.
    #[default]
    Exclusive,
    /// As many as say so (`SO_REUSEPORT`): the kernel shares connections out among them. For several servers in several threads, or a new process beside the old
    /// one. On systems without it, as `Exclusive`.
    Shared,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self { backlog: 4096, port: PortUse::Exclusive }
    }
}

impl Listener {
    /// Listens on the first of the addresses that can be had.
    pub(super) fn bind(address: impl ToSocketAddrs, config: ListenConfig) -> io::Result<Self> {
        let mut failed = None;
        for address in address.to_socket_addrs()? {
            match listen(address, config) {
                Ok(listener) => return Ok(Self::Tcp(listener)),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed
            .unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the name has no address to listen on")))
    }

    /// Listens on a Unix socket.
    pub(super) fn bind_unix(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        // Listening once more on a listening socket lets more connections wait, and does nothing else.
        SockRef::from(&listener).listen(backlog(ListenConfig::default().backlog))?;
        Ok(Self::Unix(listener))
    }

    pub(super) fn attach(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
        }
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// A connection that waits to be accepted, and where it comes from; `WouldBlock` if none does.
    pub(super) fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, peer)| (stream.into(), Some(peer))),
            Self::Unix(listener) => listener.accept().map(|(stream, _)| (stream.into(), None)),
        }
    }
}

fn listen(address: SocketAddr, config: ListenConfig) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a former process that linger must not keep the next one from its port.
    socket.set_reuse_address(true)?;
    #[cfg(not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin")))]
    if config.port == PortUse::Shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog(config.backlog))?;
    Ok(socket.into())
}

fn backlog(connections: u32) -> i32 {
    i32::try_from(connections).unwrap_or(i32::MAX)
}

/// Tells the poller of everything that happens on the socket, once each time. The registration ends when the socket is closed.
pub(super) fn register(registry: &Registry, socket: &impl AsRawFd, token: Token, interest: Interest) -> io::Result<()> {
    mio::unix::SourceFd(&socket.as_raw_fd()).register(registry, token, interest)
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

/// A socket that was inherited and listens already, TCP or Unix: from the process before this one, or from whatever activates sockets.
///
/// ```
/// use std::os::fd::OwnedFd;
/// use persist_sync::{Listener, Server};
///
/// # let inherited: OwnedFd = std::net::TcpListener::bind("127.0.0.1:0")?.into();
/// let server = Server::new(Listener::try_from(inherited)?)?;
/// # assert!(server.local_addr().is_some());
/// # Ok::<(), std::io::Error>(())
/// ```
impl TryFrom<OwnedFd> for Listener {
    type Error = io::Error;

    fn try_from(inherited: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(inherited);
        if socket.local_addr()?.is_unix() {
            return Ok(Self::Unix(OwnedFd::from(socket).into()));
        }
        Ok(Self::Tcp(socket.into()))
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener) => listener.as_raw_fd(),
        }
    }
}
