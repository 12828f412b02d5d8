//! The two tasks that may wait for one stream: its reader and its writer.

use std::sync::{Arc, PoisonError};
use std::task::{Context, Wake, Waker};

use crate::sync::Mutex;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Reader,
    Writer,
}

/// Wakes both: what either waits for (a dial, a pause, news of the connection) may be polled by the other. `tokio::io::split` puts them into two tasks.
#[derive(Debug, Default)]
pub(super) struct Both(Mutex<[Option<Waker>; 2]>);

impl Both {
    /// This end is being polled.
    pub(super) fn waits(&self, end: End, cx: &Context<'_>) {
        let mut wakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut wakers[usize::from(end == End::Writer)];
        if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *place = Some(cx.waker().clone());
        }
    }
}

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}
