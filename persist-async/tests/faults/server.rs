//! The server against clients that break off, stall, drip and lie, in each phase, and against handlers that drop what they were given. Each costs its own
//! connection and nothing else: others are served meanwhile, and at the end nothing is left to cut.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use persist_async::persist_core::{Deadline, Side};
use persist_async::{
    Accept, Body, ClientConn, CloseReason, Config, Disposition, Error, Listener, ProxyHeaders, Received, Request,
    Response, Served, Server, ServerConfig, ServerHandle, StatusCode, Stream, async_trait,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const SHORT: Duration = Duration::from_millis(30);

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// What the handler came to with a request, by its target.
type Handled = (String, Result<u64, Error>);

struct Running {
    address: SocketAddr,
    handle: ServerHandle,
    serving: JoinHandle<Served>,
    handled: UnboundedReceiver<Handled>,
}

impl Running {
    async fn start(set: fn(&mut Config)) -> Self {
        let mut config = ServerConfig::default();
        set(&mut config.conn);
        let (tell, handled) = unbounded_channel();
        let server = Server::bind("127.0.0.1:0").await.expect("a port").with_config(config);
        let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
        let serving = server.serve(move |received: Received| {
            let (tell, target) = (tell.clone(), received.head.target().to_owned());
            async move {
                let result = answer(received).await;
                let _ = tell.send((target, result));
            }
        });
        let serving = tokio::spawn(async { serving.await.expect("no error") });
        Self { address, handle, serving, handled }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// What a handler came to.
    async fn came_to(&mut self) -> Handled {
        tokio::time::timeout(LONG, self.handled.recv()).await.expect("it does not hang").expect("the server lives")
    }

    /// A good client is served.
    async fn serves(&self) {
        let client = ClientConn::new(self.connect().await);
        let good = Request::get("/good").field("Host", "test").expect("a field");
        let mut reply = tokio::time::timeout(LONG, client.send(good, ())).await.expect("in time").expect("a reply");
        assert_eq!(reply.head.status(), StatusCode::OK);
        assert_eq!(reply.body.bytes(9).await.expect("a body"), "0");
    }

    /// A good client is served, and then the server ends with nothing to cut. What is left of what handlers came to.
    async fn ends_unharmed(mut self) -> Vec<Handled> {
        self.serves().await;
        self.handle.shutdown(LONG);
        assert_eq!(self.serving.await.expect("no panic").aborted, 0);
        let mut rest = Vec::new();
        while let Some(handled) = self.handled.recv().await {
            rest.push(handled);
        }
        rest.retain(|(target, _)| target != "/good");
        rest
    }
}

/// Reads the content and says how much it was; `/large` is answered with more than sockets hold.
async fn answer(mut received: Received) -> Result<u64, Error> {
    let mut read = 0;
    match received.head.target() {
        "/drops-body" => {
            drop(received.body);
            received.responder.send(Response::ok(), "dropped").await?;
            return Ok(0);
        }
        "/refuses" => {
            drop(received.body);
            received.responder.send(Response::ok(), Body::reader(&b"too long"[..], None)).await?;
            return Ok(0);
        }
        "/drops-answer" => {
            // Polled once, without room for it, and dropped.
            let responder = received.responder;
            let large = Body::reader(tokio::io::repeat(b'x'), None);
            let sending = responder.send(Response::ok(), large);
            drop(sending);
            return Ok(0);
        }
        "/drops-all" => return Ok(0),
        "/waits" => pending().await,
        _ => {}
    }
    while let Some(piece) = received.body.chunk().await? {
        read += piece.len() as u64;
    }
    let body = match received.head.target() {
        "/large" => Body::reader(tokio::io::repeat(b'x').take(64 << 20), None),
        _ => Body::from(format!("{read}")),
    };
    received.responder.send(Response::ok(), body).await?;
    Ok(read)
}

async fn says(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("written");
}

/// All that comes until the end.
async fn hears(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset after the last words is no news.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut all)).await.expect("it ends");
    String::from_utf8_lossy(&all).into_owned()
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    String::from_utf8(head).expect("text")
}

