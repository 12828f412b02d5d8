//! Taking a connection apart without losing a byte, and putting one together again.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use persist_core::{Config, Conn, ExchangeId, Failure, Parts, Phase, Role};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock;
use crate::error::{self, Error};
use crate::link::{Link, Transport};
use crate::part::Part;

/// What a connection was made of. Not one byte is lost or there twice.
///
/// ```
/// use persist_async::ServerConn;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut near, far) = tokio::io::duplex(1 << 16);
/// let mut hijacked = ServerConn::new(far).hijack()?; // between messages
/// assert!(hijacked.leftover.is_empty() && hijacked.unsent.is_empty() && hijacked.failures.is_empty());
/// hijacked.stream.write_all(b"anything").await?;
/// near.read_exact(&mut [0; 8]).await?;
/// # Ok(())
/// # }
/// ```
#[non_exhaustive]
pub struct Hijacked<S> {
    /// The stream.
    pub stream: S,
    /// Bytes that were read and belong to no message: they precede whatever the stream gives next.
    pub leftover: Vec<u8>,
    /// Bytes that must still be written, ahead of anything else.
    pub unsent: Vec<u8>,
    /// The exchanges that were not complete.
    pub failures: Vec<(ExchangeId, Failure)>,
}

impl<S> Hijacked<S> {
    /// One object that reads the leftover first and then the stream, and writes what is unsent before anything else.
    pub fn into_stream(self) -> Detached<S> {
        Detached { stream: self.stream, leftover: self.leftover.into(), unsent: self.unsent.into() }
    }
}

impl<S> fmt::Debug for Hijacked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hijacked")
            .field("leftover", &self.leftover.len())
            .field("unsent", &self.unsent.len())
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

/// A stream that knows what was read ahead of it and what was not written yet.
///
/// ```
/// use persist_async::{ClientConn, Request, Response, ServerConn, StatusCode};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(1 << 16);
/// let (client, server) = (ClientConn::new(near), ServerConn::new(far));
///
/// let request = Request::get("/").field("Host", "localhost")?.field("Upgrade", "echo")?.field("Connection", "upgrade")?;
/// let exchange = client.write(request, ()).await?;
/// let received = server.read().await?.expect("a request");
/// let granted = Response::new(StatusCode::SWITCHING_PROTOCOLS).field("Upgrade", "echo")?;
/// let mut far = received.responder.upgrade(granted).await?.into_stream();
/// far.write_all(b"hello").await?;
///
/// assert_eq!(client.read(exchange).await?.head.status(), StatusCode::SWITCHING_PROTOCOLS);
/// let mut near = client.into_stream()?; // reads the leftover first
/// let mut heard = [0; 5];
/// near.read_exact(&mut heard).await?;
/// assert_eq!(&heard, b"hello");
/// # Ok(())
/// # }
/// ```
pub struct Detached<S> {
    stream: S,
    leftover: Bytes,
    unsent: Bytes,
}

impl<S> Detached<S> {
    /// The stream underneath. Reading from it directly would skip the leftover.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncWrite + Unpin> Detached<S> {
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.unsent.advance(n),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Detached<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.leftover.is_empty() {
            let n = self.leftover.len().min(buf.remaining());
            buf.put_slice(&self.leftover.split_to(n));
            return Poll::Ready(Ok(()));
        }
        // An answer cannot be waited for before the question has left.
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Detached<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for Detached<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached")
            .field("leftover", &self.leftover.len())
            .field("unsent", &self.unsent.len())
            .finish_non_exhaustive()
    }
}

/// Takes the connection apart. Whoever still holds an exchange or a body of it finds it gone.
pub(crate) fn detach<R: Part, S: Transport>(link: &Link<R, S>) -> Result<Hijacked<S>, Error> {
    link.mutate(|state| {
        let now = state.now();
        let Some(stream) = state.stream.take() else {
            return Err(state.ended(Phase::Close).unwrap_or_else(|| error::ended(Phase::Close, None, None)));
        };
        let config = state.conn.config().clone();
        let parts = std::mem::replace(&mut state.conn, Conn::new(config, now)).into_parts();
        let mut leftover = parts.leftover;
        leftover.extend_from_slice(std::mem::take(&mut state.inbox).rest());
        state.timer = None;
        state.armed = None;
        for (id, failure) in &parts.failures {
            let gone = state.entry(*id).and_then(|entry| {
                entry.failure = Some(Box::new(failure.clone()));
                entry.outgoing.take()
            });
            state.discard(gone);
        }
        state.wake_everybody();
        Ok(Hijacked { stream, leftover, unsent: parts.unsent, failures: parts.failures })
    })
}

/// A machine that goes on elsewhere: `unsent` is written first.
pub(crate) fn restore<R: Role>(config: Arc<Config>, unsent: Vec<u8>) -> Conn<R> {
    Conn::from_parts(config, Parts::new(Vec::new(), unsent), clock::now())
}
