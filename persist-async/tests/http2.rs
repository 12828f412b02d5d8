//! HTTP/2 at both ends: streams side by side, limits, and what became of a request when a peer breaks off, resets, floods, stalls or leaves.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use persist_async::http2::{Connected, Http2Config};
use persist_async::persist_core::Deadline;
use persist_async::tls::{ClientTls, ServerTls};
use persist_async::{
    Blame, Body, Client, ClientConfig, ClientConn, CloseReason, Connector, Disposition, Error, Fields, Method, Phase,
    Received, Request, Response, Server, ServerConfig, StateEvent, StatusCode,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

fn get(path: &str) -> Request {
    Request::get(path).field("Host", "example").expect("a field")
}

fn post(path: &str) -> Request {
    Request::new(Method::POST, path).field("Host", "example").expect("a field")
}

async fn echo(received: Received) -> Result<(), Error> {
    received.responder.send(Response::ok(), received.body).await
}

/// A server of both protocols; its address.
async fn served<H, F>(server: ServerConfig, http2: Http2Config, handler: H) -> std::net::SocketAddr
where
    H: Fn(Received) -> F + Send + Sync + 'static,
    F: Future + Send + 'static,
{
    let server = Server::bind("127.0.0.1:0").await.expect("a port").with_config(server).with_http2(http2);
    let address = server.local_addr().expect("TCP");
    tokio::spawn(server.serve(handler));
    address
}

async fn connected(address: std::net::SocketAddr) -> ClientConn<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("a server");
    ClientConn::http2(stream, Http2Config::client()).await.expect("a preface")
}

/// A peer that speaks frames by hand.
struct Raw(DuplexStream);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// END_STREAM and END_HEADERS.
const WHOLE: u8 = 0x5;
/// `:status: 200` in HPACK.
const OK: &[u8] = &[0x88];

impl Raw {
    /// A client of ours, and its peer.
    async fn pair(config: Http2Config, settings: &[u8]) -> (ClientConn<DuplexStream>, Self) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let conn = ClientConn::http2(ours, config).await.expect("room for the preface");
        let mut raw = Self(theirs);
        let mut preface = [0; 24];
        raw.0.read_exact(&mut preface).await.expect("a preface");
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        raw.write(SETTINGS, 0, 0, settings).await;
        (conn, raw)
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.expect("a reader");
    }

    async fn read(&mut self) -> (u8, u32, Vec<u8>) {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.expect("its payload");
        (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
    }

    /// The number of the next stream that is opened.
    async fn opened(&mut self) -> u32 {
        loop {
            let (kind, stream, _) = self.read().await;
            if kind == HEADERS {
                return stream;
            }
        }
    }
}

fn failure(error: &Error) -> (Disposition, CloseReason) {
    let failure = error.failure().unwrap_or_else(|| panic!("no failure: {error:?}"));
    (failure.disposition, failure.reason.clone())
}

#[tokio::test]
async fn streams_go_side_by_side_over_one_connection() {
    // The first handler answers when all have come.
    let barrier = Arc::new(tokio::sync::Barrier::new(20));
    let address = served(ServerConfig::default(), Http2Config::server(), move |received: Received| {
        let barrier = barrier.clone();
        async move {
            barrier.wait().await;
            echo(received).await
        }
    })
    .await;
    let conn = Arc::new(connected(address).await);
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let conn = conn.clone();
            tokio::spawn(async move {
                let mut reply = conn.send(post("/"), format!("number {n}")).await.expect("a reply");
                (n, reply.body.bytes(100).await.expect("a body"), reply.connection)
            })
        })
        .collect();
    for task in tasks {
        let (n, body, connection) = task.await.expect("no panic");
        assert_eq!(body, format!("number {n}"));
        assert_eq!(connection, conn.id());
    }
    assert_eq!((conn.pending(), conn.completed()), (0, 20));
    conn.close().await.expect("an orderly end");
}

