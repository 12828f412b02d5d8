//! Bodies out: the same for requests and responses.

use alloc::vec::Vec;
use core::convert::Infallible;

use bytes::Bytes;

use super::encode;
use super::event::{ExchangeId, Upload};
use super::exchange::{Expect, Remaining};
use super::half::{Half, Step};
use super::outbox::SHARE_BYTES_MIN;
use super::{Conn, Role};
use crate::error::SendError;
use crate::field::Fields;
use crate::lines::Write;
use crate::time::Instant;

/// The most that framing adds to one chunk: 16 digits and two CRLF.
const CHUNK_OVERHEAD: usize = 20;

impl<R: Role> Conn<R> {
    /// Takes content of an outbound body, copying it; returns how many bytes (fewer than given, or 0, when the outbox is full).
    ///
    /// # Errors
    /// [`SendError::TooLong`] before anything is taken, `NoSuchExchange`, `UploadStopped`.
    pub fn send_body(&mut self, id: ExchangeId, data: &[u8], now: Instant) -> Result<usize, SendError> {
        self.tick(now);
        let (index, remaining) = self.check_body(id, data.len())?;
        let n = data.len().min(self.room(index));
        if n > 0 {
            self.write_content(index, remaining, &data[..n]);
            self.spend(index, n);
        }
        Ok(n)
    }

    /// The same without copying. Takes all of it or, when the outbox is full, nothing (`false`).
    ///
    /// # Errors
    /// As [`send_body`](Self::send_body).
    pub fn send_body_shared(&mut self, id: ExchangeId, data: &Bytes, now: Instant) -> Result<bool, SendError> {
        self.tick(now);
        let (index, remaining) = self.check_body(id, data.len())?;
        if data.is_empty() {
            return Ok(true);
        }
        if self.room(index) == 0 {
            return Ok(false);
        }
        self.share(index, remaining, data);
        Ok(true)
    }

    /// The same for several pieces, so that they can leave in one write: takes all of them or, when the outbox is full, none (`false`). A chunk for each, if the body
    /// is chunked. How much the outbox exceeds its limit by is the caller's choice.
    ///
    /// ```
    /// use bytes::{Buf, Bytes};
    /// use persist_core::{BodyLen, Client, Config, Conn, Instant, Method};
    /// # use persist_core::{Field, FieldName, FieldValue};
    ///
    /// let now = Instant::ZERO;
    /// let mut conn = Conn::<Client>::new(Config::client(), now);
    /// # let host = Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("h") };
    /// let id = conn.send_request(&Method::PUT, "/", [host], BodyLen::Length(60_000), now)?;
    /// let piece = Bytes::from(vec![b'x'; 20_000]);
    /// assert!(conn.send_body_pieces(id, &[piece.clone(), piece.clone(), piece], now)?);
    /// conn.finish_body(id, None, now)?;
    /// assert_eq!(conn.transmit(now).chunks().count(), 4); // the head, and each piece where it lies
    /// # Ok::<(), persist_core::SendError>(())
    /// ```
    ///
    /// # Errors
    /// As [`send_body`](Self::send_body).
    pub fn send_body_pieces(&mut self, id: ExchangeId, pieces: &[Bytes], now: Instant) -> Result<bool, SendError> {
        self.tick(now);
        let (index, remaining) = self.check_body(id, pieces.iter().map(Bytes::len).sum())?;
        if self.room(index) == 0 {
            return Ok(pieces.iter().all(Bytes::is_empty));
        }
        pieces.iter().filter(|piece| !piece.is_empty()).for_each(|piece| self.share(index, remaining, piece));
        Ok(true)
    }

