//! TLS at both ends of blocking connections.

#[path = "common/certificates.rs"]
mod certificates;
#[path = "tls/choices.rs"]
mod choices;
mod common;

use std::error::Error as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use certificates::{Authority, Identity};
use common::{Running, echo, read_head, wide_open};
use persist_sync::persist_core::{
    Blame, BoxError, ClientConfig, DialConfig, DialTimeout, Direct, Hop, Means, Phase, PoolKey, Route, RouteError,
    Router, TargetForm, Tunnel, TunnelStep,
};
use persist_sync::tls::rustls::{self, AlertDescription, CertificateError};
use persist_sync::tls::{ClientAuth, ClientTls, ServerTls, TlsConfigError};
use persist_sync::{
    Client, ClientConn, CloseReason, Connector, DialTimer, Disposition, Error, Fields, Method, PersistentStream,
    Received, Request, Response, ServerConfig, ServerConn, Stream,
};

const LONG: Duration = Duration::from_secs(30);

fn client_of(tls: ClientTls) -> Client {
    let config = ClientConfig::default();
    let connector = Connector::new(&config).with_tls(tls);
    Client::with_connector(config, connector).expect("no contradiction")
}

/// What TLS itself says, however deep it lies.
fn tls_error(error: &Error) -> Option<&rustls::Error> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// A server that shakes hands with each client, and then plays.
fn peer(tls: ServerTls, mut each: impl FnMut(usize, Stream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://localhost:{}/", listener.local_addr().expect("an address").port());
    thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            each(n, tls.accept(stream.expect("a connection")).expect("a stream"));
        }
    });
    url
}

/// A stream to the peer at `url`.
fn connect(tls: &ClientTls, url: &str) -> Stream {
    let port = url.trim_end_matches('/').rsplit(':').next().expect("a port").parse().expect("a number");
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let mut timer = DialTimer::new(DialConfig::default());
    tls.connect(stream, &"localhost".parse().expect("a host"), &mut timer).expect("shaken hands")
}

#[test]
fn a_pooled_client_reuses_connections_through_tls_though_tickets_lie_in_them() {
    let authority = Authority::new();
    let server = Running::start_tls(ServerConfig::default(), authority.server(), echo);
    let client = client_of(authority.client());
    for n in 0..20 {
        let url = format!("https://localhost:{}/", server.addr.port());
        let reply = client.send(Request::new(Method::POST, url), format!("{n}")).expect("a reply");
        assert_eq!(reply.reused, n > 0);
        assert_eq!(reply.body.bytes(10).expect("a body"), format!("{n}"));
    }
    assert_eq!(client.counts().open, 1);
    drop(client);
    assert_eq!(server.end(LONG).connections, 1);
}

