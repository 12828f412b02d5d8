//! A stream in memory whose locks are the checker's.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sync::Mutex;

/// One end.
pub(super) struct Pipe {
    from: Arc<Mutex<Way>>,
    to: Arc<Mutex<Way>>,
}

/// Bytes on their way from one end to the other.
struct Way {
    bytes: VecDeque<u8>,
    room: usize,
    is_closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Two ends; each way holds so many bytes.
pub(super) fn pipe(room: usize) -> (Pipe, Pipe) {
    let way =
        || Arc::new(Mutex::new(Way { bytes: VecDeque::new(), room, is_closed: false, reader: None, writer: None }));
    let (there, back) = (way(), way());
    (Pipe { from: back.clone(), to: there.clone() }, Pipe { from: there, to: back })
}

impl Way {
    fn close(way: &Mutex<Self>) {
        let mut way = way.lock().expect("no panic");
        way.is_closed = true;
        let wakers = [way.reader.take(), way.writer.take()];
        drop(way);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut way = self.from.lock().expect("no panic");
        if way.bytes.is_empty() {
            if way.is_closed {
                return Poll::Ready(Ok(()));
            }
            way.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = way.bytes.len().min(buf.remaining());
        way.bytes.drain(..n).for_each(|byte| buf.put_slice(&[byte]));
        let waker = way.writer.take();
        drop(way);
        if let Some(waker) = waker {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut way = self.to.lock().expect("no panic");
        if way.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = buf.len().min(way.room - way.bytes.len());
        if n == 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        way.bytes.extend(&buf[..n]);
        let waker = way.reader.take();
        drop(way);
        if let Some(waker) = waker {
            waker.wake();
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Way::close(&self.to);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        Way::close(&self.from);
        Way::close(&self.to);
    }
}
