//! The streams that connections run over: TCP and Unix sockets.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::Duration;

use persist_core::Side;
use rustix::fd::{AsFd, BorrowedFd};

#[cfg(feature = "tls")]
use crate::tls::Session;

mod bare;
mod led;
#[cfg(feature = "tls")]
mod secured;

use led::Led;

/// A connected TCP or Unix socket; perhaps one that was reached through a proxy, whose first bytes were read already.
///
/// While a connection drives it, the socket is in non-blocking mode and the calls of this crate wait beside it; what comes back
/// from a [hijack](crate::ClientConn::hijack) blocks again, like any socket of the standard library.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::Stream;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let stream = Stream::from(TcpStream::connect(listener.local_addr()?)?);
/// assert_eq!(stream.peer_addr(), Some(listener.local_addr()?));
/// let mut stream = stream.with_leftover(b"read too early".to_vec());
/// let mut first = [0; 14];
/// std::io::Read::read_exact(&mut stream, &mut first)?;
/// assert_eq!(&first, b"read too early");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Stream {
    layer: Layer,
    /// The socket's options are as somebody wants them.
    prepared: bool,
}

/// How long a read that waits by itself waits at most: then whoever reads looks whether anybody needs him for something else.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// What reads and writes go through first.
#[derive(Debug)]
enum Layer {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Led(Box<Led>),
    #[cfg(feature = "tls")]
    Tls(Box<Session>),
}

