//! Bytes that were read too early, in front of the stream that they came from.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Stream;

/// A stream with bytes in front of it.
#[derive(Debug)]
pub(super) struct Led {
    first: Mutex<io::Cursor<Vec<u8>>>,
    /// Spares the lock once all of them are read.
    is_plain: AtomicBool,
    inner: Stream,
}

impl Led {
    pub(super) fn new(first: Vec<u8>, inner: Stream) -> Self {
        Self { first: Mutex::new(io::Cursor::new(first)), is_plain: AtomicBool::new(false), inner }
    }

    pub(super) fn inner(&self) -> &Stream {
        &self.inner
    }

    pub(super) fn into_inner(self) -> Stream {
        self.inner
    }

    /// The stream, if nothing is in front of it any more.
    pub(super) fn plain(&self) -> Option<&Stream> {
        self.is_plain.load(Ordering::Acquire).then_some(&self.inner)
    }

    /// Those bytes first, then the stream's.
    pub(super) fn through(
        &self,
        buf: &mut [u8],
        read: impl FnOnce(&Stream, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.plain().is_none() && !buf.is_empty() {
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            let n = first.read(buf)?;
            if first.position() >= first.get_ref().len() as u64 {
                *first = io::Cursor::default();
                self.is_plain.store(true, Ordering::Release);
            }
            if n > 0 {
                return Ok(n);
            }
        }
        read(&self.inner, buf)
    }
}
