//! How connections end: by either side, by deadlines, by a broken protocol, by a hijack; what each caller is told; and what an idle one holds.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use persist_async::persist_core::{Deadline, SendError};
use persist_async::{
    ClientConn, CloseReason, Config, Disposition, Received, Request, Response, Server, ServerConfig, ServerConn,
    StatusCode,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

fn get(target: &str) -> Request {
    Request::get(target).field("Host", "test").expect("a valid field")
}

fn deep(depth: u32) -> Config {
    let mut config = Config::client();
    config.pipelining.depth = depth;
    config
}

async fn hello(received: Received) {
    let _ = received.responder.send(Response::ok(), "hello").await;
}

#[tokio::test]
async fn a_clean_end_between_messages_is_graceful_and_one_in_a_message_is_not() {
    for (sent, graceful) in
        [("HTTP/1.1 204 No Content\r\n\r\n", true), ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", false)]
    {
        let (client, mut server) = tokio::io::duplex(1_000);
        let conn = ClientConn::new(client);
        let exchange = conn.write(get("/"), ()).await.expect("written");
        server.write_all(sent.as_bytes()).await.expect("written");
        drop(server);
        let mut reply = conn.read(exchange).await.expect("a reply");
        let body = reply.body.bytes(100).await;
        let reason = conn.closed().await;
        assert_eq!((body.is_ok(), reason.is_graceful()), (graceful, graceful), "{reason}");
        if let Err(error) = body {
            assert_eq!(error.disposition(), Some(Disposition::ReplyPartial));
        }
        let error = conn.send(get("/"), ()).await.expect_err("the connection has ended");
        assert_eq!(error.disposition(), Some(Disposition::NotSent));
    }
}

#[tokio::test]
async fn bytes_on_an_idle_connection_poison_it() {
    let (client, mut server) = tokio::io::duplex(1_000);
    let conn = ClientConn::new(client);
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("written");
    assert_eq!(conn.closed().await, CloseReason::Poisoned);
    let error = conn.send(get("/"), ()).await.expect_err("poisoned");
    assert!(error.to_string().contains("bytes came that answer no request"), "{error}");
}

#[tokio::test]
async fn whoever_waits_for_a_flush_hears_of_it_from_whoever_drives() {
    let (client, mut server) = tokio::io::duplex(10);
    let conn = Arc::new(ClientConn::with_config(client, deep(2)));
    let exchange = conn.write(get("/"), ()).await.expect("written");
    let flushing = tokio::spawn({
        let conn = conn.clone();
        async move { conn.flush().await }
    });
    tokio::task::yield_now().await;
    let reading = tokio::spawn({
        let conn = conn.clone();
        async move { conn.read(exchange).await }
    });
    tokio::task::yield_now().await;
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        heard.push(server.read_u8().await.expect("the request"));
    }
    flushing.await.expect("no panic").expect("flushed, though nothing was answered");
    server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("written");
    reading.await.expect("no panic").expect("a reply");
}

#[tokio::test]
async fn a_reply_that_says_close_declines_those_behind_it() {
    let (client, mut server) = tokio::io::duplex(1_000);
    let conn = ClientConn::with_config(client, deep(3));
    let first = conn.write(get("/1"), ()).await.expect("written");
    let second = conn.write(get("/2"), ()).await.expect("written");
    conn.flush().await.expect("flushed");
    server.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await.expect("written");
    let mut reply = conn.read(first).await.expect("a reply");
    assert_eq!(reply.body.bytes(2).await.expect("the body"), "ok");
    let error = conn.read(second).await.expect_err("declined");
    assert_eq!(error.disposition(), Some(Disposition::Declined));
    assert_eq!(conn.closed().await, CloseReason::PeerSaidClose);
}

#[tokio::test]
async fn what_the_caller_must_do_first_is_said_and_not_waited_for() {
    let (client, _server) = tokio::io::duplex(1_000);
    let conn = ClientConn::with_config(client, deep(2));
    let post = Request::new(persist_async::Method::POST, "/").field("Host", "test").expect("a field");
    let _first = conn.write(&post, "x").await.expect("written");
    let error = conn.write(get("/"), ()).await.expect_err("behind a post");
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<SendError>());
    assert_eq!(cause, Some(&SendError::AnswerFirst));
    let place = conn.reserve().expect("one place is left");
    assert_eq!((conn.in_flight(), conn.available()), (2, 0));
    conn.release(place);
    assert_eq!((conn.in_flight(), conn.available()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn deadlines_pass_on_tokios_clock_and_name_themselves() {
    let (client, _server) = tokio::io::duplex(1_000);
    let mut config = Config::client();
    config.timeouts.header = Some(Duration::from_secs(30));
    let conn = ClientConn::with_config(client, config);
    let start = tokio::time::Instant::now();
    let error = conn.send(get("/"), ()).await.expect_err("nobody answers");
    let failure = error.failure().expect("a failure");
    assert_eq!(failure.disposition, Disposition::SentNoReply);
    assert_eq!(failure.reason, CloseReason::Timeout(Deadline::Header));
    assert_eq!(start.elapsed().as_secs(), 30);

    let (client, server) = tokio::io::duplex(1_000);
    let conn = ServerConn::new(server);
    let start = tokio::time::Instant::now();
    assert!(conn.read().await.expect("a graceful end").is_none());
    assert_eq!(conn.close_reason(), Some(CloseReason::Idle));
    let timeouts = Config::server().timeouts;
    let (idle, linger) = (timeouts.idle.expect("a default"), timeouts.linger.expect("a default"));
    assert_eq!(start.elapsed(), idle + linger, "the client, though told, has not closed");
    drop(client);
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_told_and_the_server_goes_on_with_others() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("tcp");
    tokio::spawn(server.serve(hello));
    let mut bad = TcpStream::connect(address).await.expect("a connection");
    bad.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await.expect("written");
    let mut told = String::new();
    bad.read_to_string(&mut told).await.expect("a reply, then the end");
    assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("Connection: close"), "{told}");
    let conn = ClientConn::new(TcpStream::connect(address).await.expect("a connection"));
    conn.send(get("/"), ()).await.expect("a reply");
}

#[tokio::test]
async fn a_client_that_closed_its_side_still_gets_its_reply() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("tcp");
    tokio::spawn(server.serve(|received| async move {
        tokio::task::yield_now().await;
        hello(received).await;
    }));
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("written");
        stream.shutdown().await.expect("half-closed");
        let mut told = String::new();
        stream.read_to_string(&mut told).await.expect("a reply, then the end");
        assert!(told.starts_with("HTTP/1.1 200 ") && told.ends_with("hello"), "{told}");
    }
}

