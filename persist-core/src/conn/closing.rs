//! The end of a connection: graceful, at once, or forced by the stream; and taking a machine apart.

use super::event::{ExchangeId, Parts};
use super::exchange::Last;
use super::half::{Half, Phase};
use super::trace::tell;
use super::{Conn, Inbound, Role};
use crate::close::{CloseReason, Side};
use crate::disposition::Failure;
use crate::time::Instant;

impl<R: Role> Conn<R> {
    /// The peer closed its side. Whether that is clean is the machine's judgement.
    ///
    /// After a failed read or write, call [`handle_io_error`](Self::handle_io_error) first: an end of file is never clean then.
    pub fn handle_eof(&mut self, now: Instant) {
        self.tick(now);
        match self.phase {
            Phase::Closed => {}
            Phase::Shutdown | Phase::Lingering => self.closed(),
            Phase::Open | Phase::Finishing => {
                if !self.eof && !matches!(self.inbound, Inbound::Switched) {
                    self.eof = true;
                    R::eof(self);
                    self.settle();
                }
            }
        }
    }

    /// The layer below failed in this direction. After a failed write, go on reading: the peer may have answered already.
    pub fn handle_io_error(&mut self, side: Side, now: Instant) {
        self.tick(now);
        if self.phase == Phase::Closed {
            return;
        }
        match side {
            Side::Read => self.close_now(CloseReason::Io(Side::Read)),
            Side::Write if self.phase == Phase::Lingering => self.closed(),
            Side::Write if !self.write_failed => {
                self.write_failed = true;
                self.times.closing = self.times.now;
                self.because(CloseReason::Io(Side::Write));
                R::write_failed(self);
                self.settle();
            }
            Side::Write => {}
        }
    }

    /// Ends the connection in an orderly way: what is pending is finished, nothing new is taken.
    /// A server says `Connection: close` in its last response. (Where a listener is being replaced: `listener_gone`.)
    ///
    /// The stream is shut down for writing when all is written, and `Closed` comes when the peer has closed too, or after `Timeouts::linger`.
    pub fn close(&mut self, now: Instant) {
        self.tick(now);
        self.finish(CloseReason::OurClose);
        self.settle();
    }

    /// Ends the connection now; every pending exchange comes back as `Ended`.
    pub fn abort(&mut self, now: Instant) {
        self.tick(now);
        self.close_now(CloseReason::Aborted);
    }

    /// Whether the connection ends in the middle of a response that has no other end, so that an orderly one would make it look complete
    /// (RFC 9112 §8). Ask when [`Event::Closed`](crate::Event::Closed) has come: then reset the stream, or leave TLS without its closing alert.
    pub fn must_reset(&self) -> bool {
        self.cut_off
    }

    /// Whether [`poll_shutdown`](Self::poll_shutdown) would say so.
    pub fn wants_shutdown(&self) -> bool {
        self.phase == Phase::Shutdown
    }

    /// True once, when all is written and our side of the stream must be shut down for writing.
    pub fn poll_shutdown(&mut self) -> bool {
        let due = self.phase == Phase::Shutdown;
        if due {
            self.enter(Phase::Lingering);
            self.times.closing = self.times.now;
        }
        due
    }

    /// Takes the machine apart: leftover, unsent, and what was not complete. Input that `next` did not consume is the caller's
    /// own, or was [kept](Self::keep): then it is in `leftover`.
    pub fn into_parts(mut self) -> Parts {
        let mut failures: alloc::vec::Vec<(ExchangeId, Failure)> = Default::default();
        let said = self.due.rare.take().map(|rare| rare.ended).unwrap_or_default();
        failures.extend(said.into_iter().map(|(id, failure)| (id, *failure)));
        for exchange in self.queue.iter() {
            let over = exchange.sending == Half::Done && exchange.receiving == Half::Done;
            if !exchange.ended && !over && !exchange.is_answered::<R>() {
                failures.push((exchange.id, *self.failure(exchange, CloseReason::Switched)));
            }
        }
        let mut leftover = match self.held.take() {
            Some(held) => held.head.into_wire(),
            None => self.partial.take(),
        };
        leftover.append(&mut self.take_kept());
        let mut parts = Parts::new(leftover, self.outbox.into_bytes());
        parts.failures = failures;
        parts
    }

    /// The connection's life moves on; it never moves back.
    pub(super) fn enter(&mut self, phase: Phase) {
        if phase > self.phase {
            debug_assert!(self.phase.may_become(phase), "{:?} became {phase:?}", self.phase);
            self.phase = phase;
        }
    }

    /// The reason is the first one given.
    pub(super) fn because(&mut self, reason: CloseReason) {
        if self.reason.is_none() {
            self.reason = Some(reason.into());
        }
    }

    /// No exchange may begin from here on.
    pub(super) fn finish(&mut self, reason: CloseReason) {
        if self.phase == Phase::Open {
            self.because(reason);
            self.enter(Phase::Finishing);
            tell!(
                pending = self.queue.len(),
                reason = self.reason.as_deref().map(tracing::field::display),
                "finishing"
            );
            if let Some(last) = self.queue.back_mut() {
                last.last.get_or_insert(Last::OurClose);
            }
            self.say_slots();
            R::finish(self);
        }
    }

