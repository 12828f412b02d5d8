//! Reads and writes of TCP sockets in fewer steps than through `AsyncRead` and `AsyncWrite`: a socket that is known to be ready is not asked again
//! whether it is, nor is one that has just given or taken less than it could.

use std::any::Any;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::{Stream, receive};
use crate::link::Transport;

/// Where a short read or write means that the socket has no more to give, or no room, until an event says so (edges of epoll).
const SHORT_IS_DRY: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The TCP socket, if that is all there is to the stream.
#[inline(always)]
pub(crate) fn tcp<S: Transport>(stream: &S) -> Option<&TcpStream> {
    let any: &dyn Any = stream;
    match any.downcast_ref::<Stream>() {
        Some(stream) => stream.as_tcp(),
        None => any.downcast_ref::<TcpStream>(),
    }
}

/// Whether the stream is known to have nothing to be read: then `cx` is woken when it has. False if that shows only in a read.
#[inline]
pub(crate) fn is_dry<S: Transport>(stream: &S, cx: &mut Context<'_>) -> bool {
    SHORT_IS_DRY && tcp(stream).is_some_and(|stream| stream.poll_read_ready(cx).is_pending())
}

/// Reads into `buf`, which is not empty; 0 bytes at the end.
#[inline]
pub(crate) fn read<S: Transport>(stream: &mut S, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
    if SHORT_IS_DRY && let Some(stream) = tcp(stream) {
        let room = buf.len();
        return operate(stream, cx, (Interest::READABLE, TcpStream::poll_read_ready), |stream| {
            receive(&SockRef::from(stream), buf).map(|read| (read, 0 < read && read < room))
        });
    }
    let mut buf = ReadBuf::new(buf);
    Pin::new(stream).poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
}

/// The same into the room that `buf` has, which is not empty.
#[inline]
pub(crate) fn read_buf<S: Transport>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buf: &mut impl BufMut,
) -> Poll<io::Result<usize>> {
    if SHORT_IS_DRY && let Some(stream) = tcp(stream) {
        let room = buf.chunk_mut().len();
        return operate(stream, cx, (Interest::READABLE, TcpStream::poll_read_ready), |stream| {
            stream.try_read_buf(buf).map(|read| (read, 0 < read && read < room))
        });
    }
    pin!(stream.read_buf(buf)).poll(cx)
}

/// Writes `bytes`, which are not empty, or some of them.
#[inline]
pub(crate) fn write<S: Transport>(stream: &mut S, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    if SHORT_IS_DRY && let Some(stream) = tcp(stream) {
        return operate(stream, cx, (Interest::WRITABLE, TcpStream::poll_write_ready), |stream| {
            io::Write::write(&mut &*SockRef::from(stream), bytes).map(|written| (written, written < bytes.len()))
        });
    }
    Pin::new(stream).poll_write(cx, bytes)
}

/// Writes what is in `slices`, `total` bytes, or some of it.
#[inline]
pub(crate) fn write_slices<S: Transport>(
    stream: &mut S,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
    total: usize,
) -> Poll<io::Result<usize>> {
    if SHORT_IS_DRY && let Some(stream) = tcp(stream) {
        return operate(stream, cx, (Interest::WRITABLE, TcpStream::poll_write_ready), |stream| {
            io::Write::write_vectored(&mut &*SockRef::from(stream), slices).map(|written| (written, written < total))
        });
    }
    Pin::new(stream).poll_write_vectored(cx, slices)
}

type PollReady = fn(&TcpStream, &mut Context<'_>) -> Poll<io::Result<()>>;

/// Does `once` as soon as the socket is ready for it: how many bytes it moved, and whether the socket is dry for now.
#[inline(always)]
fn operate(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    (interest, poll_ready): (Interest, PollReady),
    mut once: impl FnMut(&TcpStream) -> io::Result<(usize, bool)>,
) -> Poll<io::Result<usize>> {
    loop {
        let (mut asked, mut moved) = (false, 0);
        let outcome = stream.try_io(interest, || {
            asked = true;
            let dry;
            (moved, dry) = once(stream)?;
            // Said to tokio alone, which then takes the socket for what it is: not ready until an event comes.
            if dry { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match outcome {
            Ok(()) => return Poll::Ready(Ok(moved)),
            Err(_) if moved > 0 => return Poll::Ready(Ok(moved)),
            Err(error) if asked && error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
            Err(_) => ready!(poll_ready(stream, cx))?,
        }
    }
}
