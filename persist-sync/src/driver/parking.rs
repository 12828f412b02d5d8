//! Waiting without a thread: a server's poller drives the connections that no handler runs for.

use std::task::Waker;

use persist_core::{Instant, Role};

use super::Link;
use crate::ready::Directions;

/// What a server's poller has to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parked {
    /// Wait for the stream, at most until the deadline.
    Waiting(Option<Instant>),
    /// Give it to a thread: a request waits. It is not parked any more.
    Ready,
    /// Leave it alone: a thread has it.
    Busy,
    /// Forget it: it is closed.
    Gone,
}

/// A poller that waits for the stream.
#[derive(Debug)]
pub(super) struct Place {
    /// Has the poller look.
    pub(super) waker: Waker,
    /// Until when it waits at most.
    pub(super) deadline: Option<Instant>,
}

impl<R: Role> Link<R> {
    /// Gives the connection to a server's poller, unless a request waits to be handled.
    pub(crate) fn park(&self, poller: &Waker) -> Parked {
        let mut state = self.look();
        state.uncork();
        state.settle();
        let parked = if state.arrived.has_fresh() {
            Parked::Ready
        } else if state.stream().is_none() {
            Parked::Gone
        } else {
            let deadline = state.conn().poll_timeout();
            state.place = Some(Place { waker: poller.clone(), deadline });
            Parked::Waiting(deadline)
        };
        self.leave(state);
        parked
    }

    /// The poller saw the stream ready (`closed`: and the end of what the peer sends), or was told to look: moves along what can move, if
    /// the connection is parked.
    pub(crate) fn poll(&self, ready: Directions, closed: bool) -> Parked {
        let mut state = self.look();
        state.stream_is(ready, closed);
        if state.place.is_none() {
            // A handler's thread has it, and will say when it is done.
            return Parked::Busy;
        }
        state.settle();
        let parked = if state.arrived.has_fresh() {
            state.place = None;
            Parked::Ready
        } else if state.stream().is_none() {
            state.place = None;
            Parked::Gone
        } else {
            let deadline = state.conn().poll_timeout();
            if let Some(place) = &mut state.place {
                place.deadline = deadline;
            }
            Parked::Waiting(deadline)
        };
        self.leave(state);
        parked
    }
}
