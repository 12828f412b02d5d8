//! Bodies both ways: large ones, slow readers, trailers, early replies, `100-continue`; nothing deadlocks, nothing is buffered without a limit.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use persist_async::persist_core::{Deadline, Gate};
use persist_async::{
    Blame, Body, BodyLen, ClientConn, CloseReason, Config, Disposition, Error, Fields, Incoming, Method, Received,
    Request, Response, Server, ServerConn, StatusCode,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

fn post(target: &str) -> Request {
    Request::new(Method::POST, target).field("Host", "test").expect("a valid field")
}

fn get(target: &str) -> Request {
    Request::get(target).field("Host", "test").expect("a valid field")
}

/// Bytes that tell where they are.
fn pattern(len: u64) -> impl AsyncRead + Send + Unpin + 'static {
    Pattern { at: 0, len, given: Arc::default() }
}

struct Pattern {
    at: u64,
    len: u64,
    given: Arc<AtomicU64>,
}

fn pattern_byte(at: u64) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

impl AsyncRead for Pattern {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let n = (self.len - self.at).min(buf.remaining() as u64).min(10_000);
        let bytes = buf.initialize_unfilled_to(n as usize);
        bytes.iter_mut().zip(self.at..).for_each(|(byte, at)| *byte = pattern_byte(at));
        buf.advance(n as usize);
        self.at += n;
        self.given.fetch_add(n, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

async fn check_pattern(mut body: impl AsyncRead + Unpin, len: u64) {
    let (mut at, mut buf) = (0, vec![0; 30_000]);
    loop {
        let n = body.read(&mut buf).await.expect("the content");
        if n == 0 {
            break;
        }
        assert!(buf[..n].iter().zip(at..).all(|(byte, at)| *byte == pattern_byte(at)), "wrong bytes behind {at}");
        at += n as u64;
    }
    assert_eq!(at, len);
}

async fn echo(received: Received) {
    let len = match received.body.len() {
        BodyLen::Length(len) => Some(len),
        _ => None,
    };
    let _ = received.responder.send(Response::ok(), Body::reader(received.body, len)).await;
}

fn serve<F, H>(stream: DuplexStream, handler: H) -> tokio::task::JoinHandle<()>
where
    H: Fn(Received) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    tokio::spawn(async move {
        let conn = ServerConn::new(stream);
        while let Ok(Some(received)) = conn.read().await {
            handler(received).await;
        }
    })
}

/// Many posts at once, gates open, through a pipe of 100 bytes: each end must read while it writes.
#[tokio::test]
async fn pipelined_uploads_to_an_echo_do_not_deadlock() {
    let (client, server) = tokio::io::duplex(100);
    serve(server, echo);
    let mut config = Config::client();
    config.pipelining.depth = 8;
    config.pipelining.behind_non_idempotent = Gate::Open;
    let conn = Arc::new(ClientConn::with_config(client, config));
    let tasks: Vec<_> = [None, Some(200_000), None, Some(300_000), Some(1), None, Some(150_000), Some(0)]
        .into_iter()
        .map(|len| {
            let conn = conn.clone();
            tokio::spawn(async move {
                let n = len.unwrap_or(100_000);
                let reply = conn.send(post("/"), Body::reader(pattern(n), len)).await.expect("a reply");
                check_pattern(reply.body, n).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!((conn.completed(), conn.pending()), (8, 0));
}

#[tokio::test]
async fn one_task_streams_4_mib_through_an_echo_over_tcp() {
    const LEN: u64 = 4 << 20;
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("tcp");
    tokio::spawn(server.serve(echo));
    let conn = ClientConn::new(TcpStream::connect(address).await.expect("a connection"));
    for len in [Some(LEN), None] {
        let reply = conn.send(post("/"), Body::reader(pattern(LEN), len)).await.expect("a reply");
        check_pattern(reply.body, LEN).await;
    }
    assert_eq!(conn.completed(), 2);
}

#[tokio::test]
async fn a_large_body_in_memory_goes_out_whole_and_the_connection_persists() {
    let (client, server) = tokio::io::duplex(5_000);
    serve(server, echo);
    let conn = ClientConn::new(client);
    let bytes: Vec<u8> = (0..3_000_000).map(pattern_byte).collect();
    for _ in 0..2 {
        let reply = conn.send(post("/"), bytes.clone()).await.expect("a reply");
        check_pattern(reply.body, 3_000_000).await;
    }
    assert!(conn.is_idle());
}

/// A handler that does not read, a client that does not read: the senders are stopped after a bounded number of bytes.
#[tokio::test]
async fn whoever_does_not_read_stops_the_sender() {
    const PIPE: usize = 10_000;
    const LEN: u64 = 4 << 20;
    let given = Arc::new(AtomicU64::new(0));
    let (client, server) = tokio::io::duplex(PIPE);
    let source = given.clone();
    serve(server, move |received| {
        let given = source.clone();
        async move {
            let body = Body::reader(Pattern { at: 0, len: LEN, given }, Some(LEN));
            let _ = received.responder.send(Response::ok(), body).await;
        }
    });
    let mut config = Config::client();
    config.pipelining.depth = 2;
    let conn = ClientConn::with_config(client, config);
    let mut reply = conn.send(get("/"), ()).await.expect("a reply");
    reply.body.chunk().await.expect("content").expect("content");
    // Somebody else drives the connection as far as it goes, without a reader for the content.
    let second = conn.send(get("/"), ());
    let mut second = std::pin::pin!(second);
    let mut last = u64::MAX;
    while last != given.load(Ordering::Relaxed) {
        last = given.load(Ordering::Relaxed);
        for _ in 0..1_000 {
            assert!(poll_once(second.as_mut()).await.is_none());
            tokio::task::yield_now().await;
        }
    }
    // Held by the client, in the pipe, and by the server: each at most what its documentation says.
    assert!(last < 64 * 1024 * 6, "{last} bytes were produced");
    check_rest(&mut reply.body).await;
    second.await.expect("a reply");
}

async fn check_rest(body: &mut Incoming) {
    while body.chunk().await.expect("the content").is_some() {}
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// A stream that notes where the bytes lie that it is given, and takes them all.
#[derive(Clone, Default)]
struct Spy(Arc<std::sync::Mutex<Vec<(usize, usize)>>>);

impl AsyncRead for Spy {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

impl tokio::io::AsyncWrite for Spy {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.lock().expect("no panic").push((buf.as_ptr() as usize, buf.len()));
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn long_pieces_of_a_body_go_out_uncopied() {
    let pieces = [Bytes::from(vec![b'a'; 20_000]), Bytes::from("short"), Bytes::new(), Bytes::from(vec![b'b'; 90_000])];
    for len in [Some(110_005), None] {
        let spy = Spy::default();
        let conn = ClientConn::new(spy.clone());
        let mut given = pieces.clone().into_iter();
        let body = Body::pieces(move |_| Poll::Ready(given.next().map(Ok)), len);
        let exchange = conn.write(post("/"), body).await.expect("written");
        assert!(poll_once(std::pin::pin!(conn.read(exchange))).await.is_none(), "nobody answers");
        let taken = spy.0.lock().expect("no panic");
        for piece in pieces.iter().filter(|piece| piece.len() > 8 * 1024) {
            assert!(taken.contains(&(piece.as_ptr() as usize, piece.len())), "{len:?}: {taken:?}");
        }
        assert!(taken.iter().map(|(_, len)| len).sum::<usize>() > 110_005);
    }
}

#[tokio::test]
async fn pieces_are_asked_for_only_when_there_is_room_and_must_be_as_long_as_declared() {
    let (near, far) = tokio::io::duplex(1_000);
    let conn = ClientConn::new(near);
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counting = asked.clone();
    let endless = move |_: &mut Context<'_>| {
        counting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Poll::Ready(Some(Ok(Bytes::from(vec![b'x'; 10_000]))))
    };
    let exchange = conn.write(post("/"), Body::pieces(endless, None)).await.expect("written");
    assert!(poll_once(std::pin::pin!(conn.read(exchange))).await.is_none(), "nobody reads it");
    // What goes into one write; none beyond.
    let held = asked.load(std::sync::atomic::Ordering::Relaxed);
    assert!((1..=16).contains(&held), "{held} pieces are held");
    drop((conn, far));

    for (declared, given) in [(9, 5), (4, 5)] {
        let (near, far) = tokio::io::duplex(1_000);
        let serving = serve(far, echo);
        let mut once = Some(Ok(Bytes::from(vec![b'x'; given])));
        let body = Body::pieces(move |_| Poll::Ready(once.take()), Some(declared));
        let conn = ClientConn::new(near);
        let error = conn.send(post("/"), body).await.expect_err("it is not as long as it said");
        assert_eq!(error.blame(), persist_async::Blame::Caller, "{error}");
        drop(conn);
        serving.await.expect("no panic");
    }
}

#[tokio::test]
async fn what_a_body_gave_before_it_failed_is_sent() {
    for failing in [false, true] {
        let spy = Spy::default();
        let conn = ClientConn::new(spy.clone());
        let failure = if failing { Some(Err(std::io::Error::other("the disk is gone"))) } else { None };
        let pieces = [Bytes::from(vec![b'a'; 9_000]), Bytes::from(vec![b'b'; 9_000])];
        let mut given = pieces.clone().map(Ok).into_iter().chain(failure);
        let body = Body::pieces(move |_| given.next().map_or(Poll::Pending, |next| Poll::Ready(Some(next))), None);
        let exchange = conn.write(post("/"), body).await.expect("written");
        let outcome = poll_once(std::pin::pin!(conn.read(exchange))).await;
        assert_eq!(outcome.is_some(), failing, "it waits, or fails");
        if let Some(outcome) = outcome {
            let error = outcome.expect_err("there is no reply");
            assert!(error.source().is_some_and(|cause| cause.to_string().contains("the disk is gone")), "{error:?}");
        }
        let taken = spy.0.lock().expect("no panic");
        assert!(pieces.iter().all(|piece| taken.contains(&(piece.as_ptr() as usize, piece.len()))), "{taken:?}");
    }
}

#[tokio::test]
async fn trailers_arrive_both_ways_and_stay_apart_from_the_head() {
    let (client, server) = tokio::io::duplex(1_000);
    serve(server, |mut received| async move {
        let content = received.body.bytes(1_000).await.expect("the content");
        let digest =
            received.body.trailers().and_then(|trailers| trailers.get("Digest")).map(|value| value.as_bytes().to_vec());
        assert!(received.head.field("Digest").is_none());
        let mut trailers = Fields::new();
        trailers.push("Seen", digest.unwrap_or_default()).expect("a field");
        let _ = received.responder.send(Response::ok(), Body::from(content).with_trailers(trailers)).await;
    });
    let conn = ClientConn::new(client);
    let mut trailers = Fields::new();
    trailers.push("Digest", "abc").expect("a field");
    let mut reply = conn.send(post("/"), Body::from("content").with_trailers(trailers)).await.expect("a reply");
    assert_eq!(reply.body.bytes(100).await.expect("the body"), "content");
    let seen = reply.body.trailers().and_then(|trailers| trailers.get("Seen")).and_then(|value| value.to_str());
    assert_eq!(seen, Some("abc"));
}

#[tokio::test]
async fn an_early_refusal_reaches_the_caller_and_stops_the_upload() {
    let (client, server) = tokio::io::duplex(1_000);
    serve(server, |received| async move {
        drop(received.body);
        let response = Response::new(StatusCode::CONTENT_TOO_LARGE);
        let _ = received.responder.send(response, "too much").await;
    });
    let given = Arc::new(AtomicU64::new(0));
    let conn = ClientConn::new(client);
    let body = Body::reader(Pattern { at: 0, len: u64::MAX, given: given.clone() }, None);
    let mut reply = conn.send(post("/"), body).await.expect("a reply");
    assert_eq!(reply.head.status(), StatusCode::CONTENT_TOO_LARGE);
    assert_eq!(reply.body.bytes(100).await.expect("the body"), "too much");
    assert!(given.load(Ordering::Relaxed) < 2 << 20, "the upload goes on");
    conn.closed().await;
}

/// Over real sockets, where a server that closes with input unread resets the connection, and a reset may destroy the reply.
#[tokio::test]
async fn an_early_refusal_over_tcp_always_arrives() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("tcp");
    tokio::spawn(server.serve(|received: Received| async move {
        received.responder.send(Response::new(StatusCode::CONTENT_TOO_LARGE), "too much").await
    }));
    for round in 0..40 {
        let conn = ClientConn::new(TcpStream::connect(address).await.expect("a connection"));
        let body = Body::reader(pattern(1 << 40), (round % 2 == 0).then_some(1 << 40));
        let mut reply = conn.send(post("/"), body).await.expect("a reply");
        assert_eq!(reply.head.status(), StatusCode::CONTENT_TOO_LARGE);
        assert_eq!(reply.body.bytes(100).await.expect("the body"), "too much");
    }
}

#[tokio::test]
async fn a_body_waits_for_100_continue_and_is_not_sent_when_refused() {
    let (client, server) = tokio::io::duplex(10_000);
    serve(server, |mut received| async move {
        match received.head.target() {
            "/yes" => {
                let content = received.body.bytes(100).await.expect("the content");
                let _ = received.responder.send(Response::ok(), Body::from(content)).await;
            }
            _ => _ = received.responder.send(Response::new(StatusCode::FORBIDDEN), ()).await,
        }
    });
    let mut config = Config::client();
    config.timeouts.expect_continue = None;
    let conn = ClientConn::with_config(client, config);
    let expecting = |target| post(target).field("Expect", "100-continue").expect("a field");
    let mut reply = conn.send(expecting("/yes"), "content").await.expect("a reply");
    assert_eq!(reply.interim.iter().map(|head| head.status()).collect::<Vec<_>>(), [StatusCode::CONTINUE]);
    assert_eq!(reply.body.bytes(100).await.expect("the body"), "content");

    let given = Arc::new(AtomicU64::new(0));
    let body = Body::reader(Pattern { at: 0, len: 5, given: given.clone() }, Some(5));
    let reply = conn.send(expecting("/no"), body).await.expect("a reply");
    assert_eq!(reply.head.status(), StatusCode::FORBIDDEN);
    assert_eq!(given.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn interim_responses_come_one_by_one_or_with_the_reply() {
    let (client, server) = tokio::io::duplex(1_000);
    serve(server, |received| async move {
        for link in ["</a>", "</b>"] {
            let hints = Response::new(StatusCode::EARLY_HINTS).field("Link", link).expect("a field");
            received.responder.interim(hints).expect("an interim response");
        }
        let _ = received.responder.send(Response::ok(), ()).await;
    });
    let conn = ClientConn::new(client);
    let mut exchange = conn.write(get("/"), ()).await.expect("written");
    let first = conn.interim(&mut exchange).await.expect("no failure").expect("an interim response");
    assert_eq!(first.field("Link").and_then(|value| value.to_str()), Some("</a>"));
    let reply = conn.read(exchange).await.expect("a reply");
    assert_eq!(reply.interim.len(), 1);
    assert_eq!(reply.head.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_reader_that_fails_or_ends_early_fails_its_exchange_with_its_error() {
    for (body, text) in
        [(Body::reader(tokio_test_error(), None), "on purpose"), (Body::reader(pattern(10), Some(11)), "1 bytes")]
    {
        let (client, server) = tokio::io::duplex(1_000);
        serve(server, echo);
        let conn = ClientConn::new(client);
        let error = conn.send(post("/"), body).await.expect_err("the body is broken");
        assert!(error.to_string().contains(text), "{error}");
        let failure = error.failure().expect("a failure");
        assert!(!matches!(failure.disposition, Disposition::SentNoReply), "{failure}");
        assert!(
            matches!(conn.closed().await, CloseReason::Unfinished | CloseReason::Aborted),
            "{:?}",
            conn.close_reason()
        );
    }
}

fn tokio_test_error() -> impl AsyncRead + Send + 'static {
    struct Failing;
    impl AsyncRead for Failing {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Err(std::io::Error::other("broken on purpose")))
        }
    }
    Failing
}

/// Lets itself be waited for once, and panics.
fn panicking() -> impl AsyncRead + Send + 'static {
    struct Panicking(bool);
    impl AsyncRead for Panicking {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
            assert!(!std::mem::replace(&mut self.0, true), "a reader that panics, on purpose");
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    Panicking(false)
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_panics_fails_its_own_exchange_and_not_whoever_drives() {
    let (client, _server) = tokio::io::duplex(1_000);
    let conn = ClientConn::new(client);
    let upload = conn.write(post("/"), Body::reader(panicking(), None)).await.expect("it is on its way");
    let reason = conn.closed().await;
    assert!(matches!(reason, CloseReason::Unfinished | CloseReason::Aborted), "{reason}");
    let error = conn.read(upload).await.expect_err("the body is broken");
    assert!(error.to_string().contains("panicked"), "{error}");
    assert!(matches!(error.disposition(), Some(Disposition::PartlySent { .. })), "{error}");
}

#[tokio::test]
async fn content_beyond_the_callers_limit_is_an_error_of_its_own() {
    let (client, server) = tokio::io::duplex(1_000);
    serve(server, echo);
    let conn = ClientConn::new(client);
    for body in [Body::from("0123456789"), Body::reader(pattern(10), None)] {
        let mut reply = conn.send(post("/"), body).await.expect("a reply");
        let error = reply.body.bytes(9).await.expect_err("one byte more than the limit");
        assert!(error.to_string().contains("more than 9 bytes"), "{error}");
    }
}

#[tokio::test]
async fn pieces_are_no_larger_than_asked() {
    let (client, server) = tokio::io::duplex(100_000);
    serve(server, echo);
    let conn = ClientConn::new(client);
    // Content that came with its head, and content that is waited for.
    for len in [2_000, 300_000] {
        let mut reply = conn.send(post("/"), Body::reader(pattern(len), Some(len))).await.expect("a reply");
        reply.body.set_chunk_bytes_max(777);
        let mut at = 0;
        while let Some(piece) = reply.body.chunk().await.expect("content") {
            assert!(piece.len() <= 777, "{}", piece.len());
            assert!(piece.iter().zip(at..).all(|(byte, at)| *byte == pattern_byte(at)), "wrong bytes behind {at}");
            at += piece.len() as u64;
        }
        assert_eq!(at, len);
    }
}

/// Reads pieces, each with its place in the pattern, until there are no more or the content breaks off; `keep` them all till then.
async fn pieces(body: &mut Incoming, keep: bool) -> (u64, Result<(), Error>) {
    let (mut at, mut kept) = (0, Vec::new());
    let right = |at: u64, piece: &[u8]| piece.iter().zip(at..).all(|(byte, at)| *byte == pattern_byte(at));
    let ended = loop {
        match body.chunk().await {
            Ok(Some(piece)) => {
                assert!(right(at, &piece), "wrong bytes behind {at}");
                at += piece.len() as u64;
                kept.extend(keep.then_some((at - piece.len() as u64, piece)));
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(kept.iter().all(|(at, piece)| right(*at, piece)), "what was read later was put upon it");
    (at, ended)
}

#[tokio::test]
async fn content_that_is_kept_stays_as_it_came_while_more_is_read() {
    const LEN: u64 = 3_000_001;
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("tcp");
    let serving = server.serve(|mut received: Received| async move {
        let keep = received.head.target() == "/keep";
        let (len, ended) = pieces(&mut received.body, keep).await;
        ended?;
        received.responder.send(Response::ok(), len.to_string()).await
    });
    let serving = tokio::spawn(serving);
    let conn = ClientConn::new(TcpStream::connect(address).await.expect("it listens"));
    for target in ["/keep", "/drop", "/keep"] {
        for declared in [Some(LEN), None] {
            let mut reply = conn.send(post(target), Body::reader(pattern(LEN), declared)).await.expect("a reply");
            assert_eq!(reply.body.bytes(20).await.expect("a number"), LEN.to_string());
        }
    }
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_breaks_off_gives_what_came_and_then_says_why() {
    const CAME: u64 = 300_000;
    let mut content = Vec::new();
    pattern(CAME).read_to_end(&mut content).await.expect("it does not fail");
    for (framing, chunked) in [("Content-Length: 1000000", false), ("Transfer-Encoding: chunked", true)] {
        for stalls in [false, true] {
            let (near, mut far) = tokio::io::duplex(1 << 20);
            let mut config = Config::server();
            config.timeouts.body_idle = Some(Duration::from_secs(5));
            let conn = ServerConn::with_config(near, config);
            let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n");
            far.write_all(head.as_bytes()).await.expect("there is room");
            if chunked {
                far.write_all(b"F4240\r\n").await.expect("there is room");
            }
            far.write_all(&content).await.expect("there is room");
            let far = stalls.then_some(far);
            let mut received = conn.read().await.expect("a request").expect("a request");
            let (len, ended) = pieces(&mut received.body, true).await;
            assert_eq!(len, CAME, "{framing}");
            let error = ended.expect_err("it is not complete");
            let reason = error.failure().map(|failure| failure.reason.clone());
            let late = Some(CloseReason::Timeout(Deadline::BodyIdle));
            assert_eq!(reason == late, stalls, "{framing}, stalls: {stalls}: {error:?}");
            assert_eq!(error.blame(), if stalls { Blame::Network } else { Blame::Peer }, "{error}");
            assert!(
                error.to_string().starts_with("cannot complete the exchange: ") && error.hint().is_none(),
                "{error}"
            );
            drop(far);
        }
    }
}

#[tokio::test]
async fn an_upload_that_is_reset_fails_and_one_that_nobody_reads_harms_nobody() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut far = TcpStream::connect(listener.local_addr().expect("tcp")).await.expect("it listens");
    let conn = ServerConn::new(listener.accept().await.expect("there it is").0);
    far.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n").await.expect("written");
    far.write_all(&[0; 50_000]).await.expect("written");
    let mut received = conn.read().await.expect("a request").expect("a request");
    assert!(received.body.chunk().await.expect("content").is_some());
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).expect("set");
    drop(far);
    let (len, ended) = pieces_of_zeros(&mut received.body).await;
    assert!(len < 50_000);
    assert!(ended.expect_err("it is not complete").failure().is_some());

    // A body that is let go of in the middle is drained, and the connection used again.
    let (near, far) = tokio::io::duplex(1_000);
    let serving = serve(far, |mut received: Received| async move {
        assert!(received.body.chunk().await.expect("content").is_some());
        drop(received.body);
        received.responder.send(Response::ok(), "enough").await.expect("taken");
    });
    let conn = ClientConn::new(near);
    for _ in 0..3 {
        let mut reply = conn.send(post("/"), Body::reader(pattern(40_000), Some(40_000))).await.expect("a reply");
        assert_eq!(reply.body.bytes(10).await.expect("content"), "enough");
    }
    conn.close().await.expect("a graceful end");
    serving.await.expect("no panic");
}

async fn pieces_of_zeros(body: &mut Incoming) -> (u64, Result<(), Error>) {
    let mut len = 0;
    loop {
        match body.chunk().await {
            Ok(Some(piece)) => len += piece.len() as u64,
            Ok(None) => return (len, Ok(())),
            Err(error) => return (len, Err(error)),
        }
    }
}
