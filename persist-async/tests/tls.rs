//! TLS at both ends: whom a client trusts, whom a server lets in, when a body that the connection ends is whole, and what each failure says.

mod certificates;

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certificates::Authority;
use persist_async::persist_core::{
    BoxError, Destination, Direct, Hop, Means, PoolKey, Route, RouteError, Router, TargetForm, Tunnel, TunnelStep,
};
use persist_async::tls::rustls::{AlertDescription, CertificateError, Error as TlsError, ProtocolVersion};
use persist_async::tls::{ClientAuth, ClientTls, ServerTls, TlsConfigError};
use persist_async::{
    Client, ClientConfig, ClientConn, Connector, Disposition, Phase, Request, Response, Server, ServerConn, Stream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server with TLS that answers with the target.
async fn serve(tls: ServerTls) -> SocketAddr {
    let server = Server::bind("127.0.0.1:0").await.expect("a port").with_tls(tls);
    let address = server.local_addr().expect("tcp");
    tokio::spawn(server.serve(|received| async move {
        let answer = received.head.target().to_string();
        received.responder.send(Response::ok(), answer).await
    }));
    address
}

fn client(tls: ClientTls) -> Client {
    client_with(tls, ClientConfig::default())
}

fn client_with(tls: ClientTls, config: ClientConfig) -> Client {
    let connector = Connector::new(&config).with_tls(tls);
    Client::with_connector(config, connector).expect("no contradiction")
}

async fn connect(tls: ClientTls, url: &str) -> persist_async::Result<Stream> {
    let route = Route::direct(&url.parse().expect("a destination"));
    Connector::default().with_tls(tls).connect(&route, &Direct).await
}

fn tls_error(error: &persist_async::Error) -> &TlsError {
    let cause = error.source().and_then(|source| source.downcast_ref());
    cause.unwrap_or_else(|| panic!("a TLS error, not {error:?}"))
}

#[tokio::test]
async fn requests_go_over_one_session_and_its_tickets_are_no_bytes_of_the_server() {
    let authority = Authority::new();
    let address = serve(authority.server()).await;
    let client = client(authority.client());
    for n in 0..20 {
        let url = format!("https://localhost:{}/{n}", address.port());
        let mut reply = client.send(Request::get(url), ()).await.expect("a reply");
        assert_eq!(reply.reused, n > 0);
        assert_eq!(reply.body.bytes(100).await.expect("the content"), format!("/{n}"));
    }
    assert_eq!(client.counts().open, 1);
}

#[tokio::test]
async fn each_end_can_tell_what_was_agreed_on() {
    let authority = Authority::new();
    let own = authority.sign(&["localhost"]);
    let server = ServerTls::builder()
        .certificate(own.chain, own.key)
        .client_roots(&authority.pem, ClientAuth::Required)
        .build()
        .expect("a configuration");
    let me = authority.sign(&["me"]);
    let tls = ClientTls::builder().root_certificates(&authority.pem).client_certificate(me.chain, me.key);
    let tls = tls.build().expect("a configuration");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
    let accepted = async {
        let mut stream = server.accept(listener.accept().await.expect("a connection").0);
        assert_eq!(stream.alpn(), None, "hands were not shaken yet");
        assert_eq!(stream.read(&mut [0; 8]).await.expect("hands are shaken"), 5);
        stream
    };
    let connected = async {
        let mut stream = connect(tls, &url).await.expect("hands are shaken");
        stream.write_all(b"hello").await.expect("written");
        stream.flush().await.expect("flushed");
        stream
    };
    let (theirs, ours) = tokio::join!(accepted, connected);
    for stream in [&theirs, &ours] {
        assert_eq!(stream.alpn().as_deref(), Some(&b"http/1.1"[..]));
        assert_eq!(stream.server_name().as_deref(), Some("localhost"));
        assert_eq!(stream.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(stream.peer_certificates().map(|chain| chain.len()), Some(1));
        assert!(stream.as_tcp().is_none() && stream.peer_addr().is_some());
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_is_told_as_what_it_is() {
    let (authority, other) = (Authority::new(), Authority::new());
    let expired = authority.sign_expired(&["localhost"]);
    let elsewhere = authority.sign(&["elsewhere.test"]);
    let unknown = other.sign(&["localhost"]);
    type Expected = fn(&CertificateError) -> bool;
    let cases: [(_, Expected, _); 3] = [
        (
            expired,
            |error| matches!(error, CertificateError::ExpiredContext { .. } | CertificateError::Expired),
            "renew",
        ),
        (
            elsewhere,
            |error| {
                matches!(error, CertificateError::NotValidForNameContext { .. } | CertificateError::NotValidForName)
            },
            "another host",
        ),
        (unknown, |error| matches!(error, CertificateError::UnknownIssuer), "add its root"),
    ];
    for (identity, expected, hint) in cases {
        let tls = ServerTls::builder().certificate(identity.chain, identity.key).build().expect("a configuration");
        let address = serve(tls).await;
        let url = format!("https://localhost:{}/", address.port());
        let error = client(authority.client()).send(Request::get(&url), ()).await.expect_err("not trusted");
        assert_eq!((error.phase(), error.disposition()), (Phase::Handshake, Some(Disposition::NotSent)));
        let TlsError::InvalidCertificate(cause) = tls_error(&error) else { panic!("{error}") };
        assert!(expected(cause), "{error}");
        let text = error.to_string();
        assert!(text.contains(hint) && text.contains(url.trim_end_matches('/')), "{text}");
    }
}

#[tokio::test]
async fn ends_without_a_common_protocol_do_not_come_together() {
    let authority = Authority::new();
    let address = serve(authority.server_builder().alpn(["h2"]).build().expect("a configuration")).await;
    let url = format!("https://localhost:{}/", address.port());
    let error = client(authority.client()).send(Request::get(&url), ()).await.expect_err("no common protocol");
    assert_eq!(error.phase(), Phase::Handshake);
    assert_eq!(tls_error(&error), &TlsError::AlertReceived(AlertDescription::NoApplicationProtocol));
    // A client that offers what it does not speak, and gets it.
    let both = ClientTls::builder().root_certificates(&authority.pem).alpn(["h2", "http/1.1"]).build();
    let error = client(both.expect("a configuration")).send(Request::get(&url), ()).await.expect_err("h2 was chosen");
    assert_eq!(error.phase(), Phase::Handshake);
    assert!(error.to_string().contains("h2"), "{error}");
    // A server that knows nothing of ALPN speaks HTTP/1.1.
    let none: [&str; 0] = [];
    let address = serve(authority.server_builder().alpn(none).build().expect("a configuration")).await;
    let url = format!("https://localhost:{}/", address.port());
    client(authority.client()).send(Request::get(&url), ()).await.expect("a reply");
}

#[tokio::test]
async fn plain_and_secured_ends_tell_each_other_apart() {
    let authority = Authority::new();
    let plain = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://localhost:{}/", plain.local_addr().expect("an address").port());
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.expect("a connection");
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
    });
    let error = client(authority.client()).send(Request::get(&url), ()).await.expect_err("no TLS there");
    assert!(matches!(tls_error(&error), TlsError::InvalidMessage(_)), "{error:?}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    let address = serve(authority.server()).await;
    let error = client(authority.client()).send(Request::get(format!("http://{address}/")), ()).await;
    let error = error.expect_err("no plain HTTP there");
    assert!(matches!(error.phase(), Phase::Receive | Phase::Body), "{error}");
}

#[tokio::test]
async fn a_body_that_the_connection_ends_is_whole_only_after_the_closing_alert() {
    let authority = Authority::new();
    for (goodbye, whole) in [(true, true), (false, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://localhost:{}/", listener.local_addr().expect("an address").port());
        let tls = authority.server();
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.expect("a connection");
            let acceptor = tokio_rustls::TlsAcceptor::from(tls.config().clone());
            let mut stream = acceptor.accept(tcp).await.expect("hands are shaken");
            let _ = stream.read(&mut [0; 1024]).await.expect("a request");
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it").await.expect("written");
            stream.flush().await.expect("flushed");
            if goodbye {
                stream.shutdown().await.expect("the alert");
            } else {
                stream.get_mut().0.shutdown().await.expect("shut down beneath the session");
            }
        });
        let mut reply = client(authority.client()).send(Request::get(&url), ()).await.expect("a reply");
        match reply.body.bytes(100).await {
            Ok(content) => assert!(whole && content == "half of it"),
            Err(error) => {
                assert!(!whole, "{error}");
                assert_eq!(error.disposition(), Some(Disposition::ReplyPartial));
                assert!(error.to_string().contains("close_notify"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_never_whole_even_with_the_closing_alert() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://localhost:{}/", listener.local_addr().expect("an address").port());
    let tls = authority.server();
    tokio::spawn(async move {
        let mut stream = tls.accept(listener.accept().await.expect("a connection").0);
        let _ = stream.read(&mut [0; 1024]).await.expect("a request");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.expect("written");
        stream.shutdown().await.expect("the alert");
    });
    let mut reply = client(authority.client()).send(Request::get(&url), ()).await.expect("a reply");
    let error = reply.body.bytes(100).await.expect_err("96 bytes are missing");
    assert_eq!(error.disposition(), Some(Disposition::ReplyPartial));
}

#[tokio::test]
async fn closing_says_goodbye_both_ways() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
    let tls = authority.server();
    let serving = tokio::spawn(async move {
        let conn = ServerConn::new(tls.accept(listener.accept().await.expect("a connection").0));
        while let Some(received) = conn.read().await.expect("an end that is clean") {
            received.responder.send(Response::ok(), "x").await.expect("sent");
        }
        conn.close_reason().expect("it ended")
    });
    let conn = ClientConn::new(connect(authority.client(), &url).await.expect("hands are shaken"));
    let reply = conn.send(Request::get("/").field("Host", "localhost").expect("a field"), ()).await;
    reply.expect("a reply").body.bytes(10).await.expect("the content");
    conn.close().await.expect("graceful");
    assert!(serving.await.expect("no panic").is_graceful());
}

#[tokio::test]
async fn the_pool_says_goodbye_to_what_was_idle_too_long() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://localhost:{}/", listener.local_addr().expect("an address").port());
    let tls = authority.server();
    let serving = tokio::spawn(async move {
        let mut stream = tls.accept(listener.accept().await.expect("a connection").0);
        let _ = stream.read(&mut [0; 1024]).await.expect("a request");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("written");
        stream.flush().await.expect("flushed");
        // Fails without the alert.
        stream.read(&mut [0; 1024]).await.expect("a clean end")
    });
    let mut config = ClientConfig::default();
    config.pool.idle_timeout = Some(Duration::from_millis(20));
    let client = client_with(authority.client(), config);
    client.send(Request::get(&url), ()).await.expect("a reply");
    assert_eq!(serving.await.expect("no panic"), 0);
}

#[tokio::test]
async fn what_an_idle_server_says_unasked_never_answers_the_next_request() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://localhost:{}/", listener.local_addr().expect("an address").port());
    let tls = authority.server();
    let (said, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let mut stream = tls.accept(listener.accept().await.expect("a connection").0);
            let _ = stream.read(&mut [0; 1024]).await.expect("a request");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("written");
            stream.flush().await.expect("flushed");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad").await.expect("written");
            stream.flush().await.expect("flushed");
            let _ = said.send(());
            tokio::spawn(async move { stream.read(&mut [0; 1024]).await });
        }
    });
    let client = client(authority.client());
    for _ in 0..3 {
        let mut reply = client.send(Request::get(&url), ()).await.expect("a reply");
        assert_eq!(reply.body.bytes(10).await.expect("the content"), "ok");
        assert!(!reply.reused);
        told.recv().await.expect("it was said");
    }
}

#[tokio::test]
async fn clients_without_a_certificate_come_in_only_where_it_is_optional() {
    let authority = Authority::new();
    let me = authority.sign(&["me"]);
    let known = ClientTls::builder()
        .root_certificates(&authority.pem)
        .client_certificate(me.chain, me.key)
        .build()
        .expect("a configuration");
    for (auth, comes_in) in [(ClientAuth::Optional, true), (ClientAuth::Required, false)] {
        let tls = authority.server_builder().client_roots(&authority.pem, auth).build().expect("a configuration");
        let server = Server::bind("127.0.0.1:0").await.expect("a port").with_tls(tls);
        let url = format!("https://localhost:{}/", server.local_addr().expect("TCP").port());
        tokio::spawn(server.serve(|received| {
            let known = received.responder.get_ref().is_some_and(|stream| stream.peer_certificates().is_some());
            received.responder.send(Response::ok(), if known { "a friend" } else { "a stranger" })
        }));
        let mut reply = client(known.clone()).send(Request::get(&url), ()).await.expect("a reply");
        assert_eq!(reply.body.bytes(100).await.expect("content"), "a friend");
        match client(authority.client()).send(Request::get(&url), ()).await {
            Ok(mut reply) => {
                assert!(comes_in);
                assert_eq!(reply.body.bytes(100).await.expect("content"), "a stranger");
            }
            // In TLS 1.3 the client has shaken hands before the server looks at its certificate.
            Err(error) => assert!(!comes_in && error.to_string().contains("CertificateRequired"), "{error}"),
        }
    }
}

#[tokio::test]
async fn of_several_certificates_clients_get_the_one_for_the_name_they_ask_for() {
    let authority = Authority::new();
    let (first, second) = (authority.sign(&["first.test"]), authority.sign(&["*.second.test"]));
    let tls = ServerTls::builder().certificate(first.chain, first.key).certificate(second.chain, second.key);
    let address = serve(tls.build().expect("a configuration")).await;
    let connect = async |name: &str| {
        let to =
            Destination::tcp(persist_async::persist_core::Scheme::Https, name.parse().expect("a host"), address.port());
        let connector = Connector::default().with_tls(authority.client()).with_resolver(Arc::new(Always(address)));
        connector.connect(&Route::direct(&to), &Direct).await
    };
    connect("first.test").await.expect("its own certificate");
    connect("a.second.test").await.expect("its own certificate");
    let error = connect("third.test").await.expect_err("the first one's certificate");
    assert!(error.to_string().contains("another host"), "{error}");
}

#[derive(Debug)]
struct Always(SocketAddr);

#[persist_async::async_trait]
impl persist_async::Resolver for Always {
    async fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec![self.0])
    }
}