#[test]
fn a_stream_tells_what_was_agreed_on() {
    let authority = Authority::new();
    let (told, was_told) = channel();
    let url = peer(authority.server(), move |_, mut stream| {
        stream.read_exact(&mut [0; 2]).expect("read");
        told.send((stream.server_name(), stream.alpn(), stream.peer_certificates().is_none())).expect("told");
    });
    let mut stream = connect(&authority.client(), &url);
    assert!(stream.is_tls() && stream.as_tcp().is_none() && stream.peer_addr().is_some());
    assert_eq!(stream.alpn().as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(stream.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(stream.server_name().as_deref(), Some("localhost"));
    assert_eq!(stream.peer_certificates().expect("some").len(), 1);
    stream.write_all(b"hi").expect("written");
    let there = was_told.recv().expect("told");
    assert_eq!(there, (Some("localhost".into()), Some(b"http/1.1".to_vec()), true));
}

#[test]
fn a_certificate_that_proves_nothing_is_an_error_of_the_handshake_by_kind() {
    let authority = Authority::new();
    let stranger = Authority::new().sign(&["localhost"]);
    type Case = (Identity, fn(&CertificateError) -> bool, &'static str);
    let cases: [Case; 4] = [
        (stranger, |error| *error == CertificateError::UnknownIssuer, "no root that is trusted"),
        (
            authority.sign(&["elsewhere.example"]),
            |error| matches!(error, CertificateError::NotValidForNameContext { .. }),
            "another host",
        ),
        (
            authority.expired(&["localhost"]),
            |error| matches!(error, CertificateError::ExpiredContext { .. }),
            "must renew",
        ),
        (
            authority.sign_changed(&["localhost"], |params| params.not_before = rcgen::date_time_ymd(2999, 1, 1)),
            |error| matches!(error, CertificateError::NotValidYetContext { .. }),
            "not valid yet",
        ),
    ];
    for (Identity { chain, key }, expected, hint) in cases {
        let tls = ServerTls::builder().certificate(chain, key).build().expect("a configuration");
        let server = Running::start_tls(ServerConfig::default(), tls, echo);
        let url = format!("https://localhost:{}", server.addr.port());
        let error = client_of(authority.client()).send(Request::get(format!("{url}/")), ()).expect_err("not trusted");
        assert_eq!((error.phase(), error.disposition()), (Phase::Handshake, Some(Disposition::NotSent)), "{error}");
        assert_eq!((error.blame(), error.destination().map(ToString::to_string)), (Blame::Peer, Some(url)));
        let cause = error.source().and_then(|cause| cause.downcast_ref());
        assert!(matches!(cause, Some(rustls::Error::InvalidCertificate(cause)) if expected(cause)), "{error:?}");
        assert!(error.hint().is_some_and(|said| said.contains(hint)), "{error}");
        server.end(LONG);
    }
}

#[test]
fn an_address_is_proved_by_its_certificate_too() {
    let authority = Authority::new();
    let server = Running::start_tls(ServerConfig::default(), authority.server(), echo);
    let url = format!("https://{}/", server.addr);
    client_of(authority.client()).send(Request::get(url), ()).expect("a reply");
    server.end(LONG);
}

#[test]
fn clients_show_their_certificate_where_one_is_asked_for() {
    let authority = Authority::new();
    let Identity { chain, key } = authority.sign(&["localhost"]);
    let who = |received: Received| {
        let known = received.responder.get_ref().is_some_and(|stream| stream.peer_certificates().is_some());
        received.responder.send(Response::ok(), if known { "known" } else { "unknown" })
    };
    let me = authority.sign(&["me.example"]);
    let with = || authority.client_builder().client_certificate(&me.chain, &me.key).build().expect("a configuration");
    for (auth, anonymous_may) in [(ClientAuth::Required, false), (ClientAuth::Optional, true)] {
        let tls = ServerTls::builder().certificate(&chain, &key).client_roots(authority.pem(), auth);
        let server = Running::start_tls(ServerConfig::default(), tls.build().expect("a configuration"), who);
        let url = format!("https://localhost:{}/", server.addr.port());
        let reply = client_of(with()).send(Request::get(url.as_str()), ()).expect("a reply");
        assert_eq!(reply.body.bytes(10).expect("a body"), "known");
        match client_of(authority.client()).send(Request::get(url.as_str()), ()) {
            Ok(reply) => {
                assert!(anonymous_may);
                assert_eq!(reply.body.bytes(10).expect("a body"), "unknown");
            }
            // TLS 1.3 tells a client only after its own side of the handshake is done.
            Err(error) => {
                assert!(!anonymous_may);
                let cause = tls_error(&error);
                let required = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
                assert!(cause == Some(&required), "{error:?}");
            }
        }
        server.end(LONG);
    }
}

#[test]
fn the_certificate_is_the_one_for_the_name_that_was_asked_for() {
    let authority = Authority::new();
    let (first, second) = (authority.sign(&["one.example"]), authority.sign(&["two.example", "*.three.example"]));
    let tls = ServerTls::builder().certificate(first.chain, first.key).certificate(second.chain, second.key);
    let url = peer(tls.build().expect("a configuration"), |_, mut stream| {
        let _ = stream.read(&mut [0]);
    });
    let port: u16 = url.trim_end_matches('/').rsplit(':').next().expect("a port").parse().expect("a number");
    let names = |host: &str| {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        let mut timer = DialTimer::new(DialConfig::default());
        authority.client().connect(stream, &host.parse().expect("a host"), &mut timer)
    };
    for host in ["one.example", "two.example", "a.three.example"] {
        names(host).expect("its own certificate");
    }
    let error = names("four.example").expect_err("the first is the default, and proves another name");
    let text = tls_error(&error).expect("of TLS").to_string();
    assert!(text.contains("one.example"), "{text}");
}

#[test]
fn ends_without_a_protocol_in_common_say_so() {
    let authority = Authority::new();
    let server = Running::start_tls(ServerConfig::default(), authority.server(), echo);
    let url = format!("https://localhost:{}/", server.addr.port());
    let other = authority.client_builder().alpn(["h2"]).build().expect("a configuration");
    let error = client_of(other.clone()).send(Request::get(url.as_str()), ()).expect_err("refused");
    let refused = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!((error.phase(), tls_error(&error)), (Phase::Handshake, Some(&refused)));
    server.end(LONG);

    let Identity { chain, key } = authority.sign(&["localhost"]);
    let tls = ServerTls::builder().certificate(chain, key).alpn(["h2"]).build().expect("a configuration");
    let url = peer(tls, |_, mut stream| {
        let _ = stream.read(&mut [0]);
    });
    let error = client_of(other).send(Request::get(url), ()).expect_err("not ours");
    assert_eq!((error.phase(), error.blame()), (Phase::Handshake, Blame::Caller));
    assert!(error.to_string().contains("\"h2\""), "{error}");
}

#[test]
fn a_body_that_ends_with_the_connection_is_whole_only_after_the_closing_alert() {
    let authority = Authority::new();
    let url = peer(authority.server(), |n, mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nall of it?").expect("written");
        if n == 0 {
            stream.shutdown(Shutdown::Write).expect("said goodbye");
        }
        // Else only the socket closes, as if somebody had cut it.
    });
    let client = client_of(authority.client());
    let whole = client.send(Request::get(url.as_str()), ()).expect("a reply");
    assert_eq!(whole.body.bytes(100).expect("all of it"), "all of it?");
    let cut = client.send(Request::get(url.as_str()), ()).expect("a head");
    let error = cut.body.bytes(100).expect_err("nobody knows");
    let failure = error.failure().expect("what became of it");
    assert_eq!((error.phase(), failure.disposition), (Phase::Body, Disposition::ReplyPartial));
    assert!(matches!(failure.reason, CloseReason::Io(_)), "{error}");
}

#[test]
fn our_end_says_goodbye() {
    let authority = Authority::new();
    let (told, was_told) = channel();
    let url = peer(authority.server(), move |_, mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("written");
        told.send(stream.read(&mut [0; 10]).map_err(|error| error.kind())).expect("told");
    });
    let conn = ClientConn::new(connect(&authority.client(), &url)).expect("a connection");
    let reply = conn.send(common::get("/"), ()).expect("a reply");
    assert_eq!(reply.body.bytes(10).expect("a body"), "ok");
    drop(conn);
    assert_eq!(was_told.recv().expect("told"), Ok(0));
}

#[test]
fn a_connection_that_was_closed_while_idle_is_not_used_again_whether_it_said_goodbye_or_not() {
    let authority = Authority::new();
    let (closed, was_closed) = channel();
    let url = peer(authority.server(), move |n, mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("written");
        if n == 0 {
            stream.shutdown(Shutdown::Write).expect("said goodbye");
        }
        drop(stream);
        closed.send(()).expect("told");
    });
    let client = client_of(authority.client());
    for _ in 0..3 {
        let reply = client.send(Request::new(Method::POST, url.as_str()), ()).expect("a reply");
        assert!(!reply.reused);
        assert_eq!(reply.body.bytes(10).expect("a body"), "ok");
        was_closed.recv().expect("closed");
    }
}

