//! The pooled client over real sockets: reuse, limits, stale connections, retries, errors that say where and why.

use std::sync::Arc;
use std::time::Duration;

use persist_async::persist_core::{Deadline, Destination, Disposition, RetryPolicy};
use persist_async::{
    Body, Client, ClientConfig, CloseReason, Connector, DialTimer, Dialer, Error, Method, Phase, Received, Request,
    Response, Server, ServerHandle, Stream, async_trait,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

async fn echo(mut received: Received) {
    let content = received.body.bytes(1 << 20).await.expect("the content");
    let _ = received.responder.send(Response::ok(), Body::from(content)).await;
}

async fn server() -> (String, ServerHandle) {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let (address, handle) = (server.local_addr().expect("tcp"), server.handle());
    tokio::spawn(server.serve(echo));
    (format!("http://{address}"), handle)
}

#[tokio::test]
async fn a_connection_is_reused_once_its_body_was_read_and_not_before() {
    let (url, _server) = server().await;
    let client = Client::new();
    let first = client.send(Request::new(Method::PUT, &url), vec![b'x'; 200_000]).await.expect("a reply");
    let mut second = client.send(Request::get(&url), ()).await.expect("a reply");
    assert_ne!(first.connection, second.connection, "the first one's body is unread");
    assert!(second.body.bytes(10).await.expect("the body").is_empty());
    let third = client.send(Request::get(&url), ()).await.expect("a reply");
    assert_eq!((third.connection, third.reused), (second.connection, true));
    let mut first = first;
    assert_eq!(first.body.bytes(200_000).await.expect("the body").len(), 200_000);
    assert_eq!((client.counts().open, client.counts().exchanges), (2, 0));
}

#[tokio::test]
async fn no_more_connections_than_allowed_and_everybody_is_served() {
    let (url, server) = server().await;
    let mut config = ClientConfig::default();
    (config.pool.per_destination_max, config.pool.idle_per_destination_max) = (2, 2);
    let client = Client::with_config(config).expect("no contradiction");
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move {
                let body = n.to_string();
                let mut reply = client.send(Request::new(Method::POST, &url), body.clone()).await.expect("a reply");
                assert_eq!(reply.body.bytes(10).await.expect("the body"), body);
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    assert!(server.connections() <= 2);
    assert_eq!(client.counts().exchanges, 0);
}

#[tokio::test]
async fn a_request_dropped_while_it_waits_leaves_its_place_to_others() {
    let (url, _server) = server().await;
    let mut config = ClientConfig::default();
    (config.pool.per_destination_max, config.pool.idle_per_destination_max) = (1, 1);
    let client = Client::with_config(config).expect("no contradiction");
    let held = client.send(Request::new(Method::PUT, &url), vec![0; 200_000]).await.expect("a reply");
    {
        let waiting = client.send(Request::get(&url), ());
        let mut waiting = std::pin::pin!(waiting);
        assert!(poll_once(waiting.as_mut()).await.is_none());
        assert_eq!(client.counts().waiting, 1);
    }
    assert_eq!(client.counts().waiting, 0);
    drop(held);
    client.send(Request::get(&url), ()).await.expect("a reply");
}

/// A server that holds `/held` back, and its URL: who is told that it came, and who lets go of it. Its content is more than is worth dropping.
async fn holding() -> (String, Arc<Notify>, Arc<Notify>) {
    let (held, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", server.local_addr().expect("tcp"));
    let (told, released) = (held.clone(), release.clone());
    tokio::spawn(server.serve(move |received| {
        let (told, released) = (told.clone(), released.clone());
        async move {
            if received.head.target() == "/held" {
                told.notify_one();
                released.notified().await;
                return received.responder.send(Response::ok(), vec![b'x'; 300_000]).await;
            }
            received.responder.send(Response::ok(), "done").await
        }
    }));
    (url, held, release)
}

#[tokio::test]
async fn behind_the_last_request_of_a_connection_a_pooled_one_takes_another() {
    let (url, held, release) = holding().await;
    let mut config = ClientConfig::default();
    config.conn.pipelining.depth = 4;
    let client = Client::with_config(config).expect("no contradiction");
    let get = |path: &str| Request::get(format!("{url}{path}"));
    // Pipelining begins behind a first reply.
    let first = client.send(get("/"), ()).await.expect("a reply");

    let last = get("/held").field("Connection", "close").expect("a field");
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.send(last, ()).await }
    });
    held.notified().await;
    for _ in 0..2 {
        let reply = client.send(get("/"), ()).await.expect("a reply, over another connection");
        assert_ne!(reply.connection, first.connection);
    }
    release.notify_one();
    let reply = asking.await.expect("no panic").expect("its own reply");
    assert_eq!(reply.connection, first.connection);
}

