//! State events: what somebody who keeps connections of his own (a pool, a balancer) must hear of one, without callbacks.

use crate::close::CloseReason;

/// A change of a client connection's state. Counts are coalesced: each event carries what is true now. The end is never lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateEvent {
    /// So many more requests may be written now.
    Available(usize),
    /// So many exchanges are pending or reserved now.
    InFlight(usize),
    /// The connection is over, for this reason. The last event.
    Closed(CloseReason),
}

/// What one listener has heard of one connection, so that it is told what is new and nothing twice.
///
/// ```
/// use persist_core::{CloseReason, StateEvent, StateWatch};
///
/// let mut watch = StateWatch::default();
/// assert_eq!(watch.poll(1, 0, None), Some(StateEvent::Available(1)));
/// assert_eq!(watch.poll(1, 0, None), Some(StateEvent::InFlight(0)));
/// assert_eq!(watch.poll(1, 0, None), None);
/// assert_eq!(watch.poll(0, 1, Some(&CloseReason::Idle)), Some(StateEvent::Available(0)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct StateWatch {
    available: Option<usize>,
    in_flight: Option<usize>,
    closed: bool,
}

impl StateWatch {
    /// What is new, one thing at a time; `None` once all is told. What is true at the first call counts as new.
    ///
    /// Call after anything that may have changed the state, until it says `None`; after [`StateEvent::Closed`] it says nothing more.
    pub fn poll(&mut self, available: usize, in_flight: usize, closed: Option<&CloseReason>) -> Option<StateEvent> {
        if self.closed {
            return None;
        }
        if self.available.replace(available) != Some(available) {
            return Some(StateEvent::Available(available));
        }
        if self.in_flight.replace(in_flight) != Some(in_flight) {
            return Some(StateEvent::InFlight(in_flight));
        }
        let reason = closed?.clone();
        self.closed = true;
        Some(StateEvent::Closed(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_coalesced_and_the_end_is_told_once_and_last() {
        let mut watch = StateWatch::default();
        while watch.poll(4, 0, None).is_some() {}
        // Three requests came and went while nobody asked.
        assert_eq!(watch.poll(4, 0, None), None);
        assert_eq!(watch.poll(3, 1, None), Some(StateEvent::Available(3)));
        assert_eq!(watch.poll(0, 0, Some(&CloseReason::PeerClosed)), Some(StateEvent::Available(0)));
        // The count that was 1 for a while is 0 again, as was told before.
        assert_eq!(watch.poll(0, 0, Some(&CloseReason::PeerClosed)), Some(StateEvent::Closed(CloseReason::PeerClosed)));
        assert_eq!(watch.poll(9, 9, Some(&CloseReason::PeerClosed)), None);
    }
}
