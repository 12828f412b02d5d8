//! The pooled client where connections die under it: what is sent again, what is not, and what each error says. The peers count what reached them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use persist_async::persist_core::{Deadline, Destination, DialTimeout};
use persist_async::{
    Body, Client, ClientConfig, CloseReason, Connector, DialTimer, Dialer, Disposition, Error, Method, Phase, Request,
    Resolver, Stream, async_trait,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{rounds, told};

const SHORT: Duration = Duration::from_millis(30);

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Reads one head, if one comes.
async fn read_head(stream: &mut TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(())
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set");
}

/// What a server does with its first connection, once it has answered one request there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// Ends, and is seen to have ended before the client goes on.
    Ends(Ending),
    /// Ends while the next request may be on its way.
    EndsAtThatMoment(Ending),
    /// Reads the next request first.
    ReadsAndEnds(Ending),
    /// Answers it in part.
    AnswersInPart,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Close,
    Reset,
}

impl Ending {
    fn of(self, stream: TcpStream) {
        match self {
            Self::Close => drop(stream),
            Self::Reset => reset(stream),
        }
    }
}

/// A server that treats its first connection so, and every other well. How many of the second requests reached it, and when it has ended the first connection.
async fn origin(then: Then) -> (SocketAddr, Arc<AtomicUsize>, oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    let reached = Arc::new(AtomicUsize::new(0));
    let count = reached.clone();
    let (tell, ended) = oneshot::channel();
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.expect("accepted");
        read_head(&mut first).await.expect("a request");
        first.write_all(OK.as_bytes()).await.expect("written");
        match then {
            Then::Ends(ending) | Then::EndsAtThatMoment(ending) => ending.of(first),
            Then::ReadsAndEnds(ending) => {
                read_head(&mut first).await.expect("the next request");
                count.fetch_add(1, Ordering::SeqCst);
                ending.of(first);
            }
            Then::AnswersInPart => {
                read_head(&mut first).await.expect("the next request");
                count.fetch_add(1, Ordering::SeqCst);
                first.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await.expect("written");
                drop(first);
            }
        }
        let _ = tell.send(());
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            while read_head(&mut stream).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                stream.write_all(OK.as_bytes()).await.expect("written");
            }
        }
    });
    (addr, reached, ended)
}

/// What the second request comes to, over a pool whose one connection is treated so.
async fn second(then: Then, method: &Method) -> (Result<(), Error>, usize) {
    let (addr, reached, ended) = origin(then).await;
    let client = Client::new();
    let exchange = async |method: &Method| {
        let body = if *method == Method::POST { Body::from("") } else { Body::empty() };
        let request = Request::new(method.clone(), format!("http://{addr}/"));
        let mut reply = client.send(request, body).await?;
        assert_eq!(reply.body.bytes(2).await?, "ok");
        Ok::<(), Error>(())
    };
    exchange(&Method::GET).await.expect("the first reply");
    if matches!(then, Then::Ends(_)) {
        ended.await.expect("it ends");
    }
    let outcome = tokio::time::timeout(LONG, exchange(method)).await.expect("it hangs");
    (outcome, reached.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_survives_a_connection_that_died_idle_and_a_post_is_sent_at_most_once() {
    let rows = [
        Then::Ends(Ending::Close),
        Then::Ends(Ending::Reset),
        Then::EndsAtThatMoment(Ending::Close),
        Then::EndsAtThatMoment(Ending::Reset),
        Then::ReadsAndEnds(Ending::Close),
        Then::ReadsAndEnds(Ending::Reset),
        Then::AnswersInPart,
    ];
    for then in rows {
        for method in [Method::GET, Method::POST] {
            let mut seen = BTreeMap::new();
            for _ in 0..rounds() {
                let (outcome, reached) = second(then, &method).await;
                let what = format!("{then:?}, {method}: {outcome:?}, and {reached} reached the server");
                match (&outcome, then) {
                    (Ok(()), Then::AnswersInPart) => panic!("{what}"),
                    (Ok(()), _) => assert!(reached == 1 || (method == Method::GET && reached == 2), "{what}"),
                    (Err(error), Then::AnswersInPart) => {
                        assert_eq!((error.disposition(), reached), (Some(Disposition::ReplyPartial), 1), "{what}");
                        assert!(error.destination().is_some(), "whose content broke off: {error}");
                    }
                    (Err(_), Then::Ends(_)) => panic!("nothing was sent on what had ended: {what}"),
                    (Err(error), _) => {
                        assert_eq!(method, Method::POST, "{what}");
                        assert_eq!(error.disposition(), Some(Disposition::SentNoReply), "{what}");
                        assert!(reached <= 1, "{what}");
                    }
                }
                if let Then::ReadsAndEnds(_) = then {
                    assert_eq!(outcome.is_ok(), method == Method::GET, "{what}");
                }
                let came_to = match outcome {
                    Ok(()) => "delivered".to_owned(),
                    Err(error) => error.disposition().expect("what became of it").to_string(),
                };
                *seen.entry(format!("{came_to}, reached the server {reached} times")).or_default() += 1;
            }
            told("reused", &format!("{then:?}, {method}"), &seen);
        }
    }
}

/// Neither resolves nor dials.
#[derive(Debug)]
struct Mute;

#[async_trait]
impl Resolver for Mute {
    async fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        std::future::pending().await
    }
}

#[async_trait]
impl Dialer for Mute {
    async fn dial(&self, _: &Destination, timer: &mut DialTimer) -> Result<Stream, Error> {
        timer.within(Phase::Connect, std::future::pending()).await
    }
}

/// A server that accepts, says this, and no more.
async fn says_only(said: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            stream.write_all(said.as_bytes()).await.expect("written");
            open.push(stream);
        }
    });
    addr
}