#[tokio::test]
async fn a_connection_whose_last_request_was_cut_short_is_not_lent_again() {
    let (url, held, release) = holding().await;
    let mut config = ClientConfig::default();
    config.conn.pipelining.depth = 4;
    (config.pool.per_destination_max, config.pool.idle_per_destination_max) = (1, 1);
    config.retry = RetryPolicy::never();
    let client = Client::with_config(config).expect("no contradiction");
    let get = |path: &str| Request::get(format!("{url}{path}"));
    client.send(get("/"), ()).await.expect("a reply");

    let asking = tokio::spawn({
        let (client, held) = (client.clone(), get("/held"));
        async move { client.send(held, ()).await }
    });
    held.notified().await;
    // Its content breaks off, here, behind a request that is not answered yet.
    let broken = breaking_off();
    let error = client.send(Request::put(format!("{url}/")), broken).await.expect_err("cut short");
    assert!(matches!(error.disposition(), Some(Disposition::PartlySent { .. })), "{error:?}");
    release.notify_one();
    // Given up on before its end: more is left than is worth reading.
    drop(asking.await.expect("no panic").expect("a reply"));
    let mut reply = client.send(get("/"), ()).await.expect("a reply, over a fresh connection");
    assert!(!reply.reused);
    assert_eq!(reply.body.bytes(10).await.expect("content"), "done");
}

/// Content that fails behind its first piece.
fn breaking_off() -> Body {
    let pieces = (&b"some"[..]).chain(Failing);
    Body::reader(pieces, Some(10_000))
}

/// A reader that fails.
struct Failing;

impl tokio::io::AsyncRead for Failing {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
        _buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(std::io::Error::other("the disk is gone")))
    }
}

async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_stale_connection_is_never_used_even_for_a_post() {
    // A server of one reply per connection, which closes without saying so.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (closed, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let n = stream.read(&mut [0; 4096]).await.expect("a request");
            assert!(n > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("written");
            drop(stream);
            let _ = closed.send(());
        }
    });
    let mut config = ClientConfig::default();
    config.retry = RetryPolicy::never();
    let client = Client::with_config(config).expect("no contradiction");
    for _ in 0..5 {
        let mut reply = client.send(Request::new(Method::POST, &url), "x").await.expect("a reply");
        assert!(!reply.reused);
        assert_eq!(reply.body.bytes(2).await.expect("the body"), "ok");
        told.recv().await.expect("the server closes");
    }
}

#[tokio::test]
async fn a_refused_connection_names_the_url_and_the_phase() {
    // Bound, so that nobody else gets the port, and not listening.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let address = socket.local_addr().expect("an address").as_socket().expect("an internet address");
    let url = format!("http://{address}");
    let error = Client::new().send(Request::get(&url), ()).await.expect_err("nobody listens");
    assert_eq!((error.phase(), error.disposition()), (Phase::Connect, Some(Disposition::NotSent)));
    assert!(error.to_string().contains(&url), "{error}");
    let error = Client::new().send(Request::get("http://no.such.host.invalid/"), ()).await.expect_err("no such host");
    assert_eq!(error.phase(), Phase::Resolve);
    let error = Client::new().send(Request::get("ftp://host/"), ()).await.expect_err("another scheme");
    assert_eq!(error.phase(), Phase::Prepare);
}

#[tokio::test]
async fn a_retry_that_cannot_connect_does_not_take_back_that_the_request_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        for answer in [&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..], b""] {
            assert!(stream.read(&mut [0; 4096]).await.expect("a request") > 0);
            stream.write_all(answer).await.expect("written");
        }
        // Nobody is there for the retry.
        drop(listener);
    });
    let client = Client::new();
    let mut reply = client.send(Request::get(&url), ()).await.expect("a reply");
    assert_eq!(reply.body.bytes(2).await.expect("the body"), "ok");
    let error = client.send(Request::put(&url), "x").await.expect_err("it may have been processed");
    assert_eq!((error.phase(), error.disposition()), (Phase::Connect, Some(Disposition::SentNoReply)), "{error}");
    assert!(error.to_string().contains("; an earlier attempt: sent, no reply"), "{error}");
}

/// Connections in memory, whose other ends come out of a channel: time can be paused, and nothing is left to the system.
#[derive(Debug)]
struct Pipes(UnboundedSender<DuplexStream>);

#[async_trait]
impl Dialer for Pipes {
    async fn dial(&self, _: &Destination, _: &mut DialTimer) -> Result<Stream, Error> {
        let (near, far) = tokio::io::duplex(1_000);
        self.0.send(far).expect("kept");
        Ok(Stream::new(near))
    }
}

