//! Both ends of this crate, back to back: in memory, where the test sets the size of the pipe, and over TCP on loopback.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use persist_async::persist_core::bytes::Bytes;
use persist_async::persist_core::{Deadline, Gate, SendError};
use persist_async::{
    Blame, Body, ClientConn, CloseReason, Config, Disposition, Error, Exchange, Method, PartlyWritten, Received,
    Request, Response, ServerConn, StatusCode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

fn get(target: &str) -> Request {
    Request::get(target).field("Host", "test").expect("a valid field")
}

fn post(target: &str) -> Request {
    Request::new(Method::POST, target).field("Host", "test").expect("a valid field")
}

fn deep(depth: u32) -> Config {
    let mut config = Config::client();
    config.pipelining.depth = depth;
    config
}

/// Answers every request with what it asked for: the target, and the content it sent.
async fn echo(received: Received) {
    let target = received.head.target().to_owned();
    let response = Response::ok().field("Target", target).expect("a target is a field value");
    let _ = received.responder.send(response, Body::reader(received.body, None)).await;
}

fn serve(stream: DuplexStream) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let conn = ServerConn::new(stream);
        while let Ok(Some(received)) = conn.read().await {
            echo(received).await;
        }
    })
}

#[tokio::test]
async fn one_request_gets_its_reply_and_the_connection_persists() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let server = serve(server);
    let conn = ClientConn::new(client);
    for round in 0..3 {
        let mut reply = conn.send(post("/a"), "hello").await.expect("a reply");
        assert_eq!(reply.head.status(), StatusCode::OK);
        assert_eq!(reply.reused, round > 0);
        assert_eq!(reply.body.bytes(100).await.expect("the body"), "hello");
    }
    assert!(conn.is_idle());
    assert_eq!(conn.completed(), 3);
    conn.close().await.expect("a graceful end");
    server.await.expect("the server ends");
}

#[tokio::test]
async fn a_reply_is_the_same_wherever_it_is_cut_and_whoever_looks_at_the_connection_meanwhile() {
    const REPLY: &[u8] =
        b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncontent";
    const INTERIM: usize = 39;
    for begin in [0, INTERIM] {
        for cut in begin..=REPLY.len() {
            for looks in 0..8 {
                let (near, mut far) = tokio::io::duplex(1 << 16);
                let conn = ClientConn::new(near);
                let look = |bit: u32| {
                    if looks & bit > 0 {
                        assert_eq!(conn.pending(), 1, "cut at {cut}")
                    }
                };
                for _ in 0..2 {
                    let mut sending = pin!(conn.send(get("/"), ()));
                    let mut cx = Context::from_waker(Waker::noop());
                    assert!(sending.as_mut().poll(&mut cx).is_pending());
                    look(1);
                    far.write_all(&REPLY[begin..cut]).await.expect("room");
                    look(2);
                    let polled = sending.as_mut().poll(&mut cx);
                    let outcome = if let Poll::Ready(outcome) = polled {
                        far.write_all(&REPLY[cut..]).await.expect("room");
                        outcome
                    } else {
                        look(4);
                        far.write_all(&REPLY[cut..]).await.expect("room");
                        sending.await
                    };
                    let mut reply = outcome.expect("a reply");
                    assert_eq!(reply.interim.len(), usize::from(begin == 0), "cut at {cut}");
                    assert_eq!(reply.body.bytes(100).await.expect("the body"), "content", "cut at {cut}");
                }
                assert!(conn.is_idle());
            }
        }
    }
}

