//! Who waits for what of a connection, and who is to be woken once its lock is released.

use std::collections::VecDeque;

use persist_core::ExchangeId;

use crate::link::State;
use crate::part::Part;
use crate::wakers::{Slot, Wakers};

/// What a future waits for, so that it can be woken when that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// News of this exchange.
    Exchange(ExchangeId),
    /// Its turn to send.
    Turn,
    /// News of the connection as a whole.
    Connection,
    /// Changes of its counts.
    State,
}

/// Who waits for the connection as a whole.
#[derive(Default)]
pub(crate) struct Waiting {
    /// Whoever wants to send, first come first served.
    turns: VecDeque<Slot>,
    /// Whoever waits for news: a server's next request.
    watchers: Vec<Slot>,
    /// Whoever waits for changes of the counts, and what these were when the first of them came.
    listeners: Vec<Slot>,
    /// Exchanges whose response had no room before its turn.
    answers: Vec<ExchangeId>,
    counts: (usize, usize),
}

/// Who is to be woken once the lock is released.
#[derive(Debug, Default)]
pub(crate) enum Wakes {
    #[default]
    Nobody,
    One(Slot),
    #[expect(clippy::box_collection, reason = "rare, and each connection has the place")]
    Some(Box<Vec<Slot>>),
    Everybody,
}

impl Wakes {
    /// Wakes them. Not under the connection's lock.
    pub(crate) fn deliver(self, wakers: &Wakers) {
        match self {
            Self::Nobody => {}
            Self::One(slot) => wakers.wake(slot),
            Self::Some(slots) => slots.into_iter().for_each(|slot| wakers.wake(slot)),
            Self::Everybody => wakers.wake_all(),
        }
    }
}

impl<R: Part, S> State<R, S> {
    /// Wakes, once the lock is released, whoever waits for this exchange.
    pub(crate) fn wake_exchange(&mut self, id: ExchangeId) {
        let slot = self.entry(id).and_then(|entry| entry.waiter.take());
        self.wake_slot(slot);
    }

    /// Wakes whoever is first to send.
    pub(crate) fn wake_turn(&mut self) {
        self.wake_slot(self.first_turn());
    }

    /// Wakes whoever waits for news of the connection.
    pub(crate) fn wake_watcher(&mut self) {
        let Some(waiting) = &mut self.waiting else { return };
        let mut watchers = std::mem::take(&mut waiting.watchers);
        watchers.drain(..).for_each(|slot| self.wake_slot(Some(slot)));
        if let Some(waiting) = &mut self.waiting {
            waiting.watchers = watchers; // empty, with its room
        }
    }

    /// Wakes whoever waits for changes of the counts, if they have changed.
    pub(crate) fn wake_listeners(&mut self) {
        if self.waiting.as_ref().is_none_or(|waiting| waiting.listeners.is_empty()) {
            return;
        }
        let counts = self.counts();
        let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.counts != counts) else { return };
        std::mem::take(&mut waiting.listeners).into_iter().for_each(|slot| self.wake_slot(Some(slot)));
    }

    /// The response of this exchange has no room before its turn: whoever gives it is woken when that comes.
    pub(crate) fn await_turn(&mut self, id: ExchangeId) {
        let answers = &mut self.waiting.get_or_insert_default().answers;
        if !answers.contains(&id) {
            answers.push(id);
        }
    }

    /// Wakes whoever's turn to answer has come.
    pub(crate) fn wake_answers(&mut self) {
        let Some(waiting) = self.waiting.as_mut().filter(|waiting| !waiting.answers.is_empty()) else { return };
        let mut answers = std::mem::take(&mut waiting.answers);
        answers.retain(|&id| {
            let is_turn = self.conn.is_turn(id);
            if is_turn {
                self.wake_exchange(id);
            }
            !is_turn && self.entry(id).is_some()
        });
        if let Some(waiting) = &mut self.waiting {
            waiting.answers = answers;
        }
    }

    fn counts(&self) -> (usize, usize) {
        (self.conn.available(), self.conn.in_flight())
    }

    pub(crate) fn wake_everybody(&mut self) {
        self.after = true;
        self.wakes = Wakes::Everybody;
    }

    pub(crate) fn wake_slot(&mut self, slot: Option<Slot>) {
        let Some(slot) = slot.filter(|slot| self.polling != Some(*slot)) else { return };
        self.after = true;
        match &mut self.wakes {
            Wakes::Nobody => self.wakes = Wakes::One(slot),
            Wakes::One(first) if *first != slot => self.wakes = Wakes::Some(Box::new(vec![*first, slot])),
            Wakes::Some(slots) if !slots.contains(&slot) => slots.push(slot),
            _ => {}
        }
    }

    /// Whose turn it is to send.
    pub(crate) fn first_turn(&self) -> Option<Slot> {
        self.waiting.as_ref()?.turns.front().copied()
    }

    /// Notes what the one in `slot` waits for, so that it is woken when that comes.
    pub(crate) fn note(&mut self, interest: Interest, slot: Slot) {
        match interest {
            Interest::Exchange(id) => {
                let traveller = self.traveller.as_mut().map(AsMut::as_mut);
                if let Some(traveller) = traveller.filter(|traveller| traveller.id == id) {
                    traveller.waiter = Some(slot);
                } else if let Some(entry) = self.entry(id) {
                    entry.waiter = Some(slot);
                }
            }
            Interest::Turn => {
                let turns = &mut self.waiting.get_or_insert_default().turns;
                if !turns.contains(&slot) {
                    turns.push_back(slot);
                }
            }
            Interest::Connection => {
                let watchers = &mut self.waiting.get_or_insert_default().watchers;
                if !watchers.contains(&slot) {
                    watchers.push(slot);
                }
            }
            Interest::State => {
                let counts = self.counts();
                let waiting = self.waiting.get_or_insert_default();
                if waiting.listeners.is_empty() {
                    waiting.counts = counts;
                }
                if !waiting.listeners.contains(&slot) {
                    waiting.listeners.push(slot);
                }
            }
        }
    }

    /// The one in `slot` waits for nothing any more.
    pub(crate) fn forget(&mut self, slot: Slot) {
        let was_first = self.first_turn() == Some(slot);
        if let Some(waiting) = &mut self.waiting {
            waiting.turns.retain(|other| *other != slot);
            waiting.watchers.retain(|other| *other != slot);
            waiting.listeners.retain(|other| *other != slot);
        }
        if was_first {
            self.wake_turn();
        }
    }
}
