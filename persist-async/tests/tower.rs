//! Clients as tower services, and any service on the server: readiness, layers, upgrades.

use std::future::poll_fn;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Redirect;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use persist_async::tower::{ConnService, Upgrade};
use persist_async::{Client, ClientConn, Config, Disposition, Error, Incoming, Phase, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::retry::{Policy, RetryLayer};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http::compression::CompressionLayer;
use tower_http::decompression::DecompressionLayer;
use tower_http::follow_redirect::FollowRedirectLayer;

fn get_of(url: &str) -> Request<Empty<Bytes>> {
    Request::get(url).body(Empty::new()).expect("a request")
}

async fn served(app: Router) -> String {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", server.local_addr().expect("tcp"));
    tokio::spawn(server.serve_service(app));
    url
}

async fn text(response: Response<impl http_body::Body<Data: Send, Error: std::fmt::Debug>>) -> String {
    String::from_utf8(response.into_body().collect().await.expect("a body").to_bytes().to_vec()).expect("text")
}

fn is_ready<S: Service<Request<Empty<Bytes>>>>(service: &mut S) -> bool {
    matches!(service.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
}

fn two_services(depth: u32) -> (ConnService<DuplexStream>, ConnService<DuplexStream>, DuplexStream) {
    let (stream, peer) = tokio::io::duplex(4096);
    let mut config = Config::client();
    config.pipelining.depth = depth;
    let first = ClientConn::with_config(stream, config).service();
    let second = first.clone();
    (first, second, peer)
}

#[tokio::test]
async fn being_ready_is_a_reserved_place_which_dropping_gives_back() {
    let (mut first, mut second, _peer) = two_services(1);
    assert!(is_ready(&mut first));
    assert_eq!(first.conn().available(), 0);
    assert!(is_ready(&mut first), "it has its place already");
    assert!(!is_ready(&mut second), "the only place is taken");
    drop(first);
    assert!(is_ready(&mut second));
}

#[tokio::test]
async fn a_call_uses_its_place_although_others_wait_for_one() {
    let (mut first, mut second, mut peer) = two_services(1);
    assert!(is_ready(&mut first));
    let waits = tokio::spawn(async move {
        let ready = ServiceExt::<Request<Empty<Bytes>>>::ready(&mut second).await;
        ready.map(|service| service.conn().in_flight())
    });
    tokio::task::yield_now().await;
    let peer = tokio::spawn(async move {
        let mut buf = [0; 256];
        assert!(peer.read(&mut buf).await.expect("a request") > 0);
        peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("a reader");
        peer
    });
    let response = first.call(get_of("http://h/")).await.expect("a reply");
    assert_eq!(text(response).await, "ok");
    assert_eq!(waits.await.expect("no panic").expect("ready"), 1);
    drop(peer.await);
}

#[tokio::test]
async fn a_dropped_call_gives_its_place_back() {
    let (mut first, mut second, _peer) = two_services(1);
    assert!(is_ready(&mut first));
    drop(first.call(get_of("http://h/")));
    assert!(is_ready(&mut second));
}

#[tokio::test]
async fn a_connection_that_ended_is_an_error_of_readiness() {
    let (mut first, _, peer) = two_services(1);
    assert!(is_ready(&mut first));
    drop(peer);
    first.conn().abort();
    let error = poll_fn(|cx| Service::<Request<Empty<Bytes>>>::poll_ready(&mut first, cx)).await.expect_err("over");
    assert_eq!(error.phase(), Phase::Prepare);
}

/// Once more, whatever came.
#[derive(Clone)]
struct OnceMore(u32);

impl Policy<Request<Full<Bytes>>, Response<Incoming>, Error> for OnceMore {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Full<Bytes>>,
        outcome: &mut Result<Response<Incoming>, Error>,
    ) -> Option<Self::Future> {
        let again = outcome.as_ref().is_ok_and(|response| response.status() == StatusCode::SERVICE_UNAVAILABLE);
        (again && std::mem::take(&mut self.0) > 0).then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, request: &Request<Full<Bytes>>) -> Option<Request<Full<Bytes>>> {
        Some(request.clone())
    }
}

/// What a full-blown client does, as layers over ours: redirects, decompression, a deadline, retries.
#[tokio::test]
async fn a_stack_of_layers_makes_a_full_blown_client() {
    let tries = Arc::new(AtomicU32::new(0));
    let moody = |State(tries): State<Arc<AtomicU32>>| async move {
        if tries.fetch_add(1, Ordering::Relaxed) == 0 {
            return (StatusCode::SERVICE_UNAVAILABLE, String::new());
        }
        (StatusCode::OK, "long ".repeat(1000))
    };
    let app = Router::new()
        .route("/old", get(|| async { Redirect::permanent("/new") }))
        .route("/new", get(moody))
        .route("/never", get(std::future::pending::<()>))
        .layer(CompressionLayer::new())
        .with_state(tries.clone());
    let url = served(app).await;
    let client = Client::new();
    let stack = ServiceBuilder::new()
        .timeout(Duration::from_secs(20))
        .layer(DecompressionLayer::new())
        .layer(FollowRedirectLayer::new())
        .layer(RetryLayer::new(OnceMore(1)))
        .service(client.clone());
    let request = |path: &str| Request::get(format!("{url}{path}")).body(Full::<Bytes>::default()).expect("a request");
    let response = stack.clone().oneshot(request("/old")).await.expect("a reply");
    assert!(response.headers().get("content-encoding").is_none(), "it is decoded");
    assert_eq!(text(response).await, "long ".repeat(1000));
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    assert_eq!(client.counts().idle, 1, "three exchanges went over one connection");

    let impatient = ServiceBuilder::new().timeout(Duration::from_millis(20)).service(client);
    let error = impatient.oneshot(request("/never")).await.expect_err("too slow");
    assert!(error.is::<tower::timeout::error::Elapsed>(), "{error}");
}

#[tokio::test]
async fn a_failed_call_tells_what_became_of_the_request_through_all_layers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("tcp"));
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        assert!(stream.read(&mut [0; 1024]).expect("a request") > 0);
    });
    let stack = ServiceBuilder::new().timeout(Duration::from_secs(20)).service(Client::new());
    let request = Request::post(url).body(Full::<Bytes>::from("once")).expect("a request");
    let error = stack.oneshot(request).await.expect_err("cut");
    let error = error.downcast_ref::<Error>().expect("ours");
    assert_eq!(error.disposition(), Some(Disposition::SentNoReply));
    peer.join().expect("no panic");
}