#[tokio::test]
async fn both_protocols_are_spoken_on_one_port() {
    let address = served(ServerConfig::default(), Http2Config::server(), |received: Received| async move {
        let version = format!("{:?} {}", received.head.version(), received.head.authority());
        received.responder.send(Response::ok(), version).await
    })
    .await;
    let two = connected(address).await;
    let one = ClientConn::new(TcpStream::connect(address).await.expect("a server"));
    for (version, mut reply) in [
        ("Http2", two.send(get("/"), ()).await.expect("a reply")),
        ("Http11", one.send(get("/"), ()).await.expect("a reply")),
    ] {
        assert_eq!(reply.body.bytes(100).await.expect("a body"), format!("{version} example"));
        assert!(reply.head.field("date").is_some());
    }
    // The beginning of the preface is the beginning of other requests, too, and may come byte by byte.
    let mut stream = TcpStream::connect(address).await.expect("a server");
    for byte in b"P" {
        stream.write_all(&[*byte]).await.expect("sent");
    }
    stream
        .write_all(b"UT / HTTP/1.1\r\nHost: byte\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await
        .expect("sent");
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("an end");
    assert!(said.ends_with("Http11 byte"), "{said}");
}

#[tokio::test]
async fn interim_responses_trailers_and_streamed_bodies_go_both_ways() {
    let address = served(ServerConfig::default(), Http2Config::server(), |mut received: Received| async move {
        let mut hint = Response::new(StatusCode::new(103).expect("a code"));
        hint.fields.push("Link", "</style.css>").expect("a field");
        received.responder.interim(hint)?;
        let content = received.body.bytes(1 << 20).await?;
        let trailers = received.body.trailers().cloned().expect("they came");
        received
            .responder
            .send(Response::ok(), Body::reader(io::Cursor::new(content), None).with_trailers(trailers))
            .await
    })
    .await;
    let conn = connected(address).await;
    let mut trailers = Fields::new();
    trailers.push("X-Check", "42").expect("a field");
    let sent = vec![b'x'; 300_000];
    let body = Body::reader(io::Cursor::new(sent.clone()), None).with_trailers(trailers);
    let mut reply = conn.send(post("/"), body).await.expect("a reply");
    assert_eq!((reply.interim.len(), reply.interim[0].status().as_u16()), (1, 103));
    assert!(reply.body.bytes(1 << 20).await.expect("a body") == sent);
    assert_eq!(reply.body.trailers().expect("they came").get("x-check").expect("there").as_bytes(), b"42");
}

#[tokio::test]
async fn places_are_what_the_server_grants() {
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let held = release.clone();
    let mut http2 = Http2Config::server();
    http2.streams_max = 2;
    let address = served(ServerConfig::default(), http2, move |received: Received| {
        let held = held.clone();
        async move {
            let _held = held.acquire().await;
            echo(received).await
        }
    })
    .await;
    let conn = Arc::new(connected(address).await);
    let mut events = conn.events();
    while events.poll().is_some() {}
    loop {
        if events.wait().await == Some(StateEvent::Available(2)) {
            break;
        }
    }
    let first = conn.write(get("/1"), ()).await.expect("a place");
    let place = conn.reserve().expect("a place");
    assert_eq!((conn.available(), conn.in_flight(), conn.pending()), (0, 2, 1));
    let full = conn.write(get("/2"), ()).await.expect_err("full");
    assert_eq!(full.phase(), Phase::Prepare);
    let waits = conn.clone();
    let waits = tokio::spawn(async move { waits.send(get("/3"), ()).await });
    let second = conn.write_reserved(place, get("/2"), ()).await.expect("a place");
    release.add_permits(3);
    for exchange in [first, second] {
        assert_eq!(conn.read(exchange).await.expect("a reply").head.status(), StatusCode::OK);
    }
    assert_eq!(waits.await.expect("no panic").expect("a reply").head.status(), StatusCode::OK);
}

#[tokio::test]
async fn goaway_in_the_middle_drains_what_was_taken_and_declines_the_rest() {
    let (conn, mut raw) = Raw::pair(Http2Config::client(), &[]).await;
    let first = conn.write(get("/1"), ()).await.expect("a place");
    let second = conn.write(post("/2"), "x").await.expect("a place");
    assert_eq!((raw.opened().await, raw.opened().await), (1, 3));
    raw.write(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
    let error = conn.read(second).await.expect_err("above the last stream");
    assert_eq!(failure(&error), (Disposition::Declined, CloseReason::PeerSaidClose));
    assert!(error.failure().expect("there").is_provably_unprocessed());
    assert!(conn.is_closing());
    let error = conn.send(get("/3"), ()).await.expect_err("nothing new");
    assert!(error.failure().is_none() && error.phase() == Phase::Prepare, "{error:?}");
    raw.write(HEADERS, WHOLE, 1, OK).await;
    assert_eq!(conn.read(first).await.expect("it was taken").head.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_reset_stream_says_whether_it_was_refused_and_the_connection_goes_on() {
    let (conn, mut raw) = Raw::pair(Http2Config::client(), &[]).await;
    for (code, expected, reason) in [
        (7, Disposition::Declined, CloseReason::PeerReset { code: 7 }),
        (2, Disposition::SentNoReply, CloseReason::PeerReset { code: 2 }),
    ] {
        let exchange = conn.write(post("/"), "x").await.expect("a place");
        let stream = raw.opened().await;
        raw.write(RST_STREAM, 0, stream, &[0, 0, 0, code]).await;
        let error = conn.read(exchange).await.expect_err("reset");
        assert_eq!(failure(&error), (expected, reason));
        assert!(error.source().expect("a cause").is::<h2::Error>());
    }
    let exchange = conn.write(get("/"), ()).await.expect("a place");
    let stream = raw.opened().await;
    raw.write(HEADERS, 4, stream, OK).await;
    raw.write(DATA, 0, stream, b"half").await;
    let mut reply = conn.read(exchange).await.expect("a head");
    assert_eq!(reply.body.chunk().await.expect("content").expect("content"), "half");
    raw.write(RST_STREAM, 0, stream, &[0, 0, 0, 8]).await;
    let error = reply.body.chunk().await.expect_err("reset");
    assert_eq!(failure(&error), (Disposition::ReplyPartial, CloseReason::PeerReset { code: 8 }));
    assert_eq!(error.failure().expect("there").received, 4);
    assert!(!conn.is_closing());
}

#[tokio::test]
async fn a_connection_that_breaks_tells_what_was_not_sent() {
    let (conn, mut raw) = Raw::pair(Http2Config::client(), &[]).await;
    let first = conn.write(post("/1"), "x").await.expect("a place");
    raw.opened().await;
    drop(raw);
    let error = conn.read(first).await.expect_err("gone");
    let (disposition, reason) = failure(&error);
    assert_eq!(disposition, Disposition::SentNoReply);
    assert!(matches!(reason, CloseReason::PeerClosedEarly | CloseReason::Io(_)), "{reason:?}");
    assert!(matches!(conn.closed().await, CloseReason::PeerClosed | CloseReason::PeerClosedEarly | CloseReason::Io(_)));

    // The peer takes nothing any more: what comes behind was not sent.
    let (ours, _theirs) = tokio::io::duplex(256);
    let conn = ClientConn::http2(ours, Http2Config::client()).await.expect("room for the preface");
    let long = post("/1").field("x-long", "x".repeat(4000)).expect("a field");
    let first = conn.write(long, ()).await.expect("a place");
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let second = conn.write(post("/2"), ()).await.expect("a place");
    conn.abort();
    let error = conn.read(second).await.expect_err("aborted");
    assert_eq!(failure(&error), (Disposition::NotSent, CloseReason::Aborted));
    let error = conn.read(first).await.expect_err("aborted");
    assert_ne!(failure(&error).0, Disposition::NotSent);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_given_up() {
    let (conn, mut raw) = Raw::pair(Http2Config::client(), &[]).await;
    let exchange = conn.write(get("/"), ()).await.expect("a place");
    raw.opened().await;
    let error = conn.read(exchange).await.expect_err("dead");
    assert_eq!(failure(&error), (Disposition::SentNoReply, CloseReason::Timeout(Deadline::Ping)));
    assert_eq!(error.blame(), Blame::Network);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_lives_as_long_as_pings_are_answered() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let conn = ClientConn::http2(ours, Http2Config::client()).await.expect("a preface");
    let mut server = h2::server::handshake(theirs).await.expect("hands");
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!conn.is_closing());
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_never_opened_ends_the_exchange_and_bounds_what_is_sent() {
    let mut config = Http2Config::client();
    config.ping_after = None;
    config.timeouts.write_stall = Some(Duration::from_secs(5));
    let (conn, _raw) = Raw::pair(config, &[]).await;
    let error = conn.send(post("/"), vec![0; 1 << 20]).await.expect_err("stalled");
    // What the first window has room for (RFC 9113 §6.9.2), and not one byte more.
    assert_eq!(error.disposition(), Some(Disposition::PartlySent { bytes: 65_535 }));
    assert!(error.to_string().contains("window"), "{error}");

    // A window of nothing at all.
    let (conn, _raw) = Raw::pair(Http2Config::client(), &[0, 4, 0, 0, 0, 0]).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let mut exchange = conn.write(post("/"), "content").await.expect("a place");
    let waits = tokio::time::timeout(Duration::from_secs(3), conn.interim(&mut exchange)).await;
    assert!(waits.is_err(), "it waits");
    conn.abort();
    let error = conn.read(exchange).await.expect_err("aborted");
    assert_eq!(failure(&error), (Disposition::PartlySent { bytes: 0 }, CloseReason::Aborted));
}

const LONG_BODY: usize = 4 << 20;

/// Counts what a body's reader has given.
struct Counted(tokio::io::Take<tokio::io::Repeat>, Arc<AtomicUsize>);

impl Counted {
    fn body(given: &Arc<AtomicUsize>) -> Body {
        Body::reader(Self(tokio::io::repeat(b'x').take(LONG_BODY as u64), given.clone()), Some(LONG_BODY as u64))
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.0).poll_read(cx, buf);
        self.1.fetch_add(buf.filled().len() - before, Ordering::SeqCst);
        polled
    }
}

/// Exchanges on other streams, which go on; what the reader of the stalled one has given after them, which is no more than windows and buffers hold.
async fn stalled_at(conn: &ClientConn<TcpStream>, given: &AtomicUsize) {
    let mut last = usize::MAX;
    while last != given.load(Ordering::SeqCst) {
        last = given.load(Ordering::SeqCst);
        for _ in 0..50 {
            let mut reply = conn.send(get("/small"), ()).await.expect("a reply");
            assert_eq!(reply.body.bytes(9).await.expect("a body"), "small");
        }
    }
    // One window of 256 KiB, and a few pieces of 64 KiB that are on their way.
    assert!(last > 0 && last < 640 * 1024, "{last} bytes were given");
}

#[tokio::test]
async fn whoever_does_not_read_stops_the_sender_of_its_stream_and_nobody_else() {
    let given = Arc::new(AtomicUsize::new(0));
    let read = Arc::new(tokio::sync::Semaphore::new(0));
    let (source, may_read) = (given.clone(), read.clone());
    let address = served(ServerConfig::default(), Http2Config::server(), move |mut received: Received| {
        let (source, may_read) = (source.clone(), may_read.clone());
        async move {
            match received.head.target() {
                "/download" => received.responder.send(Response::ok(), Counted::body(&source)).await,
                "/upload" => {
                    let _go = may_read.acquire().await.expect("open");
                    let len = received.body.bytes(LONG_BODY).await?.len();
                    received.responder.send(Response::ok(), len.to_string()).await
                }
                _ => received.responder.send(Response::ok(), "small").await,
            }
        }
    })
    .await;
    let conn = connected(address).await;

    let mut download = conn.send(get("/download"), ()).await.expect("a head");
    stalled_at(&conn, &given).await;
    assert_eq!(download.body.bytes(LONG_BODY).await.expect("all of it").len(), LONG_BODY);

    given.store(0, Ordering::SeqCst);
    let upload = conn.write(post("/upload"), Counted::body(&given)).await.expect("a place");
    stalled_at(&conn, &given).await;
    read.add_permits(1);
    let mut reply = conn.read(upload).await.expect("a reply");
    assert_eq!(reply.body.bytes(9).await.expect("a body"), LONG_BODY.to_string());
}

#[tokio::test]
async fn a_client_that_opens_no_window_is_cut_off_by_the_server() {
    let mut server = ServerConfig::default();
    server.conn.timeouts.write_stall = Some(Duration::from_millis(50));
    let address = served(server, Http2Config::server(), |received: Received| async move {
        received.responder.send(Response::ok(), "never read").await
    })
    .await;
    let stream = TcpStream::connect(address).await.expect("a server");
    let (sender, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream).await.expect("hands");
    tokio::spawn(connection);
    let mut sender = sender.ready().await.expect("ready");
    let request = http::Request::get(format!("http://{address}/")).body(()).expect("a request");
    let (response, _) = sender.send_request(request, true).expect("sent");
    let mut body = response.await.expect("a head").into_body();
    let error = body.data().await.expect("an end").expect_err("cut off");
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection_and_runs_few_handlers() {
    let running = Arc::new(AtomicUsize::new(0));
    let counted = running.clone();
    let mut http2 = Http2Config::server();
    http2.streams_max = 10;
    let address = served(ServerConfig::default(), http2, move |received: Received| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            let _received = received;
            std::future::pending::<()>().await;
        }
    })
    .await;
    let stream = TcpStream::connect(address).await.expect("a server");
    let (mut sender, connection) = h2::client::handshake(stream).await.expect("hands");
    let ended = tokio::spawn(connection);
    for _ in 0..2000 {
        if poll_fn(|cx| sender.poll_ready(cx)).await.is_err() {
            break;
        }
        let request = http::Request::get(format!("http://{address}/")).body(()).expect("a request");
        let Ok((response, mut send)) = sender.send_request(request, true) else { break };
        tokio::task::yield_now().await;
        send.send_reset(h2::Reason::CANCEL);
        drop(response);
    }
    let error = ended.await.expect("no panic").expect_err("it is ended");
    // More comes in while the server ends it, and its word arrives all the same.
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{error}");
    assert!(running.load(Ordering::Relaxed) <= 10, "{running:?}");
}

#[tokio::test]
async fn heads_beyond_the_limit_are_refused() {
    let mut http2 = Http2Config::server();
    http2.head_bytes_max = 4096;
    let address = served(ServerConfig::default(), http2, echo).await;
    let stream = TcpStream::connect(address).await.expect("a server");
    let (sender, connection) = h2::client::handshake(stream).await.expect("hands");
    tokio::spawn(connection);
    let mut sender = sender.ready().await.expect("ready");
    let big =
        http::Request::get(format!("http://{address}/")).header("x-big", "x".repeat(5000)).body(()).expect("a request");
    let (response, _) = sender.send_request(big, true).expect("sent");
    assert_eq!(response.await.expect("an answer").status(), 431);
    let small = http::Request::get(format!("http://{address}/")).body(()).expect("a request");
    let (response, _) = sender.send_request(small, true).expect("sent");
    assert_eq!(response.await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_told_so() {
    let (conn, mut raw) = Raw::pair(Http2Config::client(), &[]).await;
    let exchange = conn.write(get("/"), ()).await.expect("a place");
    raw.opened().await;
    // DATA on stream 0 (RFC 9113 §6.1).
    raw.write(DATA, 0, 0, b"x").await;
    let error = conn.read(exchange).await.expect_err("broken");
    assert_eq!(failure(&error), (Disposition::SentNoReply, CloseReason::PeerWrong { code: 1 }));
    loop {
        let (kind, _, payload) = raw.read().await;
        if kind == GOAWAY {
            assert_eq!(payload[4..8], [0, 0, 0, 1]);
            break;
        }
    }
    assert!(conn.is_broken());
}

#[tokio::test]
async fn a_dropped_exchange_is_reset_and_its_place_given_back() {
    let (conn, mut raw) = Raw::pair(Http2Config::client(), &[]).await;
    let exchange = conn.write(get("/"), ()).await.expect("a place");
    let stream = raw.opened().await;
    drop(exchange);
    assert_eq!(conn.in_flight(), 0);
    loop {
        let (kind, of, payload) = raw.read().await;
        if kind == RST_STREAM {
            assert_eq!((of, &payload[..]), (stream, &[0, 0, 0, 8][..]));
            break;
        }
    }
}

/// A server of the h2 crate that pushes along with its answer. How the push went.
async fn pushing(theirs: DuplexStream) -> Result<(), h2::Error> {
    let mut server = h2::server::handshake(theirs).await?;
    let (_, mut respond) = server.accept().await.expect("a request")?;
    let promise = http::Request::get("http://example/pushed").body(()).expect("a request");
    let pushed = respond.push_request(promise).map(|mut push| {
        let mut send = push.send_response(http::Response::new(()), false).expect("sent");
        send.send_data(Bytes::from_static(b"pushed"), true).expect("sent");
    });
    respond.send_response(http::Response::new(()), true)?;
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    pushed
}

#[tokio::test]
async fn pushes_are_refused_unless_they_are_asked_for() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let server = tokio::spawn(pushing(theirs));
    let conn = ClientConn::http2(ours, Http2Config::client()).await.expect("a preface");
    let mut exchange = conn.write(get("/"), ()).await.expect("a place");
    assert!(conn.pushed(&mut exchange).await.expect("no failure").is_none());
    assert_eq!(conn.read(exchange).await.expect("a reply").head.status(), StatusCode::OK);
    server.await.expect("no panic").expect_err("the settings forbid it");

    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let server = tokio::spawn(pushing(theirs));
    let conn = ClientConn::http2(ours, Http2Config::client().accept_pushes()).await.expect("a preface");
    let mut exchange = conn.write(get("/"), ()).await.expect("a place");
    let pushed = conn.pushed(&mut exchange).await.expect("no failure").expect("one comes");
    assert_eq!(pushed.request.target(), "/pushed");
    let mut reply = pushed.reply().await.expect("a reply");
    assert_eq!(reply.body.bytes(100).await.expect("a body"), "pushed");
    assert_eq!(conn.read(exchange).await.expect("a reply").head.status(), StatusCode::OK);
    server.await.expect("no panic").expect("pushed");
}

#[tokio::test]
async fn connect_makes_a_tunnel_of_one_stream() {
    let address = served(ServerConfig::default(), Http2Config::server(), |received: Received| async move {
        if received.head.target() != "allowed:1" {
            let refusal = Response::new(StatusCode::FORBIDDEN);
            return received.responder.send(refusal, "not there").await;
        }
        let mut stream = received.responder.upgrade(Response::ok()).await?.into_stream();
        let mut line = [0; 5];
        stream.read_exact(&mut line).await.expect("five bytes");
        stream.write_all(&line.to_ascii_uppercase()).await.expect("a reader");
        stream.shutdown().await.expect("an end");
        Ok(())
    })
    .await;
    let conn = connected(address).await;
    let Connected::Tunnel(mut tunnel) = conn.connect("allowed:1", Fields::new()).await.expect("an answer") else {
        panic!("refused");
    };
    assert_eq!(conn.pending(), 1);
    tunnel.write_all(b"hello").await.expect("sent");
    let mut said = String::new();
    tunnel.read_to_string(&mut said).await.expect("an end");
    assert_eq!(said, "HELLO");
    drop(tunnel);
    let Connected::Refused(mut reply) = conn.connect("other:1", Fields::new()).await.expect("an answer") else {
        panic!("granted");
    };
    assert_eq!(reply.head.status(), StatusCode::FORBIDDEN);
    assert_eq!(reply.body.bytes(100).await.expect("a body"), "not there");
}

fn speaking(http2: Http2Config) -> Client {
    let config = ClientConfig::default();
    let connector = Connector::new(&config).with_http2(http2);
    Client::with_connector(config, connector).expect("no contradiction")
}

#[tokio::test]
async fn a_pooled_client_puts_its_requests_onto_one_connection() {
    let address = served(ServerConfig::default(), Http2Config::server(), echo).await;
    let client = speaking(Http2Config::client().prior_knowledge());
    let url = format!("http://{address}/");
    let request = || http::Request::post(&url).body(Full::<Bytes>::from("hello")).expect("a request");
    let first = client.send_http(request()).await.expect("a reply");
    assert_eq!(first.version(), http::Version::HTTP_2);
    assert_eq!(first.into_body().collect().await.expect("a body").to_bytes(), "hello");
    let tasks: Vec<_> = (0..30)
        .map(|_| {
            tokio::spawn({
                let (client, request) = (client.clone(), request());
                async move { client.send_http(request).await }
            })
        })
        .collect();
    for task in tasks {
        let response = task.await.expect("no panic").expect("a reply");
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "hello");
    }
    assert_eq!(client.counts().idle, 1);
}

#[tokio::test]
async fn what_connections_carry_is_counted_at_both_ends() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port").with_http2(Http2Config::server());
    let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
    let serving = tokio::spawn(server.serve(echo));
    let client = speaking(Http2Config::client().prior_knowledge());
    let url = format!("http://{address}/");
    for content in ["", "hello"] {
        let mut reply = client.send(Request::post(&url), content).await.expect("a reply");
        assert_eq!(reply.body.bytes(100).await.expect("a body"), content);
    }
    let broken = Body::reader(Unreadable, Some(5));
    client.send(Request::post(&url), broken).await.expect_err("its body fails");
    let ours = client.stats();
    assert_eq!((ours.requests, ours.failed, ours.dials, ours.traffic.connections), (3, 1, 1, 1));
    let traffic = ours.traffic;
    assert_eq!((traffic.completed, traffic.reused, traffic.failed.total()), (2, 1, 1));
    assert!(traffic.sent > 100 && traffic.received > 50, "{traffic:?}");
    drop(client);
    handle.shutdown(Duration::from_secs(60));
    serving.await.expect("no panic").expect("no error");
    let theirs = handle.stats();
    assert_eq!((theirs.open, theirs.accepted, theirs.traffic.connections, theirs.traffic.completed), (0, 1, 1, 2));
    // Whoever receives has no more than was sent; what was sent last may never have been read.
    assert!(theirs.traffic.sent >= traffic.received && theirs.traffic.received > 100, "{theirs:?} {traffic:?}");
}

/// A body that cannot be had.
struct Unreadable;

impl AsyncRead for Unreadable {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::other("it fails")))
    }
}

