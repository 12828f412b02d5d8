//! The list of those who wait, by itself: news come one by one, and whoever drives hands them out.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use shuttle::future::{block_on, spawn};

use super::{below, check};
use crate::sync::Mutex;
use crate::wakers::{Hold, Slot, Wakers};

/// What a connection is, as far as its waiters are concerned.
#[derive(Default)]
struct Shared {
    wakers: Arc<Wakers>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whose news have come, and were handed out to nobody yet.
    inbox: Vec<usize>,
    told: [bool; 3],
    slots: [Option<Slot>; 3],
}

impl Shared {
    /// As `Link::poll` does it.
    fn poll(&self, me: usize, slot: &mut Option<Slot>, cx: &mut Context<'_>) -> Poll<()> {
        let was_due = self.wakers.begin();
        let mut state = self.state.lock().expect("no panic");
        let mut wake = Vec::new();
        let drives = !state.told[me];
        if drives {
            for whose in std::mem::take(&mut state.inbox) {
                state.told[whose] = true;
                wake.extend(state.slots[whose].take().filter(|_| whose != me));
            }
        }
        let done = state.told[me];
        let mut due = false;
        if !done {
            let (place, is_due) = self.wakers.wait(slot, cx.waker(), Hold::Firm);
            state.slots[me] = Some(place);
            due = is_due;
        }
        drop(state);
        wake.into_iter().for_each(|slot| Wakers::wake(&self.wakers, slot));
        if done {
            if was_due && !drives {
                self.wakers.hand_on(slot);
            } else {
                self.wakers.leave(slot);
            }
            return Poll::Ready(());
        }
        if due {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[test]
fn news_reach_everybody_however_the_driver_comes_and_goes() {
    check(|| {
        block_on(async {
            let shared = Arc::new(Shared::default());
            let gives_up = below(4);
            let waiting: Vec<_> = (0..3)
                .map(|me| {
                    let shared = shared.clone();
                    spawn(async move {
                        let mut slot = None;
                        let mut polls = 0;
                        poll_fn(|cx| {
                            polls += 1;
                            // One of them goes away while it may be the driver, with news that it was woken for.
                            if me == gives_up && polls == 2 { Poll::Ready(()) } else { shared.poll(me, &mut slot, cx) }
                        })
                        .await;
                        shared.wakers.leave(&mut slot);
                    })
                })
                .collect();
            let socket = spawn({
                let shared = shared.clone();
                async move {
                    for whose in 0..3 {
                        shared.state.lock().expect("no panic").inbox.push(whose);
                        Waker::from(shared.wakers.clone()).wake();
                    }
                }
            });
            socket.await.expect("no panic");
            for waits in waiting {
                waits.await.expect("no panic");
            }
        });
    });
}
