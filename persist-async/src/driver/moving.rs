//! Bytes between the stream and the machine: out of its outbox, and in, straight to where they are wanted where that pays.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;
use persist_core::Side;

use super::{Appetite, Direct};
use crate::link::{Readable, State, Transport, Writable};
use crate::part::Part;
use crate::scratch::{self, READ_BYTES, READ_BYTES_BEHIND, READ_BYTES_COPIED, READ_BYTES_FIRST};
use crate::stream::quick;

/// Below so many bytes of room, reading through the scratch buffer costs fewer calls than reading straight.
const STRAIGHT_MIN: usize = 16 * 1024;

/// Slices offered to one vectored write.
const SLICES: usize = 36;

/// What came behind content that was read straight.
struct Behind {
    bytes: [u8; READ_BYTES_BEHIND],
    len: usize,
}

impl Behind {
    /// Copies what is behind `expected` bytes of content; how many bytes of content there are.
    fn copy(&mut self, read: &[u8], expected: usize) -> usize {
        let (content, behind) = read.split_at(expected.min(read.len()));
        self.bytes[..behind.len()].copy_from_slice(behind);
        self.len = behind.len();
        content.len()
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Default for Behind {
    fn default() -> Self {
        Self { bytes: [0; READ_BYTES_BEHIND], len: 0 }
    }
}

impl<R: Part, S: Transport> State<R, S> {
    /// Writes what waits. True if something moved.
    #[inline(always)]
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        let rests = self.write_side == Writable::Open && !self.conn.wants_write() && !self.conn.wants_shutdown();
        !rests && self.write_out(cx)
    }

    fn write_out(&mut self, cx: &mut Context<'_>) -> bool {
        let now = self.now();
        let Some(stream) = self.stream.as_mut() else { return false };
        let mut moved = false;
        while matches!(self.write_side, Writable::Open | Writable::Unflushed) {
            let mut bytes = self.conn.transmit(now);
            let total = bytes.remaining();
            if total == 0 {
                break;
            }
            let outcome = if bytes.chunk().len() < total && stream.is_write_vectored() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let mut offered = 0;
                let pieces = slices.iter_mut().zip(bytes.chunks());
                let count = pieces.map(|(slice, piece)| (offered += piece.len(), *slice = IoSlice::new(piece))).count();
                quick::write_slices(stream, cx, &slices[..count], offered)
            } else {
                quick::write(stream, cx, bytes.chunk())
            };
            let failed = match outcome {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => io::ErrorKind::WriteZero.into(),
                Poll::Ready(Ok(n)) => {
                    bytes.advance(n);
                    self.sent += n as u64;
                    moved = true;
                    // A socket holds nothing back.
                    if quick::tcp(stream).is_none() {
                        self.write_side = Writable::Unflushed;
                    }
                    if n == total {
                        break;
                    }
                    continue;
                }
                Poll::Ready(Err(error)) => error,
            };
            self.write_failed(failed);
            return true;
        }
        if moved {
            self.last_write = Some(now);
            if self.waiting.is_some() {
                // There is room again, and perhaps all has left.
                self.wake_turn();
                if !self.conn.wants_write() {
                    self.wake_watcher();
                }
            }
        }
        if self.write_side == Writable::Open && !self.conn.wants_shutdown() {
            return moved;
        }
        self.finish_writing(cx) || moved
    }

    /// Flushes the stream's own buffer, and shuts our side down once the machine asks for it. True if the machine heard of something.
    fn finish_writing(&mut self, cx: &mut Context<'_>) -> bool {
        if self.write_side != Writable::Ended && self.conn.poll_shutdown() {
            self.write_side = Writable::ShuttingDown;
        }
        let Some(stream) = self.stream.as_mut() else { return false };
        let (outcome, next) = match self.write_side {
            Writable::Unflushed => (Pin::new(stream).poll_flush(cx), Writable::Open),
            Writable::ShuttingDown => (Pin::new(stream).poll_shutdown(cx), Writable::Ended),
            Writable::Open | Writable::Ended => return false,
        };
        match outcome {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => {
                self.write_side = next;
                if next == Writable::Ended {
                    // Whoever closes looks from here on whether all has arrived.
                    self.wake_watcher();
                }
                next == Writable::Ended
            }
            Poll::Ready(Err(error)) => {
                self.write_failed(error);
                true
            }
        }
    }

    fn write_failed(&mut self, error: io::Error) {
        let now = self.now();
        self.write_side = Writable::Ended;
        self.io_error.get_or_insert_with(|| Arc::new(error));
        self.conn.handle_io_error(Side::Write, now);
    }

