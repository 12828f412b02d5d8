//! A client connection against peers that break off, stall, drip and lie, in each phase of an exchange. Nothing hangs, and the error says what became
//! of the request. The peers are threads that block: nothing of ours is at both ends.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use persist_async::persist_core::{Deadline, Side};
use persist_async::{Body, ClientConn, CloseReason, Config, Disposition, Error, Failure, Method, Request, StatusCode};
use tokio::io::AsyncReadExt;

use super::{rounds, told};

const SHORT: Duration = Duration::from_millis(30);

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

fn get(target: &str) -> Request {
    Request::get(target).field("Host", "localhost").expect("a field")
}

fn post(target: &str) -> Request {
    Request::new(Method::POST, target).field("Host", "localhost").expect("a field")
}

/// Reads byte by byte to the end of one head.
fn read_head(stream: &mut impl Read) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
}

/// Closes with a reset.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set");
}

/// What the future comes to; a panic if that takes so long as only a hang does.
async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("it hangs")
}

/// Connects without looking at what became of the connection since.
fn connect(addr: SocketAddr) -> tokio::net::TcpStream {
    let stream = TcpStream::connect(addr).expect("connected");
    stream.set_nonblocking(true).expect("set");
    tokio::net::TcpStream::from_std(stream).expect("in a runtime")
}

/// A connection over TCP, and its peer.
async fn tcp_pair() -> (tokio::net::TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let near = tokio::net::TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
    (near, listener.accept().expect("accepted").0)
}

/// The other end of a connection, which does what a test tells it.
struct Peer {
    stream: TcpStream,
    over: Receiver<()>,
}

impl Peer {
    /// Reads one head, and says `text`.
    fn answers(&mut self, text: &str) {
        read_head(&mut self.stream);
        self.stream.write_all(text.as_bytes()).expect("written");
    }

    /// Does nothing until the client has its result.
    fn stalls(&self) {
        let _ = self.over.recv();
    }

