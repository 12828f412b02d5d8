//! Requests of many tasks at a time leave in bursts.
//!
//! When replies come to many tasks at once, each would read its own and send its next request before the next task reads. Every such request meets a
//! peer that has just gone to sleep, and waking it costs more than the request. So a task that is one of many lets the others read first: then all send.

use std::future::poll_fn;
use std::task::Poll;

/// Lets the tasks that are ready go first, once. At once for futures that are no task of their own: waking what `block_on` runs costs system calls.
pub(super) async fn let_others_read() {
    let mut waits = tokio::task::try_id().is_some();
    poll_fn(|cx| {
        if std::mem::take(&mut waits) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn tasks_that_are_ready_go_first_and_once() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let task = |name: &'static str| {
            let order = order.clone();
            tokio::spawn(async move {
                order.lock().unwrap().push(("reads", name));
                let_others_read().await;
                order.lock().unwrap().push(("sends", name));
            })
        };
        for task in [task("a"), task("b"), task("c")] {
            task.await.unwrap();
        }
        let expected = ["reads", "sends"].map(|what| ["a", "b", "c"].map(|name| (what, name)));
        assert_eq!(*order.lock().unwrap(), expected.concat());
    }

    #[test]
    fn what_is_no_task_goes_on_at_once() {
        assert!(pin!(let_others_read()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
