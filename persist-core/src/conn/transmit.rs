//! Output: the bytes to be written, and what became of them.

use alloc::vec::Vec;

use bytes::Buf;

use super::{Conn, ExchangeId, Role};
use crate::close::CloseReason;
use crate::time::Instant;

/// Bytes to be written. `advance` commits: it counts per exchange, and so decides `NotSent` and `PartlySent`.
///
/// With std's `IoSlice` in hand, [`chunks`](Self::chunks) gives the pieces of a vectored write.
#[derive(Debug)]
pub struct Transmit<'c, R: Role> {
    conn: &'c mut Conn<R>,
}

impl<R: Role> Transmit<'_, R> {
    /// The pieces, in order; none is empty.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.conn.outbox.chunks()
    }
}

impl<R: Role> Buf for Transmit<'_, R> {
    fn remaining(&self) -> usize {
        self.conn.outbox.len()
    }

    fn chunk(&self) -> &[u8] {
        self.conn.outbox.chunk()
    }

    /// The layer below accepted `n` bytes.
    ///
    /// # Panics
    /// If `n` is more than [`remaining`](Buf::remaining), as every `Buf`.
    fn advance(&mut self, n: usize) {
        assert!(n <= self.conn.outbox.len(), "advanced past the end of what there is to send");
        self.conn.sent(n);
    }
}

impl<R: Role> Conn<R> {
    /// Bytes to be written: a [`Buf`] whose `advance` commits what the layer below accepted.
    pub fn transmit(&mut self, now: Instant) -> Transmit<'_, R> {
        self.tick(now);
        Transmit { conn: self }
    }

    /// Whether there is anything to [`transmit`](Self::transmit).
    pub fn wants_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether it is this exchange's turn to send: all before it have sent theirs. A response that found no room to be parked
    /// ([`SendError::ParkedFull`](crate::SendError::ParkedFull)) goes out then.
    pub fn is_turn(&self, id: ExchangeId) -> bool {
        self.queue.get(self.turn).is_some_and(|exchange| exchange.id == id)
    }

    /// Bytes that [`transmit`](Self::transmit) would give.
    pub fn unsent_bytes(&self) -> usize {
        self.outbox.len()
    }

    /// Gives the machine an empty buffer to write into, so that it allocates none. Get it back with [`reclaim`](Self::reclaim) before waiting.
    ///
    /// ```
    /// # use persist_core::{Conn, Config, Instant, Server};
    /// # let mut conn = Conn::<Server>::new(Config::server(), Instant::ZERO);
    /// let mut scratch = Vec::with_capacity(4096);     // one per thread
    /// conn.lend(&mut scratch);
    /// // ... next, send_response, transmit ...
    /// conn.reclaim(&mut scratch);
    /// assert_eq!(scratch.capacity(), 4096);
    /// ```
    pub fn lend(&mut self, scratch: &mut Vec<u8>) {
        self.outbox.lend(scratch);
    }

    /// Takes a lent buffer back, if it is empty again. A machine that was lent none frees its own when it is idle.
    pub fn reclaim(&mut self, scratch: &mut Vec<u8>) {
        self.outbox.reclaim(scratch);
    }

    fn sent(&mut self, n: usize) {
        if n == 0 {
            return;
        }
        self.times.wrote = self.times.now;
        self.outbox.advance(n);
        let mut n = n as u64;
        let foreign = n.min(self.foreign);
        self.foreign -= foreign;
        n -= foreign;
        while n > 0 {
            let Some(exchange) = self.queue.get_mut(self.cursor) else { break };
            let step = n.min(exchange.queued - exchange.sent);
            exchange.sent += step;
            n -= step;
            let through = exchange.is_sent();
            if through && exchange.is_given_up::<R>() {
                self.end_exchange(self.cursor, CloseReason::Aborted);
            }
            if n > 0 {
                self.cursor += 1;
            } else if through {
                self.times.head = self.times.now;
            }
        }
        self.settle();
    }
}
