//! Who waits on a connection, and who of them drives it when the socket has news.
//!
//! There is no task per connection. The socket and the timer are given one waker that stands for the connection; it wakes one of the
//! futures that wait, the *driver*, which drives the connection for all and wakes those whose turn or bytes came. Only where one future waits
//! alone for its reply, the socket is given that one's own waker. A driver that goes away with news undelivered passes them on, so that
//! dropping any future at any point leaves the others going.

use std::sync::{Arc, OnceLock, PoisonError};
use std::task::{Wake, Waker};

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// A place in the list of those who wait.
pub(crate) type Slot = u32;

/// How sure it is that whoever waits will be polled when woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// A future that leaves the list when it is dropped. Becomes the driver.
    Firm,
    /// A body that was polled once: its owner may have turned to something else since. Drives only if nobody else does.
    Loose,
}

/// The list of those who wait, made when the first of them comes: a server's connection that has a task and nothing to do has none.
#[derive(Default)]
pub(crate) struct Waiters(OnceLock<(Arc<Wakers>, Waker)>);

impl Waiters {
    #[inline]
    fn both(&self) -> &(Arc<Wakers>, Waker) {
        self.0.get_or_init(|| {
            let wakers = Arc::new(Wakers::default());
            (wakers.clone(), Waker::from(wakers))
        })
    }

    #[inline]
    pub(crate) fn list(&self) -> &Wakers {
        &self.both().0
    }

    /// Stands for the connection towards the socket and the timer: wakes whoever drives.
    #[inline]
    pub(crate) fn waker(&self) -> &Waker {
        &self.both().1
    }

    /// The list, if anybody ever waited.
    #[inline]
    pub(crate) fn known(&self) -> Option<&Wakers> {
        self.0.get().map(|both| &*both.0)
    }
}

/// The futures that wait on one connection. Its lock is a leaf: nothing is called while it is held.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    list: Mutex<List>,
    /// Somebody ought to drive: the socket or the timer had news, or a drive stopped early, and nobody has driven since. Set under the list's lock, so that
    /// whoever waits or leaves under it knows.
    due: AtomicBool,
}

#[derive(Debug, Default)]
struct List {
    places: Vec<Place>,
    driver: Option<(Slot, Hold)>,
}

#[derive(Debug)]
enum Place {
    Free,
    /// Woken, and not polled since.
    Woken(Hold),
    Waiting(Waker, Hold),
}

impl Wakers {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A drive begins: what was due is being done. Whether anything was.
    pub(crate) fn begin(&self) -> bool {
        // Looked at first, since that costs less, and mostly nothing is.
        self.due.load(Ordering::Acquire) && self.due.swap(false, Ordering::AcqRel)
    }

    /// Waits in `slot`. Call under the connection's lock: whoever sees to it that the wait ends decides so under that lock, too, and must find
    /// the waker. What became due since the drive began is told here: then `waker` is to be woken, once the lock is released.
    pub(crate) fn wait(&self, slot: &mut Option<Slot>, waker: &Waker, hold: Hold) -> (Slot, bool) {
        let mut list = self.list();
        let place = list.wait(slot, waker, hold);
        if hold == Hold::Firm || list.driver.is_none() {
            list.driver = Some((place, hold));
        }
        (place, self.due.load(Ordering::Acquire))
    }

    /// Waits in `slot` and leaves driving to whoever does it; if nobody does, this becomes the driver. Call under the connection's lock, and
    /// [`kick`](Self::kick) once it is released.
    pub(crate) fn wait_behind_driver(&self, slot: &mut Option<Slot>, waker: &Waker) -> Slot {
        let mut list = self.list();
        let place = list.wait(slot, waker, Hold::Firm);
        if !matches!(list.driver, Some((_, Hold::Firm))) {
            list.driver = Some((place, Hold::Firm));
        }
        place
    }

