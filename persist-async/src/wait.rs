//! The future that most of this crate's futures are made of: tries something, drives the connection, tries again.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::link::{Link, State, Transport};
use crate::part::Part;
use crate::waiting::Interest;
use crate::wakers::{Hold, Slot};

/// Whether a wait may let others go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Drive at the first poll.
    None,
    /// Leave the first drive to whoever drives already, so that a burst of requests leaves in one write.
    OnePoll,
}

/// When the bytes that an attempt produced leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// With the next drive.
    Later,
    /// At once, unless other exchanges are in flight: somebody then drives soon, and a burst leaves in one write.
    IfAlone,
    /// At once.
    Now,
}

/// A future that waits for something of a connection. Dropping it at any time is fine.
pub(crate) struct Wait<'a, R: Part, S: Transport, F> {
    link: &'a Link<R, S>,
    slot: Option<Slot>,
    interest: Interest,
    attempt: F,
    patience: Patience,
    flush: Flush,
}

impl<'a, R: Part, S: Transport, F> Wait<'a, R, S, F> {
    pub(crate) fn new(link: &'a Link<R, S>, interest: Interest, attempt: F) -> Self {
        Self { link, slot: None, interest, attempt, patience: Patience::None, flush: Flush::Later }
    }

    pub(crate) fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    pub(crate) fn flush(mut self, flush: Flush) -> Self {
        self.flush = flush;
        self
    }
}

impl<R: Part, S: Transport, F: Unpin, T> Future for Wait<'_, R, S, F>
where
    F: FnMut(&mut State<R, S>, Option<Slot>) -> Option<T>,
{
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        if this.patience == Patience::OnePoll {
            this.patience = Patience::None;
            let attempt = &mut this.attempt;
            return this.link.poll_behind((&mut this.slot, this.interest), cx, |state| attempt(state, None));
        }
        let (attempt, flush) = (&mut this.attempt, this.flush);
        this.link.poll((&mut this.slot, &Cell::new(this.interest), Hold::Firm), cx, |state, cx, slot| {
            let result = state.drive(cx, &mut None, &mut |state| attempt(state, slot));
            if result.is_some() && (flush == Flush::Now || flush == Flush::IfAlone && state.conn.in_flight() <= 1) {
                state.write_through(cx);
            }
            result
        })
    }
}

impl<R: Part, S: Transport, F> Drop for Wait<'_, R, S, F> {
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.link.leave(self.link.lock(), &mut self.slot);
        }
    }
}
