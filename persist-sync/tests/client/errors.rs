//! Each public operation that can fail is made to fail: the error says what failed, where, in which phase, and what became of the request, and holds
//! its cause as a value.

use std::error::Error as StdError;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use persist_sync::error::{Ended, TooLong};
use persist_sync::persist_core::pool::PoolError;
use persist_sync::persist_core::{
    Destination, DialConfig, DialTimeout, Direct, ResumeError, Route, RouteError, Router, UrlError,
};
use persist_sync::{
    Body, Client, ClientConfig, ClientConn, Config, Connector, Disposition, Error, PersistentStream, Phase, Request,
    Resolver, Response, SendError, ServerConn, StatusCode,
};

use crate::common::{get, pair, post, read_head, wide_open};
use crate::peer;

/// One line of the table.
fn check<C: StdError + 'static>(
    operation: &str,
    error: &Error,
    phase: Phase,
    disposition: Option<Disposition>,
    place: Option<&str>,
) {
    assert_eq!((error.phase(), error.disposition()), (phase, disposition), "{operation}: {error}");
    let told = error.destination().map(ToString::to_string);
    assert_eq!(told.as_deref(), place, "{operation}: {error}");
    if let Some(place) = place {
        assert!(error.to_string().contains(place), "{operation}: {error}");
    }
    let mut cause = error.source();
    // Where a connection had the exchange, its failure is a value, too: the reason why the connection ended.
    while cause.is_some_and(|cause| !is::<C>(cause)) {
        cause = cause.and_then(StdError::source);
    }
    let by_value = cause.is_some() || error.failure().is_some();
    assert!(by_value, "{operation}: no cause of the type that was promised: {error:?}");
}

/// Itself, or inside of an `io::Error`, which does not give what it holds as its source.
fn is<C: StdError + 'static>(cause: &(dyn StdError + 'static)) -> bool {
    let held = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    cause.is::<C>() || held.is_some_and(|held| held.is::<C>())
}

/// What a reader or writer of this crate says holds an [`Error`].
fn inside(operation: &str, error: &io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    inner.unwrap_or_else(|| panic!("{operation}: only a bare {error:?}")).clone()
}

const UNSENT: Option<Disposition> = Some(Disposition::NotSent);

fn client(change: impl FnOnce(&mut ClientConfig)) -> Client {
    let mut config = ClientConfig::default();
    config.retry = persist_sync::persist_core::RetryPolicy::never();
    change(&mut config);
    Client::with_config(config).expect("no contradiction")
}

#[derive(Debug)]
struct Nowhere;

impl Router for Nowhere {
    fn route(&self, _: &Destination) -> Result<Route, RouteError> {
        Err(RouteError::new("nobody is to go there"))
    }
}

#[derive(Debug)]
struct Unknown;

impl Resolver for Unknown {
    fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::new(io::ErrorKind::NotFound, "no such name"))
    }
}

fn refused() -> (socket2::Socket, String) {
    // Bound, never listening: nobody else can take the port, and nobody answers.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let address = socket.local_addr().expect("bound").as_socket().expect("an address");
    (socket, format!("http://{address}"))
}

#[test]
fn requests_of_a_client_that_never_reach_a_connection() {
    let send = |client: &Client, url: &str| client.send(Request::get(url), ()).map(drop).expect_err("it fails");

    check::<UrlError>("send to no URL", &send(&client(|_| {}), "/path"), Phase::Prepare, UNSENT, None);
    let (_kept, url) = refused();
    let astray = client(|config| config.router = Arc::new(Nowhere));
    check::<RouteError>("send without a route", &send(&astray, "http://h/"), Phase::Route, UNSENT, Some("http://h"));
    let config = ClientConfig::default();
    let connector = Connector::new(&config).with_resolver(Arc::new(Unknown));
    let nameless = Client::with_connector(config, connector).expect("no contradiction");
    check::<io::Error>("send to no name", &send(&nameless, "http://h/"), Phase::Resolve, UNSENT, Some("http://h"));
    check::<io::Error>("send, refused", &send(&client(|_| {}), &format!("{url}/")), Phase::Connect, UNSENT, Some(&url));
    let download = client(|_| {}).download(Request::get(format!("{url}/"))).expect_err("refused");
    check::<io::Error>("download, refused", &download, Phase::Connect, UNSENT, Some(&url));
    let direct = Direct.route(&url.parse().expect("a destination")).expect("a route");
    let error = Connector::default().connect(&direct, &Direct).expect_err("refused");
    check::<io::Error>("connect", &error, Phase::Connect, UNSENT, Some(&url));
    let mut stream = PersistentStream::new(url.parse().expect("a destination"));
    stream.set_read_timeout(Some(Duration::from_millis(30))).expect("some time");
    let error = inside("read of a stream", &stream.read(&mut [0]).expect_err("nobody there"));
    check::<io::Error>("read of a stream", &error, Phase::Receive, None, Some(&url));

    let mut config = ClientConfig::default();
    (config.wait_timeout, config.dial) = (Some(Duration::from_millis(1)), DialConfig::unlimited());
    let slow = Connector::new(&config).with_dialer(Arc::new(Slow));
    let late = Client::with_connector(config, slow).expect("no contradiction");
    check::<PoolError>("send, too late", &send(&late, "http://h/"), Phase::Wait, UNSENT, Some("http://h"));
}

