//! Time: the one deadline that matters next, and what happens when it passes.

use core::time::Duration;

use super::half::{Half, Phase};
use super::trace::tell;
use super::{Conn, Inbound, Role};
use crate::close::{CloseReason, Deadline};
use crate::time::Instant;

/// A deadline's name; what [`CloseReason`] calls it where it closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    Idle,
    MaxAge,
    Expect,
    /// Of one exchange.
    Due,
    Late(Deadline),
}

/// The nearest deadline found so far.
#[derive(Debug, Default)]
pub struct Nearest(Option<(Instant, Timer)>);

impl Nearest {
    #[inline]
    pub(super) fn offer(&mut self, since: Instant, after: Option<Duration>, timer: Timer) {
        let Some(after) = after else { return };
        let at = since + after;
        if self.0.is_none_or(|(nearest, _)| at < nearest) {
            self.0 = Some((at, timer));
        }
    }
}

/// How long a body may be slower than its minimum rate at the start, when the average means nothing yet.
const RATE_GRACE: Duration = Duration::from_secs(10);

impl<R: Role> Conn<R> {
    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing happens before.
    ///
    /// Call after [`next`](Self::next) and [`transmit`](Self::transmit) are drained.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.nearest().map(|(at, _)| at)
    }

    /// Time has passed; call when [`poll_timeout`](Self::poll_timeout) is due. Spurious calls are no-ops.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tick(now);
        // Each deadline that is due changes the state so that it is not due again.
        while let Some((at, timer)) = self.nearest()
            && at <= self.times.now
        {
            self.passed(timer);
        }
    }

    fn passed(&mut self, timer: Timer) {
        tell!(?timer, "deadline passed");
        match timer {
            Timer::Idle => self.finish(CloseReason::Idle),
            Timer::MaxAge => self.finish(CloseReason::MaxAge),
            Timer::Late(Deadline::Linger) => self.closed(),
            Timer::Late(late @ Deadline::WriteStall) => self.close_now(CloseReason::Timeout(late)),
            Timer::Expect | Timer::Due | Timer::Late(_) => R::timed_out(self, timer),
        }
        self.settle();
    }

    fn nearest(&self) -> Option<(Instant, Timer)> {
        let timeouts = &self.config.timeouts;
        let mut found = Nearest::default();
        match self.phase {
            Phase::Closed => return None,
            Phase::Shutdown | Phase::Lingering => {
                found.offer(self.times.closing, timeouts.linger, Timer::Late(Deadline::Linger));
                return found.0;
            }
            Phase::Open => {
                found.offer(self.times.created, timeouts.max_age, Timer::MaxAge);
                if self.is_idle() {
                    // Nothing else can be late then.
                    found.offer(self.times.head, self.idle_after(), Timer::Idle);
                    return found.0;
                }
            }
            Phase::Finishing => {}
        }
        if !self.outbox.is_empty() {
            found.offer(self.times.wrote, timeouts.write_stall, Timer::Late(Deadline::WriteStall));
        }
        if let Some(front) = self.queue.front().filter(|front| !front.ended) {
            found.offer(front.started, timeouts.total, Timer::Late(Deadline::Total));
        }
        self.body_deadlines(&mut found);
        R::deadlines(self, &mut found);
        found.0
    }

    /// Ours, or what the peer announced less the margin, whichever is sooner.
    fn idle_after(&self) -> Option<Duration> {
        let announced = self.announced_idle().map(|idle| idle.saturating_sub(self.config.timeouts.keep_alive_margin));
        match (self.config.timeouts.idle, announced) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        }
    }

    fn body_deadlines(&self, found: &mut Nearest) {
        if !matches!(self.inbound, Inbound::Length(_) | Inbound::Chunked(_) | Inbound::UntilClose) {
            return;
        }
        let timeouts = &self.config.timeouts;
        let Some(exchange) = self.queue.iter().find(|exchange| exchange.receiving == Half::Body) else { return };
        if exchange.unwanted {
            found.offer(self.times.closing, timeouts.drain, Timer::Late(Deadline::Drain));
        }
        // Only while the adapter waits for input: a caller that does not read is not the peer's fault.
        let Some(waiting) = self.times.waiting else { return };
        found.offer(waiting, timeouts.body_idle, Timer::Late(Deadline::BodyIdle));
        if let Some(rate) = timeouts.body_bytes_per_second_min.filter(|&rate| rate > 0) {
            // The instant at which the bytes so far fall below the rate.
            let covers = Duration::from_millis(exchange.content.saturating_mul(1000) / u64::from(rate));
            found.offer(self.times.body, Some(covers.max(RATE_GRACE)), Timer::Late(Deadline::BodyRate));
        }
    }

    /// The connection is old enough for its configuration: [`finish`](Self::finish) it.
    #[inline]
    pub(super) fn spent_age(&mut self) {
        if self.config.requests_max.is_some_and(|max| self.completed >= max) {
            self.finish(CloseReason::MaxRequests);
        }
    }
}