#[tokio::test]
async fn a_client_that_never_shakes_hands_delays_nobody_and_is_closed() {
    let authority = Authority::new();
    let mut config = persist_async::ServerConfig::default();
    config.conn.timeouts.header = Some(Duration::from_millis(50));
    let server = Server::bind("127.0.0.1:0").await.expect("a port").with_tls(authority.server()).with_config(config);
    let address = server.local_addr().expect("tcp");
    tokio::spawn(server.serve(|received| received.responder.send(Response::ok(), "")));
    let mut mute = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(&[22, 3, 1]).await.expect("the beginning of a hello");
        mute.push(stream);
    }
    let url = format!("https://localhost:{}/", address.port());
    client(authority.client()).send(Request::get(url), ()).await.expect("a reply");
    for mut stream in mute {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await; // ends, however it does
    }
}

#[tokio::test]
async fn a_server_that_never_shakes_hands_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = ClientConfig::default();
    config.dial.handshake = Some(Duration::from_millis(20));
    let connector = Connector::new(&config).with_tls(Authority::new().client());
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let route = Route::direct(&url.parse().expect("a destination"));
    let error = connector.connect(&route, &Direct).await.expect_err("too late");
    assert_eq!(error.phase(), Phase::Handshake);
    assert!(error.source().is_some_and(|source| source.is::<persist_async::persist_core::DialTimeout>()), "{error}");
}