#[test]
fn a_goodbye_while_idle_is_noticed_although_the_socket_stays_open() {
    let authority = Authority::new();
    let (open, kept_open) = channel();
    let (said, was_said) = channel();
    let url = peer(authority.server(), move |_, mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("written");
        // In one piece, perhaps, with the reply: whoever reads that has read this, too.
        stream.shutdown(Shutdown::Write).expect("said goodbye");
        said.send(()).expect("told");
        open.send(stream).expect("kept");
    });
    let conn = ClientConn::new(connect(&authority.client(), &url)).expect("a connection");
    let exchange = conn.write(common::get("/"), ()).expect("written");
    was_said.recv().expect("said");
    let reply = conn.read(exchange).expect("a reply");
    assert_eq!(reply.body.bytes(10).expect("a body"), "ok");
    assert!(!conn.is_reusable());
    assert_eq!(conn.close_reason(), Some(CloseReason::PeerClosed));
    drop(kept_open);
}

#[test]
fn a_handshake_has_its_deadline_and_plain_text_is_no_handshake() {
    let authority = Authority::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut config = ClientConfig::default();
    config.dial.handshake = Some(Duration::from_millis(20));
    let connector = Connector::new(&config).with_tls(authority.client());
    let to = |listener: &TcpListener| {
        let port = listener.local_addr().expect("an address").port();
        Direct.route(&format!("https://localhost:{port}").parse().expect("a destination")).expect("a route")
    };
    let error = connector.connect(&to(&silent), &Direct).expect_err("nobody answers");
    let cause = error.source().and_then(|cause| cause.downcast_ref::<DialTimeout>());
    assert_eq!((error.phase(), cause.map(|timeout| timeout.phase)), (Phase::Handshake, Some(Phase::Handshake)));

    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let route = to(&plain);
    let serving = thread::spawn(move || {
        let (mut stream, _) = plain.accept().expect("a connection");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("written");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let connector = Connector::default().with_tls(authority.client());
    let error = connector.connect(&route, &Direct).expect_err("not TLS");
    assert!(matches!(tls_error(&error), Some(rustls::Error::InvalidMessage(_))), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("does not speak TLS")), "{error}");
    serving.join().expect("the peer is content");

    let closing = TcpListener::bind("127.0.0.1:0").expect("a port");
    let route = to(&closing);
    let serving = thread::spawn(move || {
        let (mut stream, _) = closing.accept().expect("a connection");
        stream.read_exact(&mut [0; 100]).expect("some of it");
        stream.shutdown(Shutdown::Write).expect("shut");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = connector.connect(&route, &Direct).expect_err("closed");
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    assert_eq!((error.phase(), cause.map(io::Error::kind)), (Phase::Handshake, Some(io::ErrorKind::UnexpectedEof)));
    serving.join().expect("the peer is content");
}

#[test]
fn clients_that_never_shake_hands_starve_nobody_and_garbage_is_closed() {
    let authority = Authority::new();
    let mut config = ServerConfig::default();
    config.threads_max = 1;
    let server = Running::start_tls(config, authority.server(), echo);
    let silent: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    let mut halfway = server.connect();
    halfway.write_all(&[0x16, 3, 1, 2, 0, 1]).expect("the beginning of a hello");
    let mut garbage = server.connect();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
    let client = client_of(authority.client());
    let url = format!("https://localhost:{}/", server.addr.port());
    let reply = client.send(Request::new(Method::POST, url), "hello").expect("a reply");
    assert_eq!(reply.body.bytes(10).expect("a body"), "hello");
    let mut said = Vec::new();
    // An alert, and then the end: however that reaches us.
    let _ = garbage.read_to_end(&mut said);
    assert!(said.first().is_none_or(|first| *first == 0x15), "an alert or nothing: {said:?}");
    drop((silent, halfway, client));
    server.end(LONG);
}

#[test]
fn a_client_that_does_not_finish_its_handshake_is_closed_at_the_deadline_of_a_head() {
    let authority = Authority::new();
    let mut config = ServerConfig::default();
    config.conn.timeouts.header = Some(Duration::from_millis(30));
    config.conn.timeouts.idle = None;
    let server = Running::start_tls(config, authority.server(), echo);
    for said in [&[][..], &[0x16, 3, 1, 2, 0, 1]] {
        let mut stream = server.connect();
        stream.write_all(said).expect("the beginning of a hello");
        common::within(LONG, move || drop(stream.read_to_end(&mut Vec::new())));
    }
    // Whoever has finished it is not meant.
    let client = client_of(authority.client());
    let url = format!("https://localhost:{}/", server.addr.port());
    let reply = client.send(Request::new(Method::POST, url), "hello").expect("a reply");
    assert_eq!(reply.body.bytes(10).expect("a body"), "hello");
    drop(client);
    server.end(LONG);
}

/// 64 requests of 1 MiB, answered while they are read: the second is read before the reply to the first is consumed.
#[test]
fn full_duplex_pipelining_does_not_deadlock_through_tls() {
    const REQUESTS: usize = 64;
    const BYTES: usize = 1 << 20;
    let authority = Authority::new();
    let (first_to_come, came) = channel();
    let url = peer(authority.server(), move |_, stream| {
        let conn = ServerConn::with_config(stream, common::server_config()).expect("a connection");
        let mut count = 0;
        while let Some(received) = conn.read().expect("a request") {
            count += 1;
            if count == 2 {
                first_to_come.send(()).expect("told");
            }
            let body = received.body;
            received.responder.send(Response::ok(), body).expect("echoed");
        }
        assert_eq!(count, REQUESTS);
    });
    let conn = ClientConn::with_config(connect(&authority.client(), &url), wide_open(REQUESTS as u32)).expect("one");
    let exchanges: Vec<_> =
        (0..REQUESTS).map(|n| conn.write(common::post("/"), vec![n as u8; BYTES]).expect("written")).collect();
    came.recv().expect("request 2 was read before reply 1 was");
    for (n, exchange) in exchanges.into_iter().enumerate() {
        let body = conn.read(exchange).expect("a reply").body.bytes(BYTES).expect("a body");
        assert!(body.len() == BYTES && body.iter().all(|byte| *byte == n as u8), "reply {n}");
    }
    conn.close().expect("a graceful end");
}

#[test]
fn a_stream_is_read_and_written_by_two_threads_at_once() {
    const BYTES: usize = 8 << 20;
    let authority = Authority::new();
    let url = peer(authority.server(), |_, stream| {
        // Everything must be read before anything is answered, while the client has threads for both.
        thread::scope(|scope| {
            scope.spawn(|| {
                (&stream).write_all(&vec![b'd'; BYTES]).expect("written");
                (&stream).flush().expect("flushed");
            });
            let mut all = vec![0; BYTES];
            (&stream).read_exact(&mut all).expect("read");
            assert!(all.iter().all(|byte| *byte == b'u'));
        });
        stream.shutdown(Shutdown::Write).expect("said goodbye");
        let _ = (&stream).read(&mut [0]);
    });
    let stream = connect(&authority.client(), &url);
    thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&vec![b'u'; BYTES]).expect("written");
            (&stream).flush().expect("flushed");
        });
        let mut all = Vec::new();
        (&stream).read_to_end(&mut all).expect("read");
        assert!(all.len() == BYTES && all.iter().all(|byte| *byte == b'd'));
    });
}

