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
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Waker};

    use persist_core::Request;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Notify;

    use super::super::state::MANY;
    use super::*;
    use crate::Client;

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

    /// A server that keeps requests for `/held` waiting, and closes the connections that wait for a request when it is told to.
    #[derive(Default)]
    struct Far {
        held: AtomicUsize,
        posts: AtomicUsize,
        /// One more came of any kind.
        came: Notify,
        release: Notify,
        close: Notify,
        closed: Notify,
    }

    impl Far {
        async fn serve(&self, mut stream: TcpStream) {
            let mut head = [0; 1_000];
            loop {
                let n = tokio::select! {
                    n = stream.read(&mut head) => n.expect("bytes or the end"),
                    () = self.close.notified() => break,
                };
                let Some(head) = head.get(..n).filter(|head| head.ends_with(b"\r\n\r\n")) else { return };
                if head.starts_with(b"GET /held") {
                    self.held.fetch_add(1, Ordering::Relaxed);
                    self.came.notify_one();
                    self.release.notified().await;
                }
                self.posts.fetch_add(usize::from(head.starts_with(b"POST")), Ordering::Relaxed);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("written");
            }
            drop(stream);
            self.closed.notify_one();
        }
    }

    /// A client with so many exchanges under way that the next request lets others read first, and one idle connection: its number.
    async fn of_many() -> (Client, String, Arc<Far>, u64) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (client, far) = (Client::new(), Arc::new(Far::default()));
        let server = far.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        for n in 1..=MANY as usize {
            let (client, url) = (client.clone(), format!("{url}/held"));
            tokio::spawn(async move { client.send(Request::get(url), ()).await.expect("a reply") });
            while far.held.load(Ordering::Relaxed) < n {
                far.came.notified().await;
            }
        }
        let idle = client.send(Request::get(&url), ()).await.expect("a reply").connection;
        assert_eq!(client.counts().idle, 1);
        (client, url, far, idle)
    }

    /// In a task, for only tasks let others go first.
    async fn in_a_task<F: Future<Output = ()> + Send + 'static>(test: F) {
        tokio::spawn(test).await.expect("no panic");
    }

    async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

    #[tokio::test]
    async fn a_request_that_is_dropped_while_others_read_was_not_sent() {
        in_a_task(async {
            let (client, url, far, idle) = of_many().await;
            {
                let mut dropped = pin!(client.send(Request::post(&url), ()));
                assert!(is_pending(dropped.as_mut()).await);
                assert_eq!(client.counts().idle, 0, "it has the connection");
            }
            assert_eq!(client.counts().idle, 1);
            let next = client.send(Request::get(&url), ()).await.expect("a reply");
            assert_eq!((next.connection, far.posts.load(Ordering::Relaxed)), (idle, 0));
            far.release.notify_waiters();
        })
        .await;
    }

    #[tokio::test]
    async fn a_connection_that_ends_while_others_read_is_found_by_the_look() {
        in_a_task(async {
            let (client, url, far, idle) = of_many().await;
            let mut late = pin!(client.send(Request::post(&url), ()));
            assert!(is_pending(late.as_mut()).await);
            far.close.notify_one();
            far.closed.notified().await;
            let reply = late.await.expect("a reply, though a POST is sent once at most");
            assert_ne!(reply.connection, idle);
            assert_eq!(far.posts.load(Ordering::Relaxed), 1);
            far.release.notify_waiters();
        })
        .await;
    }
}