#[tokio::test]
async fn an_upgrade_hands_the_stream_out_and_loses_no_byte() {
    let app = Router::new().route(
        "/shout",
        get(|axum::Extension(upgrade): axum::Extension<Upgrade>| async move {
            let stream = upgrade.taken();
            tokio::spawn(async move {
                let mut stream = stream.await.expect("granted");
                let mut line = [0; 5];
                stream.read_exact(&mut line).await.expect("five bytes");
                stream.write_all(&line.to_ascii_uppercase()).await.expect("a reader");
            });
            let fields = HeaderMap::from_iter([
                (http::header::CONNECTION, "upgrade".parse().expect("a value")),
                (http::header::UPGRADE, "shout".parse().expect("a value")),
            ]);
            (StatusCode::SWITCHING_PROTOCOLS, fields)
        }),
    );
    let url = served(app).await;
    let mut stream = tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.expect("a server");
    // The first bytes of the next protocol come with the request.
    stream
        .write_all(b"GET /shout HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\nhello")
        .await
        .expect("sent");
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("an end");
    assert!(said.starts_with("HTTP/1.1 101 "), "{said}");
    assert!(said.ends_with("\r\n\r\nHELLO"), "{said}");
}

#[tokio::test]
async fn an_upgrade_that_is_not_granted_is_told_so() {
    let (told, outcome) = tokio::sync::oneshot::channel();
    let told = Arc::new(std::sync::Mutex::new(Some(told)));
    let refuse = move |axum::Extension(upgrade): axum::Extension<Upgrade>| {
        let taken = upgrade.taken();
        let told = told.lock().expect("no panic").take();
        tokio::spawn(async move { told.expect("one request").send(taken.await.map(drop)) });
        std::future::ready(StatusCode::FORBIDDEN)
    };
    let url = served(Router::new().route("/", get(refuse))).await;
    let request = Request::get(url).header("connection", "upgrade").header("upgrade", "x").body(Empty::<Bytes>::new());
    let response = Client::new().send_http(request.expect("a request")).await.expect("a reply");
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(outcome.await.expect("sent").is_err());
}

#[tokio::test]
async fn a_service_that_fails_answers_500_and_a_target_that_http_cannot_hold_400() {
    let failing = tower::service_fn(|request: Request<Incoming>| async move {
        if request.uri().path() == "/fail" {
            Err(std::io::Error::other("no"))
        } else {
            Ok(Response::new(String::new()))
        }
    });
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("tcp");
    tokio::spawn(server.serve_service(failing));
    for (target, status) in [("/fail", "500"), ("/fine", "200"), ("http://[::1", "400")] {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("a server");
        let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut said = String::new();
        stream.read_to_string(&mut said).await.expect("an end");
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {said}");
    }
}

#[test]
fn services_are_what_frameworks_ask_for() {
    fn shared<T: Send + Sync>() {}
    fn cloned<T: Clone + Send>() {}
    shared::<ConnService<DuplexStream>>();
    shared::<Upgrade>();
    cloned::<ConnService<DuplexStream>>();
    cloned::<Client>();
}