    /// Nothing more is read, written or waited for.
    pub(super) fn close_now(&mut self, reason: CloseReason) {
        if self.phase == Phase::Closed {
            return;
        }
        // An orderly end that was under way is not what ended these.
        if !self.queue.is_empty() && self.reason.as_ref().is_some_and(|reason| reason.is_graceful()) {
            self.reason = None;
        }
        let peers = matches!(reason, CloseReason::Protocol(_) | CloseReason::Poisoned | CloseReason::PeerClosedEarly);
        self.mishandled |= peers && self.queue.len() > 1;
        self.because(reason.clone());
        self.fail_behind(0, &reason);
        self.closed();
    }

    pub(super) fn closed(&mut self) {
        self.enter(Phase::Closed);
        tell!(completed = self.completed, reason = self.reason.as_deref().map(tracing::field::display), "closed");
        self.inbound = Inbound::Dropped;
        self.outbox.clear();
        self.forget_foreign();
        self.held = None;
        self.partial.take();
        self.due.closed = true;
        self.due.any = true;
    }

    /// The exchanges from `index` on end without completing, and nothing more of them is sent or read.
    pub(super) fn fail_behind(&mut self, index: usize, reason: &CloseReason) {
        let first = self.due.rare.as_ref().map_or(0, |rare| rare.ended.len());
        while self.queue.len() > index {
            let Some(exchange) = self.queue.pop_back() else { break };
            self.cut_off |= exchange.is_cut_off();
            self.parked.take(exchange.id);
            if exchange.is_answered::<R>() {
                self.completed += 1;
                if !exchange.sending.is_over() {
                    self.say(|rare| rare.stopped = Some(exchange.id));
                }
            } else if !exchange.ended {
                let failure = self.failure(&exchange, reason.clone());
                self.say(|rare| rare.ended(first, exchange.id, failure));
            }
        }
        self.turn = self.turn.min(self.queue.len());
        self.cursor = self.cursor.min(self.queue.len());
        self.say_slots();
    }

    /// Ends the exchange at `index`, which stays in the queue until the wire is clear of it.
    #[cold]
    pub(super) fn end_exchange(&mut self, index: usize, reason: CloseReason) {
        let Some(exchange) = self.queue.get(index) else { return };
        if exchange.ended {
            return;
        }
        let failure = self.failure(exchange, reason);
        let id = exchange.id;
        if let Some(exchange) = self.queue.get_mut(index) {
            exchange.ended = true;
        }
        self.say(|rare| rare.ended(rare.ended.len(), id, failure));
    }

    /// Lets go of the exchanges that are over, and moves on towards the close if one is due.
    ///
    /// Call after anything that may complete a message, or the writing of one.
    #[inline(always)]
    pub(super) fn settle(&mut self) {
        // As long as the oldest is not over, none is.
        if self.queue.front().is_none_or(|front| R::is_over(self, front)) {
            self.let_go();
        }
    }

    #[inline(never)]
    fn let_go(&mut self) {
        while let Some(front) = self.queue.front()
            && R::is_over(self, front)
        {
            if front.ended || front.switched || front.last.is_some() || front.is_given_up::<R>() {
                self.let_go_oddly();
            } else {
                self.drop_front();
                self.completed += 1;
                self.say_slots();
            }
        }
        if self.queue.is_empty() {
            self.all_gone();
        }
    }

    #[inline(always)]
    fn drop_front(&mut self) {
        self.queue.drop_front();
        self.turn = self.turn.saturating_sub(1);
        self.cursor = self.cursor.saturating_sub(1);
        // The next message's head is due from now on.
        self.times.head = self.times.now;
    }

    /// The oldest exchange is over, but not just complete.
    #[cold]
    fn let_go_oddly(&mut self) {
        let Some(&front) = self.queue.front() else { return };
        if front.is_given_up::<R>() {
            self.end_exchange(0, CloseReason::Aborted);
        } else if !front.ended {
            self.completed += 1;
        }
        self.drop_front();
        if front.switched {
            self.inbound = Inbound::Switched;
            self.say(|rare| rare.switched = Some(front.id));
        }
        self.say_slots();
        if let Some(last) = front.last {
            self.finish(last.into());
        }
    }

    /// No exchange is pending.
    #[inline(always)]
    fn all_gone(&mut self) {
        // What was lent is taken back soon.
        if !self.outbox.is_lent() {
            self.queue.shrink();
        }
        // What speaks another protocol from here on is not ours to end, however many requests it has carried and whatever we were told before.
        let is_ours = !matches!(self.inbound, Inbound::Switched);
        if self.outbox.is_empty() {
            self.outbox.free();
            if is_ours {
                self.spent_age();
            }
        }
        if self.phase == Phase::Finishing && is_ours {
            R::finish(self);
        }
    }

    /// All pending exchanges are over: how the role goes on.
    pub(super) fn shut_down(&mut self) {
        if self.outbox.is_empty() {
            self.inbound = Inbound::Dropped;
            if self.eof || self.write_failed || self.cut_off {
                self.closed();
            } else {
                self.enter(Phase::Shutdown);
                self.times.closing = self.times.now;
            }
        }
    }
}
