//! Futures, exchanges and bodies that are dropped at any point: the pairing of the others holds, or the connection closes, typed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use persist_async::{
    Body, ClientConn, CloseReason, Config, Disposition, Method, Received, Request, Response, ServerConn, StatusCode,
};
use tokio::io::DuplexStream;

fn get(target: &str) -> Request {
    Request::get(target).field("Host", "test").expect("a valid field")
}

fn deep(depth: u32) -> Config {
    let mut config = Config::client();
    config.pipelining.depth = depth;
    // What nobody wants is given little time: the tests are as right if the connection closes, and faster.
    config.timeouts.drain = Some(Duration::from_millis(20));
    config
}

/// Answers with the target, padded to the number of bytes that it begins with: `/300/anything`.
async fn padded(received: Received) {
    let target = received.head.target().to_owned();
    let len = target.split('/').nth(1).and_then(|len| len.parse().ok()).unwrap_or(0);
    let response = Response::ok().field("Target", &target).expect("a target is a field value");
    let _ = received.responder.send(response, Body::from(vec![b'x'; len])).await;
}

fn serve(stream: DuplexStream) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let conn = ServerConn::new(stream);
        while let Ok(Some(received)) = conn.read().await {
            padded(received).await;
        }
    })
}

/// Polls so many times at most, and drops it.
async fn poll_times<F: Future>(future: F, times: u32) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for _ in 0..times {
        let mut once = std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(output) = Pin::new(&mut once).await {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// A small generator of the test's own, so that a failure can be replayed by its seed.
struct Seed(u64);

impl Seed {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as u32) % n
    }
}