    /// Completes an outbound body. Trailers need chunked framing; where it is not used they are dropped, as RFC 9110 §6.5.1 allows.
    ///
    /// # Errors
    /// [`SendError::TooShort`]: the message stays unfinished, so that the last chunk is never written for an incomplete body.
    pub fn finish_body(&mut self, id: ExchangeId, trailers: Option<&Fields>, now: Instant) -> Result<(), SendError> {
        self.tick(now);
        let (index, remaining) = self.check_body(id, 0)?;
        match remaining {
            Remaining::Length(0) | Remaining::UntilClose => {}
            Remaining::Length(missing) => return Err(SendError::TooShort { missing }),
            // RFC 9112 §7.1: the last chunk, the trailer section, an empty line.
            Remaining::Chunked => self.try_write(index, |out| {
                out.extend_from_slice(b"0\r\n");
                if let Some(trailers) = trailers {
                    trailers.lines().write(out).without_framing()?;
                }
                out.extend_from_slice(b"\r\n");
                Ok(())
            })?,
        }
        self.sent_whole(index);
        Ok(())
    }

    /// So many bytes of an outbound body may be written straight to the stream (sendfile); 0 while the outbox holds bytes, or unless
    /// the body has a declared length.
    pub fn send_window(&self, id: ExchangeId) -> u64 {
        match self.queue.index_of(id).and_then(|index| Some((index, self.queue.get(index)?))) {
            Some((index, exchange))
                if index == self.turn && self.outbox.is_empty() && exchange.sending == Half::Body =>
            {
                match exchange.remaining {
                    Remaining::Length(left) => left,
                    _ => 0,
                }
            }
            _ => 0,
        }
    }

    /// `n` bytes of an outbound body were written straight to the stream, at most [`send_window`](Self::send_window).
    pub fn handle_sent(&mut self, id: ExchangeId, n: u64, now: Instant) {
        self.tick(now);
        let n = n.min(self.send_window(id));
        let Some(index) = self.queue.index_of(id).filter(|_| n > 0) else { return };
        if let Some(exchange) = self.queue.get_mut(index) {
            exchange.queued += n;
            exchange.sent += n;
            self.cursor = index;
        }
        self.times.wrote = self.times.now;
        self.spend(index, n as usize);
    }

    /// Whether content of this exchange may go out now.
    pub fn upload(&self, id: ExchangeId) -> Upload {
        let Some(index) = self.queue.index_of(id) else { return Upload::Finished };
        let Some(exchange) = self.queue.get(index).filter(|exchange| !exchange.ended) else { return Upload::Finished };
        match exchange.sending {
            Half::Body if R::IS_CLIENT && exchange.expect == Expect::Waiting => Upload::AwaitContinue,
            Half::Body => Upload::Ready { room: self.room(index) },
            Half::Failed => Upload::Stopped,
            Half::Idle | Half::Done => Upload::Finished,
        }
    }

    /// The exchange whose body may take `n` more bytes, and what remains of it before.
    #[inline]
    fn check_body(&self, id: ExchangeId, n: usize) -> Result<(usize, Remaining), SendError> {
        let index = self.queue.index_of(id).ok_or(SendError::NoSuchExchange)?;
        let exchange = self.queue.get(index).ok_or(SendError::NoSuchExchange)?;
        if exchange.sending == Half::Failed {
            return Err(SendError::UploadStopped);
        }
        if exchange.ended || exchange.sending.on(Step::Data).is_none() {
            return Err(SendError::NoSuchExchange);
        }
        match exchange.remaining {
            Remaining::Length(left) if n as u64 > left => Err(SendError::TooLong { excess: n as u64 - left }),
            remaining => Ok((index, remaining)),
        }
    }

    /// How many bytes of content the outbox (or the place where an early response is parked) takes.
    fn room(&self, index: usize) -> usize {
        let limits = &self.config.limits;
        if index == self.turn {
            (limits.outbox_bytes_max as usize).saturating_sub(self.outbox.len())
        } else {
            (limits.parked_bytes_max as usize).saturating_sub(self.parked.bytes())
        }
    }

    #[inline]
    fn write_content(&mut self, index: usize, remaining: Remaining, data: &[u8]) {
        self.write(index, |out| {
            if remaining == Remaining::Chunked {
                out.reserve(data.len() + CHUNK_OVERHEAD);
                encode::chunk_size(out, data.len());
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            } else {
                out.extend_from_slice(data);
            }
        });
    }