#[tokio::test]
async fn shutdown_finishes_what_is_pending_and_closes_what_is_idle() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let (address, handle) = (server.local_addr().expect("tcp"), server.handle());
    let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
    let (go, wait) = tokio::sync::watch::channel(false);
    let serving = tokio::spawn(server.serve(move |received| {
        let (begun, mut wait) = (begun.clone(), wait.clone());
        async move {
            begun.send(()).expect("the test listens");
            wait.wait_for(|go| *go).await.expect("the test goes on");
            hello(received).await;
        }
    }));
    let idle = ClientConn::new(TcpStream::connect(address).await.expect("a connection"));
    let busy = Arc::new(ClientConn::new(TcpStream::connect(address).await.expect("a connection")));
    let pending = tokio::spawn({
        let busy = busy.clone();
        async move { busy.send(get("/"), ()).await }
    });
    has_begun.recv().await.expect("the handler has begun");
    handle.shutdown(Duration::from_secs(600));
    assert!(idle.closed().await.is_graceful());
    assert!(!serving.is_finished());
    go.send(true).expect("the handler waits");
    let mut reply = pending.await.expect("no panic").expect("a reply");
    assert!(reply.head.field("Connection").is_some_and(|value| value.as_bytes() == b"close"));
    assert_eq!(reply.body.bytes(10).await.expect("the body"), "hello");
    assert_eq!(busy.closed().await, CloseReason::PeerSaidClose);
    let served = serving.await.expect("no panic").expect("no error");
    assert_eq!((served.connections, served.aborted), (2, 0));
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn shutdown_cuts_what_is_not_finished_at_the_deadline() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let (address, handle) = (server.local_addr().expect("tcp"), server.handle());
    let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
    let serving = tokio::spawn(server.serve(move |received: Received| {
        let begun = begun.clone();
        async move {
            begun.send(()).expect("the test listens");
            std::future::pending::<()>().await;
            drop(received);
        }
    }));
    // Keeps its side open for ever, but nothing of its own is cut off.
    let mut idle = TcpStream::connect(address).await.expect("a connection");
    let conn = Arc::new(ClientConn::new(TcpStream::connect(address).await.expect("a connection")));
    let pending = tokio::spawn({
        let conn = conn.clone();
        async move { conn.send(get("/"), ()).await }
    });
    has_begun.recv().await.expect("the handler has begun");
    handle.shutdown(Duration::MAX);
    assert_eq!(idle.read(&mut [0]).await.expect("an end"), 0);
    // A second deadline can only be closer.
    handle.shutdown(Duration::ZERO);
    handle.shutdown(Duration::from_secs(3600));
    let served = serving.await.expect("no panic").expect("no error");
    assert_eq!((served.connections, served.aborted), (2, 1));
    let error = pending.await.expect("no panic").expect_err("cut");
    assert_eq!(error.disposition(), Some(Disposition::SentNoReply));
}

