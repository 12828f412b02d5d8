//! A client's deadline for one exchange, beside those that all exchanges of a connection share.

use core::time::Duration;

use super::deadlines::{Nearest, Timer};
use super::event::ExchangeId;
use super::exchange::{Exchange, Last};
use super::half::Half;
use super::{Client, Conn};
use crate::close::{CloseReason, Deadline};
use crate::time::Instant;

/// In milliseconds: 49 days, and no exchange waits so long.
pub(crate) const NEVER: u32 = u32::MAX;

const REASON: CloseReason = CloseReason::Timeout(Deadline::Total);

impl Conn<Client> {
    /// The exchange must be complete at this instant, its reply's content included; `None` takes that back. To the millisecond, and up to 49 days.
    ///
    /// When it passes, `Ended` comes at once, with [`Deadline::Total`] and what is known of the request. Others go on where the wire allows it: one of which no
    /// byte was sent is taken back, and the reply to one that was sent whole is dropped if another stands behind or before it, as after
    /// [`cancel`](Self::cancel). Else the connection closes, which tells the peer to stop working.
    pub fn set_deadline(&mut self, id: ExchangeId, deadline: Option<Instant>) {
        let Some(index) = self.queue.index_of(id) else { return };
        if let Some(exchange) = self.queue.get_mut(index) {
            let after = |deadline: Instant| {
                let after = deadline.saturating_since(exchange.started);
                u32::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(NEVER)
            };
            exchange.due_after = deadline.map_or(NEVER, after);
            self.has_dues |= deadline.is_some();
        }
    }

    pub(super) fn dues(&self, found: &mut Nearest) {
        if !self.has_dues {
            return;
        }
        for exchange in self.queue.iter().filter(|exchange| !exchange.ended) {
            found.offer(exchange.started, exchange.due_after(), Timer::Due);
        }
    }

    /// Ends what is overdue.
    pub(super) fn expire(&mut self) {
        let now = self.times.now;
        loop {
            let is_overdue =
                |exchange: &Exchange| exchange.due_after().is_some_and(|after| exchange.started + after <= now);
            let overdue = self.queue.iter().position(|exchange| !exchange.ended && is_overdue(exchange));
            let Some(index) = overdue else { return };
            self.expire_one(index);
        }
    }

    fn expire_one(&mut self, index: usize) {
        let alone = self.queue.len() == 1;
        self.times.closing = self.times.now;
        let Some(exchange) = self.queue.get_mut(index) else { return };
        exchange.due_after = NEVER;
        if exchange.receiving == Half::Done {
            // It has its reply: only an upload can be given up.
            let id = exchange.id;
            if !exchange.sending.is_over() {
                self.cut_short(index, Last::Unfinished);
                self.say(|rare| rare.stopped = Some(id));
            }
        } else if exchange.sent == 0 && exchange.receiving == Half::Idle {
            self.end_exchange(index, REASON);
            self.take_back(index);
        } else if exchange.is_sent() && !alone {
            exchange.unwanted = true;
            self.end_exchange(index, REASON);
        } else {
            self.end_exchange(index, REASON);
            // For the others it is no deadline of theirs that passed.
            self.close_now(if alone { REASON } else { CloseReason::Unfinished });
        }
    }
}

impl Exchange {
    fn due_after(&self) -> Option<Duration> {
        (self.due_after != NEVER).then(|| Duration::from_millis(u64::from(self.due_after)))
    }
}