/// Many tasks share a connection; each drops some of its futures, exchanges and bodies half-way. Whoever gets a reply gets its own.
async fn drop_at_random(seed: u64) {
    let mut dice = Seed(seed);
    let (client, server) = tokio::io::duplex(16 + dice.below(3_000) as usize);
    let server = serve(server);
    let conn = Arc::new(ClientConn::with_config(client, deep(1 + dice.below(6))));
    let tasks: Vec<_> = (0..6_u64)
        .map(|task| {
            let (conn, mut dice) = (conn.clone(), Seed(seed ^ (task + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            tokio::spawn(async move {
                for n in 0..8 {
                    let len = [0, 10, 5_000, 100_000][dice.below(4) as usize];
                    let target = format!("/{len}/{task}/{n}");
                    let patience = [1, 2, 5, 20, u32::MAX][dice.below(5) as usize];
                    let Some(outcome) = poll_times(conn.send(get(&target), ()), patience).await else { continue };
                    let Ok(mut reply) = outcome else { return };
                    let said = reply.head.field("Target").and_then(|value| value.to_str());
                    assert_eq!(said, Some(target.as_str()), "seed {seed}: a reply went to another request");
                    let mut read = 0;
                    while dice.below(8) > 0 {
                        match poll_times(reply.body.chunk(), patience).await {
                            Some(Ok(Some(piece))) => read += piece.len(),
                            Some(Ok(None)) => {
                                assert_eq!(read, len, "seed {seed}: content was lost");
                                break;
                            }
                            Some(Err(_)) => return,
                            None => {}
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    // All that is left belongs to nobody: it drains, or the connection closes.
    let last = conn.send(get("/0/last"), ()).await;
    match last {
        Ok(reply) => {
            assert!(reply.head.field("Target").is_some_and(|target| target.as_bytes() == b"/0/last"), "seed {seed}")
        }
        Err(error) => assert!(conn.close_reason().is_some(), "seed {seed}: {error}"),
    }
    drop(conn);
    server.await.expect("no panic");
}

#[tokio::test]
async fn replies_find_their_requests_whatever_is_dropped() {
    for seed in 0..60 {
        drop_at_random(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_find_their_requests_whatever_is_dropped_on_two_threads() {
    for seed in 1_000..1_060 {
        drop_at_random(seed).await;
    }
}

#[tokio::test]
async fn a_dropped_request_that_was_not_sent_leaves_no_trace() {
    let (client, server) = tokio::io::duplex(1_000);
    let conn = ClientConn::with_config(client, deep(3));
    let first = conn.write(get("/0/first"), ()).await.expect("written");
    let second = conn.write(get("/0/second"), ()).await.expect("written, and held back behind the first");
    drop(second);
    assert_eq!(conn.pending(), 1);
    serve(server);
    conn.read(first).await.expect("a reply");
    assert!(conn.is_idle());
}

#[tokio::test]
async fn an_unread_body_is_drained_for_the_next_request_within_the_budget() {
    for (len, survives) in [(100_000, true), (1_000_000, false)] {
        let (client, server) = tokio::io::duplex(1_000);
        serve(server);
        let mut config = Config::client();
        config.timeouts.drain = None;
        let conn = ClientConn::with_config(client, config);
        drop(conn.send(get(&format!("/{len}")), ()).await.expect("a reply"));
        match conn.send(get("/0/next"), ()).await {
            Ok(reply) => assert!(survives && reply.reused),
            Err(error) => {
                assert!(!survives, "{error}");
                assert_eq!(error.disposition(), Some(Disposition::NotSent));
                assert_eq!(conn.closed().await, CloseReason::Unfinished);
            }
        }
    }
}

#[tokio::test]
async fn a_dropped_upload_closes_the_connection_and_says_so() {
    let (client, server) = tokio::io::duplex(1_000);
    let _server = server; // open, and never read
    let conn = ClientConn::with_config(client, deep(2));
    let post = Request::new(Method::PUT, "/").field("Host", "test").expect("a field");
    assert!(poll_times(conn.send(post, vec![0; 100_000]), 3).await.is_none());
    let reason = conn.closed().await;
    assert!(!reason.is_graceful(), "{reason}");
    let error = conn.send(get("/"), ()).await.expect_err("closed");
    assert_eq!(error.disposition(), Some(Disposition::NotSent));
}

#[tokio::test]
async fn a_reader_that_leaves_hands_the_driving_to_another() {
    let (client, server) = tokio::io::duplex(1_000);
    let conn = Arc::new(ClientConn::with_config(client, deep(2)));
    // Both wait; the one that waited last drives. It leaves before anything comes.
    let first = tokio::spawn({
        let conn = conn.clone();
        async move { conn.send(get("/0/first"), ()).await }
    });
    let second = tokio::spawn({
        let conn = conn.clone();
        async move { conn.send(get("/0/second"), ()).await }
    });
    while conn.pending() < 2 {
        tokio::task::yield_now().await;
    }
    second.abort();
    assert!(second.await.is_err());
    serve(server);
    first.await.expect("no panic").expect("a reply");
}

/// What the server does with its futures is random, too: it drops them after some polls, holds several requests and answers them in any order, drops bodies
/// and answers. Each reply that comes is that of its request; a `500` comes only where an answer was dropped, and everything else is a typed error.
async fn drop_at_random_in_the_server(seed: u64) {
    let mut dice = Seed(seed);
    let (client, stream) = tokio::io::duplex(16 + dice.below(3_000) as usize);
    let mut config = Config::server();
    // Answers that come before their turn soon have no room, and wait.
    config.limits.parked_bytes_max = 500;
    config.timeouts.drain = Some(Duration::from_millis(20));
    let dropped = Arc::new(AtomicUsize::new(0));
    let server = tokio::spawn({
        let (mut dice, dropped) = (Seed(seed ^ 0x5eed), dropped.clone());
        async move {
            let conn = ServerConn::with_config(stream, config);
            loop {
                let patience = [1, 2, 7, u32::MAX][dice.below(4) as usize];
                match poll_times(conn.read(), patience).await {
                    Some(Ok(Some(received))) => {
                        tokio::spawn(answer_or_not(
                            received,
                            Seed(seed ^ u64::from(dice.below(u32::MAX))),
                            dropped.clone(),
                        ));
                    }
                    Some(Ok(None) | Err(_)) => break,
                    None => {}
                }
            }
            assert!(conn.close_reason().is_some(), "seed {seed}: it is over");
        }
    });
    let conn = Arc::new(ClientConn::with_config(client, deep(1 + dice.below(6))));
    let tasks: Vec<_> = (0..6_u64)
        .map(|task| {
            let (conn, mut dice, dropped) = (conn.clone(), Seed(seed ^ ((task + 1) << 40)), dropped.clone());
            tokio::spawn(async move {
                for n in 0..8 {
                    let target = format!("/{}/{task}/{n}", [0, 10, 400, 5_000][dice.below(4) as usize]);
                    let (request, sent) = match dice.below(3) {
                        0 => (Request::new(Method::PUT, &target).field("Host", "test").expect("a field"), 3_000),
                        _ => (get(&target), 0),
                    };
                    let Ok(mut reply) = conn.send(request, vec![b'x'; sent]).await else { return };
                    if reply.head.status() == StatusCode::INTERNAL_SERVER_ERROR {
                        assert!(dropped.load(Ordering::Relaxed) > 0, "seed {seed}: {target} was answered");
                        return;
                    }
                    let said = reply.head.field("Target").and_then(|value| value.to_str());
                    assert_eq!(said, Some(target.as_str()), "seed {seed}: a reply went to another request");
                    let expected = target.split('/').nth(1).and_then(|len| len.parse::<usize>().ok());
                    let Ok(content) = reply.body.bytes(1 << 20).await else { return };
                    assert_eq!(Some(content.len()), expected, "seed {seed}: content was lost");
                }
            })
        })
        .collect();
    for task in tasks {
        let ended = tokio::time::timeout(Duration::from_secs(60), task).await;
        ended.unwrap_or_else(|_| panic!("seed {seed}: a request hangs")).expect("no panic");
    }
    drop(conn);
    tokio::time::timeout(Duration::from_secs(60), server).await.expect("the server hangs").expect("no panic");
}

async fn answer_or_not(mut received: Received, mut dice: Seed, dropped: Arc<AtomicUsize>) {
    let target = received.head.target().to_owned();
    for _ in 0..dice.below(4) {
        tokio::task::yield_now().await;
    }
    let mut read = 0;
    while dice.below(10) > 0 {
        match poll_times(received.body.chunk(), 1 + dice.below(5)).await {
            Some(Ok(Some(piece))) => read += piece.len(),
            Some(Ok(None)) => {
                let sent = if *received.head.method() == Method::PUT { 3_000 } else { 0 };
                assert_eq!(read, sent, "{target}: content was lost");
                break;
            }
            Some(Err(_)) => return,
            None => {}
        }
    }
    let len = target.split('/').nth(1).and_then(|len| len.parse().ok()).unwrap_or(0);
    let response = Response::ok().field("Target", &target).expect("a target is a field value");
    let body = match dice.below(2) {
        0 => Body::from(vec![b'x'; len]),
        _ => Body::reader(std::io::Cursor::new(vec![b'x'; len]), Some(len as u64)),
    };
    match dice.below(12) {
        0 => {
            dropped.fetch_add(1, Ordering::Relaxed);
            drop(received.responder);
        }
        1 | 2 => {
            // Counted first: once it is dropped, the client may hear of it.
            dropped.fetch_add(1, Ordering::Relaxed);
            if poll_times(received.responder.send(response, body), 1 + dice.below(3)).await.is_some() {
                dropped.fetch_sub(1, Ordering::Relaxed);
            }
        }
        _ => {
            let _ = received.responder.send(response, body).await;
        }
    }
}

#[tokio::test]
async fn requests_find_their_answers_whatever_the_server_drops() {
    for seed in 0..60 {
        drop_at_random_in_the_server(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_find_their_answers_whatever_the_server_drops_on_two_threads() {
    for seed in 1_000..1_060 {
        drop_at_random_in_the_server(seed).await;
    }
}

#[tokio::test]
async fn a_dropped_close_of_a_server_goes_on_closing() {
    let (client, stream) = tokio::io::duplex(1_000);
    let server = ServerConn::new(stream);
    let client = ClientConn::new(client);
    let exchange = client.write(get("/0/pending"), ()).await.expect("written");
    let received = server.read().await.expect("a request").expect("a request");
    assert!(poll_times(server.close(), 3).await.is_none(), "the request is pending");
    received.responder.send(Response::ok(), "late").await.expect("taken");
    let reading =
        tokio::spawn(async move { client.read(exchange).await.expect("a reply").head.field("Connection").is_some() });
    assert!(matches!(server.read().await, Ok(None)), "no further request");
    assert!(reading.await.expect("no panic"), "it said close");
    assert!(server.close().await.is_ok(), "closing again tells how it went");
}

#[tokio::test]
async fn an_upgrade_that_is_dropped_before_its_response_left_closes() {
    let (client, stream) = tokio::io::duplex(8);
    let server = ServerConn::new(stream);
    let asks = tokio::spawn(async move {
        let client = ClientConn::new(client);
        let request = get("/").field("Connection", "upgrade").and_then(|request| request.field("Upgrade", "echo"));
        client.send(request.expect("fields"), ()).await.map(|reply| reply.head.status())
    });
    let received = server.read().await.expect("a request").expect("a request");
    let upgrade = Response::new(StatusCode::SWITCHING_PROTOCOLS).field("Upgrade", "echo").expect("a field");
    assert!(poll_times(received.responder.upgrade(upgrade), 1).await.is_none(), "eight bytes fit");
    // Whoever holds the connection may still take it apart, or let go of it.
    drop(server);
    let status = tokio::time::timeout(Duration::from_secs(60), asks).await.expect("it hangs").expect("no panic");
    assert!(status.is_err(), "{status:?}: the response did not leave");
}