#[tokio::test]
async fn connections_beyond_the_maximum_wait_for_their_turn() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let mut config = ServerConfig::default();
    config.connections_max = 1;
    let server = server.with_config(config);
    let (address, handle) = (server.local_addr().expect("tcp"), server.handle());
    tokio::spawn(server.serve(hello));
    let first = ClientConn::new(TcpStream::connect(address).await.expect("a connection"));
    first.send(get("/"), ()).await.expect("a reply");
    let second = ClientConn::new(TcpStream::connect(address).await.expect("a connection"));
    let waiting = tokio::spawn(async move { second.send(get("/"), ()).await.map(|reply| reply.head.status()) });
    first.send(get("/"), ()).await.expect("a reply, since it is the one that is served");
    assert_eq!(handle.connections(), 1);
    first.close().await.expect("a graceful end");
    assert_eq!(waiting.await.expect("no panic").expect("a reply"), StatusCode::OK);
}

#[cfg(unix)]
#[tokio::test]
async fn unix_sockets_serve_and_are_dialled() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("persist.sock");
    let server = Server::bind_unix(&path).expect("a socket");
    tokio::spawn(server.serve(hello));
    let url = format!("http+unix://{}/", path.display().to_string().replace('/', "%2F"));
    let client = persist_async::Client::new();
    for reused in [false, true] {
        let mut reply = client.send(Request::get(&url), ()).await.expect("a reply");
        assert_eq!(reply.reused, reused);
        assert_eq!(reply.body.bytes(10).await.expect("the body"), "hello");
    }
}

#[tokio::test]
async fn a_hijack_loses_no_byte_and_from_parts_goes_on() {
    let (client, server) = tokio::io::duplex(1_000);
    let upgrade = get("/").field("Upgrade", "echo").and_then(|it| it.field("Connection", "upgrade")).expect("fields");
    let serving = tokio::spawn(async move {
        let conn = ServerConn::new(server);
        let received = conn.read().await.expect("no error").expect("a request");
        let response = Response::new(StatusCode::SWITCHING_PROTOCOLS).field("Upgrade", "echo").expect("a field");
        received.responder.send(response, ()).await.expect("taken");
        assert!(conn.read().await.expect("no error").is_none());
        let mut stream = conn.into_stream().expect("open");
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.expect("five bytes");
        stream.write_all(&heard).await.expect("written");
        // And back to HTTP on the same stream.
        let conn = ServerConn::from_parts(stream, b"GET /left".to_vec(), Vec::new(), Config::server());
        let received = conn.read().await.expect("no error").expect("a request");
        assert_eq!(received.head.target(), "/leftover");
        hello(received).await;
        assert!(conn.read().await.expect("a graceful end").is_none());
    });
    let conn = ClientConn::new(client);
    let reply = conn.send(upgrade, ()).await.expect("a reply");
    assert_eq!(reply.head.status(), StatusCode::SWITCHING_PROTOCOLS);
    drop(reply);
    let mut stream = conn.into_stream().expect("open");
    stream.write_all(b"hello").await.expect("written");
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).await.expect("five bytes");
    assert_eq!(&heard, b"hello");
    stream.write_all(b"over HTTP/1.1\r\nHost: test\r\n\r\n").await.expect("written");
    let mut buf = [0; 12];
    stream.read_exact(&mut buf).await.expect("a status line");
    assert_eq!(&buf, b"HTTP/1.1 200");
    drop(stream);
    serving.await.expect("no panic");
}

#[tokio::test]
async fn a_handler_upgrades_its_connection_and_gets_what_came_behind_the_request() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let (address, handle) = (server.local_addr().expect("tcp"), server.handle());
    let serving = tokio::spawn(server.serve(|received: Received| async move {
        let response = Response::new(StatusCode::SWITCHING_PROTOCOLS).field("Upgrade", "echo").expect("a field");
        let mut stream = received.responder.upgrade(response).await.expect("granted").into_stream();
        let mut heard = [0; 10];
        stream.read_exact(&mut heard).await.expect("ten bytes");
        stream.write_all(&heard).await.expect("written");
    }));
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nearly";
    stream.write_all(request).await.expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the head"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream.write_all(b" late").await.expect("written");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.expect("the echo, then the end");
    assert_eq!(heard, "early late");
    handle.shutdown(Duration::from_secs(600));
    serving.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn whoever_holds_an_exchange_of_a_hijacked_connection_finds_it_gone() {
    let (client, _server) = tokio::io::duplex(1_000);
    let conn = ClientConn::with_config(client, deep(2));
    let exchange = conn.write(get("/"), ()).await.expect("written");
    let hijacked = conn.hijack().expect("open");
    assert_eq!(hijacked.failures.len(), 1);
    assert_eq!(hijacked.failures[0].0, exchange.id());
    assert!(hijacked.unsent.is_empty());
    drop(exchange);
}

