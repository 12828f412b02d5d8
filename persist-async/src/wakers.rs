//! Who waits on a connection, and who of them drives it when the socket has news.
//!
//! There is no task per connection. The socket and the timer are given one waker that stands for the connection; it wakes one of the
//! futures that wait, the *driver*, which drives the connection for all and wakes those whose turn or bytes came. A driver that goes away
//! with news undelivered passes them on, so that dropping any future at any point leaves the others going.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

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

/// The futures that wait on one connection. Its lock is a leaf: nothing is called while it is held.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    list: Mutex<List>,
    /// Somebody ought to drive: the socket or the timer had news, or a drive stopped early, and nobody has driven since.
    due: AtomicBool,
}

#[derive(Debug, Default)]
struct List {
    places: Vec<Place>,
    /// A task that drives and does nothing else, if the connection has one: a server's.
    attendant: Option<Waker>,
    driver: Option<(Slot, Hold)>,
}

#[derive(Debug)]
enum Place {
    Free,
    /// Woken, and not polled since.
    Woken,
    Waiting(Waker),
}

impl Wakers {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on `task` drives, and is about to.
    pub(crate) fn attend(&self, task: Waker) {
        self.list().attendant = Some(task);
        self.due.store(false, Ordering::SeqCst);
    }

    /// The task is gone: whoever waits is its heir.
    pub(crate) fn desert(&self) {
        self.list().attendant = None;
        self.kick();
    }

    /// A drive begins: what was due is being done. Whether anything was.
    pub(crate) fn begin(&self) -> bool {
        self.due.swap(false, Ordering::SeqCst)
    }

    /// Takes a place, so that it can be noted what for, before [`wait`](Self::wait).
    pub(crate) fn reserve(&self, slot: &mut Option<Slot>) -> Slot {
        match *slot {
            Some(place) => place,
            None => self.list().reserve(slot),
        }
    }

    /// Waits in `slot`. What became due since the drive wakes at once.
    pub(crate) fn wait(&self, slot: &mut Option<Slot>, waker: &Waker, hold: Hold) {
        let mut list = self.list();
        let place = list.wait(slot, waker);
        if hold == Hold::Firm || list.driver.is_none() {
            list.driver = Some((place, hold));
        }
        drop(list);
        if self.due.load(Ordering::SeqCst) {
            waker.wake_by_ref();
        }
    }

    /// Waits in `slot` and leaves driving to whoever does it; if nobody does, this becomes the driver. Wakes the driver.
    pub(crate) fn wait_behind_driver(&self, slot: &mut Option<Slot>, waker: &Waker) {
        let mut list = self.list();
        let place = list.wait(slot, waker);
        if !matches!(list.driver, Some((_, Hold::Firm))) {
            list.driver = Some((place, Hold::Firm));
        }
        drop(list);
        self.kick();
    }

    /// Leaves the list. If driving is due, somebody else is woken to do it.
    pub(crate) fn leave(&self, slot: &mut Option<Slot>) {
        let Some(place) = slot.take() else { return };
        let mut list = self.list();
        list.places[place as usize] = Place::Free;
        if list.driver.is_some_and(|(driver, _)| driver == place) {
            list.driver = list.first_waiting();
        }
        if list.places.iter().all(|place| matches!(place, Place::Free)) {
            list.places.clear();
        }
        drop(list);
        if self.due.load(Ordering::SeqCst) {
            self.kick();
        }
    }

    /// Makes somebody drive, soon.
    pub(crate) fn kick(&self) {
        let mut list = self.list();
        let waker = match &list.attendant {
            Some(task) => Some(task.clone()),
            None => {
                self.due.store(true, Ordering::SeqCst);
                list.take_driver()
            }
        };
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
    fn reserve(&mut self, slot: &mut Option<Slot>) -> Slot {
        *slot.get_or_insert_with(|| {
            let place = self.places.iter().position(|place| matches!(place, Place::Free)).unwrap_or_else(|| {
                if self.places.is_empty() {
                    self.places.reserve_exact(1); // most connections have one waiter: the idle ones are kept small
                }
                self.places.push(Place::Free);
                self.places.len() - 1
            });
            self.places[place] = Place::Woken;
            place as Slot
        })
    }

    fn wait(&mut self, slot: &mut Option<Slot>, waker: &Waker) -> Slot {
        let place = self.reserve(slot);
        match &mut self.places[place as usize] {
            Place::Waiting(known) if known.will_wake(waker) => {}
            other => *other = Place::Waiting(waker.clone()),
        }
        place
    }

    fn take(&mut self, slot: Slot) -> Option<Waker> {
        let place = self.places.get_mut(slot as usize)?;
        if !matches!(place, Place::Waiting(_)) {
            return None;
        }
        match std::mem::replace(place, Place::Woken) {
            Place::Waiting(waker) => Some(waker),
            _ => None,
        }
    }

    /// The driver's waker; nothing if the driver was woken already and will come.
    fn take_driver(&mut self) -> Option<Waker> {
        if self.driver.is_none() {
            self.driver = self.first_waiting();
        }
        self.take(self.driver?.0)
    }

    fn first_waiting(&self) -> Option<(Slot, Hold)> {
        let occupied = |place: &Place| !matches!(place, Place::Free);
        let waiting = self.places.iter().position(|place| matches!(place, Place::Waiting(_)));
        waiting.or_else(|| self.places.iter().position(occupied)).map(|place| (place as Slot, Hold::Loose))
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