    /// Leaves the list. If driving is due, somebody else is woken to do it.
    pub(crate) fn leave(&self, slot: &mut Option<Slot>) {
        let Some(place) = slot.take() else { return };
        let mut list = self.list();
        list.free(place);
        let heir = if self.due.load(Ordering::Acquire) { list.take_driver() } else { None };
        drop(list);
        if let Some(waker) = heir {
            waker.wake();
        }
    }

    /// The same, where there is something to be driven on: that is due from here on, if anybody waits. Whoever comes later drives anyway.
    pub(crate) fn hand_on(&self, slot: &mut Option<Slot>) {
        let mut list = self.list();
        if let Some(place) = slot.take() {
            list.free(place);
        }
        if list.places.is_empty() {
            return;
        }
        self.due.store(true, Ordering::Release);
        let heir = list.take_driver();
        drop(list);
        if let Some(waker) = heir {
            waker.wake();
        }
    }

    /// Makes somebody drive, soon.
    pub(crate) fn kick(&self) {
        let mut list = self.list();
        self.due.store(true, Ordering::Release);
        let waker = list.take_driver();
        drop(list);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes whoever waits in `slot`.
    pub(crate) fn wake(&self, slot: Slot) {
        let waker = self.list().take(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&self) {
        let mut at = 0;
        loop {
            let mut list = self.list();
            if at >= list.places.len() as Slot {
                return;
            }
            let waker = list.take(at);
            drop(list);
            if let Some(waker) = waker {
                waker.wake();
            }
            at += 1;
        }
    }
}

impl List {
    fn wait(&mut self, slot: &mut Option<Slot>, waker: &Waker, hold: Hold) -> Slot {
        let place = *slot.get_or_insert_with(|| {
            let place = self.places.iter().position(|place| matches!(place, Place::Free)).unwrap_or_else(|| {
                if self.places.is_empty() {
                    self.places.reserve_exact(1); // most connections have one waiter: the idle ones are kept small
                }
                self.places.push(Place::Free);
                self.places.len() - 1
            });
            place as Slot
        });
        match &mut self.places[place as usize] {
            Place::Waiting(known, how) if known.will_wake(waker) => *how = hold,
            other => *other = Place::Waiting(waker.clone(), hold),
        }
        place
    }

    fn free(&mut self, place: Slot) {
        // Mostly nobody else waits.
        if self.places.len() > 1 {
            self.places[place as usize] = Place::Free;
            if self.driver.is_some_and(|(driver, _)| driver == place) {
                self.driver = self.heir();
            }
            if self.places.iter().any(|place| !matches!(place, Place::Free)) {
                return;
            }
        }
        self.places.clear();
        self.driver = None;
    }

    fn take(&mut self, slot: Slot) -> Option<Waker> {
        let place = self.places.get_mut(slot as usize)?;
        let Place::Waiting(_, hold) = *place else { return None };
        match std::mem::replace(place, Place::Woken(hold)) {
            Place::Waiting(waker, _) => Some(waker),
            _ => None,
        }
    }

    /// The driver's waker; nothing if the driver was woken already and will come.
    fn take_driver(&mut self) -> Option<Waker> {
        if self.driver.is_none() {
            self.driver = self.heir();
        }
        self.take(self.driver?.0)
    }

    /// Who drives when the driver has gone: whoever is surest to come.
    fn heir(&self) -> Option<(Slot, Hold)> {
        let surety = |place: &Place| match place {
            Place::Free => None,
            Place::Waiting(_, Hold::Firm) => Some((3, Hold::Firm)),
            Place::Woken(Hold::Firm) => Some((2, Hold::Firm)),
            Place::Waiting(_, Hold::Loose) => Some((1, Hold::Loose)),
            Place::Woken(Hold::Loose) => Some((0, Hold::Loose)),
        };
        let ranked = self.places.iter().enumerate().filter_map(|(at, place)| Some((surety(place)?, at)));
        let ((_, hold), at) = ranked.max_by_key(|((rank, _), _)| *rank)?;
        Some((at as Slot, hold))
    }
}

/// The waker that the socket and the timer hold.
impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.kick();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.kick();
    }
}

#[cfg(test)]
mod tests;