    /// Queues content, by reference if it is large and its turn has come.
    fn share(&mut self, index: usize, remaining: Remaining, data: &Bytes) {
        if data.len() < SHARE_BYTES_MIN || index != self.turn {
            self.write_content(index, remaining, data);
        } else {
            let chunked = remaining == Remaining::Chunked;
            if chunked {
                self.write(index, |out| encode::chunk_size(out, data.len()));
            }
            if self.outbox.is_empty() {
                self.times.wrote = self.times.now;
            }
            self.outbox.push_shared(data.clone());
            if let Some(exchange) = self.queue.get_mut(index) {
                exchange.queued += data.len() as u64;
            }
            if chunked {
                self.write(index, |out| out.extend_from_slice(b"\r\n"));
            }
        }
        self.spend(index, data.len());
    }

    fn spend(&mut self, index: usize, n: usize) {
        if let Some(exchange) = self.queue.get_mut(index) {
            exchange.expect = Expect::Settled;
            if let Remaining::Length(left) = &mut exchange.remaining {
                *left -= n as u64;
            }
        }
    }

    /// Lets `put` write bytes of the exchange at `index`: to the outbox if it is its turn, else to where it is parked. Nothing, if `put` fails.
    #[inline]
    pub(super) fn try_write<E>(
        &mut self,
        index: usize,
        put: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(exchange) = self.queue.get_mut(index) else { return Ok(()) };
        if index != self.turn {
            return self.parked.append(exchange.id, put);
        }
        if self.outbox.is_empty() {
            self.times.wrote = self.times.now;
        }
        exchange.queued += self.outbox.append(put)? as u64;
        Ok(())
    }

    /// The same for what cannot fail.
    #[inline]
    pub(super) fn write(&mut self, index: usize, put: impl FnOnce(&mut Vec<u8>)) {
        let Ok(()) = self.try_write(index, |out| {
            put(out);
            Ok::<(), Infallible>(())
        });
    }

    /// The message of the exchange at `index` was taken in full.
    #[inline(always)]
    pub(super) fn sent_whole(&mut self, index: usize) {
        let Some(exchange) = self.queue.get_mut(index) else { return };
        let Some(done) = exchange.sending.on(Step::End) else { return };
        exchange.sending = done;
        exchange.expect = Expect::Settled;
        let is_out = exchange.is_sent();
        if !R::IS_CLIENT && exchange.receiving == Half::Body && !matches!(self.inbound, super::Inbound::End) {
            self.read_for_nobody(index);
        }
        self.pass_turn();
        // Most often it is still to be written.
        if is_out {
            self.settle();
        }
    }

    /// A server that has answered, or whose handler dropped the body, reads the rest of the request for nobody.
    pub(super) fn read_for_nobody(&mut self, index: usize) {
        if let Some(exchange) = self.queue.get_mut(index)
            && exchange.receiving == Half::Body
            && !exchange.unwanted
            && !matches!(self.inbound, super::Inbound::End)
        {
            exchange.unwanted = true;
            self.times.closing = self.times.now;
        }
    }

    /// Moves the turn past every message that is over, and unparks what waited for it.
    #[inline(always)]
    pub(super) fn pass_turn(&mut self) {
        while self.queue.get(self.turn).is_some_and(|exchange| exchange.sending.is_over()) {
            self.turn += 1;
            if self.turn == self.queue.len() {
                break;
            }
            self.unpark();
        }
    }

    /// What the exchange whose turn it is gave before goes out now.
    fn unpark(&mut self) {
        let Some(next) = self.queue.get_mut(self.turn) else { return };
        let mut parked = self.parked.take(next.id);
        if parked.is_empty() {
            return;
        }
        next.queued += parked.len() as u64;
        if self.outbox.is_empty() {
            self.times.wrote = self.times.now;
        }
        let Ok(_) = self.outbox.append(|out| {
            out.append(&mut parked);
            Ok::<(), Infallible>(())
        });
    }
}