/// What a client comes to whose phases are short.
async fn meets(set: fn(&mut ClientConfig), connector: fn(Connector) -> Connector, url: &str) -> Error {
    let mut config = ClientConfig::default();
    set(&mut config);
    let connector = connector(Connector::new(&config));
    let client = Client::with_connector(config, connector).expect("no contradiction");
    let exchange = async {
        let mut reply = client.send(Request::new(Method::POST, url), vec![b'x'; 8 << 20]).await?;
        reply.body.bytes(100).await
    };
    tokio::time::timeout(LONG, exchange).await.expect("it hangs").expect_err("its deadline passed")
}

#[tokio::test]
async fn each_phase_of_a_pooled_request_has_its_deadline_and_the_error_names_it() {
    let silent = format!("http://{}/", says_only("").await);
    let half = format!("http://{}/", says_only("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await);
    type Row<'a> = (&'a str, fn(&mut ClientConfig), fn(Connector) -> Connector, &'a str, Phase, Option<Deadline>);
    let rows: [Row<'_>; 7] = [
        (
            "resolving",
            |config| config.dial.resolve = Some(SHORT),
            |connector| connector.with_resolver(Arc::new(Mute)),
            "http://somewhere.test/",
            Phase::Resolve,
            None,
        ),
        (
            "connecting",
            |config| {
                config.dial.connect = Some(SHORT);
                config.dial.happy_eyeballs.attempt_delay = SHORT / 3;
            },
            |connector| connector.with_dialer(Arc::new(Mute)),
            "http://somewhere.test/",
            Phase::Connect,
            None,
        ),
        (
            "waiting for a connection",
            |config| config.deadline = Some(SHORT),
            |connector| connector.with_dialer(Arc::new(Mute)),
            "http://somewhere.test/",
            Phase::Wait,
            None,
        ),
        (
            "sending",
            |config| config.conn.timeouts.write_stall = Some(SHORT),
            |connector| connector,
            &silent,
            Phase::Send,
            Some(Deadline::WriteStall),
        ),
        (
            "the whole exchange",
            |config| config.conn.timeouts.total = Some(SHORT),
            |connector| connector,
            &silent,
            Phase::Send,
            Some(Deadline::Total),
        ),
        (
            "the whole request",
            |config| config.deadline = Some(SHORT),
            |connector| connector,
            &silent,
            Phase::Send,
            Some(Deadline::Total),
        ),
        (
            "the reply's content",
            |config| {
                config.conn.timeouts.body_idle = Some(SHORT);
                config.conn.timeouts.write_stall = None;
            },
            |connector| connector,
            &half,
            Phase::Body,
            Some(Deadline::BodyIdle),
        ),
    ];
    for (name, set, connector, url, phase, deadline) in rows {
        let mut seen = BTreeMap::new();
        for _ in 0..rounds() {
            let error = meets(set, connector, url).await;
            assert_eq!(error.phase(), phase, "{name}: {error}");
            match deadline {
                Some(deadline) => {
                    let reason = error.failure().map(|failure| &failure.reason);
                    assert_eq!(reason, Some(&CloseReason::Timeout(deadline)), "{name}: {error}");
                }
                None => assert_eq!(error.disposition(), Some(Disposition::NotSent), "{name}: {error}"),
            }
            if matches!(phase, Phase::Resolve | Phase::Connect) {
                let source = std::error::Error::source(&error);
                assert!(source.is_some_and(|source| source.is::<DialTimeout>()), "{name}: {error}");
            }
            assert!(error.destination().is_some(), "{name}: {error}");
            let disposition = match error.disposition().expect("what became of it") {
                Disposition::PartlySent { .. } => "partly sent".to_owned(),
                other => other.to_string(),
            };
            *seen.entry(disposition).or_default() += 1;
        }
        told("deadline", name, &seen);
    }
}

#[cfg(feature = "tls")]
mod secured {
    use std::error::Error as _;

    use persist_async::tls::rustls::{self, CertificateError};
    use persist_async::tls::{ClientTls, ServerTls};

    use super::super::certificates::{Authority, Identity};
    use super::*;

    /// A server with this certificate, which counts the requests that it reads.
    async fn serve(own: Identity) -> (u16, Arc<AtomicUsize>) {
        let tls = ServerTls::builder().certificate(own.chain, own.key).build().expect("a configuration");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let reached = Arc::new(AtomicUsize::new(0));
        let count = reached.clone();
        tokio::spawn(async move {
            loop {
                let mut stream = tls.accept(listener.accept().await.expect("accepted").0);
                if stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        (port, reached)
    }

    async fn meets(tls: ClientTls, config: ClientConfig, port: u16) -> Error {
        let connector = Connector::new(&config).with_tls(tls);
        let client = Client::with_connector(config, connector).expect("no contradiction");
        let sent = client.send(Request::new(Method::POST, format!("https://localhost:{port}/")), "secret");
        tokio::time::timeout(LONG, sent).await.expect("it hangs").expect_err("it cannot be trusted")
    }

    #[tokio::test]
    async fn certificates_that_cannot_be_trusted_get_no_request() {
        type Is = fn(&CertificateError) -> bool;
        type Row = (&'static str, fn(&Authority) -> Identity, Is);
        let rows: [Row; 3] = [
            (
                "expired",
                |authority| authority.sign_expired(&["localhost"]),
                |error| matches!(error, CertificateError::Expired | CertificateError::ExpiredContext { .. }),
            ),
            (
                "for another host",
                |authority| authority.sign(&["elsewhere.test"]),
                |error| {
                    matches!(error, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
                },
            ),
            (
                "of an unknown authority",
                |_| Authority::new().sign(&["localhost"]),
                |error| matches!(error, CertificateError::UnknownIssuer),
            ),
        ];
        for (name, certificate, as_expected) in rows {
            let mut seen = BTreeMap::new();
            for _ in 0..rounds() {
                let authority = Authority::new();
                let (port, reached) = serve(certificate(&authority)).await;
                let error = meets(authority.client(), ClientConfig::default(), port).await;
                assert_eq!((error.phase(), error.disposition()), (Phase::Handshake, Some(Disposition::NotSent)));
                let cause = error.source().and_then(|source| source.downcast_ref());
                let Some(rustls::Error::InvalidCertificate(cause)) = cause else { panic!("{name}: {error:?}") };
                assert!(as_expected(cause), "{name}: {error}");
                assert_eq!(reached.load(Ordering::SeqCst), 0, "{name}");
                *seen.entry("not sent".to_owned()).or_default() += 1;
            }
            told("certificate", name, &seen);
        }
    }

    #[tokio::test]
    async fn hands_that_are_not_shaken_in_time_are_let_go() {
        let mut seen = BTreeMap::new();
        for _ in 0..rounds() {
            let addr = says_only("").await;
            let mut config = ClientConfig::default();
            config.dial.handshake = Some(SHORT);
            let error = meets(Authority::new().client(), config, addr.port()).await;
            assert_eq!((error.phase(), error.disposition()), (Phase::Handshake, Some(Disposition::NotSent)));
            assert!(error.source().is_some_and(|source| source.is::<DialTimeout>()), "{error}");
            *seen.entry("not sent".to_owned()).or_default() += 1;
        }
        told("deadline", "shaking hands", &seen);
    }
}
