//! Bytes on their way out: one buffer and an offset; large content is shared behind it rather than copied.

use alloc::boxed::Box;
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
    /// What comes after `buffer`; none unless large content is under way.
    tail: Option<Box<Tail>>,
    /// The buffer belongs to the adapter, who will take it back.
    lent: bool,
}

/// Pieces too large to copy, and what was written between them.
#[derive(Debug, Default)]
struct Tail {
    segments: VecDeque<Segment>,
    len: usize,
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

impl Tail {
    #[cold]
    fn end(&mut self) -> &mut Vec<u8> {
        if !matches!(self.segments.back(), Some(Segment::Own(..))) {
            self.segments.push_back(Segment::Own(Vec::new(), 0));
        }
        match self.segments.back_mut() {
            Some(Segment::Own(bytes, _)) => bytes,
            _ => unreachable!("the last segment is an own one: made so above"),
        }
    }

    fn advance(&mut self, mut n: usize) {
        self.len -= n;
        while let Some(front) = self.segments.front_mut() {
            let step = n.min(front.rest().len());
            match front {
                Segment::Own(_, spent) => *spent += step,
                Segment::Shared(bytes) => bytes.advance(step),
            }
            n -= step;
            if !front.rest().is_empty() {
                break;
            }
            self.segments.pop_front();
        }
    }
}

impl Outbox {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.spent + self.tail.as_ref().map_or(0, |tail| tail.len)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.len() == self.spent && self.tail.as_ref().is_none_or(|tail| tail.len == 0)
    }

    /// Appends what `write` puts at the end of the buffer it is given, and says how much that was; nothing, if it fails.
    #[inline]
    pub(crate) fn append<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<usize, E> {
        let added = append(self.end(), write)?;
        self.grew(added);
        Ok(added)
    }

    /// The buffer to append to. Say what was appended with [`grew`](Self::grew).
    #[inline]
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        match &mut self.tail {
            Some(tail) if !tail.segments.is_empty() => tail.end(),
            _ => &mut self.buffer,
        }
    }

    #[inline]
    pub(crate) fn grew(&mut self, added: usize) {
        if let Some(tail) = self.tail.as_mut().filter(|tail| !tail.segments.is_empty()) {
            tail.len += added;
        }
    }

    pub(crate) fn push_shared(&mut self, bytes: Bytes) {
        let tail = self.tail.get_or_insert_default();
        tail.len += bytes.len();
        tail.segments.push_back(Segment::Shared(bytes));
    }

    /// Takes `n` bytes back that stand behind the first `at`. Rare, so that it may copy.
    pub(crate) fn take_back(&mut self, at: usize, n: usize) {
        if self.tail.is_some() {
            *self = Self::from(core::mem::take(self).into_bytes());
        }
        let start = (self.spent + at).min(self.buffer.len());
        let end = (start + n).min(self.buffer.len());
        self.buffer.drain(start..end);
        self.tidy();
    }

    /// Drops everything: it can no longer be sent.
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.spent = 0;
        self.tail = None;
    }

    pub(crate) fn chunk(&self) -> &[u8] {
        match &self.buffer[self.spent..] {
            [] => self.chunks().next().unwrap_or_default(),
            chunk => chunk,
        }
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let tail = self.tail.iter().flat_map(|tail| &tail.segments).map(Segment::rest);
        core::iter::once(&self.buffer[self.spent..]).chain(tail).filter(|chunk| !chunk.is_empty())
    }

    /// Commits `n` bytes, at most [`len`](Self::len).
    #[inline(always)]
    pub(crate) fn advance(&mut self, n: usize) {
        let Some(tail) = &mut self.tail else {
            self.spent += n;
            return self.tidy();
        };
        let front = n.min(self.buffer.len() - self.spent);
        self.spent += front;
        if n > front {
            tail.advance(n - front);
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
    }

    /// Frees what it owns, once empty.
    #[inline]
    pub(crate) fn free(&mut self) {
        if self.tail.is_some() || !self.lent && self.buffer.capacity() > 0 {
            self.free_own();
        }
    }

    #[inline(never)]
    fn free_own(&mut self) {
        if self.is_empty() {
            if !self.lent {
                self.buffer = Vec::new();
            }
            self.tail = None;
        }
    }

    #[inline]
    pub(crate) fn is_lent(&self) -> bool {
        self.lent
    }

    /// Takes over the caller's empty buffer, if it has none of its own in use.
    pub(crate) fn lend(&mut self, scratch: &mut Vec<u8>) {
        if self.buffer.is_empty() && scratch.capacity() > self.buffer.capacity() {
            scratch.clear();
            core::mem::swap(&mut self.buffer, scratch);
            self.lent = true;
        }
    }

    /// Whether the buffer can be given back.
    #[inline]
    pub(crate) fn has_spare_room(&self) -> bool {
        self.buffer.is_empty() && self.lent
    }

    /// Gives the buffer back, if it is empty.
    pub(crate) fn reclaim(&mut self, scratch: &mut Vec<u8>) {
        if self.has_spare_room() {
            *scratch = core::mem::take(&mut self.buffer);
            self.lent = false;
        }
    }

    /// All that is unsent, in one piece.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        if self.tail.is_none() && self.spent == 0 {
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
#[inline(always)]
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
    fn bytes_are_taken_back_across_pieces() {
        let mut outbox = Outbox::default();
        put(&mut outbox, b"sent one ");
        outbox.advance(5);
        outbox.push_shared(Bytes::from_static(b"two "));
        put(&mut outbox, b"three");
        outbox.take_back(2, 4);
        assert_eq!(outbox.len(), 9);
        outbox.take_back(7, 2);
        assert_eq!(outbox.into_bytes(), b"ono thr");
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
