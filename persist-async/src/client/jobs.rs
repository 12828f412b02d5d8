//! A set of futures in one task, each polled only when it was woken itself.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Something that goes on beside the requests, and ends by itself.
pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What one task has to do.
#[derive(Default)]
pub(super) struct Jobs {
    jobs: Vec<Job>,
    task: Arc<Task>,
}

struct Job {
    work: Work,
    flag: Arc<Flag>,
    waker: Waker,
}

/// Whether one job is to be polled.
struct Flag {
    is_due: AtomicBool,
    task: Arc<Task>,
}

/// The task that polls them all.
#[derive(Default)]
struct Task(Mutex<Option<Waker>>);

impl Jobs {
    /// Adds a job. It is polled with the next poll of the set.
    pub(super) fn push(&mut self, work: Work) {
        let flag = Arc::new(Flag { is_due: AtomicBool::new(true), task: self.task.clone() });
        self.jobs.push(Job { work, waker: Waker::from(flag.clone()), flag });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Polls those that were woken. Ready once a job was done.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.task.is(cx.waker());
        let before = self.jobs.len();
        // One that panics is gone with the task, and so are the others: their drops tell whom it concerns.
        self.jobs.retain_mut(|job| {
            !job.flag.is_due.swap(false, Ordering::AcqRel)
                || job.work.as_mut().poll(&mut Context::from_waker(&job.waker)).is_pending()
        });
        if self.jobs.len() < before { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Gives back what is not done, for another task.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Work> {
        std::mem::take(&mut self.jobs).into_iter().map(|job| job.work)
    }
}

impl Task {
    fn is(&self, waker: &Waker) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_due.store(true, Ordering::Release);
        let task = self.task.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn only_what_was_woken_is_polled_and_what_is_done_goes() {
        let polls = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
        let mut jobs = Jobs::default();
        for n in 0..2 {
            let (polls, wakers) = (polls.clone(), wakers.clone());
            jobs.push(Box::pin(poll_fn(move |cx| {
                wakers.lock().unwrap().push(cx.waker().clone());
                if polls[n].fetch_add(1, Ordering::SeqCst) == 1 { Poll::Ready(()) } else { Poll::Pending }
            })));
        }
        let mut cx = Context::from_waker(Waker::noop());
        assert!(jobs.poll(&mut cx).is_pending() && jobs.poll(&mut cx).is_pending());
        assert_eq!(polls.each_ref().map(|polls| polls.load(Ordering::SeqCst)), [1, 1]);
        let second = wakers.lock().unwrap()[1].clone();
        second.wake();
        assert!(jobs.poll(&mut cx).is_ready());
        assert_eq!(polls.each_ref().map(|polls| polls.load(Ordering::SeqCst)), [1, 2]);
        assert_eq!(jobs.take().count(), 1);
        assert!(jobs.is_empty());
    }
}