#[derive(Debug)]
struct Slow;

impl persist_sync::Dialer for Slow {
    fn dial(&self, _: &Destination, timer: &mut persist_sync::DialTimer) -> Result<persist_sync::Stream, Error> {
        timer.enter(Phase::Connect);
        std::thread::sleep(Duration::from_millis(100));
        Err(Error::new(Phase::Connect, "too late anyway"))
    }
}

#[test]
fn requests_of_a_client_whose_connection_ends() {
    let cases: [(&str, &str, Phase, Disposition); 4] = [
        ("no reply", "", Phase::Receive, Disposition::SentNoReply),
        ("half a head", "HTTP/1.1 200 OK\r\nConte", Phase::Body, Disposition::ReplyPartial),
        ("half a content", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha", Phase::Body, Disposition::ReplyPartial),
        ("no HTTP", "220 mail ESMTP\r\n\r\n", Phase::Receive, Disposition::SentNoReply),
    ];
    for (operation, answer, phase, disposition) in cases {
        let (url, serving) = peer(1, move |_, mut stream| {
            read_head(&mut stream);
            stream.write_all(answer.as_bytes()).expect("written");
        });
        let place = url.trim_end_matches('/');
        let client = client(|_| {});
        let sent = client.send(Request::get(&*url), ()).and_then(|reply| reply.body.bytes(100));
        let error = sent.expect_err("it fails");
        check::<Ended>(operation, &error, phase, Some(disposition), Some(place));
        assert_eq!(client.pending_to(&place.parse().expect("a destination")).failed.len(), 1);
        serving.join().expect("the peer is content");
    }
    let (url, serving) = peer(2, |n, mut stream| {
        read_head(&mut stream);
        let tag = if n == 0 { "\"a\"" } else { "\"b\"" };
        write!(stream, "HTTP/1.1 200 OK\r\nETag: {tag}\r\nContent-Length: 4\r\n\r\nha").expect("written");
    });
    let place = url.trim_end_matches('/');
    let mut body = Client::new().download(Request::get(&*url)).expect("a head");
    let error = inside("read of a download", &body.read_to_end(&mut Vec::new()).expect_err("it changed"));
    check::<ResumeError>("read of a download", &error, Phase::Body, None, Some(place));
    serving.join().expect("the peer is content");
    let (url, serving) = peer(1, |_, mut stream| {
        read_head(&mut stream);
        crate::respond(&mut stream, "more than that");
    });
    let reply = Client::new().send(Request::get(&*url), ()).expect("a reply");
    check::<TooLong>("bytes with a limit", &reply.body.bytes(3).expect_err("more"), Phase::Body, None, None);
    serving.join().expect("the peer is content");
}

#[test]
fn operations_of_a_connection_that_ask_for_what_cannot_be() {
    let sent = |operation: &str, error: &Error| check::<SendError>(operation, error, Phase::Prepare, UNSENT, None);
    let (client, _server) = pair(Config::client());
    let head = Request::get("/").field("Transfer-Encoding", "chunked").expect("a field");
    sent("write of a framing field", &client.write(head, ()).expect_err("refused"));
    let first = client.write(get("/"), ()).expect("written");
    sent("write beyond the depth", &client.write(get("/"), ()).expect_err("full"));
    sent("reserve beyond the depth", &client.reserve().expect_err("full"));
    let (other, _far) = pair(Config::client());
    sent("read of another's exchange", &other.read(first).expect_err("not its own"));
    let (exchange, mut body) = other.write_streaming(post("/"), Some(3)).expect("written");
    let error = inside("write of a body", &body.write_all(b"four").and_then(|()| body.flush()).expect_err("too much"));
    check::<SendError>("write of a body", &error, Phase::Send, None, None);
    drop((exchange, body));

    let (client, server) = pair(wide_open(2));
    let exchange = client.write(get("/"), ()).expect("written");
    let received = server.read().expect("a request").expect("one");
    let ticket = Response::new(StatusCode::CONTINUE);
    sent("a final response with an interim status", &received.responder.send(ticket, "").expect_err("refused"));
    drop(exchange);
    let broken = Body::reader(Broken, Some(10));
    let (client, _server) = pair(Config::client());
    let error = client.send(post("/"), broken).map(drop).expect_err("the reader fails");
    check::<io::Error>("send of a reader that fails", &error, Phase::Send, error.disposition(), None);
    assert!(matches!(error.disposition(), Some(Disposition::PartlySent { .. })), "{error}");
}

/// Fails when it is read.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is gone"))
    }
}