/// Reaches everything by an HTTPS proxy, which is told `GO` and says `OK`.
#[derive(Debug)]
struct ByProxy(u16);

#[derive(Debug)]
struct Go(&'static [u8]);

impl Router for ByProxy {
    fn route(&self, destination: &Destination) -> Result<Route, RouteError> {
        let proxy = format!("https://localhost:{}", self.0).parse().expect("a destination");
        Ok(Route {
            pool_key: PoolKey::from(destination),
            hops: vec![Hop::socket(proxy), Hop::through(Means::HttpConnect, destination.clone(), None)],
            target_form: TargetForm::Origin,
            fields: Default::default(),
        })
    }

    fn tunnel(&self, _: &Hop) -> Result<Box<dyn Tunnel>, RouteError> {
        Ok(Box::new(Go(b"GO")))
    }
}

impl Tunnel for Go {
    fn transmit(&self) -> &[u8] {
        self.0
    }

    fn advance(&mut self, n: usize) {
        self.0 = &self.0[n..];
    }

    fn handle_input(&mut self, input: &mut &[u8]) -> Result<TunnelStep, BoxError> {
        *input = input.strip_prefix(b"OK").ok_or("the proxy says no")?;
        Ok(TunnelStep::Done)
    }

    fn handle_eof(&mut self) -> BoxError {
        "the proxy hung up".into()
    }
}

#[tokio::test]
async fn tls_goes_through_tls() {
    let authority = Authority::new();
    let origin = serve(authority.server()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = listener.local_addr().expect("an address").port();
    let tls = authority.server();
    tokio::spawn(async move {
        let mut client = tls.accept(listener.accept().await.expect("a connection").0);
        let mut go = [0; 2];
        client.read_exact(&mut go).await.expect("its question");
        assert_eq!(&go, b"GO");
        client.write_all(b"OK").await.expect("written");
        let mut server = TcpStream::connect(origin).await.expect("the origin listens");
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    let mut config = ClientConfig::default();
    config.router = Arc::new(ByProxy(proxy));
    let client = client_with(authority.client(), config);
    for reused in [false, true, true] {
        let url = format!("https://localhost:{}/deep", origin.port());
        let mut reply = client.send(Request::get(url), ()).await.expect("a reply");
        assert_eq!(reply.body.bytes(100).await.expect("the content"), "/deep");
        assert_eq!(reply.reused, reused);
    }
}

#[tokio::test]
async fn large_bodies_go_both_ways_at_once() {
    let authority = Authority::new();
    let server = Server::bind("127.0.0.1:0").await.expect("a port").with_tls(authority.server());
    let url = format!("https://localhost:{}/", server.local_addr().expect("tcp").port());
    tokio::spawn(server.serve(|received| async move {
        let body = persist_async::Body::reader(received.body, None);
        received.responder.send(Response::ok(), body).await
    }));
    let sent: Vec<u8> = (0..3 << 20).map(|n: u32| (n % 251) as u8).collect();
    let request = Request::new(persist_async::Method::PUT, url);
    let mut reply = client(authority.client()).send(request, sent.clone()).await.expect("a reply");
    assert!(reply.body.bytes(4 << 20).await.expect("the content") == sent);
}

#[test]
fn what_is_no_certificate_is_refused_with_its_name() {
    let authority = Authority::new();
    let own = authority.sign(&["localhost"]);
    let error = ClientTls::builder().root_certificates("nothing").build().expect_err("no certificate");
    assert!(matches!(error, TlsConfigError::NoCertificate { .. }), "{error}");
    assert!(matches!(ServerTls::builder().build(), Err(TlsConfigError::NoServerCertificate)));
    let other_key = authority.sign(&["localhost"]).key;
    let error = ServerTls::builder().certificate(&own.chain, other_key).build().expect_err("another's key");
    assert!(matches!(error, TlsConfigError::Unusable { .. }), "{error}");
    let debug = format!("{:?}", ServerTls::builder().certificate(&own.chain, &own.key));
    assert!(!debug.contains("BEGIN"), "{debug}");
}
