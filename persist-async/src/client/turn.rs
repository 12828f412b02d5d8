//! A place in the pool's queue, for a request that must wait for its connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use persist_core::PoolKey;
use persist_core::pool::{Use, WaiterId};

use super::dialing::Dial;
use super::jobs::Work;
use super::shared::Shared;
use super::state::Handed;
use crate::clock;
use crate::error::Result;
use crate::sync;

/// What became of a call for a connection.
pub(super) enum Asked<'a> {
    Answered(Result<Handed>),
    Waits(Turn<'a>),
}

/// A place in the pool's queue. Dropped before its turn was taken, it goes to the next.
pub(super) struct Turn<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) waiter: WaiterId,
    pub(super) key: &'a PoolKey,
    /// Dials that began when this began to wait.
    pub(super) dials: Vec<Pin<Box<Dial>>>,
}

impl Turn<'_> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Handed>> {
        loop {
            if let Some(outcome) = self.outcome(cx) {
                return Poll::Ready(outcome);
            }
            let before = self.dials.len();
            self.dials.retain_mut(|dial| dial.as_mut().poll(cx).is_pending());
            if self.dials.len() == before {
                return Poll::Pending;
            }
        }
    }

    fn outcome(&self, cx: &Context<'_>) -> Option<Result<Handed>> {
        let mut state = self.shared.state();
        let waiting = state.waiting.get_mut(&self.waiter)?;
        if waiting.outcome.is_some() {
            return state.waiting.remove(&self.waiter)?.outcome;
        }
        if !waiting.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            waiting.waker = Some(cx.waker().clone());
        }
        None
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let now = clock::now();
        self.shared.tell(None, |state| {
            if let Some((_, waiting)) = state.routes.get_mut(self.key) {
                *waiting -= 1;
                if *waiting == 0 {
                    state.routes.remove(self.key);
                }
            }
            match state.waiting.remove(&self.waiter).map(|waiting| waiting.outcome) {
                Some(Some(Ok((id, ..)))) => state.pool.release(id, Use::Unused, now),
                Some(None) => _ = state.pool.cancel(self.waiter, now),
                Some(Some(Err(_))) | None => {}
            }
        });
        // A connection that is nearly there is not wasted, but one of a runtime that is gone is lost.
        let dials = std::mem::take(&mut self.dials);
        if !dials.is_empty() && sync::runtime().is_some() {
            self.shared.bell.push(dials.into_iter().map(|dial| dial as Work));
            self.shared.start_upkeep();
        }
    }
}