#[test]
fn operations_of_a_connection_that_is_over() {
    let over = || {
        let (near, far) = UnixStream::pair().expect("a pair");
        drop(far);
        let conn = ClientConn::new(near).expect("a connection");
        conn.closed();
        conn
    };
    let conn = over();
    check::<Ended>("write", &conn.write(get("/"), ()).expect_err("over"), Phase::Prepare, UNSENT, None);
    check::<Ended>("send", &conn.send(get("/"), ()).map(drop).expect_err("over"), Phase::Prepare, UNSENT, None);
    check::<Ended>("flush", &conn.flush().expect_err("over"), Phase::Send, None, None);
    check::<Ended>("ready", &conn.ready().expect_err("over"), Phase::Prepare, UNSENT, None);
    check::<SendError>("reserve", &conn.reserve().expect_err("over"), Phase::Prepare, UNSENT, None);
    check::<Ended>("err", &conn.err().expect("over"), Phase::Prepare, UNSENT, None);
    let error = conn.unsent_bytes().expect_err("over");
    check::<Ended>("unsent_bytes", &error, error.phase(), error.disposition(), None);
    let error = conn.hijack().map(drop).expect_err("over");
    check::<Ended>("hijack", &error, Phase::Close, None, None);
    check::<Ended>("into_stream", &over().into_stream().map(drop).expect_err("over"), Phase::Close, None, None);

    // A server's end, whose client breaks the protocol, or goes while it is answered.
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let conn = ServerConn::new(near).expect("a connection");
    far.write_all(b"no request at all\r\n\r\n").expect("written");
    check::<Ended>("read of a server", &conn.read().map(drop).expect_err("garbage"), Phase::Receive, None, None);
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let conn = ServerConn::new(near).expect("a connection");
    far.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nha").expect("written");
    let received = conn.read().expect("a request").expect("one");
    drop(far);
    let error = received.body.bytes(10).expect_err("half of it");
    check::<Ended>("read of a request's content", &error, error.phase(), error.disposition(), None);
    let error = received.responder.send(Response::ok(), vec![b'x'; 1 << 20]).expect_err("nobody hears");
    check::<Ended>("send of a response", &error, error.phase(), error.disposition(), None);
}

#[test]
fn a_dial_that_is_too_late_says_in_which_phase() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let mut config = persist_sync::PersistentStreamConfig::default();
    config.dial.handshake = Some(Duration::from_millis(20));
    config.session.retries_max = Some(0);
    let stream = PersistentStream::with_config(url.parse().expect("a destination"), config).expect("no contradiction");
    let mut stream = stream.on_connect(|greeting| Ok(greeting.read_exact(&mut [0; 5])?));
    let error = inside("write of a stream", &stream.write(b"x").expect_err("the hook is too late"));
    check::<DialTimeout>("write of a stream", &error, Phase::Handshake, UNSENT, Some(&url));
}

#[test]
fn a_retry_that_cannot_connect_does_not_take_back_that_the_request_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        for answer in [&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..], b""] {
            assert!(stream.read(&mut [0; 4096]).expect("a request") > 0);
            stream.write_all(answer).expect("written");
        }
        // Nobody is there for the retry.
        drop(listener);
    });
    let client = Client::new();
    let reply = client.send(Request::get(&*url), ()).expect("a reply");
    assert_eq!(reply.body.bytes(2).expect("the body"), "ok");
    let error = client.send(Request::put(&*url), "x").expect_err("it may have been processed");
    assert_eq!((error.phase(), error.disposition()), (Phase::Connect, Some(Disposition::SentNoReply)), "{error}");
    assert!(error.to_string().contains("; an earlier attempt: sent, no reply"), "{error}");
    serving.join().expect("no panic");
}
