//! The sockets a server listens on.

use std::io;
use std::net::{SocketAddr, TcpListener};
#[cfg(unix)]
use std::os::unix::net::UnixListener;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use crate::stream::Stream;

/// A listening TCP or Unix socket.
#[derive(Debug)]
pub struct Listener(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// Connections that may wait to be accepted; the system cuts it to its own limit. The standard library's 128 makes a burst of clients wait for
/// a second, until their first packets are sent again.
const BACKLOG: i32 = 4096;

impl Listener {
    /// Lets more connections wait to be accepted. Listening once more on a listening socket does that, and nothing else.
    pub(super) fn widen(&self) -> io::Result<()> {
        match &self.0 {
            Socket::Tcp(socket) => Ok(rustix::net::listen(socket, BACKLOG)?),
            #[cfg(unix)]
            Socket::Unix(socket) => Ok(rustix::net::listen(socket, BACKLOG)?),
        }
    }

    pub(super) fn attach(&self) -> io::Result<()> {
        match &self.0 {
            Socket::Tcp(socket) => socket.set_nonblocking(true),
            #[cfg(unix)]
            Socket::Unix(socket) => socket.set_nonblocking(true),
        }
    }

    /// Where it listens; `None` for a Unix socket.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Socket::Tcp(socket) => socket.local_addr().ok(),
            #[cfg(unix)]
            Socket::Unix(_) => None,
        }
    }

    /// A connection that waits to be accepted; `WouldBlock` if none does.
    pub(super) fn accept(&self) -> io::Result<Stream> {
        match &self.0 {
            Socket::Tcp(socket) => Ok(socket.accept()?.0.into()),
            #[cfg(unix)]
            Socket::Unix(socket) => Ok(socket.accept()?.0.into()),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self(Socket::Tcp(socket))
    }
}

#[cfg(unix)]
impl From<UnixListener> for Listener {
    fn from(socket: UnixListener) -> Self {
        Self(Socket::Unix(socket))
    }
}

/// Tells the poller of everything that happens on the socket, once each time. The registration ends when the socket is closed.
#[cfg(unix)]
pub(super) fn register(
    registry: &Registry,
    socket: &impl std::os::fd::AsRawFd,
    token: Token,
    interest: Interest,
) -> io::Result<()> {
    mio::unix::SourceFd(&socket.as_raw_fd()).register(registry, token, interest)
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for Listener {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        match &self.0 {
            Socket::Tcp(socket) => socket.as_raw_fd(),
            Socket::Unix(socket) => socket.as_raw_fd(),
        }
    }
}
