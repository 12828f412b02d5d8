//! One connection, at either end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use persist_async::{
    Body, ClientConn, CloseReason, Config, Disposition, Exchange, Method, Received, Reply, Request, Response, Server,
    ServerConfig, ServerConn, StatusCode, Transport,
};
use tokio::io::DuplexStream;

use super::{Seed, get, poll_times, seeds};

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
                    let outcome = match dice.below(3) {
                        0 => written_and_read(&conn, &target, patience, &mut dice).await,
                        _ => poll_times(conn.send(get(&target), ()), patience).await,
                    };
                    let Some(outcome) = outcome else { continue };
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

/// The same in two steps, each of which may be dropped, among other futures of the connection that are.
async fn written_and_read<S: Transport>(
    conn: &ClientConn<S>,
    target: &str,
    patience: u32,
    dice: &mut Seed,
) -> Option<persist_async::Result<Reply>> {
    let mut exchange: Exchange = loop {
        match poll_times(conn.write(get(target), ()), patience).await? {
            Ok(exchange) => break exchange,
            // Its turn comes once others have read.
            Err(_) if !conn.is_closing() => poll_times(conn.ready(), patience).await?.ok()?,
            Err(error) => return Some(Err(error)),
        }
    };
    for _ in 0..dice.below(4) {
        let polls = 1 + dice.below(3);
        match dice.below(4) {
            0 => drop(poll_times(conn.flush(), polls).await),
            1 => _ = poll_times(conn.closed(), polls).await,
            2 => _ = poll_times(conn.events().wait(), polls).await,
            _ => drop(poll_times(conn.interim(&mut exchange), polls).await),
        }
    }
    poll_times(conn.read(exchange), patience).await
}

#[tokio::test]
async fn replies_find_their_requests_whatever_is_dropped() {
    for seed in seeds(0..60) {
        drop_at_random(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_find_their_requests_whatever_is_dropped_on_two_threads() {
    for seed in seeds(1_000..1_060) {
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
    ask_at_random(client, seed, &dropped).await;
    tokio::time::timeout(Duration::from_secs(60), server).await.expect("the server hangs").expect("no panic");
}

/// Six tasks ask over one connection, and get what they asked for, or a `500` where an answer was `dropped`, or a typed error.
async fn ask_at_random<S: Transport>(client: S, seed: u64, dropped: &Arc<AtomicUsize>) {
    let mut dice = Seed(seed ^ 0xa5c);
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
    for seed in seeds(0..60) {
        drop_at_random_in_the_server(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_find_their_answers_whatever_the_server_drops_on_two_threads() {
    for seed in seeds(1_000..1_060) {
        drop_at_random_in_the_server(seed).await;
    }
}

/// The same where the server polls the handlers itself, some of them side by side, and a handler that is not ready yields to the others.
async fn drop_at_random_in_handlers(seed: u64) {
    let mut dice = Seed(seed);
    let mut config = ServerConfig::default();
    config.conn.limits.parked_bytes_max = 500;
    config.conn.timeouts.drain = Some(Duration::from_millis(20));
    let dropped = Arc::new(AtomicUsize::new(0));
    let server = Server::bind("127.0.0.1:0").await.expect("a port").with_config(config);
    let server = server.concurrent_handlers(1 + dice.below(4) as usize);
    let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
    let serving = tokio::spawn(server.serve({
        let dropped = dropped.clone();
        move |received: Received| {
            let seed = seed ^ received.head.target().bytes().map(u64::from).sum::<u64>();
            answer_or_not(received, Seed(seed), dropped.clone())
        }
    }));
    let client = tokio::net::TcpStream::connect(address).await.expect("connected");
    ask_at_random(client, seed, &dropped).await;
    handle.shutdown(Duration::from_secs(60));
    let served = serving.await.expect("no panic").expect("no error");
    assert_eq!(served.aborted, 0, "seed {seed}: nothing was left to cut");
}

#[tokio::test]
async fn requests_find_their_answers_whatever_handlers_drop() {
    for seed in seeds(0..40) {
        drop_at_random_in_handlers(seed).await;
    }
}

#[tokio::test]
async fn an_answer_leaves_while_whoever_drives_waits_for_the_next_request() {
    for content in [0, 10, 100_000] {
        let (client, stream) = tokio::io::duplex(1_000);
        let server = Arc::new(ServerConn::new(stream));
        let client = ClientConn::new(client);
        let exchange = client.write(get("/"), ()).await.expect("written");
        let received = server.read().await.expect("a request").expect("a request");
        let reading = tokio::spawn({
            let server = server.clone();
            async move { server.read().await.map(|request| request.is_none()) }
        });
        // It has been polled, and waits.
        tokio::task::yield_now().await;
        tokio::spawn(received.responder.send(Response::ok(), Body::reader(tokio::io::repeat(b'x'), Some(content))));
        let replied = async {
            let mut reply = client.read(exchange).await.expect("a reply");
            reply.body.bytes(1 << 20).await.expect("its content").len()
        };
        let replied = tokio::time::timeout(Duration::from_secs(60), replied).await.expect("it hangs");
        assert_eq!(replied as u64, content);
        drop(client);
        assert!(reading.await.expect("no panic").expect("a graceful end"));
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