    /// Repeats `piece`, again and again with pauses, until the client has its result.
    fn drips(&mut self, piece: &str) {
        while self.over.recv_timeout(Duration::from_millis(2)) == Err(RecvTimeoutError::Timeout) {
            if self.stream.write_all(piece.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn resets(self) {
        reset(self.stream);
    }

    /// Says that nothing more will come, and goes on listening.
    fn half_closes(self) {
        self.stream.shutdown(Shutdown::Write).expect("shut down");
        self.stalls();
    }
}

/// What a client comes to with such a peer: the status and the content of the reply, or the error.
async fn meets(
    config: Config,
    request: &Request,
    body: Body,
    peer: impl FnOnce(Peer) + Send + 'static,
) -> Result<(StatusCode, Vec<u8>), Error> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    let (tell, over) = channel();
    let serving = thread::spawn(move || peer(Peer { stream: listener.accept().expect("accepted").0, over }));
    let client = ClientConn::with_config(connect(addr), config);
    let result = in_time(async move {
        let mut reply = client.send(request, body).await?;
        Ok((reply.head.status(), reply.body.bytes(1 << 30).await?.to_vec()))
    });
    let result = result.await;
    drop(tell);
    serving.join().expect("the peer is content");
    result
}

/// One way to fail, and what must come of it.
struct Row {
    name: &'static str,
    deadlines: fn(&mut Config),
    peer: fn(Peer),
    /// One of these, since the system may notice sooner or later.
    dispositions: &'static [fn(&Failure) -> bool],
    reasons: &'static [CloseReason],
}

const NOT_SENT: fn(&Failure) -> bool = |failure| failure.disposition == Disposition::NotSent;
const PARTLY_SENT: fn(&Failure) -> bool =
    |failure| matches!(failure.disposition, Disposition::PartlySent { bytes } if bytes > 0 && bytes == failure.sent);
const NO_REPLY: fn(&Failure) -> bool =
    |failure| failure.disposition == Disposition::SentNoReply && failure.received == 0 && failure.sent > 0;
const PARTIAL: fn(&Failure) -> bool =
    |failure| failure.disposition == Disposition::ReplyPartial && failure.received > 0;

const READ: CloseReason = CloseReason::Io(Side::Read);
const WRITE: CloseReason = CloseReason::Io(Side::Write);
const EARLY: CloseReason = CloseReason::PeerClosedEarly;

fn none(_: &mut Config) {}

async fn check(what: &str, rows: &[Row], request: &Request, body: fn() -> Body) {
    for row in rows {
        let mut seen = BTreeMap::new();
        for _ in 0..rounds() {
            let mut config = Config::client();
            (row.deadlines)(&mut config);
            let error = meets(config, request, body(), row.peer).await.expect_err(row.name);
            let failure =
                error.failure().unwrap_or_else(|| panic!("{}: nothing is said of the request: {error}", row.name));
            assert!(row.dispositions.iter().any(|as_expected| as_expected(failure)), "{}: {failure:?}", row.name);
            assert!(row.reasons.contains(&failure.reason), "{}: {failure:?}", row.name);
            assert!(!failure.reused && failure.age <= LONG, "{}: {failure:?}", row.name);
            let disposition = match failure.disposition {
                Disposition::PartlySent { .. } => "partly sent".to_owned(),
                other => other.to_string(),
            };
            *seen.entry(disposition).or_default() += 1;
        }
        told(what, row.name, &seen);
    }
}

#[tokio::test]
async fn resets_in_each_phase() {
    let rows = [
        Row {
            name: "before anything was read",
            deadlines: none,
            peer: Peer::resets,
            dispositions: &[NOT_SENT, NO_REPLY],
            reasons: &[READ, WRITE],
        },
        Row {
            name: "when the request was read",
            deadlines: none,
            peer: |mut peer| {
                peer.answers("");
                peer.resets();
            },
            dispositions: &[NO_REPLY],
            reasons: &[READ],
        },
        Row {
            name: "after an interim response",
            deadlines: none,
            peer: |mut peer| {
                peer.answers("HTTP/1.1 103 Early Hints\r\n\r\n");
                peer.resets();
            },
            dispositions: &[NO_REPLY],
            reasons: &[READ],
        },
        Row {
            name: "in the reply's head",
            deadlines: none,
            peer: |mut peer| {
                peer.answers("HTTP/1.1 200 OK\r\nContent-Le");
                peer.resets();
            },
            dispositions: &[PARTIAL],
            reasons: &[READ],
        },
        Row {
            name: "in content of a known length",
            deadlines: none,
            peer: |mut peer| {
                peer.answers("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
                peer.resets();
            },
            dispositions: &[PARTIAL],
            reasons: &[READ],
        },
        Row {
            name: "in a chunk's size",
            deadlines: none,
            peer: |mut peer| {
                peer.answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n5");
                peer.resets();
            },
            dispositions: &[PARTIAL],
            reasons: &[READ],
        },
        Row {
            name: "in content that only an orderly close ends",
            deadlines: none,
            peer: |mut peer| {
                peer.answers("HTTP/1.1 200 OK\r\n\r\nhalf");
                peer.resets();
            },
            dispositions: &[PARTIAL],
            reasons: &[READ],
        },
    ];
    check("reset", &rows, &get("/"), Body::empty).await;
}

#[tokio::test]
async fn breaks_during_an_upload() {
    let rows = [
        Row {
            name: "a reset in the middle",
            deadlines: none,
            peer: |mut peer| {
                peer.answers("");
                peer.stream.read_exact(&mut [0; 5000]).expect("some of it");
                peer.resets();
            },
            dispositions: &[PARTLY_SENT],
            reasons: &[READ, WRITE],
        },
        Row {
            name: "a close in the middle",
            deadlines: none,
            peer: |mut peer| peer.answers(""),
            dispositions: &[PARTLY_SENT],
            reasons: &[READ, WRITE, EARLY],
        },
        Row {
            name: "a half-close in the middle",
            deadlines: none,
            peer: |mut peer| {
                peer.answers("");
                peer.half_closes();
            },
            dispositions: &[PARTLY_SENT],
            reasons: &[EARLY],
        },
        Row {
            name: "a peer that takes no more",
            deadlines: |config| config.timeouts.write_stall = Some(SHORT),
            peer: |mut peer| {
                peer.answers("");
                peer.stalls();
            },
            dispositions: &[PARTLY_SENT],
            reasons: &[CloseReason::Timeout(Deadline::WriteStall)],
        },
        Row {
            name: "a peer that takes a little now and then",
            deadlines: |config| config.timeouts.total = Some(Duration::from_millis(100)),
            peer: |mut peer| {
                while peer.over.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
                    if peer.stream.read(&mut [0; 100]).is_err() {
                        return;
                    }
                }
            },
            dispositions: &[PARTLY_SENT],
            reasons: &[CloseReason::Timeout(Deadline::Total)],
        },
    ];
    check("upload from memory", &rows, &post("/"), || Body::from(vec![b'x'; 16 << 20])).await;
    check("upload from a reader", &rows, &post("/"), || Body::reader(tokio::io::repeat(b'x'), Some(16 << 20))).await;
    check("chunked upload", &rows, &post("/"), || Body::reader(tokio::io::repeat(b'x').take(16 << 20), None)).await;
}

#[tokio::test]
async fn closes_in_each_phase() {
    let rows = [
        Row {
            name: "in place of a reply",
            deadlines: none,
            peer: |mut peer| peer.answers(""),
            dispositions: &[NO_REPLY],
            reasons: &[EARLY],
        },
        Row {
            name: "half, in place of a reply",
            deadlines: none,
            peer: Peer::half_closes,
            dispositions: &[NO_REPLY, NOT_SENT],
            reasons: &[EARLY],
        },
        Row {
            name: "after an interim response",
            deadlines: none,
            peer: |mut peer| peer.answers("HTTP/1.1 100 Continue\r\n\r\n"),
            dispositions: &[NO_REPLY],
            reasons: &[EARLY],
        },
        Row {
            name: "in the reply's head",
            deadlines: none,
            peer: |mut peer| peer.answers("HTTP/1.1 200 OK\r\nX: y\r\n"),
            dispositions: &[PARTIAL],
            reasons: &[EARLY],
        },
        Row {
            name: "in content of a known length",
            deadlines: none,
            peer: |mut peer| peer.answers("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
            dispositions: &[PARTIAL],
            reasons: &[EARLY],
        },
        Row {
            name: "before the last chunk",
            deadlines: none,
            peer: |mut peer| peer.answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
            dispositions: &[PARTIAL],
            reasons: &[EARLY],
        },
        Row {
            name: "in the trailer section",
            deadlines: none,
            peer: |mut peer| peer.answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n"),
            dispositions: &[PARTIAL],
            reasons: &[EARLY],
        },
    ];
    check("close", &rows, &get("/"), Body::empty).await;
}

#[tokio::test]
async fn stalls_and_drips_meet_the_deadline_of_their_phase() {
    let rows = [
        Row {
            name: "no reply",
            deadlines: |config| config.timeouts.header = Some(SHORT),
            peer: |peer| peer.stalls(),
            dispositions: &[NO_REPLY],
            reasons: &[CloseReason::Timeout(Deadline::Header)],
        },
        Row {
            name: "no reply to the whole exchange",
            deadlines: |config| config.timeouts.total = Some(SHORT),
            peer: |peer| peer.stalls(),
            dispositions: &[NO_REPLY],
            reasons: &[CloseReason::Timeout(Deadline::Total)],
        },
        Row {
            name: "only interim responses",
            deadlines: |config| {
                config.timeouts.header = Some(SHORT);
                config.limits.interim_max = u16::MAX;
            },
            peer: |mut peer| {
                peer.answers("");
                peer.drips("HTTP/1.1 102 Processing\r\n\r\n");
            },
            dispositions: &[NO_REPLY],
            reasons: &[CloseReason::Timeout(Deadline::Header)],
        },
        Row {
            name: "half a head",
            deadlines: |config| config.timeouts.header = Some(SHORT),
            peer: |mut peer| {
                peer.answers("HTTP/1.1 200 OK\r\nContent-");
                peer.stalls();
            },
            dispositions: &[PARTIAL],
            reasons: &[CloseReason::Timeout(Deadline::Header)],
        },
        Row {
            name: "a head that drips",
            deadlines: |config| config.timeouts.header = Some(SHORT),
            peer: |mut peer| {
                peer.answers("HTTP/1.1 200 OK\r\nX: ");
                peer.drips("x");
            },
            dispositions: &[PARTIAL],
            reasons: &[CloseReason::Timeout(Deadline::Header)],
        },
        Row {
            name: "half the content",
            deadlines: |config| config.timeouts.body_idle = Some(SHORT),
            peer: |mut peer| {
                peer.answers("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
                peer.stalls();
            },
            dispositions: &[PARTIAL],
            reasons: &[CloseReason::Timeout(Deadline::BodyIdle)],
        },
        Row {
            name: "content that drips",
            deadlines: |config| config.timeouts.total = Some(Duration::from_millis(100)),
            peer: |mut peer| {
                peer.answers("HTTP/1.1 200 OK\r\n\r\n");
                peer.drips("x");
            },
            dispositions: &[PARTIAL],
            reasons: &[CloseReason::Timeout(Deadline::Total)],
        },
        Row {
            name: "chunk extensions that drip",
            deadlines: |config| config.timeouts.total = Some(Duration::from_millis(100)),
            peer: |mut peer| {
                peer.answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;");
                peer.drips("x");
            },
            dispositions: &[PARTIAL],
            reasons: &[CloseReason::Timeout(Deadline::Total)],
        },
    ];
    check("stall or drip", &rows, &get("/"), Body::empty).await;
}

#[tokio::test]
async fn what_is_not_http_is_a_violation_of_the_peers() {
    for said in
        ["220 smtp.example ESMTP\r\n", "\x16\x03\x01\x02\0\x01", "HTTP/2.0 200 OK\r\n\r\n", "\0\0\x12\x04\0\0\0\0\0"]
    {
        let error = meets(Config::client(), &get("/"), Body::empty(), move |mut peer| {
            peer.answers(said);
            peer.half_closes();
        })
        .await
        .expect_err(said);
        let failure = error.failure().expect("what became of it");
        assert!(matches!(failure.reason, CloseReason::Protocol(_)), "{said:?}: {failure:?}");
        assert!(
            matches!(failure.disposition, Disposition::SentNoReply | Disposition::ReplyPartial),
            "{said:?}: {failure:?}"
        );
    }
}

#[tokio::test]
async fn a_slow_peer_is_not_a_broken_one() {
    let reply = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nslow\r\n0\r\nX-Sum: 1\r\n\r\n";
    let mut config = Config::client();
    config.timeouts.header = Some(LONG);
    config.timeouts.body_idle = Some(LONG);
    let got = meets(config, &get("/"), Body::empty(), move |mut peer| {
        peer.answers("");
        for byte in reply.bytes() {
            peer.stream.write_all(&[byte]).expect("written");
        }
        peer.stalls();
    })
    .await;
    assert_eq!(got.expect("a reply"), (StatusCode::OK, b"slow".to_vec()));
}

#[tokio::test]
async fn content_without_framing_ends_with_an_orderly_close() {
    let got = meets(Config::client(), &get("/"), Body::empty(), |mut peer| {
        peer.answers("HTTP/1.1 200 OK\r\n\r\nall there is");
    })
    .await;
    assert_eq!(got.expect("a reply"), (StatusCode::OK, b"all there is".to_vec()));
}

#[tokio::test]
async fn a_reply_that_came_before_a_break_is_delivered_40_of_40() {
    let breaks: [fn(Peer); 3] = [Peer::resets, drop, Peer::half_closes];
    let bodies: [fn() -> Body; 4] = [
        Body::empty,
        || Body::from(vec![b'x'; 16 << 20]),
        || Body::reader(tokio::io::repeat(b'x'), Some(16 << 20)),
        || Body::reader(tokio::io::repeat(b'x'), None),
    ];
    let mut delivered = 0;
    let count = 40 * rounds();
    for n in 0..count {
        let and_then = breaks[n % breaks.len()];
        let (status, content) = meets(Config::client(), &post("/"), bodies[n % bodies.len()](), move |mut peer| {
            peer.answers("HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo big\n");
            and_then(peer);
        })
        .await
        .unwrap_or_else(|error| panic!("{n}: {error}: {:?}", error.failure()));
        assert_eq!((status, &content[..]), (StatusCode::CONTENT_TOO_LARGE, &b"too big\n"[..]));
        delivered += 1;
    }
    assert_eq!(delivered, count);
    println!(
        "| upload | a reply, and then a reset, a close or a half-close | {delivered} of {count} | delivered: {delivered} |"
    );
}

#[tokio::test]
async fn content_goes_out_after_the_deadline_of_100_continue() {
    let request = post("/").field("Expect", "100-continue").expect("a field");
    let mut config = Config::client();
    config.timeouts.expect_continue = Some(SHORT);
    let got = meets(config, &request, Body::from("body"), |mut peer| {
        read_head(&mut peer.stream);
        // Older servers do not answer expectations: RFC 9110 §10.1.1 has the client go on.
        let mut body = [0; 4];
        peer.stream.read_exact(&mut body).expect("the body");
        peer.stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("written");
        assert_eq!(&body, b"body");
    })
    .await;
    assert_eq!(got.expect("a reply").0, StatusCode::NO_CONTENT);
}

/// A client whose first exchange was answered, and its peer.
async fn used() -> (ClientConn<tokio::net::TcpStream>, TcpStream) {
    let (near, mut far) = tcp_pair().await;
    let client = ClientConn::new(near);
    let exchange = client.write(get("/"), ()).await.expect("written");
    read_head(&mut far);
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("written");
    assert_eq!(client.read(exchange).await.expect("a reply").body.bytes(9).await.expect("a body"), "ok");
    (client, far)
}

#[tokio::test]
async fn an_idle_connection_that_ended_or_was_poisoned_takes_no_request() {
    type Happens = fn(TcpStream) -> Option<TcpStream>;
    type Is = fn(&CloseReason) -> bool;
    let happens: [(&str, Happens, Is); 6] = [
        ("a close", |_| None, |reason| *reason == CloseReason::PeerClosed),
        (
            "a reset",
            |far| {
                reset(far);
                None
            },
            |reason| *reason == READ,
        ),
        (
            "a half-close",
            |far| {
                far.shutdown(Shutdown::Write).expect("shut down");
                Some(far)
            },
            |reason| *reason == CloseReason::PeerClosed,
        ),
        ("a second reply", says::<0>, |reason| *reason == CloseReason::Poisoned),
        ("garbage", says::<1>, |reason| *reason == CloseReason::Poisoned),
        ("a late 408", says::<2>, |reason| *reason == CloseReason::PeerClosed),
    ];
    fn says<const N: usize>(mut far: TcpStream) -> Option<TcpStream> {
        let said = [
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            "\0",
            "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n",
        ];
        far.write_all(said[N].as_bytes()).expect("written");
        Some(far)
    }
    for (name, happens, as_expected) in happens {
        for method in [Method::GET, Method::POST].iter().cycle().take(2 * rounds()) {
            let (client, far) = used().await;
            // Where the peer keeps the socket, what the second request would have sent is seen.
            let far = happens(far);
            while client.is_reusable() {
                // What happened is on its way.
                thread::yield_now();
            }
            let request = Request::new(method.clone(), "/next").field("Host", "localhost").expect("a field");
            let error = in_time(client.send(request, ())).await.expect_err(name);
            assert_eq!(error.disposition(), Some(Disposition::NotSent), "{name}: {error}");
            assert!(client.close_reason().is_some_and(|reason| as_expected(&reason)), "{name}: {error}");
            let mut seen = Vec::new();
            if let Some(mut far) = far {
                drop(client);
                let _ = far.read_to_end(&mut seen);
            }
            assert!(seen.is_empty(), "{name}: {seen:?}");
        }
        let count = 2 * rounds();
        println!("| idle | {name} | {count} of {count} | not sent: {count} |");
    }
}

#[tokio::test]
async fn stray_empty_lines_between_replies_are_harmless() {
    let (client, mut far) = used().await;
    far.write_all(b"\r\n\r\n").expect("written");
    let exchange = client.write(get("/"), ()).await.expect("written");
    read_head(&mut far);
    far.write_all(b"\r\nHTTP/1.1 204 No Content\r\n\r\n").expect("written");
    assert_eq!(client.read(exchange).await.expect("a reply").head.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_unwanted_reply_that_never_ends_costs_the_connection_at_its_deadline() {
    let (near, mut far) = tcp_pair().await;
    let mut config = Config::client();
    config.timeouts.drain = Some(SHORT);
    let client = ClientConn::with_config(near, config);
    let exchange = client.write(get("/"), ()).await.expect("written");
    read_head(&mut far);
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").expect("written");
    drop(client.read(exchange).await.expect("a head"));
    assert_eq!(in_time(client.closed()).await, CloseReason::Timeout(Deadline::Drain));
}

#[tokio::test]
async fn a_peer_that_never_closes_is_left_at_the_lingering_deadline() {
    let (near, far) = tokio::net::UnixStream::pair().expect("a pair");
    let mut config = Config::client();
    config.timeouts.linger = Some(SHORT);
    let client = ClientConn::with_config(near, config);
    let closed = in_time(client.close()).await.expect("our own end, in order");
    assert_eq!(closed.reason, CloseReason::OurClose);
    drop(far);
}

#[tokio::test]
async fn idle_and_aged_connections_end_by_themselves() {
    for (set, reason) in [
        ((|config| config.timeouts.idle = Some(SHORT)) as fn(&mut Config), CloseReason::Idle),
        (|config| config.timeouts.max_age = Some(SHORT), CloseReason::MaxAge),
    ] {
        let (near, _far) = tcp_pair().await;
        let mut config = Config::client();
        set(&mut config);
        let client = ClientConn::with_config(near, config);
        let ended = in_time(client.closed()).await;
        assert_eq!(ended, reason);
    }
}
