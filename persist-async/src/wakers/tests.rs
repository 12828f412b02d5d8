//! Who drives, who is woken, and that news is never lost with the one who was told.

use std::sync::atomic::AtomicUsize;

use super::*;

/// Counts how often it was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    fn rings(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

struct Waiting {
    bell: Arc<Bell>,
    slot: Option<Slot>,
}

fn wait(wakers: &Wakers, hold: Hold) -> Waiting {
    let bell = Arc::new(Bell::default());
    let mut slot = None;
    if wakers.wait(&mut slot, &Waker::from(bell.clone()), hold).1 {
        bell.clone().wake();
    }
    Waiting { bell, slot }
}

#[test]
fn the_one_who_waited_last_drives() {
    let wakers = Wakers::default();
    let (first, second) = (wait(&wakers, Hold::Firm), wait(&wakers, Hold::Firm));
    wakers.kick();
    assert_eq!((first.bell.rings(), second.bell.rings()), (0, 1));
    wakers.kick();
    assert_eq!((first.bell.rings(), second.bell.rings()), (0, 1), "it was told, and will come");
}

#[test]
fn a_driver_that_leaves_with_news_passes_them_on() {
    let wakers = Wakers::default();
    let (first, mut second) = (wait(&wakers, Hold::Firm), wait(&wakers, Hold::Firm));
    wakers.kick();
    wakers.leave(&mut second.slot);
    assert_eq!(first.bell.rings(), 1);
}

#[test]
fn a_driver_that_leaves_without_news_disturbs_nobody_and_has_a_successor() {
    let wakers = Wakers::default();
    let (first, mut second) = (wait(&wakers, Hold::Firm), wait(&wakers, Hold::Firm));
    wakers.kick();
    assert!(wakers.begin(), "it was due");
    wakers.leave(&mut second.slot);
    assert_eq!(first.bell.rings(), 0);
    wakers.kick();
    assert_eq!(first.bell.rings(), 1);
}

#[test]
fn a_drive_that_stops_early_is_handed_to_whoever_waits_and_stays_due_until_somebody_drives() {
    let wakers = Wakers::default();
    let (first, mut second) = (wait(&wakers, Hold::Firm), wait(&wakers, Hold::Firm));
    wakers.hand_on(&mut second.slot);
    assert_eq!((first.bell.rings(), second.bell.rings(), second.slot), (1, 0, None));
    assert!(wakers.begin() && !wakers.begin());

    let alone = Wakers::default();
    let mut only = wait(&alone, Hold::Firm);
    alone.hand_on(&mut only.slot);
    assert!(!alone.begin(), "whoever comes drives anyway");
}

#[test]
fn a_body_that_was_polled_once_does_not_take_the_wheel() {
    let wakers = Wakers::default();
    let (firm, loose) = (wait(&wakers, Hold::Firm), wait(&wakers, Hold::Loose));
    wakers.kick();
    assert_eq!((firm.bell.rings(), loose.bell.rings()), (1, 0));
    let wakers = Wakers::default();
    let (loose, firm) = (wait(&wakers, Hold::Loose), wait(&wakers, Hold::Firm));
    wakers.kick();
    assert_eq!((firm.bell.rings(), loose.bell.rings()), (1, 0));
}

#[test]
fn what_became_due_while_nobody_waited_wakes_whoever_comes() {
    let wakers = Wakers::default();
    wakers.kick();
    assert_eq!(wait(&wakers, Hold::Firm).bell.rings(), 1);
}

#[test]
fn whoever_waits_behind_the_driver_wakes_it_and_drives_if_there_is_none() {
    let wakers = Wakers::default();
    let driver = wait(&wakers, Hold::Firm);
    let behind = Arc::new(Bell::default());
    let mut slot = None;
    wakers.wait_behind_driver(&mut slot, &Waker::from(behind.clone()));
    wakers.kick();
    assert_eq!((driver.bell.rings(), behind.rings()), (1, 0));

    let wakers = Wakers::default();
    let alone = Arc::new(Bell::default());
    let mut slot = None;
    wakers.wait_behind_driver(&mut slot, &Waker::from(alone.clone()));
    wakers.kick();
    assert_eq!(alone.rings(), 1);
}

#[test]
fn everybody_is_woken_once_and_nobody_who_left() {
    let wakers = Wakers::default();
    let (first, mut second) = (wait(&wakers, Hold::Firm), wait(&wakers, Hold::Firm));
    let third = wait(&wakers, Hold::Firm);
    wakers.leave(&mut second.slot);
    wakers.wake_all();
    wakers.wake(first.slot.expect("it waits"));
    assert_eq!((first.bell.rings(), second.bell.rings(), third.bell.rings()), (1, 0, 1));
}

#[test]
fn a_driver_that_leaves_is_followed_by_whoever_is_surest_to_come() {
    let wakers = Wakers::default();
    let loose = wait(&wakers, Hold::Loose);
    let (first, mut second) = (wait(&wakers, Hold::Firm), wait(&wakers, Hold::Firm));
    wakers.leave(&mut second.slot);
    wakers.kick();
    assert_eq!((loose.bell.rings(), first.bell.rings()), (0, 1));
}
