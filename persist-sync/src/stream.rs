//! The streams that connections run over: TCP and Unix sockets.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;

use rustix::fd::{AsFd, BorrowedFd};

/// A connected TCP or Unix socket.
///
/// While a connection drives it, the socket is in non-blocking mode and the calls of this crate wait beside it; what comes back
/// from a [hijack](crate::ClientConn::hijack) blocks again, like any socket of the standard library.
#[derive(Debug)]
pub struct Stream(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

macro_rules! on_socket {
    ($stream:expr, $socket:ident => $call:expr) => {
        match &$stream.0 {
            Socket::Tcp($socket) => $call,
            #[cfg(unix)]
            Socket::Unix($socket) => $call,
        }
    };
}

impl Stream {
    /// The TCP socket, if this is one.
    pub fn as_tcp(&self) -> Option<&TcpStream> {
        match &self.0 {
            Socket::Tcp(socket) => Some(socket),
            #[cfg(unix)]
            Socket::Unix(_) => None,
        }
    }

    /// The TCP socket, if this is one; else the stream back.
    ///
    /// # Errors
    /// The stream itself, when it is not TCP.
    pub fn into_tcp(self) -> Result<TcpStream, Self> {
        match self.0 {
            Socket::Tcp(socket) => Ok(socket),
            #[cfg(unix)]
            other => Err(Self(other)),
        }
    }

    /// The Unix socket, if this is one.
    #[cfg(unix)]
    pub fn as_unix(&self) -> Option<&UnixStream> {
        match &self.0 {
            Socket::Tcp(_) => None,
            Socket::Unix(socket) => Some(socket),
        }
    }

    /// Where the other end is; `None` for a Unix socket, or once the socket is gone.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.as_tcp().and_then(|socket| socket.peer_addr().ok())
    }

    /// Where this end is; `None` for a Unix socket, or once the socket is gone.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.as_tcp().and_then(|socket| socket.local_addr().ok())
    }

    /// Takes the socket into a connection's care.
    pub(crate) fn attach(&self) -> io::Result<()> {
        on_socket!(self, socket => socket.set_nonblocking(true))?;
        // Every write is a whole burst already: waiting for more would only delay it.
        self.as_tcp().map_or(Ok(()), |socket| socket.set_nodelay(true))
    }

    /// Gives the socket back as it is expected: blocking.
    pub(crate) fn detach(&self) -> io::Result<()> {
        on_socket!(self, socket => socket.set_nonblocking(false))
    }

    /// Reads what is there; `WouldBlock` if nothing is.
    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        retry(|| on_socket!(self, socket => (&mut &*socket).read(buf)))
    }

    /// Writes what the socket takes now; `WouldBlock` if that is nothing.
    pub(crate) fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match retry(|| on_socket!(self, socket => (&mut &*socket).write_vectored(bufs))) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            other => other,
        }
    }

    /// Ends one or both directions.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        on_socket!(self, socket => socket.shutdown(how))
    }
}

/// A signal is no reason to give up.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        on_socket!(self, socket => socket.as_fd())
    }
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for Stream {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Self {
        Self(Socket::Tcp(socket))
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(socket: UnixStream) -> Self {
        Self(Socket::Unix(socket))
    }
}

impl Read for &Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        on_socket!(self, socket => (&mut &*socket).read(buf))
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        on_socket!(self, socket => (&mut &*socket).write(buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        on_socket!(self, socket => (&mut &*socket).write_vectored(bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