#[tokio::test]
async fn a_shutdown_lets_streams_finish_and_takes_no_more() {
    let (begun, mut has_begun) = tokio::sync::mpsc::channel(1);
    let release = Arc::new(tokio::sync::Notify::new());
    let held = release.clone();
    let server = Server::bind("127.0.0.1:0").await.expect("a port").with_http2(Http2Config::server());
    let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
    let serving = tokio::spawn(server.serve(move |received: Received| {
        let (begun, held) = (begun.clone(), held.clone());
        async move {
            begun.send(()).await.expect("the test listens");
            held.notified().await;
            echo(received).await
        }
    }));
    let conn = Arc::new(connected(address).await);
    let pending = conn.clone();
    let pending = tokio::spawn(async move { pending.send(post("/"), "last").await });
    has_begun.recv().await.expect("a request");
    handle.shutdown(Duration::from_secs(30));
    let mut events = conn.events();
    while !conn.is_closing() {
        // GOAWAY comes at some time; nothing else tells but the end.
        let _ = tokio::time::timeout(Duration::from_millis(5), events.wait()).await;
    }
    assert_eq!(conn.close_reason(), Some(CloseReason::PeerSaidClose));
    conn.send(get("/"), ()).await.expect_err("nothing new");
    release.notify_one();
    let mut reply = pending.await.expect("no panic").expect("it is finished");
    assert_eq!(reply.body.bytes(100).await.expect("a body"), "last");
    let served = serving.await.expect("no panic").expect("served");
    assert_eq!((served.connections, served.aborted), (1, 0));
}