#[tokio::test]
async fn replies_find_their_requests_at_depth_8_from_64_tasks() {
    let (client, server) = tokio::io::duplex(256);
    serve(server);
    let conn = Arc::new(ClientConn::with_config(client, deep(8)));
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let conn = conn.clone();
            tokio::spawn(async move {
                let target = format!("/{n}");
                let mut reply = conn.send(get(&target), ()).await.expect("a reply");
                let said = reply.head.field("Target").and_then(|value| value.to_str()).map(str::to_owned);
                assert_eq!(said, Some(target));
                assert!(reply.body.bytes(0).await.expect("no content").is_empty());
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task ends");
    }
    assert_eq!(conn.completed(), 64);
}

fn wide_open(depth: u32) -> Config {
    let mut config = deep(depth);
    (config.pipelining.behind_non_idempotent, config.pipelining.behind_first) = (Gate::Open, Gate::Open);
    config
}

/// The target that a reply names, and the content that it gives back.
async fn answer(conn: &ClientConn<DuplexStream>, exchange: Exchange) -> (String, Bytes) {
    let mut reply = conn.read(exchange).await.expect("a reply");
    let target = reply.head.field("Target").and_then(|value| value.to_str()).expect("a target").to_owned();
    (target, reply.body.bytes(1 << 20).await.expect("content"))
}

fn cause(error: &Error) -> Option<&SendError> {
    std::error::Error::source(error).and_then(|cause| cause.downcast_ref())
}

#[tokio::test]
async fn bodies_in_the_middle_of_requests_written_together_arrive_each_behind_its_head() {
    let (client, server) = tokio::io::duplex(1_000);
    serve(server);
    let conn = ClientConn::with_config(client, wide_open(8));
    let long = Body::reader(tokio::io::repeat(b'r').take(30_000), Some(30_000));
    let bodies = [Body::empty(), Body::from("memory"), long, Body::empty(), Body::reader(&b"chunked"[..], None)];
    let requests = bodies.into_iter().enumerate().map(|(n, body)| (post(&format!("/{n}")), body));
    let exchanges = conn.write_all(requests).await.expect("written");
    let lengths = [0, 6, 30_000, 0, 7];
    for ((n, exchange), length) in exchanges.into_iter().enumerate().zip(lengths) {
        let (target, content) = answer(&conn, exchange).await;
        assert_eq!((target, content.len()), (format!("/{n}"), length));
    }
}

#[tokio::test]
async fn the_first_request_that_is_refused_ends_what_is_written_together() {
    let (client, server) = tokio::io::duplex(1 << 16);
    serve(server);
    let conn = ClientConn::with_config(client, deep(2));
    for (second, is_full) in [("/two words", false), ("/2", true)] {
        let mut requests = ["/1", second, "/3", "/4"].map(|path| (get(path), ())).into_iter();
        let mut partly = conn.write_all(&mut requests).await.expect_err("one is refused");
        assert_eq!((partly.written.len(), requests.len()), if is_full { (2, 1) } else { (1, 2) });
        assert_eq!(cause(&partly.error) == Some(&SendError::Full { in_flight: 2 }), is_full, "{partly}");
        assert_eq!(answer(&conn, partly.written.remove(0)).await.0, "/1");
        let error: Error = partly.into(); // and what is left of it is cancelled
        assert_eq!(error.blame(), Blame::Caller);
    }
    let exchange = conn.write(get("/5"), ()).await.expect("written");
    assert_eq!(answer(&conn, exchange).await.0, "/5", "the pairing did not shift");
}

#[tokio::test]
async fn a_peer_that_leaves_while_requests_are_written_together_is_told_by_the_replies() {
    let (client, far) = tokio::io::duplex(1 << 16);
    let conn = ClientConn::with_config(client, deep(8));
    let mut far = Some(far);
    let requests = (1..=4).map(|n| {
        if n == 3 {
            drop(far.take());
        }
        (get(&format!("/{n}")), ())
    });
    for exchange in conn.write_all(requests).await.expect("gathered before anybody could know") {
        let error = conn.read(exchange).await.expect_err("no reply");
        assert_eq!(error.disposition(), Some(Disposition::NotSent));
    }
    let error = conn.write_all([(get("/5"), ())]).await.expect_err("closed").error;
    assert_eq!(error.disposition(), Some(Disposition::NotSent));
    fn is_shared_error<T: std::error::Error + Send + Sync + 'static>() {}
    is_shared_error::<PartlyWritten>();
}

#[tokio::test]
async fn a_dropped_future_cancels_what_it_has_written_together() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let serving = serve(server);
    let conn = ClientConn::with_config(client, wide_open(8));
    // The third must wait for the body of the second, which never comes.
    let never = Body::pieces(|_: &mut Context<'_>| Poll::Pending, Some(5));
    let requests = [(get("/1"), Body::empty()), (post("/2"), never), (get("/3"), Body::empty())];
    let mut writing = Box::pin(conn.write_all(requests));
    let polled = std::future::poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx).is_ready())).await;
    assert!(!polled && conn.pending() == 2);
    drop(writing);
    let error =
        conn.write_all([(get("/4"), ())]).await.expect_err("half a request has left: nothing can follow it").error;
    assert_eq!((cause(&error), error.disposition()), (None, Some(Disposition::NotSent)), "{error}");
    drop(conn);
    serving.await.expect("the server ends");
}

#[tokio::test(start_paused = true)]
async fn requests_written_together_that_the_peer_does_not_take_meet_the_write_deadline() {
    let (client, far) = tokio::io::duplex(1_000);
    let mut config = wide_open(64);
    config.timeouts.write_stall = Some(Duration::from_secs(20));
    let conn = ClientConn::with_config(client, config);
    let page = Bytes::from(vec![b'x'; 100_000]);
    let requests = (0..32).map(|_| (post("/"), page.clone()));
    let partly = conn.write_all(requests).await.expect_err("the first bodies fill all there is");
    let timed_out = |error: &Error| {
        error.failure().is_some_and(|failure| failure.reason == CloseReason::Timeout(Deadline::WriteStall))
    };
    assert_eq!(partly.error.disposition(), Some(Disposition::NotSent));
    assert!(!partly.written.is_empty());
    for (n, exchange) in partly.written.into_iter().enumerate() {
        let error = conn.read(exchange).await.expect_err("no reply");
        assert!(timed_out(&error), "{error:?}");
        assert_eq!(error.disposition() == Some(Disposition::NotSent), n > 0, "{error:?}");
    }
    drop(far);
}
