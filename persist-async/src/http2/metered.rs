//! The stream below, and what went through it: how much, when, and how it failed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use persist_core::{CloseReason, Side};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::failure::lock;
use super::linger::Left;
use crate::link::Transport;

/// What went through the stream of a connection.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) started: Instant,
    written: AtomicU64,
    read: AtomicU64,
    /// Microseconds after the start, plus one; 0 for never.
    last_read: AtomicU64,
    last_write: AtomicU64,
    end: Mutex<Option<End>>,
}

/// How the stream ended below us.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// The peer closed its side.
    Closed,
    Failed(Side, Arc<io::Error>),
}

impl Meter {
    pub(super) fn new() -> Arc<Self> {
        let [written, read, last_read, last_write] = [const { AtomicU64::new(0) }; 4];
        Arc::new(Self { started: Instant::now(), written, read, last_read, last_write, end: Mutex::default() })
    }

    /// Bytes that the system took.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Bytes that came.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(super) fn last_read(&self) -> Option<Instant> {
        self.time(&self.last_read)
    }

    pub(super) fn last_write(&self) -> Option<Instant> {
        self.time(&self.last_write)
    }

    fn time(&self, place: &AtomicU64) -> Option<Instant> {
        let micros = place.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.started + Duration::from_micros(micros))
    }

    fn note(&self, place: &AtomicU64) {
        place.store(self.started.elapsed().as_micros() as u64 + 1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) -> Option<End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ended(&self, end: End) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
    }

    fn failed(&self, side: Side, error: io::Error) -> io::Error {
        let error = Arc::new(error);
        let copy = crate::error::copy_of(&error);
        self.ended(End::Failed(side, error));
        copy
    }
}

impl End {
    pub(super) fn reason(&self) -> CloseReason {
        match self {
            Self::Closed => CloseReason::PeerClosedEarly,
            Self::Failed(side, _) => CloseReason::Io(*side),
        }
    }
}

/// A stream with a meter.
pub(super) struct Metered<S> {
    /// `Some` until it is dropped.
    stream: Option<S>,
    meter: Arc<Meter>,
    /// Where the stream is left, if somebody wants it back.
    left: Option<Left<S>>,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, meter: Arc<Meter>) -> Self {
        Self { stream: Some(stream), meter, left: None }
    }

    /// The same; when the connection lets go of the stream, it is left there.
    pub(super) fn lent(stream: S, meter: Arc<Meter>, left: &Left<S>) -> Self {
        Self { stream: Some(stream), meter, left: Some(left.clone()) }
    }

    fn stream(&mut self) -> &mut S {
        self.stream.as_mut().expect("taken by the drop only")
    }
}

impl<S> Drop for Metered<S> {
    fn drop(&mut self) {
        if let Some(left) = &self.left {
            *lock(left) = self.stream.take();
        }
    }
}

impl<S: Transport> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match ready!(Pin::new(self.stream()).poll_read(cx, buf)) {
            Ok(()) if buf.filled().len() > before => {
                self.meter.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
                self.meter.note(&self.meter.last_read);
            }
            Ok(()) if buf.remaining() > 0 => self.meter.ended(End::Closed),
            Ok(()) => {}
            Err(error) => return Poll::Ready(Err(self.meter.failed(Side::Read, error))),
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> Metered<S> {
    fn wrote(&self, outcome: io::Result<usize>) -> io::Result<usize> {
        match outcome {
            Ok(n) => {
                self.meter.written.fetch_add(n as u64, Ordering::Relaxed);
                self.meter.note(&self.meter.last_write);
                Ok(n)
            }
            Err(error) => Err(self.meter.failed(Side::Write, error)),
        }
    }
}

impl<S: Transport> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(self.stream()).poll_write(cx, buf));
        Poll::Ready(self.wrote(outcome))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(self.stream()).poll_write_vectored(cx, bufs));
        Poll::Ready(self.wrote(outcome))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(S::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream()).poll_shutdown(cx)
    }
}