fn piped(config: ClientConfig) -> (Client, UnboundedReceiver<DuplexStream>) {
    let (hand, handed) = unbounded_channel();
    let connector = Connector::new(&config).with_dialer(Arc::new(Pipes(hand)));
    (Client::with_connector(config, connector).expect("no contradiction"), handed)
}

fn one_connection() -> ClientConfig {
    let mut config = ClientConfig::default();
    (config.pool.per_destination_max, config.pool.idle_per_destination_max) = (1, 1);
    config
}

/// Reads a head, and gives the answer.
async fn answer(far: &mut DuplexStream, answer: &str) -> String {
    let mut asked = Vec::new();
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") && far.read_buf(&mut asked).await.expect("read") > 0 {}
    far.write_all(answer.as_bytes()).await.expect("written");
    String::from_utf8(asked).expect("ASCII")
}

const URL: &str = "http://host/";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn host() -> Destination {
    "http://host".parse().expect("a destination")
}

fn total() -> CloseReason {
    CloseReason::Timeout(Deadline::Total)
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_request_in_whatever_phase_it_is_and_says_what_became_of_it() {
    let second = Duration::from_secs(1);
    // While the reply is awaited.
    let (client, mut handed) = piped(one_connection());
    let error = client.send_within(Request::get(URL), (), second).await.expect_err("silence");
    let failure = error.failure().expect("a connection had it");
    assert_eq!((failure.disposition, &failure.reason), (Disposition::SentNoReply, &total()));
    assert_eq!(error.destination(), Some(&host()));
    let mut gone = handed.recv().await.expect("a connection");
    assert!(gone.read_to_end(&mut Vec::new()).await.is_ok(), "the peer learns of it");

    // While the content is read.
    let sent = client.send_within(Request::get(URL), (), second);
    let peer = async {
        let mut far = handed.recv().await.expect("another connection");
        answer(&mut far, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await;
        far
    };
    let (reply, _far) = tokio::join!(sent, peer);
    let mut reply = reply.expect("a head");
    assert_eq!(reply.body.chunk().await.expect("half of it").expect("some"), "ha");
    let error = reply.body.chunk().await.expect_err("late");
    assert_eq!(error.disposition(), Some(Disposition::ReplyPartial));
    assert_eq!(error.failure().map(|failure| &failure.reason), Some(&total()));

    // While the body is sent, and the peer reads nothing.
    let put = Request::new(Method::PUT, URL);
    let error = client.send_within(put, vec![0; 100_000], second).await.expect_err("nobody reads");
    assert!(matches!(error.disposition(), Some(Disposition::PartlySent { bytes: 1.. })), "{error}");

    // While it waits for a connection: the only one is taken.
    drop(handed.recv().await);
    let sent = client.send(Request::get(URL), ());
    let mut holding = std::pin::pin!(sent);
    assert!(poll_once(holding.as_mut()).await.is_none());
    let error = client.send_within(Request::get(URL), (), second).await.expect_err("no connection");
    assert_eq!((error.phase(), error.disposition()), (Phase::Wait, Some(Disposition::NotSent)));
}

#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Dialer for Nowhere {
    async fn dial(&self, _: &Destination, _: &mut DialTimer) -> Result<Stream, Error> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn the_clients_deadline_counts_where_a_request_has_none_and_covers_dialling() {
    let mut config = ClientConfig::default();
    config.deadline = Some(Duration::from_secs(3));
    let connector = Connector::new(&config).with_dialer(Arc::new(Nowhere));
    let client = Client::with_connector(config, connector).expect("no contradiction");
    for (within, seconds) in [(None, 3), (Some(5), 5)] {
        let begun = tokio::time::Instant::now();
        let error = match within {
            None => client.send(Request::get(URL), ()).await,
            Some(seconds) => client.send_within(Request::get(URL), (), Duration::from_secs(seconds)).await,
        };
        assert_eq!(error.expect_err("it never connects").phase(), Phase::Wait);
        assert_eq!(begun.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_to_a_destination_and_what_failed_there_can_be_asked() {
    let mut config = one_connection();
    config.failures_max = 2;
    let (client, mut handed) = piped(config);
    let sent = client.send(Request::get(URL).field("X", "1").expect("a field"), ());
    let peer = async {
        let mut far = handed.recv().await.expect("a connection");
        answer(&mut far, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await;
        far
    };
    let (reply, far) = tokio::join!(sent, peer);
    let mut reply = reply.expect("a head");
    let mut waiting = Box::pin(client.send(Request::get(URL), ()));
    assert!(poll_once(waiting.as_mut()).await.is_none());
    assert_eq!(client.pending_to(&host()).unfinished, 2, "one is unread, one waits");
    // The content breaks off.
    drop(far);
    reply.body.bytes(10).await.expect_err("it broke off");
    let pending = client.pending_to(&host());
    assert_eq!((pending.unfinished, pending.failed.len(), pending.forgotten), (1, 1, 0));
    let failed = &pending.failed[0];
    assert_eq!(failed.error.disposition(), Some(Disposition::ReplyPartial));
    assert_eq!((failed.request.target.as_str(), failed.request.fields.len()), (URL, 1), "as it was given");
    drop(waiting);
    let pending = client.pending_to(&host());
    assert!(pending.failed.is_empty(), "they were taken, and what the caller gave up is no failure");
    assert_eq!(pending.unfinished, 0);
    // The next ones get no reply at all.
    let post = Request::new(Method::POST, URL);
    for _ in 0..3 {
        let peer = async { answer(&mut handed.recv().await.expect("a connection"), "").await };
        let (error, _) = tokio::join!(client.send(&post, "x"), peer);
        assert_eq!(error.expect_err("no reply").disposition(), Some(Disposition::SentNoReply));
    }
    let pending = client.pending_to(&host());
    assert_eq!((pending.failed.len(), pending.forgotten), (2, 1), "there is room for two");
    assert!(pending.failed.iter().all(|failed| failed.request.method == Method::POST));
    assert_eq!(client.pending_to(&"http://other".parse().expect("a destination")).unfinished, 0);
}

#[tokio::test]
async fn neither_requests_nor_connections_have_tasks() {
    let (url, server) = server().await;
    let client = Client::new();
    let requests = |n: usize| {
        let requests: Vec<_> = (0..n).map(|_| Box::pin(client.send(Request::get(&url), ()))).collect();
        requests
    };
    let mut sending = requests(20);
    // All are polled once: all dial.
    for sent in &mut sending {
        assert!(poll_once(sent.as_mut()).await.is_none());
    }
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    // The server has one task per connection and one that accepts; the client has its upkeep at most.
    assert!(tasks <= server.connections() + 2, "{tasks} tasks");
    for sent in sending {
        sent.await.expect("a reply");
    }
    assert!(client.counts().open > 1);
}

#[tokio::test(start_paused = true)]
async fn a_dial_whose_request_was_dropped_is_finished_by_the_upkeep() {
    #[derive(Debug)]
    struct Slow(Pipes);

    #[async_trait]
    impl Dialer for Slow {
        async fn dial(&self, to: &Destination, timer: &mut DialTimer) -> Result<Stream, Error> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.0.dial(to, timer).await
        }
    }

    let (hand, mut handed) = unbounded_channel();
    let config = one_connection();
    let connector = Connector::new(&config).with_dialer(Arc::new(Slow(Pipes(hand))));
    let client = Client::with_connector(config, connector).expect("no contradiction");
    assert!(poll_once(std::pin::pin!(client.send(Request::get(URL), ()))).await.is_none());
    assert_eq!(client.counts().dialing, 1);
    let _far = handed.recv().await.expect("it was finished");
    while client.counts().idle == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_request_leaves_behind_is_drained_by_the_upkeep() {
    let (client, mut handed) = piped(one_connection());
    let mut sent = Box::pin(client.send(Request::get(URL), ()));
    assert!(poll_once(sent.as_mut()).await.is_none());
    let mut far = handed.recv().await.expect("a connection");
    assert!(poll_once(sent.as_mut()).await.is_none());
    drop(sent);
    assert_eq!((client.counts().idle, client.counts().exchanges), (0, 1), "it is not lent again before");
    answer(&mut far, OK).await;
    while client.counts().idle == 0 {
        tokio::task::yield_now().await;
    }
    let (reply, _) = tokio::join!(client.send(Request::get(URL), ()), answer(&mut far, OK));
    assert!(reply.expect("a reply").reused);
    // A server that never answers what nobody waits for: the connection is closed when the time for draining is over.
    let mut sent = Box::pin(client.send(Request::get(URL), ()));
    assert!(poll_once(sent.as_mut()).await.is_none());
    drop(sent);
    while client.counts().open > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_upkeep_may_be_the_users_and_ends_with_the_client() {
    let mut config = one_connection();
    config.pool.idle_timeout = Some(Duration::from_secs(7));
    let (client, mut handed) = piped(config);
    let upkeep = client.upkeep();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let using = async {
        let peer = async {
            let mut far = handed.recv().await.expect("a connection");
            answer(&mut far, OK).await;
            far
        };
        let (reply, mut far) = tokio::join!(client.send(Request::get(URL), ()), peer);
        drop(reply.expect("a reply"));
        assert_eq!(tasks(), before, "nothing was spawned");
        let begun = tokio::time::Instant::now();
        far.read_to_end(&mut Vec::new()).await.expect("closed");
        assert_eq!(begun.elapsed().as_secs(), 7, "the upkeep has closed what was idle");
        drop(client);
    };
    tokio::join!(upkeep, using);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_peer_closes_while_idle_leaves_the_pool_at_the_next_round() {
    let (client, mut handed) = piped(one_connection());
    let peer = async {
        let mut far = handed.recv().await.expect("a connection");
        answer(&mut far, OK).await;
        far
    };
    let (reply, far) = tokio::join!(client.send(Request::get(URL), ()), peer);
    drop(reply.expect("a reply"));
    assert_eq!(client.counts().open, 1);
    drop(far);
    let begun = tokio::time::Instant::now();
    while client.counts().open > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_is_asked_whether_it_lives_if_that_is_wanted() {
    let mut config = one_connection();
    config.upkeep.probe_after = Some(Duration::from_secs(5));
    let (client, mut handed) = piped(config);
    let peer = async {
        let mut far = handed.recv().await.expect("a connection");
        answer(&mut far, OK).await;
        far
    };
    let (reply, mut far) = tokio::join!(client.send(Request::get(URL), ()), peer);
    drop(reply.expect("a reply"));
    let asked = answer(&mut far, OK).await;
    assert_eq!(asked, "OPTIONS * HTTP/1.1\r\nHost: host\r\n\r\n");
    while client.counts().idle == 0 {
        tokio::task::yield_now().await;
    }
    // One that does not answer is closed.
    far.read_to_end(&mut Vec::new()).await.expect("closed");
    while client.counts().open > 0 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_client_outlives_the_runtime_that_it_was_used_in() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // The server has a runtime of its own.
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = std::thread::spawn(move || {
        runtime().block_on(async {
            let (url, _server) = server().await;
            tell.send(url).expect("heard");
            let _ = stopped.await;
        });
    });
    let url = told.recv().expect("a server");
    let client = Client::new();
    let ask = async || client.send(Request::get(&url), ()).await.map(drop);
    for _ in 0..3 {
        let runtime = runtime();
        runtime.block_on(ask()).expect("a reply");
        // One request is on its way when the runtime ends, and one dial.
        let [mut first, mut second] = [Box::pin(ask()), Box::pin(ask())];
        runtime.block_on(async {
            assert!(poll_once(first.as_mut()).await.is_none() && poll_once(second.as_mut()).await.is_none());
        });
        drop(runtime);
    }
    assert_eq!(client.counts().waiting, 0);
    drop(stop);
    serving.join().expect("no panic");
}

#[tokio::test]
async fn a_client_and_a_server_count_the_same() {
    let (url, server) = server().await;
    let mut config = ClientConfig::default();
    config.upkeep.interval = Duration::from_millis(10); // the server waits for our end of the connection
    let client = Client::with_config(config).expect("no contradiction");
    for n in 0..5 {
        let mut reply = client.send(Request::new(Method::POST, &url), "0123456789").await.expect("a reply");
        assert_eq!((reply.body.bytes(10).await.expect("content").len(), reply.reused), (10, n > 0));
    }
    let (ours, theirs) = (client.stats(), server.stats());
    assert_eq!((ours.requests, ours.failed, ours.retries, ours.dials, ours.dials_failed), (5, 0, 0, 1, 0));
    assert_eq!((ours.traffic.completed, ours.traffic.reused, ours.pool.open, ours.pool.idle), (5, 4, 1, 1));
    assert_eq!((theirs.accepted, theirs.open, theirs.refused), (1, 1, 0));
    assert_eq!((ours.traffic.sent, ours.traffic.received), (theirs.traffic.received, theirs.traffic.sent));
    assert!(ours.traffic.sent > 50 && ours.oldest > Duration::ZERO);
    // What is gone is still counted.
    server.shutdown(Duration::from_secs(30));
    while server.connections() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((server.stats().traffic.completed, server.stats().traffic.connections, server.stats().open), (5, 1, 0));
    let error = client.send(Request::get(&url), ()).await.expect_err("nobody listens");
    assert_eq!(error.phase(), Phase::Connect);
    let gone = client.stats();
    assert_eq!((gone.requests, gone.failed, gone.dials_failed, gone.traffic.completed), (6, 1, 1, 5));
    assert_eq!((gone.traffic.connections, gone.stale), (1, 1));
}