#[test]
fn blocking_reads_have_a_timeout() {
    let authority = Authority::new();
    let (held, hold) = channel();
    let url = peer(authority.server(), move |_, mut stream| {
        stream.read_exact(&mut [0]).expect("read");
        held.send(stream).expect("held");
    });
    let mut stream = connect(&authority.client(), &url);
    stream.write_all(b"x").expect("written");
    stream.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
    assert_eq!(stream.read(&mut [0]).expect_err("nothing comes").kind(), io::ErrorKind::TimedOut);
    assert!(stream.set_read_timeout(Some(Duration::ZERO)).is_err());
    drop(hold);
}

/// A proxy that is spoken to by TLS: `GO host:port`, `OK`.
#[derive(Debug)]
struct Secured(u16);

#[derive(Debug)]
struct Go(Vec<u8>);

impl Router for Secured {
    fn route(&self, destination: &persist_sync::persist_core::Destination) -> Result<Route, RouteError> {
        let proxy = format!("https://localhost:{}", self.0).parse().map_err(RouteError::new)?;
        Ok(Route {
            pool_key: PoolKey::from(destination),
            hops: vec![Hop::socket(proxy), Hop::through(Means::HttpConnect, destination.clone(), None)],
            target_form: TargetForm::Origin,
            fields: Fields::new(),
        })
    }

