//! The streams that the pooled client and the server run over: sockets, TLS sessions over them, and whatever else a dialer brings.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use crate::link::Transport;
#[cfg(feature = "tls")]
use crate::tls::Session;

pub(crate) mod quick;
#[cfg(feature = "tls")]
mod secured;

/// A TCP or Unix socket, something over one (TLS, a tunnel through a proxy), or any other stream that a [`Dialer`](crate::Dialer) made.
///
/// ```
/// use persist_async::Stream;
/// use tokio::io::AsyncReadExt;
/// use tokio::net::{TcpListener, TcpStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let stream = Stream::from(TcpStream::connect(listener.local_addr()?).await?);
/// assert_eq!(stream.peer_addr(), Some(listener.local_addr()?));
/// let mut stream = stream.with_leftover(&b"read too early"[..]);
/// let mut first = [0; 14];
/// stream.read_exact(&mut first).await?;
/// assert_eq!(&first, b"read too early");
/// # Ok(())
/// # }
/// ```
pub struct Stream(Kind);

enum Kind {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Other(Box<dyn Other>),
    /// Bytes that were read already come first; the stream takes this place once they are gone.
    Behind(Box<Behind>),
    #[cfg(feature = "tls")]
    Tls(Box<Session>),
}

struct Behind {
    ahead: Bytes,
    stream: Stream,
}

trait Other: Transport + Sync {}

impl<T: Transport + Sync> Other for T {}

macro_rules! on_kind {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().0 {
            Kind::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            #[cfg(unix)]
            Kind::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Kind::Other(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
            Kind::Behind(behind) => {
                let $stream = Pin::new(&mut behind.stream);
                $call
            }
            #[cfg(feature = "tls")]
            Kind::Tls(session) => {
                let $stream = Pin::new(&mut **session);
                $call
            }
        }
    };
}

impl Stream {
    /// Any stream. Sockets of tokio's are better converted with `from`, so that they are known for what they are.
    pub fn new(stream: impl Transport + Sync) -> Self {
        Self(Kind::Other(Box::new(stream)))
    }

    /// The TCP socket, if the stream is just that: bytes may be read from it and written to it directly.
    pub fn as_tcp(&self) -> Option<&TcpStream> {
        match &self.0 {
            Kind::Tcp(stream) => Some(stream),
            Kind::Behind(behind) if behind.ahead.is_empty() => behind.stream.as_tcp(),
            _ => None,
        }
    }

    /// The TCP socket, if the stream is just that; else the stream back.
    ///
    /// # Errors
    /// The stream itself, when it is not TCP, or has bytes of its own in front of the socket's.
    pub fn into_tcp(self) -> Result<TcpStream, Self> {
        match self.0 {
            Kind::Tcp(stream) => Ok(stream),
            Kind::Behind(behind) if behind.ahead.is_empty() => behind.stream.into_tcp(),
            kind => Err(Self(kind)),
        }
    }

    /// The Unix socket, if the stream is just that.
    #[cfg(unix)]
    pub fn as_unix(&self) -> Option<&UnixStream> {
        match &self.0 {
            Kind::Unix(stream) => Some(stream),
            Kind::Behind(behind) if behind.ahead.is_empty() => behind.stream.as_unix(),
            _ => None,
        }
    }

    /// Whether the outermost layer is TLS.
    #[cfg(feature = "http2")]
    pub(crate) fn is_secure(&self) -> bool {
        match &self.0 {
            #[cfg(feature = "tls")]
            Kind::Tls(_) => true,
            Kind::Behind(behind) => behind.stream.is_secure(),
            _ => false,
        }
    }

    /// The TCP socket at the bottom: for its addresses and options. Its bytes may be those of another layer.
    pub(crate) fn tcp_below(&self) -> Option<&TcpStream> {
        match &self.0 {
            Kind::Tcp(stream) => Some(stream),
            Kind::Behind(behind) => behind.stream.tcp_below(),
            #[cfg(feature = "tls")]
            Kind::Tls(session) => session.inner()?.tcp_below(),
            _ => None,
        }
    }

    /// The address of the peer of the TCP socket: a proxy's, if the stream leads through one. `None` for a Unix socket, or once the socket is gone.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp_below()?.peer_addr().ok()
    }

    /// Our own address, under the same condition.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp_below()?.local_addr().ok()
    }

    /// The same stream, behind bytes that were read from it already: they are read first.
    #[must_use]
    pub fn with_leftover(self, leftover: impl Into<Bytes>) -> Self {
        let ahead = leftover.into();
        if ahead.is_empty() { self } else { Self(Kind::Behind(Box::new(Behind { ahead, stream: self }))) }
    }

    /// One read that never waits, of what is there now. `cx` is woken for streams that are no sockets of this system.
    ///
    /// Not through tokio where that can be had: its readiness is as old as its last look at epoll.
    pub(crate) fn read_now(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Tcp(stream) => receive(&SockRef::from(&*stream), buf),
            #[cfg(unix)]
            Kind::Unix(stream) => receive(&SockRef::from(&*stream), buf),
            Kind::Other(stream) => poll_now(Pin::new(&mut **stream), cx, buf),
            Kind::Behind(_) => poll_now(Pin::new(self), cx, buf),
            #[cfg(feature = "tls")]
            Kind::Tls(session) => session.read_now(cx, buf),
        }
    }
}

pub(crate) fn receive(mut socket: &socket2::Socket, buf: &mut [u8]) -> io::Result<usize> {
    io::Read::read(&mut socket, buf)
}

/// One poll; `WouldBlock` if nothing is there.
pub(crate) fn poll_now<S: AsyncRead + ?Sized>(
    stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    buf: &mut [u8],
) -> io::Result<usize> {
    let mut buf = ReadBuf::new(buf);
    match stream.poll_read(cx, &mut buf) {
        Poll::Ready(outcome) => outcome.map(|()| buf.filled().len()),
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(Kind::Tcp(stream))
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self(Kind::Unix(stream))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Kind::Behind(behind) = &mut self.0 {
            let n = behind.ahead.len().min(buf.remaining());
            if n > 0 || buf.remaining() == 0 {
                buf.put_slice(&behind.ahead[..n]);
                behind.ahead.advance(n);
                return Poll::Ready(Ok(()));
            }
            // They are all gone.
            let placeholder = Kind::Other(Box::new(tokio::io::empty()));
            if let Kind::Behind(behind) = std::mem::replace(&mut self.0, placeholder) {
                *self = behind.stream;
            }
        }
        on_kind!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_kind!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_kind!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Kind::Tcp(_) => true,
            #[cfg(unix)]
            Kind::Unix(_) => true,
            Kind::Other(stream) => stream.is_write_vectored(),
            Kind::Behind(behind) => behind.stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            Kind::Tls(_) => true,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_kind!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_kind!(self, stream => stream.poll_shutdown(cx))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp(stream) => f.debug_tuple("Tcp").field(stream).finish(),
            #[cfg(unix)]
            Kind::Unix(stream) => f.debug_tuple("Unix").field(stream).finish(),
            Kind::Other(_) => f.write_str("Other"),
            Kind::Behind(behind) => behind.stream.fmt(f),
            #[cfg(feature = "tls")]
            Kind::Tls(session) => session.fmt(f),
        }
    }
}