#[tokio::test]
async fn a_handler_that_gives_no_answer_answers_500_and_harms_no_other() {
    let address = served(ServerConfig::default(), Http2Config::server(), |received: Received| async move {
        match received.head.target() {
            "/panic" => panic!("on purpose"),
            "/drop" => drop(received),
            _ => _ = echo(received).await,
        }
    })
    .await;
    let conn = connected(address).await;
    for (path, status) in [("/panic", 500), ("/drop", 500), ("/", 200)] {
        let reply = conn.send(get(path), ()).await.expect("a reply");
        assert_eq!(reply.head.status().as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn a_body_that_fails_resets_its_stream_with_the_cause() {
    struct Broken;
    impl tokio::io::AsyncRead for Broken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Err(io::Error::other("the disk is gone")))
        }
    }
    let (conn, mut raw) = Raw::pair(Http2Config::client(), &[]).await;
    let exchange = conn.write(post("/"), Body::reader(Broken, None)).await.expect("a place");
    raw.opened().await;
    let error = conn.read(exchange).await.expect_err("broken");
    assert_eq!(error.blame(), Blame::Caller);
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    let exchange = conn.write(post("/"), Body::reader(tokio::io::empty(), Some(5))).await.expect("a place");
    let error = conn.read(exchange).await.expect_err("too short");
    assert!(error.to_string().contains("5 bytes early"), "{error}");
}

fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed([String::from("localhost")]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn over_tls(cert: &str, alpn: &[&str], http2: Option<Http2Config>) -> Client {
    let config = ClientConfig::default();
    let tls = ClientTls::builder().root_certificates(cert).alpn(alpn).build().expect("usable");
    let mut connector = Connector::new(&config).with_tls(tls);
    if let Some(http2) = http2 {
        connector = connector.with_http2(http2);
    }
    Client::with_connector(config, connector).expect("no contradiction")
}

#[tokio::test]
async fn alpn_chooses_and_a_protocol_that_nobody_wanted_is_an_error_of_the_handshake() {
    let (cert, key) = certificate();
    let tls = || ServerTls::builder().certificate(&cert, &key).build().expect("usable");
    let both = Server::bind("127.0.0.1:0").await.expect("a port").with_tls(tls()).with_http2(Http2Config::server());
    let one = Server::bind("127.0.0.1:0").await.expect("a port").with_tls(tls());
    let ports = [&both, &one].map(|server| server.local_addr().expect("TCP").port());
    tokio::spawn(both.serve(echo));
    tokio::spawn(one.serve(echo));
    let get = |port: u16| {
        http::Request::get(format!("https://localhost:{port}/")).body(Empty::<Bytes>::new()).expect("a request")
    };

    let client = over_tls(&cert, &["h2", "http/1.1"], Some(Http2Config::client()));
    let versions = [http::Version::HTTP_2, http::Version::HTTP_11];
    for (port, version) in ports.into_iter().zip(versions) {
        assert_eq!(client.send_http(get(port)).await.expect("a reply").version(), version);
    }
    // A server of HTTP/1.1 alone refuses who offers h2 alone (RFC 7301 §3.2).
    let error =
        over_tls(&cert, &["h2"], Some(Http2Config::client())).send_http(get(ports[1])).await.expect_err("refused");
    assert_eq!(error.phase(), Phase::Handshake);
    // A client of HTTP/1.1 that offered h2 by mistake does not speak into the void.
    let error = over_tls(&cert, &["h2"], None).send_http(get(ports[0])).await.expect_err("not spoken");
    assert_eq!((error.phase(), error.blame()), (Phase::Handshake, Blame::Caller));
}

#[tokio::test]
async fn a_tls_stream_that_is_cut_without_its_goodbye_is_no_clean_end() {
    let (cert, key) = certificate();
    let tls = ServerTls::builder().certificate(&cert, &key).alpn(["h2"]).build().expect("usable");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("TCP").port();
    let cut = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let below = socket2::SockRef::from(&stream).try_clone().expect("a handle");
        let mut server = h2::server::handshake(tls.accept(stream)).await.expect("hands");
        let (_, mut respond) = server.accept().await.expect("a request").expect("a request");
        let mut send = respond.send_response(http::Response::new(()), false).expect("sent");
        send.send_data(Bytes::from_static(b"half"), false).expect("sent");
        // Drives until it is read, then pulls the plug below TLS.
        let _ = tokio::time::timeout(Duration::from_millis(100), server.accept()).await;
        below.shutdown(std::net::Shutdown::Both).expect("cut");
    });
    let client = over_tls(&cert, &["h2"], Some(Http2Config::client()));
    let request =
        http::Request::get(format!("https://localhost:{port}/")).body(Empty::<Bytes>::new()).expect("a request");
    let response = client.send_http(request).await.expect("a head");
    let error = response.into_body().collect().await.expect_err("cut");
    assert_eq!(error.disposition(), Some(Disposition::ReplyPartial));
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).expect("an io error");
    assert_eq!(cause.kind(), io::ErrorKind::UnexpectedEof);
    cut.await.expect("no panic");
}