/// The socket at the bottom.
enum Socket<'s> {
    Tcp(&'s TcpStream),
    #[cfg(unix)]
    Unix(&'s UnixStream),
}

impl Stream {
    fn new(layer: Layer) -> Self {
        Self { layer, prepared: false }
    }

    /// A socket whose options are set as its user wants them.
    pub(crate) fn prepared(socket: TcpStream) -> Self {
        Self { layer: Layer::Tcp(socket), prepared: true }
    }

    /// Puts bytes that were read from the stream back in front of it.
    #[must_use]
    pub fn with_leftover(self, leftover: Vec<u8>) -> Self {
        if leftover.is_empty() { self } else { Self::new(Layer::Led(Box::new(Led::new(leftover, self)))) }
    }

    /// The TCP socket, if the stream is just that: bytes may be read from it and written to it directly.
    pub fn as_tcp(&self) -> Option<&TcpStream> {
        match &self.layer {
            Layer::Tcp(socket) => Some(socket),
            Layer::Led(led) => led.plain().and_then(Self::as_tcp),
            _ => None,
        }
    }

    /// The TCP socket, if the stream is just that; else the stream back.
    ///
    /// # Errors
    /// The stream itself, when it is not TCP, or has bytes of its own in front of the socket's.
    pub fn into_tcp(self) -> Result<TcpStream, Self> {
        match self.layer {
            Layer::Tcp(socket) => Ok(socket),
            Layer::Led(led) if led.plain().is_some() => led.into_inner().into_tcp(),
            layer => Err(Self { layer, ..self }),
        }
    }

    /// The Unix socket, if the stream is just that.
    #[cfg(unix)]
    pub fn as_unix(&self) -> Option<&UnixStream> {
        match &self.layer {
            Layer::Unix(socket) => Some(socket),
            Layer::Led(led) => led.plain().and_then(Self::as_unix),
            _ => None,
        }
    }

    /// The socket at the bottom, for what concerns only that.
    fn socket(&self) -> Socket<'_> {
        match &self.layer {
            Layer::Tcp(socket) => Socket::Tcp(socket),
            #[cfg(unix)]
            Layer::Unix(socket) => Socket::Unix(socket),
            Layer::Led(led) => led.inner().socket(),
            #[cfg(feature = "tls")]
            Layer::Tls(session) => session.inner().socket(),
        }
    }

    /// The TCP socket at the bottom: for its addresses and options. Its bytes may be those of another layer.
    pub(crate) fn tcp_below(&self) -> Option<&TcpStream> {
        match self.socket() {
            Socket::Tcp(socket) => Some(socket),
            #[cfg(unix)]
            Socket::Unix(_) => None,
        }
    }

    /// Where the other end is; `None` for a Unix socket, or once the socket is gone.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp_below().and_then(|socket| socket.peer_addr().ok())
    }

    /// Where this end is; `None` for a Unix socket, or once the socket is gone.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp_below().and_then(|socket| socket.local_addr().ok())
    }

    /// Takes the socket into a connection's care.
    pub(crate) fn attach(&self) -> io::Result<()> {
        self.set_nonblocking(true)?;
        match (self.prepared, &self.layer) {
            // Every write is a whole burst already: waiting for more would only delay it.
            (false, Layer::Tcp(socket)) => socket.set_nodelay(true),
            (_, Layer::Led(led)) => led.inner().attach(),
            _ => Ok(()),
        }
    }

    /// The same, for a connection whose reads may wait by themselves, for [`TICK`] at most, where the system can tell each call whether to wait.
    /// Says whether that is so: not where a layer is above the socket, or somebody has set a timeout of his own.
    pub(crate) fn attach_waiting(&self) -> io::Result<bool> {
        let waits = cfg!(any(target_os = "linux", target_os = "android")) && self.takes_tick()?;
        if waits { self.set_nonblocking(false).map(|()| true) } else { self.attach().map(|()| false) }
    }

    fn takes_tick(&self) -> io::Result<bool> {
        match &self.layer {
            Layer::Tcp(socket) if socket.read_timeout()?.is_none() => {
                if !self.prepared {
                    socket.set_nodelay(true)?;
                }
                socket.set_read_timeout(Some(TICK)).map(|()| true)
            }
            #[cfg(unix)]
            Layer::Unix(socket) if socket.read_timeout()?.is_none() => {
                socket.set_read_timeout(Some(TICK)).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Reads once something is there; `WouldBlock` after [`TICK`]. Only where reads may wait by themselves.
    pub(crate) fn read_waiting(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&mut &*self).read(buf)
    }

    /// Gives the socket back as it is expected: blocking. One below TLS never blocks: the session waits beside it.
    pub(crate) fn detach(&self) -> io::Result<()> {
        match &self.layer {
            Layer::Led(led) => led.inner().detach(),
            #[cfg(feature = "tls")]
            Layer::Tls(_) => Ok(()),
            _ => self.set_nonblocking(false),
        }
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self.socket() {
            Socket::Tcp(socket) => socket.set_nonblocking(nonblocking),
            #[cfg(unix)]
            Socket::Unix(socket) => socket.set_nonblocking(nonblocking),
        }
    }

    /// Reads what is there; `WouldBlock` if nothing is. Where less comes than was asked for, nothing is left that the socket would not tell of.
    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match &self.layer {
            Layer::Led(led) => led.through(buf, |inner, buf| inner.try_read(buf)),
            #[cfg(feature = "tls")]
            Layer::Tls(session) => session.try_read(buf),
            Layer::Tcp(socket) => retry(|| bare::read(socket, buf)),
            #[cfg(unix)]
            Layer::Unix(socket) => retry(|| bare::read(socket, buf)),
        }
    }

    /// Whether a read is known to give nothing now; false where only reading tells. A failure is told once, as by a read.
    pub(crate) fn is_silent(&self) -> io::Result<bool> {
        match &self.layer {
            Layer::Tcp(socket) => bare::is_silent(socket),
            #[cfg(unix)]
            Layer::Unix(socket) => bare::is_silent(socket),
            _ => Ok(false),
        }
    }

    /// Writes what the socket takes now; `WouldBlock` if that is nothing.
    pub(crate) fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = match &self.layer {
            Layer::Led(led) => led.inner().try_write(bufs),
            #[cfg(feature = "tls")]
            Layer::Tls(session) => session.try_write(bufs),
            Layer::Tcp(socket) => retry(|| bare::write(socket, bufs)),
            #[cfg(unix)]
            Layer::Unix(socket) => retry(|| bare::write(socket, bufs)),
        };
        match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            other => other,
        }
    }

    /// Sends what was taken by a layer above the socket and not by the socket; `WouldBlock` if that takes longer.
    pub(crate) fn try_flush(&self) -> io::Result<()> {
        match &self.layer {
            Layer::Led(led) => led.inner().try_flush(),
            #[cfg(feature = "tls")]
            Layer::Tls(session) => session.try_flush(),
            _ => Ok(()),
        }
    }

    /// Whether bytes go to the socket as they are given.
    pub(crate) fn is_bare(&self) -> bool {
        match &self.layer {
            Layer::Tcp(_) => true,
            #[cfg(unix)]
            Layer::Unix(_) => true,
            Layer::Led(led) => led.inner().is_bare(),
            #[cfg(feature = "tls")]
            Layer::Tls(_) => false,
        }
    }

    /// Whether there are bytes to be read that the socket does not tell of.
    pub(crate) fn holds_input(&self) -> bool {
        match &self.layer {
            Layer::Led(led) => led.plain().is_none() || led.inner().holds_input(),
            #[cfg(feature = "tls")]
            Layer::Tls(session) => session.holds_input(),
            _ => false,
        }
    }

    /// Whether a layer above the socket took bytes that the socket has not taken.
    pub(crate) fn has_unsent(&self) -> bool {
        match &self.layer {
            Layer::Led(led) => led.inner().has_unsent(),
            #[cfg(feature = "tls")]
            Layer::Tls(session) => session.has_unsent(),
            _ => false,
        }
    }

    /// Ends one or both directions. TLS says goodbye before it ends ours.
    ///
    /// # Errors
    /// The system's own: the connection is gone already, for one.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match &self.layer {
            Layer::Tcp(socket) => socket.shutdown(how),
            #[cfg(unix)]
            Layer::Unix(socket) => socket.shutdown(how),
            Layer::Led(led) => led.inner().shutdown(how),
            #[cfg(feature = "tls")]
            Layer::Tls(session) => session.shutdown(how),
        }
    }

    /// How long a blocking read may take; `None`, the default: any time. While a connection drives the stream, its own deadlines count.
    ///
    /// # Errors
    /// A time of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_timeout(Side::Read, timeout)
    }

    /// The same for writing.
    ///
    /// # Errors
    /// A time of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_timeout(Side::Write, timeout)
    }

    fn set_timeout(&self, side: Side, timeout: Option<Duration>) -> io::Result<()> {
        match (&self.layer, side) {
            (Layer::Tcp(socket), Side::Read) => socket.set_read_timeout(timeout),
            (Layer::Tcp(socket), Side::Write) => socket.set_write_timeout(timeout),
            #[cfg(unix)]
            (Layer::Unix(socket), Side::Read) => socket.set_read_timeout(timeout),
            #[cfg(unix)]
            (Layer::Unix(socket), Side::Write) => socket.set_write_timeout(timeout),
            (Layer::Led(led), _) => led.inner().set_timeout(side, timeout),
            #[cfg(feature = "tls")]
            (Layer::Tls(_), _) if timeout == Some(Duration::ZERO) => Err(io::ErrorKind::InvalidInput.into()),
            #[cfg(feature = "tls")]
            (Layer::Tls(session), _) => {
                session.set_timeout(side, timeout);
                Ok(())
            }
        }
    }

    /// Whether bytes are encrypted on their way.
    pub fn is_tls(&self) -> bool {
        match &self.layer {
            Layer::Led(led) => led.inner().is_tls(),
            #[cfg(feature = "tls")]
            Layer::Tls(_) => true,
            _ => false,
        }
    }
}