    fn tunnel(&self, hop: &Hop) -> Result<Box<dyn Tunnel>, RouteError> {
        Ok(Box::new(Go(format!("GO {}\n", hop.to.authority_with_port()).into_bytes())))
    }
}

impl Tunnel for Go {
    fn transmit(&self) -> &[u8] {
        &self.0
    }

    fn advance(&mut self, n: usize) {
        self.0.drain(..n);
    }

    fn handle_input(&mut self, input: &mut &[u8]) -> Result<TunnelStep, BoxError> {
        let Some(rest) = input.strip_prefix(b"OK\n") else { return Ok(TunnelStep::Pending) };
        *input = rest;
        Ok(TunnelStep::Done)
    }

    fn handle_eof(&mut self) -> BoxError {
        "closed".into()
    }
}

#[test]
fn tls_goes_through_tls() {
    let authority = Authority::new();
    let server = Running::start_tls(ServerConfig::default(), authority.server(), echo);
    let origin = server.addr;
    let proxy = peer(authority.server(), move |_, stream| {
        let mut asked = [0; 64];
        let n = (&stream).read(&mut asked).expect("read");
        assert!(asked[..n].starts_with(b"GO localhost:"), "{:?}", String::from_utf8_lossy(&asked[..n]));
        (&stream).write_all(b"OK\n").expect("written");
        let onward = TcpStream::connect(origin).expect("connected");
        // A reader and a writer of each of the two, until they have said goodbye.
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = io::copy(&mut &stream, &mut &onward);
                let _ = onward.shutdown(Shutdown::Write);
            });
            let _ = io::copy(&mut &onward, &mut &stream);
            let _ = stream.shutdown(Shutdown::Write);
        });
    });
    let port = proxy.trim_end_matches('/').rsplit(':').next().expect("a port").parse().expect("a number");
    let mut config = ClientConfig::default();
    config.router = Arc::new(Secured(port));
    let connector = Connector::new(&config).with_tls(authority.client());
    let client = Client::with_connector(config, connector).expect("no contradiction");
    let url = format!("https://localhost:{}/", origin.port());
    for n in 0..5 {
        let body = vec![b'x'; 1 << 20];
        let reply = client.send(Request::new(Method::POST, url.as_str()), body).expect("a reply");
        assert_eq!(reply.reused, n > 0);
        assert_eq!(reply.body.bytes(1 << 20).expect("a body").len(), 1 << 20);
    }
    drop(client);
    server.end(LONG);
}