/// Closes with a reset.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set");
}

#[tokio::test]
async fn resets_in_each_phase() {
    let server = Running::start(|_| {}).await;
    for (said, hears_head) in [
        ("", false),
        ("GE", false),
        ("GET / HTTP/1.1\r\nHost: loc", false),
        ("POST /half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf", false),
        ("POST /half HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nha", false),
        ("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\nGET /behind HTTP/1.1\r\nHost: localhost\r\n\r\n", false),
        ("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n", true),
    ] {
        let mut stream = server.connect().await;
        says(&mut stream, said).await;
        if hears_head {
            read_head(&mut stream).await;
        }
        reset(stream);
    }
    for (target, result) in server.ends_unharmed().await {
        match target.as_str() {
            "/half" => {
                let error = result.expect_err("broken off");
                let failure = error.failure().expect("what became of it");
                assert_eq!(failure.reason, CloseReason::Io(Side::Read), "{error}");
            }
            // Taken by the machine before the reset was seen, or not.
            "/large" | "/behind" => {}
            other => panic!("{other} was handled to its end, and could not be"),
        }
    }
}

#[tokio::test]
async fn stalled_and_dripping_heads_are_answered_408_in_time() {
    let server = Running::start(|config| config.timeouts.header = Some(SHORT)).await;
    for said in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nX: y\r\n"] {
        let mut stream = server.connect().await;
        says(&mut stream, said).await;
        let answer = hears(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("Connection: close"), "{answer}");
    }
    let mut dripping = server.connect().await;
    says(&mut dripping, "GET / HTTP/1.1\r\nX: ").await;
    let (mut read, mut write) = dripping.into_split();
    let drip = tokio::spawn(async move {
        // Each byte comes before the last one's deadline would.
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut first = [0; 12];
    tokio::time::timeout(LONG, read.read_exact(&mut first)).await.expect("in time").expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 408");
    drip.abort();
    drop(read);
    let _ = drip.await;
    server.ends_unharmed().await;
}

#[tokio::test]
async fn stalled_content_fails_its_handler() {
    let mut server = Running::start(|config| config.timeouts.body_idle = Some(SHORT)).await;
    let mut stalled = Vec::new();
    for _ in 0..5 {
        let mut stream = server.connect().await;
        says(&mut stream, "POST /half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf").await;
        stalled.push(stream);
    }
    for _ in &stalled {
        let error = server.came_to().await.1.expect_err("late");
        let failure = error.failure().expect("what became of it");
        assert_eq!(failure.reason, CloseReason::Timeout(Deadline::BodyIdle), "{error}");
    }
    for mut stream in stalled {
        let answer = hears(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    server.ends_unharmed().await;
}

#[tokio::test]
async fn a_client_that_takes_no_reply_meets_the_write_deadline() {
    let server = Running::start(|config| config.timeouts.write_stall = Some(SHORT)).await;
    let mut stuck = Vec::new();
    for _ in 0..5 {
        let mut stream = server.connect().await;
        says(&mut stream, "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        stuck.push(stream);
    }
    for mut stream in stuck {
        while server.handle.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let heard = hears(&mut stream).await.len();
        assert!(heard > 0 && heard < 64 << 20, "{heard} bytes: cut in the middle");
    }
    server.ends_unharmed().await;
}

#[tokio::test]
async fn a_client_that_does_not_close_is_left_at_the_lingering_deadline() {
    let server = Running::start(|config| config.timeouts.linger = Some(SHORT)).await;
    let mut stream = server.connect().await;
    says(&mut stream, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    read_head(&mut stream).await;
    // It ends by itself, since `stream` stays open.
    server.ends_unharmed().await;
    drop(stream);
}

#[tokio::test]
async fn a_half_closed_client_gets_its_replies() {
    let server = Running::start(|_| {}).await;
    let mut stream = server.connect().await;
    let requests = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbodyGET /large HTTP/1.1\r\nHost: localhost\r\n\r\n";
    says(&mut stream, requests).await;
    stream.shutdown().await.expect("shut down");
    let answer = hears(&mut stream).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2);
    assert!(answer.len() > 64 << 20 && answer.ends_with("\r\n0\r\n\r\n"), "{} bytes", answer.len());
    server.ends_unharmed().await;
}

#[tokio::test]
async fn slow_clients_are_served_byte_by_byte() {
    let mut server = Running::start(|_| {}).await;
    let mut stream = server.connect().await;
    for byte in b"POST /slow HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nslow\r\n0\r\n\r\n" {
        stream.write_all(&[*byte]).await.expect("written");
        tokio::task::yield_now().await;
    }
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    assert!(matches!(server.came_to().await, (target, Ok(4)) if target == "/slow"));
    drop(stream);
    server.ends_unharmed().await;
}

#[tokio::test]
async fn what_is_not_http_is_answered_once_and_closed() {
    let mut server = Running::start(|_| {}).await;
    for (said, status) in [
        ("\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03 a TLS hello", "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        ("GET /\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "501"),
    ] {
        let mut stream = server.connect().await;
        says(&mut stream, said).await;
        let answer = hears(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{said:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{said:?}: {answer}");
    }
    let mut stream = server.connect().await;
    let expecting = "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
    says(&mut stream, expecting).await;
    assert_eq!(read_head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n", "the handler has begun");
    says(&mut stream, "4\r\nhalfGARBAGE").await;
    let error = server.came_to().await.1.expect_err("a violation");
    assert!(matches!(error.failure().map(|failure| &failure.reason), Some(CloseReason::Protocol(_))), "{error}");
    assert!(hears(&mut stream).await.starts_with("HTTP/1.1 400 "));
    server.ends_unharmed().await;
}

#[tokio::test]
async fn what_a_handler_drops_costs_at_most_its_connection() {
    let server = Running::start(|_| {}).await;
    let mut stream = server.connect().await;
    let with_body = |target: &str, len: usize| {
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n{}", "x".repeat(len))
    };
    // A small body that nobody wants is drained, and the connection goes on.
    says(&mut stream, &with_body("/drops-body", 1000)).await;
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    let mut content = [0; 7];
    stream.read_exact(&mut content).await.expect("its content");
    // Whoever does not answer, answers 500 and closes.
    for target in ["/drops-answer", "/drops-all"] {
        let mut stream = match target {
            "/drops-answer" => std::mem::replace(&mut stream, server.connect().await),
            _ => server.connect().await,
        };
        says(&mut stream, &with_body(target, 10)).await;
        let answer = hears(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("Connection: close"), "{target}: {answer}");
    }
    drop(stream);
    server.ends_unharmed().await;
}

#[tokio::test]
async fn a_streamed_refusal_of_a_long_upload_says_close_and_arrives() {
    let server = Running::start(|_| {}).await;
    let mut stream = server.connect().await;
    says(&mut stream, "POST /refuses HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nxx").await;
    let answer = hears(&mut stream).await;
    assert!(answer.contains("\r\nConnection: close\r\n") && answer.contains("too long"), "{answer}");
    drop(stream);
    server.ends_unharmed().await;
}

#[tokio::test]
async fn a_shutdown_with_a_handler_that_never_ends_cuts_it_at_the_deadline() {
    let server = Running::start(|_| {}).await;
    let mut stream = server.connect().await;
    says(&mut stream, "GET /waits HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.serves().await;
    server.handle.shutdown(SHORT);
    let served = tokio::time::timeout(LONG, server.serving).await.expect("in time").expect("no panic");
    assert_eq!(served.aborted, 1);
    assert_eq!(hears(&mut stream).await, "", "nothing was answered that was not so");
}

/// Slow heads on `many` connections, while good clients are served.
async fn slow_heads(many: usize) {
    let server = Running::start(|config| config.timeouts.header = None).await;
    let mut slow = Vec::new();
    for n in 0..many {
        let mut stream = server.connect().await;
        says(&mut stream, &"GET / HTTP/1.1\r\nHost: slow\r\nX-Filler: "[..1 + n % 38]).await;
        slow.push(stream);
        if n % 100 == 0 {
            server.serves().await;
        }
    }
    while server.handle.connections() < many {
        tokio::task::yield_now().await;
    }
    for round in 0..20 {
        for stream in slow.iter_mut().skip(round).step_by(20) {
            // Still no end of the head, whatever was said before.
            let _ = stream.write(b"x").await;
        }
        server.serves().await;
    }
    drop(slow);
    server.ends_unharmed().await;
}

#[tokio::test]
async fn slow_heads_keep_nobody_else_waiting() {
    slow_heads(300).await;
}

#[tokio::test]
#[ignore = "needs 8,100 open files: in cargo xtask test --full"]
async fn four_thousand_slow_heads_keep_nobody_else_waiting() {
    slow_heads(4_000).await;
}

/// One connection, and never another.
#[derive(Debug)]
struct Once(Mutex<Option<DuplexStream>>);

#[async_trait]
impl Accept for Once {
    async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        let pipe = self.0.lock().expect("no panic").take();
        match pipe {
            Some(pipe) => Ok((Stream::new(pipe), None)),
            None => pending().await,
        }
    }
}

/// Gives as much as there is room for, and counts it.
struct Counting(Arc<AtomicU64>);

impl AsyncRead for Counting {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let n = buf.remaining();
        self.0.fetch_add(n as u64, Ordering::Relaxed);
        buf.initialize_unfilled();
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn replies_to_a_pipelined_burst_that_nobody_reads_are_not_kept_in_memory() {
    const PIPE: usize = 16 << 10;
    // The outbox and what is given to it beyond its limit: a reply at hand, or what a reader gave last and what it gave before.
    const OUTBOX: u64 = 64 << 10;
    const READS: u64 = 512 << 10;
    const SHORT: u64 = 4 << 10;
    for (each, burst, handlers, held_max) in [
        (2 << 20, 16, 1, OUTBOX + READS),
        (2 << 20, 16, 16, OUTBOX + READS),
        (SHORT, 2_000, 1, OUTBOX + SHORT),
        (SHORT, 2_000, 16, OUTBOX + 16 * SHORT),
    ] {
        let (client, far) = tokio::io::duplex(PIPE);
        let server = Server::new(Listener::of(Once(Mutex::new(Some(far))))).concurrent_handlers(handlers);
        let taken = Arc::new(AtomicU64::new(0));
        let counted = taken.clone();
        let serving = tokio::spawn(server.serve(move |received: Received| {
            let body = if each == SHORT {
                counted.fetch_add(each, Ordering::Relaxed);
                Body::from(vec![b'x'; each as usize])
            } else {
                Body::reader(Counting(counted.clone()), Some(each))
            };
            received.responder.send(Response::ok(), body)
        }));
        let (mut reading, mut writing) = tokio::io::split(client);
        let asking = tokio::spawn(async move {
            let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(burst);
            writing.write_all(requests.as_bytes()).await.expect("the server reads on once it is read");
            writing
        });
        // It has filled whatever there is to fill once nothing more is taken.
        let mut before = u64::MAX;
        while std::mem::replace(&mut before, taken.load(Ordering::Relaxed)) != taken.load(Ordering::Relaxed) {
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
        }
        let held = before - PIPE as u64;
        assert!(held <= held_max, "{held} of {burst} times {each} bytes were taken from {handlers} handlers");
        let (mut heard, mut piece) = (0, vec![0; 1 << 16]);
        while heard < burst as u64 * each {
            let n = reading.read(&mut piece).await.expect("the replies");
            assert!(n > 0, "ended after {heard} bytes");
            heard += n as u64;
        }
        asking.await.expect("no panic");
        serving.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_owes_a_proxy_header_has_as_long_as_for_a_head() {
    let (mut client, far) = tokio::io::duplex(100);
    let mut config = ServerConfig::default();
    config.proxy_headers = ProxyHeaders::Required;
    let within = config.conn.timeouts.header.expect("a deadline");
    let server = Server::new(Listener::of(Once(Mutex::new(Some(far))))).with_config(config);
    tokio::spawn(server.serve(|received: Received| received.responder.send(Response::ok(), ())));
    let begun = Instant::now();
    client.write_all(b"PROXY TCP4 192.0.2.1 ").await.expect("there is room");
    assert_eq!(client.read(&mut [0]).await.expect("an end"), 0);
    let took = begun.elapsed();
    assert!(took >= within && took < within + Duration::from_secs(1), "{took:?}");
}

/// Says when it was asked for a connection, and has none: but once.
#[derive(Debug)]
struct Exhausted(UnboundedSender<Instant>, Mutex<Option<DuplexStream>>, AtomicU64);

#[async_trait]
impl Accept for Exhausted {
    async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        let _ = self.0.send(Instant::now());
        if self.2.fetch_add(1, Ordering::Relaxed) == 10 {
            let pipe = self.1.lock().expect("no panic").take();
            return pipe.map(|pipe| (Stream::new(pipe), None)).ok_or(io::ErrorKind::BrokenPipe.into());
        }
        Err(io::Error::other("no descriptor is left"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_accept_is_tried_again_after_ever_longer_pauses() {
    let (tell, mut told) = unbounded_channel();
    let (_client, far) = tokio::io::duplex(100);
    let server = Server::new(Listener::of(Exhausted(tell, Mutex::new(Some(far)), AtomicU64::new(0))));
    tokio::spawn(server.serve(|received: Received| received.responder.send(Response::ok(), ())));
    let mut last = told.recv().await.expect("it is asked");
    // Once it has worked, the pauses begin anew.
    for pause in [5, 10, 20, 40, 80, 160, 320, 640, 1_000, 1_000, 0, 5, 10] {
        let next = told.recv().await.expect("it is asked again");
        let (waited, pause) = (next - last, Duration::from_millis(pause));
        assert!(waited >= pause && waited < pause + Duration::from_millis(3), "{waited:?} instead of {pause:?}");
        last = next;
    }
}

#[tokio::test]
async fn a_reply_without_framing_that_breaks_off_does_not_look_complete() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("TCP");
    tokio::spawn(server.serve(|received: Received| {
        let broken = received.head.target() == "/broken";
        let mut pieces = [Some(Ok("half".into())), broken.then(|| Err(io::Error::other("on purpose")))].into_iter();
        let body = Body::pieces(move |_| Poll::Ready(pieces.next().flatten()), None);
        received.responder.send(Response::ok(), body)
    }));
    for (target, is_whole) in [("/whole", true), ("/broken", false)] {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        says(&mut stream, &format!("GET {target} HTTP/1.0\r\n\r\n")).await;
        let mut heard = Vec::new();
        let ended = stream.read_to_end(&mut heard).await;
        assert_eq!(ended.map_err(|error| error.kind()).err(), (!is_whole).then_some(io::ErrorKind::ConnectionReset));
    }
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_told_with_its_disposition() {
    // A client of ours sees what the server's cut looks like from outside.
    let server = Running::start(|config| config.timeouts.write_stall = Some(SHORT)).await;
    let client = ClientConn::new(server.connect().await);
    let large = Request::get("/large").field("Host", "test").expect("a field");
    let mut reply = client.send(large, ()).await.expect("a head");
    while server.handle.connections() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let error = loop {
        match reply.body.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it is not complete"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.disposition(), Some(Disposition::ReplyPartial), "{error}");
    server.ends_unharmed().await;
}
