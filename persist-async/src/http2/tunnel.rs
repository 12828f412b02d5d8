//! One stream of HTTP/2 as a stream of bytes: what CONNECT makes of it (RFC 9113 §8.5).

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::failure::Place;

/// A tunnel within an HTTP/2 connection: bytes both ways, with flow control both ways. Dropping it resets the stream, unless both sides have ended.
///
/// ```
/// use persist_async::http2::{Connected, Http2Config};
/// use persist_async::{ClientConn, Fields, Response, Server};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::net::TcpStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind("127.0.0.1:0").await?.with_http2(Http2Config::server());
/// let address = server.local_addr().expect("TCP");
/// tokio::spawn(server.serve(|received| async move {
///     let mut stream = received.responder.upgrade(Response::ok()).await?.into_stream();
///     stream.write_all(b"hello").await.and(stream.shutdown().await).map_err(|cause| {
///         persist_async::Error::new(persist_async::Phase::Send, cause)
///     })
/// }));
///
/// let conn = ClientConn::http2(TcpStream::connect(address).await?, Http2Config::client()).await?;
/// let Connected::Tunnel(mut tunnel) = conn.connect("inside.example:443", Fields::new()).await? else {
///     return Err("refused".into());
/// };
/// let mut heard = [0; 5];
/// tunnel.read_exact(&mut heard).await?;
/// assert_eq!(&heard, b"hello");
/// # Ok(())
/// # }
/// ```
pub struct Tunnel {
    send: SendStream<Bytes>,
    recv: RecvStream,
    held: Bytes,
    _place: Place,
}

/// What a stream is asked to take at once.
const PIECE: usize = 64 * 1024;

impl Tunnel {
    pub(super) fn new(send: SendStream<Bytes>, recv: RecvStream, place: Place) -> Self {
        Self { send, recv, held: Bytes::new(), _place: place }
    }
}

/// An error of the protocol, for readers and writers. A reset is one of a connection.
fn into_io(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
    }
    let kind = if error.is_reset() { io::ErrorKind::ConnectionReset } else { io::ErrorKind::ConnectionAborted };
    io::Error::new(kind, error)
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.held.has_remaining() {
            match ready!(this.recv.poll_data(cx)) {
                Some(Ok(content)) => this.held = content,
                // RFC 9113 §8.5: a reset with NO_ERROR or CANCEL is how some say that they have closed.
                Some(Err(error)) if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let piece = this.held.split_to(this.held.len().min(buf.remaining()));
        let _ = this.recv.flow_control().release_capacity(piece.len());
        buf.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let send = &mut self.get_mut().send;
        send.reserve_capacity(buf.len().min(PIECE));
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(cx)) {
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
            }
        }
        let room = send.capacity().min(buf.len());
        send.send_data(Bytes::copy_from_slice(&buf[..room]), false).map_err(into_io)?;
        Poll::Ready(Ok(room))
    }

    /// The connection's task writes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A second end, or one of a stream that is over, changes nothing.
        let _ = self.get_mut().send.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("stream", &self.recv.stream_id()).finish_non_exhaustive()
    }
}