#[test]
fn configurations_that_no_handshake_could_come_of_are_refused() {
    let authority = Authority::new();
    let Identity { chain, key } = authority.sign(&["localhost"]);
    let unreadable = ClientTls::builder().root_certificates("no certificate").build();
    assert!(matches!(unreadable, Err(TlsConfigError::NoCertificate { .. })), "{unreadable:?}");
    let foreign = ClientTls::builder().root_certificates(authority.pem()).client_certificate(&chain, "no key").build();
    assert!(matches!(foreign, Err(TlsConfigError::Unreadable { what: "private key", .. })), "{foreign:?}");
    let none = ServerTls::builder().build();
    assert!(matches!(none, Err(TlsConfigError::NoServerCertificate)), "{none:?}");
    let other = authority.sign(&["localhost"]);
    let mismatched = ServerTls::builder().certificate(&chain, other.key).build();
    assert!(matches!(mismatched, Err(TlsConfigError::Unusable { .. })), "{mismatched:?}");
    let shown = format!("{:?}", ServerTls::builder().certificate(&chain, &key).build().expect("one"));
    assert_eq!(shown, "ServerTls { alpn: [\"http/1.1\"], .. }");
}

#[test]
fn a_persistent_stream_speaks_tls_anew_on_each_connection() {
    let authority = Authority::new();
    let url = peer(authority.server(), |n, mut stream| {
        let mut said = [0; 5];
        stream.read_exact(&mut said).expect("read");
        write!(stream, "{n}: {}", String::from_utf8_lossy(&said)).expect("written");
        stream.shutdown(Shutdown::Write).expect("said goodbye");
    });
    let connector = Connector::default().with_tls(authority.client());
    let mut stream = PersistentStream::new(url.parse().expect("a destination"))
        .with_connector(connector)
        .on_connect(|greeting| greeting.stream().is_tls().then_some(()).ok_or_else(|| "in the clear".into()));
    for n in 0..3 {
        stream.write_all(b"hello").expect("written");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("to the end of this connection");
        assert_eq!(said, format!("{n}: hello"));
    }
    assert_eq!(stream.connections(), 3);
}