    /// Reads once, straight into the caller's buffer where that pays. If something came, whether the machine is known to want more.
    pub(crate) fn fill(&mut self, cx: &mut Context<'_>, direct: &mut Option<Direct<'_, '_>>) -> Option<Appetite> {
        if self.receiving.is_some()
            && let Poll::Ready(read) = self.fill_body(cx, direct)
        {
            return read;
        }
        self.fill_scratch(cx, |state, input| state.feed(input, direct))
    }

    /// Reads once into this thread's buffer, and lets `feed` take from it; what that leaves is kept.
    #[inline(always)]
    pub(crate) fn fill_scratch<T: Default>(
        &mut self,
        cx: &mut Context<'_>,
        feed: impl FnOnce(&mut Self, &mut &[u8]) -> T,
    ) -> Option<T> {
        if self.read_side == Readable::Ended {
            return None;
        }
        scratch::with(|scratch| {
            let stream = self.stream.as_mut()?;
            let most = if self.receiving.is_none() { READ_BYTES_FIRST } else { READ_BYTES_COPIED };
            match quick::read(stream, cx, &mut scratch.input[..most]) {
                Poll::Pending => None,
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.last_read = Some(self.now());
                    let mut input = &scratch.input[..n];
                    let fed = feed(self, &mut input);
                    self.keep(input);
                    Some(fed)
                }
                Poll::Ready(outcome) => {
                    self.read_ended(outcome.map(drop));
                    Some(T::default())
                }
            }
        })
    }

    /// Keeps what was read and not taken.
    fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() && self.stream.is_some() {
            self.inbox = rest.to_vec().into();
        }
    }

    /// Reads content straight to where it is wanted, if it may be read so: into the caller's buffer, or else into that of its exchange. What came of that.
    fn fill_body(&mut self, cx: &mut Context<'_>, direct: &mut Option<Direct<'_, '_>>) -> Poll<Option<Appetite>> {
        let Some(id) = self.receiving.filter(|_| self.read_side == Readable::Open) else { return Poll::Pending };
        let (window, now) = (self.conn.body_window(), self.now());
        if window == 0 {
            return Poll::Pending;
        }
        let expected = window.min(READ_BYTES as u64) as usize;
        let Some(stream) = self.stream.as_mut() else { return Poll::Pending };
        let mut behind = Behind::default();
        let outcome = if let Some(direct) = direct.as_mut().filter(|direct| direct.id == id) {
            let room = direct.buf.remaining();
            if (room as u64) < window.min(STRAIGHT_MIN as u64) {
                return Poll::Pending;
            }
            let buf = direct.buf.initialize_unfilled_to(room.min(expected + READ_BYTES_BEHIND));
            let outcome = quick::read(stream, cx, buf).map_ok(|n| behind.copy(&buf[..n], expected));
            if let Poll::Ready(Ok(n)) = outcome {
                direct.buf.advance(n);
            }
            outcome
        } else {
            let entry = self.entries.iter_mut().find(|entry| entry.id == id);
            let Some(entry) = entry.filter(|entry| entry.inbound_held && window >= STRAIGHT_MIN as u64) else {
                return Poll::Pending;
            };
            let before = entry.content.len();
            let outcome = entry.read_content(stream, cx, expected + READ_BYTES_BEHIND).map_ok(|n| {
                let content = behind.copy(&entry.content[before..][..n], expected);
                entry.content.truncate(before + content);
                content
            });
            if let Poll::Ready(Ok(n)) = outcome {
                self.buffered += n;
                let waiter = entry.waiter.take_if(|_| n > 0);
                self.wake_slot(waiter);
            }
            outcome
        };
        Poll::Ready(match outcome {
            Poll::Pending => None,
            Poll::Ready(Ok(n)) if n > 0 => {
                self.last_read = Some(now);
                self.conn.handle_body(n as u64, now);
                Some(if behind.len > 0 {
                    let mut input = behind.bytes();
                    let appetite = self.feed(&mut input, direct);
                    self.keep(input);
                    appetite
                } else if (n as u64) < window {
                    // More of it may be read without a question.
                    Appetite::Hungry
                } else {
                    Appetite::Sated
                })
            }
            Poll::Ready(outcome) => {
                self.read_ended(outcome.map(drop));
                Some(Appetite::Sated)
            }
        })
    }

    /// The stream gives nothing more.
    pub(crate) fn read_ended(&mut self, outcome: io::Result<()>) {
        let now = self.now();
        self.read_side = Readable::Ended;
        match outcome {
            Ok(()) => self.conn.handle_eof(now),
            Err(error) => {
                self.io_error.get_or_insert_with(|| Arc::new(error));
                self.conn.handle_io_error(Side::Read, now);
            }
        }
    }
}
