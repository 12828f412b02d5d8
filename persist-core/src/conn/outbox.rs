//! Bytes on their way out: one buffer and an offset; large content is shared behind it rather than copied.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::{Buf, Bytes};

/// Content of at least this many bytes is queued by reference; below, a copy is cheaper.
pub(crate) const SHARE_BYTES_MIN: usize = 8 * 1024;

/// The front of the buffer is cut off once this much of it is spent, so that steady pipelining does not grow it.
const SPENT_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    buffer: Vec<u8>,
    spent: usize,
    /// What comes after `buffer`; empty unless large content is under way.
    tail: VecDeque<Segment>,
    tail_len: usize,
    /// The buffer belongs to the adapter, who will take it back.
    lent: bool,
}

#[derive(Debug)]
enum Segment {
    Own(Vec<u8>, usize),
    Shared(Bytes),
}

impl Segment {
    fn rest(&self) -> &[u8] {
        match self {
            Self::Own(bytes, spent) => &bytes[*spent..],
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Outbox {
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.spent + self.tail_len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends what `write` puts at the end of the buffer it is given, and says how much that was; nothing, if it fails.
    pub(crate) fn append<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<usize, E> {
        if self.tail.is_empty() {
            return append(&mut self.buffer, write);
        }
        if !matches!(self.tail.back(), Some(Segment::Own(..))) {
            self.tail.push_back(Segment::Own(Vec::new(), 0));
        }
        let Some(Segment::Own(bytes, _)) = self.tail.back_mut() else { unreachable!("pushed above") };
        let added = append(bytes, write)?;
        self.tail_len += added;
        Ok(added)
    }

    pub(crate) fn push_shared(&mut self, bytes: Bytes) {
        self.tail_len += bytes.len();
        self.tail.push_back(Segment::Shared(bytes));
    }

    /// Takes the last `n` bytes back, at most [`len`](Self::len).
    pub(crate) fn take_back(&mut self, mut n: usize) {
        while n > 0
            && let Some(segment) = self.tail.back_mut()
        {
            let step = n.min(segment.rest().len());
            match segment {
                Segment::Own(bytes, _) => bytes.truncate(bytes.len() - step),
                Segment::Shared(bytes) => bytes.truncate(bytes.len() - step),
            }
            self.tail_len -= step;
            n -= step;
            if segment.rest().is_empty() {
                self.tail.pop_back();
            }
        }
        let kept = self.buffer.len().saturating_sub(n).max(self.spent);
        self.buffer.truncate(kept);
        self.tidy();
    }

    /// Drops everything: it can no longer be sent.
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.spent = 0;
        self.tail = VecDeque::new();
        self.tail_len = 0;
    }

    pub(crate) fn chunk(&self) -> &[u8] {
        let front = &self.buffer[self.spent..];
        if !front.is_empty() {
            return front;
        }
        self.tail.iter().map(Segment::rest).find(|rest| !rest.is_empty()).unwrap_or_default()
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let front = &self.buffer[self.spent..];
        core::iter::once(front).chain(self.tail.iter().map(Segment::rest)).filter(|chunk| !chunk.is_empty())
    }

    /// Commits `n` bytes, at most [`len`](Self::len).
    pub(crate) fn advance(&mut self, n: usize) {
        let front = n.min(self.buffer.len() - self.spent);
        self.spent += front;
        let mut n = n - front;
        self.tail_len -= n;
        while n > 0 {
            let segment = self.tail.front_mut().expect("bytes left: checked by the caller");
            let step = n.min(segment.rest().len());
            match segment {
                Segment::Own(_, spent) => *spent += step,
                Segment::Shared(bytes) => bytes.advance(step),
            }
            n -= step;
            if segment.rest().is_empty() {
                self.tail.pop_front();
            }
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        if self.spent == self.buffer.len() {
            self.buffer.clear();
            self.spent = 0;
        } else if self.spent > SPENT_BYTES_MAX && self.spent > self.buffer.len() / 2 {
            self.buffer.drain(..self.spent);
            self.spent = 0;
        }
        while self.tail.front().is_some_and(|segment| segment.rest().is_empty()) {
            self.tail.pop_front();
        }
    }

    /// Frees what it owns, once empty.
    pub(crate) fn free(&mut self) {
        if self.is_empty() {
            if !self.lent {
                self.buffer = Vec::new();
            }
            self.tail = VecDeque::new();
        }
    }

    /// Takes over the caller's empty buffer, if it has none of its own in use.
    pub(crate) fn lend(&mut self, scratch: &mut Vec<u8>) {
        if self.buffer.is_empty() && scratch.capacity() > self.buffer.capacity() {
            scratch.clear();
            core::mem::swap(&mut self.buffer, scratch);
            self.lent = true;
        }
    }

    /// Gives the buffer back, if it is empty.
    pub(crate) fn reclaim(&mut self, scratch: &mut Vec<u8>) {
        if self.buffer.is_empty() && self.lent {
            core::mem::swap(&mut self.buffer, scratch);
            self.buffer = Vec::new();
            self.lent = false;
        }
    }

    /// All that is unsent, in one piece.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        if self.tail.is_empty() && self.spent == 0 {
            return self.buffer;
        }
        let mut bytes = Vec::with_capacity(self.len());
        self.chunks().for_each(|chunk| bytes.extend_from_slice(chunk));
        bytes
    }
}

impl From<Vec<u8>> for Outbox {
    fn from(unsent: Vec<u8>) -> Self {
        Self { buffer: unsent, ..Self::default() }
    }
}

/// Appends to `out`, or leaves it as it was.
pub(crate) fn append<E>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<usize, E> {
    let before = out.len();
    match write(out) {
        Ok(()) => Ok(out.len() - before),
        Err(error) => {
            out.truncate(before);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use core::convert::Infallible;

    fn put(outbox: &mut Outbox, bytes: &[u8]) {
        outbox
            .append(|out| {
                out.extend_from_slice(bytes);
                Ok::<(), Infallible>(())
            })
            .expect("infallible");
    }

    #[test]
    fn order_is_kept_across_plain_and_shared_pieces_and_short_writes() {
        let mut outbox = Outbox::default();
        put(&mut outbox, b"head ");
        outbox.push_shared(Bytes::from_static(b"shared "));
        put(&mut outbox, b"tail");
        let mut seen = vec![];
        while !outbox.is_empty() {
            let chunk = outbox.chunk();
            let n = chunk.len().min(3);
            seen.extend_from_slice(&chunk[..n]);
            outbox.advance(n);
        }
        assert_eq!(seen, b"head shared tail");
        put(&mut outbox, b"again");
        assert_eq!(outbox.into_bytes(), b"again");
    }

    #[test]
    fn the_end_is_taken_back_across_pieces() {
        let mut outbox = Outbox::default();
        put(&mut outbox, b"one ");
        outbox.push_shared(Bytes::from_static(b"two "));
        put(&mut outbox, b"three");
        outbox.take_back(7);
        assert_eq!(outbox.len(), 6);
        assert_eq!(outbox.into_bytes(), b"one tw");
    }

    #[test]
    fn a_lent_buffer_comes_back_and_an_own_one_is_freed() {
        let mut outbox = Outbox::default();
        let mut scratch = Vec::with_capacity(256);
        outbox.lend(&mut scratch);
        put(&mut outbox, b"x");
        outbox.reclaim(&mut scratch);
        assert_eq!(scratch.capacity(), 0, "not empty: stays");
        outbox.advance(1);
        outbox.reclaim(&mut scratch);
        assert!(scratch.capacity() >= 256);
        put(&mut outbox, b"x");
        outbox.advance(1);
        outbox.free();
        assert_eq!(outbox.buffer.capacity(), 0);
    }
}