/// A server's poller has it in mind until TLS is agreed on.
#[cfg(all(unix, feature = "tls"))]
impl Stream {
    pub(crate) fn is_handshaking(&self) -> bool {
        match &self.layer {
            Layer::Tls(session) => session.is_handshaking(),
            _ => false,
        }
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
        match self.socket() {
            Socket::Tcp(socket) => socket.as_fd(),
            #[cfg(unix)]
            Socket::Unix(socket) => socket.as_fd(),
        }
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
        Self::new(Layer::Tcp(socket))
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(socket: UnixStream) -> Self {
        Self::new(Layer::Unix(socket))
    }
}

impl Read for &Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &self.layer {
            Layer::Tcp(socket) => (&mut &*socket).read(buf),
            #[cfg(unix)]
            Layer::Unix(socket) => (&mut &*socket).read(buf),
            Layer::Led(led) => led.through(buf, |mut inner, buf| inner.read(buf)),
            #[cfg(feature = "tls")]
            Layer::Tls(session) => session.read(buf),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.layer {
            Layer::Tcp(socket) => (&mut &*socket).write_vectored(bufs),
            #[cfg(unix)]
            Layer::Unix(socket) => (&mut &*socket).write_vectored(bufs),
            Layer::Led(led) => led.inner().write_vectored(bufs),
            #[cfg(feature = "tls")]
            Layer::Tls(session) => session.write_vectored(bufs),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.layer {
            Layer::Led(led) => led.inner().flush(),
            #[cfg(feature = "tls")]
            Layer::Tls(session) => session.flush(),
            _ => Ok(()),
        }
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
        (&*self).flush()
    }
}
