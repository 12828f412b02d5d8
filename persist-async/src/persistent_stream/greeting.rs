//! The right to speak first on a new connection.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::Stream;

/// A new connection, in the hands of the [`on_connect`](crate::PersistentStream::on_connect) hook, which gives it back when the session stands. The
/// hook is dropped when its time is up.
///
/// ```
/// use persist_async::PersistentStream;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let there = format!("http://{}", listener.local_addr()?).parse()?;
/// let serving = tokio::spawn(async move { listener.accept().await?.0.write_all(b"220 ready\r\nfirst").await });
/// let mut stream = PersistentStream::new(there).on_connect(|mut greeting| async move {
///     let mut line = Vec::new();
///     while !line.contains(&b'\n') {
///         if greeting.read_buf(&mut line).await? == 0 {
///             return Err("no greeting".into());
///         }
///     }
///     // What was read beyond that line belongs to whoever reads the stream.
///     let end = line.iter().position(|&byte| byte == b'\n').expect("it is there") + 1;
///     greeting.unread(&line[end..]);
///     if line.starts_with(b"220 ") { Ok(greeting) } else { Err("not ready".into()) }
/// });
/// let mut first = [0; 5];
/// stream.read_exact(&mut first).await?;
/// assert_eq!(&first, b"first");
/// serving.await??;
/// # Ok(())
/// # }
/// ```
pub struct Greeting {
    stream: Stream,
}

impl Greeting {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream }
    }

    /// The stream, for what it knows: addresses, the peer's certificates.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Gives back bytes that were read too far, behind what the greeting answers: the next read gives them first.
    pub fn unread(&mut self, bytes: &[u8]) {
        let stream = std::mem::replace(&mut self.stream, Stream::new(tokio::io::empty()));
        self.stream = stream.with_leftover(Bytes::copy_from_slice(bytes));
    }

    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }
}

impl AsyncRead for Greeting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Greeting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl fmt::Debug for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greeting").field("stream", &self.stream).finish()
    }
}
