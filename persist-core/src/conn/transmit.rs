//! Output: the bytes to be written, and what became of them.

use alloc::vec::Vec;

use bytes::Buf;

use super::exchange::Exchange;
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

/// Room for what a machine has while something is under way: [lent](Conn::lend) to whichever machine is being driven, so that idle ones hold none.
#[derive(Debug, Default)]
pub struct Room {
    output: Vec<u8>,
    exchanges: Vec<Exchange>,
}

impl Room {
    /// No room: [`reserve`](Self::reserve) makes it.
    pub const fn new() -> Self {
        Self { output: Vec::new(), exchanges: Vec::new() }
    }

    /// Room for so many bytes of output.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { output: Vec::with_capacity(bytes), exchanges: Vec::new() }
    }

    /// For how many bytes of output there is room; 0 while that is lent.
    pub fn capacity(&self) -> usize {
        self.output.capacity()
    }

    /// Whether there is none: all of it is lent.
    pub fn is_empty(&self) -> bool {
        self.output.capacity() == 0 && self.exchanges.capacity() == 0
    }

    /// Makes it fit for so many bytes, if the room for output is lent or was never made.
    pub fn reserve(&mut self, bytes: usize) {
        if self.output.capacity() == 0 {
            self.output.reserve(bytes);
        }
    }
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

    /// Gives the machine room to work in, so that it allocates none. Get it back with [`reclaim`](Self::reclaim) before waiting.
    ///
    /// ```
    /// # use persist_core::{Conn, Config, Instant, Room, Server};
    /// # let mut conn = Conn::<Server>::new(Config::server(), Instant::ZERO);
    /// let mut room = Room::with_capacity(4096);     // one per thread
    /// conn.lend(&mut room);
    /// // ... next, send_response, transmit ...
    /// conn.reclaim(&mut room);
    /// assert_eq!(room.capacity(), 4096);
    /// ```
    pub fn lend(&mut self, room: &mut Room) {
        self.outbox.lend(&mut room.output);
        self.queue.lend(&mut room.exchanges);
    }

    /// Whether it has room for output that was lent to it.
    #[inline]
    pub fn is_lent(&self) -> bool {
        self.outbox.is_lent()
    }

    /// Whether [`reclaim`](Self::reclaim) would take anything back.
    #[inline]
    pub fn has_spare_room(&self) -> bool {
        self.outbox.has_spare_room() || self.queue.has_spare_room()
    }

    /// Takes back what of the room is empty again. A machine that was lent none frees its own when it is idle.
    pub fn reclaim(&mut self, room: &mut Room) {
        self.outbox.reclaim(&mut room.output);
        self.queue.reclaim(&mut room.exchanges);
    }

    fn sent(&mut self, n: usize) {
        if n == 0 {
            return;
        }
        self.times.wrote = self.times.now;
        self.outbox.advance(n);
        let mut n = n as u64;
        if let Some(uncommon) = &mut self.uncommon {
            let foreign = n.min(uncommon.foreign);
            uncommon.foreign -= foreign;
            n -= foreign;
        }
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