/// Counts writes.
struct Counting<S> {
    stream: S,
    writes: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counting<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_burst_leaves_in_few_writes_on_both_sides() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let (client_writes, server_writes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let server = ServerConn::new(Counting { stream: server, writes: server_writes.clone() });
    tokio::spawn(async move {
        while let Ok(Some(received)) = server.read().await {
            hello(received).await;
        }
    });
    let conn = ClientConn::with_config(Counting { stream: client, writes: client_writes.clone() }, deep(16));
    let conn = Arc::new(conn);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let conn = conn.clone();
            tokio::spawn(async move { conn.send(get("/"), ()).await.expect("a reply").body.bytes(10).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.expect("no panic").expect("the body"), "hello");
    }
    let (client, server) = (client_writes.load(Ordering::Relaxed), server_writes.load(Ordering::Relaxed));
    assert!(client <= 2 && server <= 2, "16 exchanges took {client} writes of requests and {server} of responses");
}

fn echo_targets(server: ServerConn<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>) {
    tokio::spawn(async move {
        while let Ok(Some(mut received)) = server.read().await {
            let target = received.head.target().to_owned();
            let body = received.body.bytes(1 << 20).await.expect("the body");
            received.responder.send(Response::ok(), [target.as_bytes(), &body].concat()).await.expect("taken");
        }
    });
}

#[tokio::test]
async fn requests_written_together_leave_in_one_write_and_each_reply_finds_its_own() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let writes = Arc::new(AtomicUsize::new(0));
    let conn = ClientConn::with_config(Counting { stream: client, writes: writes.clone() }, deep(8));
    let paths = ["/a", "/b", "/c", "/d"];
    let requests = paths.into_iter().map(|path| {
        assert_eq!(writes.load(Ordering::Relaxed), 0, "nothing left so far");
        (get(path), ())
    });
    let exchanges = conn.write_all(requests).await.expect("written");
    assert_eq!((conn.pending(), writes.load(Ordering::Relaxed)), (4, 1), "they leave without another await");
    echo_targets(ServerConn::new(server));
    for (exchange, path) in exchanges.into_iter().zip(paths) {
        assert_eq!(conn.read(exchange).await.expect("a reply").body.bytes(10).await.expect("content"), path);
    }
    assert!(conn.write_all::<Request, ()>([]).await.expect("nothing to write").is_empty());
}

#[tokio::test]
async fn what_comes_right_behind_a_reply_poisons_the_connection_before_the_reactor_has_heard_of_it() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("the kernel takes it");
    let (mut far, _) = listener.accept().expect("there it is");
    let conn = ClientConn::new(near);
    let exchange = conn.write(get("/"), ()).await.expect("written");
    assert!(far.read(&mut [0; 1_000]).expect("a request") > 0);
    far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("written");
    conn.read(exchange).await.expect("a reply");
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").expect("written");
    let error = conn.send(get("/next"), ()).await.expect_err("it is not its reply");
    assert_eq!(error.disposition(), Some(Disposition::NotSent));
}

#[tokio::test]
async fn content_of_any_declared_length_is_given_as_far_as_it_came() {
    for len in [5, 1 << 20, 1 << 40, u64::MAX] {
        let (client, mut server) = tokio::io::duplex(1_000);
        let conn = ClientConn::new(client);
        let exchange = conn.write(get("/"), ()).await.expect("written");
        let said = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\nhalf");
        server.write_all(said.as_bytes()).await.expect("written");
        let mut body = conn.read(exchange).await.expect("a reply").body;
        assert_eq!(body.chunk().await.expect("as it came").as_deref(), Some(&b"half"[..]), "{len}");
        drop(server);
        let error = body.chunk().await.expect_err("the rest never came");
        assert_eq!(error.disposition(), Some(Disposition::ReplyPartial), "{len}");
    }
}

#[tokio::test]
async fn a_reply_that_came_whole_is_complete_whatever_comes_behind_it() {
    for content in ["", "x", "hello"] {
        for behind in ["", "HTTP/1.1 200 OK\r\n\r\n", "\u{0}"] {
            let (client, mut server) = tokio::io::duplex(1_000);
            let conn = ClientConn::new(client);
            let exchange = conn.write(get("/"), ()).await.expect("written");
            let said = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}{behind}", content.len());
            server.write_all(said.as_bytes()).await.expect("written");
            drop(server);
            let mut reply = conn.read(exchange).await.expect("a reply");
            assert_eq!(reply.body.bytes(10).await.expect("all of it"), content, "{behind:?}");
            assert_eq!(conn.closed().await.is_graceful(), behind.is_empty(), "{behind:?}");
            let error = conn.send(get("/"), ()).await.expect_err("the connection has ended");
            assert_eq!(error.disposition(), Some(Disposition::NotSent), "{behind:?}");
        }
    }
}
