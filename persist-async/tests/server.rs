//! The server's promises about connections: how many at once, from whom, in which order handlers answer, and how it ends.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use persist_async::{
    Body, ClientConn, Config, ListenConfig, Listener, Phase, PortUse, ProxyHeaders, Received, Request, Response,
    Server, ServerConfig, ServerHandle, StatusCode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};

fn get(target: &str) -> Request {
    Request::get(target).field("Host", "test").expect("a valid field")
}

/// Answers with the target, and the client's address.
async fn told(received: Received) {
    let peer = received.peer.map(|peer| peer.to_string()).unwrap_or_default();
    let answer = format!("{} {peer}\n", received.head.target());
    let _ = received.responder.send(Response::ok(), answer).await;
}

/// Writes the bytes, and reads until the server closes.
async fn raw(stream: &mut TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.expect("written");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.expect("the server closes");
    heard
}

async fn start(
    config: ServerConfig,
) -> (std::net::SocketAddr, ServerHandle, tokio::task::JoinHandle<persist_async::Served>) {
    let server = Server::bind("127.0.0.1:0").await.expect("a port").with_config(config);
    let (address, handle) = (server.local_addr().expect("tcp"), server.handle());
    let serving = tokio::spawn(async move { server.serve(told).await.expect("no error") });
    (address, handle, serving)
}

#[tokio::test]
async fn handlers_run_side_by_side_and_replies_leave_in_order() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port").concurrent_handlers(3);
    let address = server.local_addr().expect("tcp");
    let (begun, mut beginnings) = mpsc::unbounded_channel();
    tokio::spawn(server.serve(move |received: Received| {
        let begun = begun.clone();
        async move {
            let (go, gone) = oneshot::channel();
            let target = received.head.target().to_owned();
            begun.send((target.clone(), go)).expect("the test listens");
            gone.await.expect("the test says go");
            let _ = received.responder.send(Response::ok(), target).await;
        }
    }));
    let mut config = Config::client();
    config.pipelining.depth = 4;
    let conn = Arc::new(ClientConn::with_config(TcpStream::connect(address).await.expect("a connection"), config));
    let mut exchanges = Vec::new();
    for target in ["/1", "/2", "/3", "/4"] {
        exchanges.push(conn.write(get(target), ()).await.expect("written"));
    }
    let driver = tokio::spawn({
        let conn = conn.clone();
        async move {
            let mut heard = Vec::new();
            for exchange in exchanges {
                let mut reply = conn.read(exchange).await.expect("a reply");
                heard.push(reply.body.bytes(10).await.expect("its body"));
            }
            heard
        }
    });
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(beginnings.recv().await.expect("a handler began"));
    }
    assert!(beginnings.try_recv().is_err(), "the fourth waits for a place");
    let order: Vec<_> = running.iter().map(|(target, _)| target.clone()).collect();
    assert_eq!(order, ["/1", "/2", "/3"]);
    // The last is answered first.
    while let Some((_, go)) = running.pop() {
        go.send(()).expect("the handler waits");
        if running.len() == 2 {
            let (target, go) = beginnings.recv().await.expect("there is room for the fourth now");
            assert_eq!(target, "/4");
            go.send(()).expect("the handler waits");
        }
    }
    assert_eq!(driver.await.expect("no panic"), ["/1", "/2", "/3", "/4"]);
}

#[tokio::test]
async fn an_answer_that_has_no_room_before_its_turn_leaves_when_that_comes() {
    let mut config = ServerConfig::default();
    config.conn.limits.parked_bytes_max = 10;
    config.concurrent_handlers = 8;
    let server = Server::bind("127.0.0.1:0").await.expect("a port").with_config(config);
    let address = server.local_addr().expect("tcp");
    let gate = Arc::new(Semaphore::new(0));
    let targets = ["/first", "/parked", "/waits", "/waits", "/last"];
    tokio::spawn(server.serve(move |received: Received| {
        let gate = gate.clone();
        async move {
            // All have begun when the first answers; and it is the last to do so.
            match received.head.target() {
                "/last" => gate.add_permits(targets.len()),
                _ => drop(gate.acquire().await.expect("open")),
            }
            if received.head.target() == "/first" {
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
            }
            let target = received.head.target().to_owned();
            let _ = received.responder.send(Response::ok(), target).await;
        }
    }));
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let burst: String = targets.map(|target| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).concat();
    stream.write_all(burst.as_bytes()).await.expect("written");
    stream.shutdown().await.expect("shut down");
    let heard =
        tokio::time::timeout(Duration::from_secs(60), raw(&mut stream, b"")).await.expect("none waits for ever");
    let bodies: Vec<_> =
        heard.split("HTTP/1.1 200 OK").skip(1).filter_map(|reply| reply.split("\r\n\r\n").nth(1)).collect();
    assert_eq!(bodies, targets);
}

#[tokio::test]
async fn after_a_reply_that_closes_no_later_handler_is_started() {
    let started = Arc::new(AtomicUsize::new(0));
    let counted = started.clone();
    let server = Server::bind("127.0.0.1:0").await.expect("a port").concurrent_handlers(8);
    let address = server.local_addr().expect("tcp");
    tokio::spawn(server.serve(move |received: Received| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            let mut response = Response::ok();
            if received.head.target() == "/last" {
                response = response.field("Connection", "close").expect("a field");
            }
            let _ = received.responder.send(response, "x").await;
        }
    }));
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let burst: String =
        ["/1", "/last", "/3", "/4"].map(|target| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).concat();
    let heard = raw(&mut stream, burst.as_bytes()).await;
    assert_eq!(heard.matches("HTTP/1.1 200 OK").count(), 2, "{heard}");
    assert_eq!(started.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_panic_among_concurrent_handlers_leaves_earlier_replies_whole() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port").concurrent_handlers(8);
    let address = server.local_addr().expect("tcp");
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    tokio::spawn(server.serve(move |received: Received| {
        let gate = gate.clone();
        async move {
            match received.head.target() {
                "/panic" => {
                    gate.add_permits(1);
                    panic!("a handler that panics, on purpose")
                }
                _ => {
                    let _permit = gate.acquire().await.expect("open");
                    let _ = received.responder.send(Response::ok(), "slow").await;
                }
            }
        }
    }));
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let heard = raw(&mut stream, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let first = heard.find("200 OK").expect("the first reply");
    let second = heard.find("500 Internal Server Error").expect("the second reply");
    assert!(first < second && heard.contains("slow"), "{heard}");
    drop(opened);
}

#[tokio::test]
async fn content_whose_reader_panics_breaks_off_and_leaves_earlier_replies_whole() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port").concurrent_handlers(2);
    let address = server.local_addr().expect("tcp");
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    tokio::spawn(server.serve(move |received: Received| {
        let gate = gate.clone();
        async move {
            if received.head.target() == "/panic" {
                let mut pieces = [Bytes::from("begun")].into_iter();
                let next = move |_: &mut Context<'_>| match pieces.next() {
                    None => panic!("a reader that panics, on purpose"),
                    piece => Poll::Ready(piece.map(Ok)),
                };
                let _ = received.responder.send(Response::ok(), Body::pieces(next, None)).await;
                gate.add_permits(1);
            } else {
                let _permit = gate.acquire().await.expect("open");
                let _ = received.responder.send(Response::ok(), "slow").await;
            }
        }
    }));
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let heard = raw(&mut stream, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((heard.matches("200 OK").count(), heard.matches("slow").count()), (2, 1), "{heard}");
    assert!(heard.ends_with("begun\r\n"), "the content is not complete: {heard}");
    drop(opened);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let mut config = ServerConfig::default();
    config.connections_max = 1;
    let (address, handle, serving) = start(config).await;
    let mut held = ClientConn::new(TcpStream::connect(address).await.expect("a connection"));
    held.send(get("/0"), ()).await.expect("a reply");
    let (served, mut order) = mpsc::unbounded_channel();
    for n in 1..=4 {
        let next = ClientConn::new(TcpStream::connect(address).await.expect("the kernel's queue takes it"));
        let served = served.clone();
        tokio::spawn(async move {
            let status = next.send(get("/"), ()).await.expect("a reply").head.status();
            served.send((n, status, next)).expect("the test listens");
        });
    }
    for n in 1..=4 {
        held.send(get("/again"), ()).await.expect("a reply");
        assert!(order.try_recv().is_err() && handle.connections() == 1, "{n} waits");
        drop(held);
        let (first, status, conn) = order.recv().await.expect("a reply");
        assert_eq!((first, status), (n, StatusCode::OK), "first come, first served");
        held = conn;
    }
    drop(held);
    handle.shutdown(Duration::from_secs(60));
    assert_eq!(serving.await.expect("no panic").connections, 5);
}

#[tokio::test]
async fn a_peer_with_its_share_is_refused_until_it_lets_go() {
    let mut config = ServerConfig::default();
    config.connections_per_peer_max = NonZeroUsize::new(1);
    let (address, handle, serving) = start(config).await;
    let first = ClientConn::new(TcpStream::connect(address).await.expect("a connection"));
    first.send(get("/"), ()).await.expect("a reply");
    let mut refused = TcpStream::connect(address).await.expect("a connection");
    let end = refused.read(&mut [0]).await;
    assert!(matches!(end, Ok(0) | Err(_)), "closed without a word");
    first.close().await.expect("a graceful end");
    while handle.connections() > 0 {
        tokio::task::yield_now().await;
    }
    let again = ClientConn::new(TcpStream::connect(address).await.expect("a connection"));
    again.send(get("/"), ()).await.expect("a reply");
    handle.shutdown(Duration::ZERO);
    let served = serving.await.expect("no panic");
    assert_eq!((served.connections, served.refused), (3, 1));
}

#[tokio::test]
async fn a_proxy_header_tells_the_client_and_its_absence_closes() {
    let mut config = ServerConfig::default();
    config.proxy_headers = ProxyHeaders::Required;
    let (address, handle, serving) = start(config).await;
    let request = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".as_slice();
    let version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\x12\x34\0\x50".as_slice();
    for (header, client) in [
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 4660 80\r\n".as_slice(), "192.0.2.1:4660"),
        (version_2, "192.0.2.1:4660"),
        (b"PROXY UNKNOWN\r\n", ""),
    ] {
        // Whole, and with the header alone first.
        for cut in [0, header.len(), 3] {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            let own = stream.local_addr().expect("an address").to_string();
            let all = [header, request].concat();
            stream.write_all(&all[..cut]).await.expect("written");
            tokio::task::yield_now().await;
            let heard = raw(&mut stream, &all[cut..]).await;
            let client = if client.is_empty() { &own } else { client };
            assert!(heard.ends_with(&format!("/x {client}\n")), "{heard}");
        }
    }
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request).await.expect("written");
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard).await; // a reset, perhaps: what was sent is not read
    assert!(heard.is_empty(), "no answer to whoever is not the proxy");
    // A connection that says nothing does not hold the shutdown up.
    let silent = TcpStream::connect(address).await.expect("a connection");
    while handle.connections() == 0 {
        tokio::task::yield_now().await;
    }
    handle.shutdown(Duration::from_secs(3600));
    let served = serving.await.expect("no panic");
    assert_eq!((served.connections, served.aborted), (11, 0));
    drop(silent);
}

#[tokio::test]
async fn a_restart_with_an_inherited_socket_refuses_nobody() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("tcp");
    let inherited = socket.try_clone().expect("a second descriptor of the same socket");
    let old = Server::new(Listener::try_from(socket).expect("a listener"));
    let handle = old.handle();
    let old = tokio::spawn(old.serve(told));
    let clients = tokio::spawn(async move {
        for n in 0..200 {
            let conn = ClientConn::new(TcpStream::connect(address).await.expect("never refused"));
            let reply = conn.send(get(&format!("/{n}")), ()).await.expect("a reply");
            assert_eq!(reply.head.status(), StatusCode::OK);
        }
    });
    #[cfg(unix)]
    let listener = Listener::try_from(std::os::fd::OwnedFd::from(inherited)).expect("a listener");
    #[cfg(not(unix))]
    let listener = Listener::try_from(inherited).expect("a listener");
    let new = Server::new(listener);
    let new_handle = new.handle();
    let new = tokio::spawn(new.serve(told));
    handle.shutdown(Duration::from_secs(60));
    old.await.expect("no panic").expect("no error");
    clients.await.expect("every client was served");
    new_handle.shutdown(Duration::ZERO);
    let served = new.await.expect("no panic").expect("no error");
    assert!(served.connections > 0, "the new server had its share");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn servers_share_a_port_that_both_call_shared() {
    let mut shared = ListenConfig::default();
    shared.port = PortUse::Shared;
    let first = Server::bind_with("127.0.0.1:0", shared).await.expect("a port");
    let address = first.local_addr().expect("tcp");
    let second = Server::bind_with(address, shared).await.expect("the same port");
    assert!(Server::bind(address).await.is_err(), "not without the other's consent");
    let handles = [first.handle(), second.handle()];
    let serving = [tokio::spawn(first.serve(told)), tokio::spawn(second.serve(told))];
    for _ in 0..64 {
        let conn = ClientConn::new(TcpStream::connect(address).await.expect("a connection"));
        conn.send(get("/"), ()).await.expect("a reply");
    }
    let mut counts = Vec::new();
    for (handle, serving) in handles.iter().zip(serving) {
        handle.shutdown(Duration::from_secs(60));
        counts.push(serving.await.expect("no panic").expect("no error").connections);
    }
    assert_eq!(counts.iter().sum::<u64>(), 64);
    assert!(counts.iter().all(|&count| count > 0), "the kernel shares them out: {counts:?}");
}

#[tokio::test]
async fn an_answer_from_another_task_wakes_the_connection() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("tcp");
    let (elsewhere, mut requests) = mpsc::unbounded_channel::<Received>();
    tokio::spawn(server.serve(move |received: Received| {
        let _ = elsewhere.send(received); // the handler is done, the responder is not dropped
        async {}
    }));
    tokio::spawn(async move {
        while let Some(mut received) = requests.recv().await {
            let content = received.body.bytes(1 << 20).await.expect("the content");
            received.responder.send(Response::ok(), content).await.expect("taken");
        }
    });
    let conn = ClientConn::new(TcpStream::connect(address).await.expect("a connection"));
    for size in [0, 1, 100_000, 1_000_000] {
        let post = Request::new(persist_async::Method::POST, "/").field("Host", "test").expect("a field");
        let mut reply = conn.send(post, vec![b'x'; size]).await.expect("a reply");
        assert_eq!(reply.body.bytes(1 << 20).await.expect("its body").len(), size);
    }
}

#[tokio::test]
async fn a_connection_can_be_upgraded_by_another_task_after_its_handler_returned() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("tcp");
    let (elsewhere, mut requests) = mpsc::unbounded_channel::<Received>();
    tokio::spawn(server.serve(move |received: Received| {
        let _ = elsewhere.send(received);
        async {}
    }));
    tokio::spawn(async move {
        let received = requests.recv().await.expect("a request");
        let upgrade = Response::new(StatusCode::SWITCHING_PROTOCOLS).field("Upgrade", "echo").expect("a field");
        let mut stream = received.responder.upgrade(upgrade).await.expect("upgraded").into_stream();
        let mut piece = [0; 5];
        stream.read_exact(&mut piece).await.expect("what the client says");
        stream.write_all(&piece).await.expect("written");
    });
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello";
    let heard = raw(&mut stream, request).await;
    assert!(heard.starts_with("HTTP/1.1 101 ") && heard.ends_with("\r\n\r\nhello"), "{heard}");
}

#[test]
fn a_runtime_that_ends_in_the_middle_ends_its_connections() {
    use std::io::{Read, Write};
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let server = runtime.block_on(Server::bind("127.0.0.1:0")).expect("a port");
    let address = server.local_addr().expect("tcp");
    let (begun, beginnings) = std::sync::mpsc::channel();
    runtime.spawn(server.serve(move |received: Received| {
        let begun = begun.clone();
        async move {
            begun.send(received).expect("the test listens");
            std::future::pending::<()>().await;
        }
    }));
    let mut streams: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(address).expect("a connection")).collect();
    let mut held = Vec::new();
    for stream in &mut streams {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("written");
        held.push(beginnings.recv().expect("a handler began"));
    }
    drop(runtime);
    for mut stream in streams {
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        assert!(heard.is_empty(), "closed, and nothing pretended");
    }
    // Whoever holds a request still is told.
    let another = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for received in held {
        let error = another.block_on(received.responder.send(Response::ok(), "late")).expect_err("nobody hears it");
        assert_eq!(error.phase(), Phase::Serve, "{error}");
    }
}

#[tokio::test]
async fn a_shutdown_closes_idle_connections_at_once_and_lets_busy_ones_finish() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let (address, handle) = (server.local_addr().expect("tcp"), server.handle());
    let (begun, mut beginnings) = mpsc::unbounded_channel();
    let serving = tokio::spawn(server.serve(move |received: Received| {
        let begun = begun.clone();
        async move {
            let (go, gone) = oneshot::channel();
            if received.head.target() == "/slow" {
                begun.send(go).expect("the test listens");
                gone.await.expect("the test says go");
            }
            let _ = received.responder.send(Response::ok(), "done").await;
        }
    }));
    let idle = ClientConn::new(TcpStream::connect(address).await.expect("a connection"));
    idle.send(get("/"), ()).await.expect("a reply");
    let mut busy = TcpStream::connect(address).await.expect("a connection");
    // Both requests were there before the shutdown: both are answered, and the last reply says that it is the last.
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("written");
    let go = beginnings.recv().await.expect("a handler began");
    handle.shutdown(Duration::from_secs(3600));
    assert!(idle.closed().await.is_graceful());
    while handle.connections() > 1 {
        tokio::task::yield_now().await;
    }
    assert!(!serving.is_finished(), "one is busy");
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await; // until the listening socket is closed
    }
    go.send(()).expect("the handler waits");
    beginnings.recv().await.expect("the second handler began").send(()).expect("it waits");
    let mut heard = String::new();
    busy.read_to_string(&mut heard).await.expect("closed in order");
    assert_eq!(heard.matches("HTTP/1.1 200 OK").count(), 2, "{heard}");
    let (first, last) = heard.split_once("done").expect("the first reply");
    assert!(
        !first.contains("Connection:") && last.contains("\r\nConnection: close\r\n") && last.ends_with("done"),
        "{heard}"
    );
    drop(busy);
    let served = serving.await.expect("no panic").expect("no error");
    assert_eq!((served.connections, served.aborted), (2, 0));
}

#[tokio::test]
async fn dropping_the_serving_future_stops_accepting_and_leaves_connections_to_their_tasks() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let (address, handle) = (server.local_addr().expect("tcp"), server.handle());
    let serving = tokio::spawn(server.serve(told));
    let first = ClientConn::new(TcpStream::connect(address).await.expect("a connection"));
    first.send(get("/"), ()).await.expect("a reply");
    serving.abort();
    assert!(serving.await.is_err());
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
    first.send(get("/"), ()).await.expect("the connection is served on");
    assert_eq!(handle.connections(), 1);
    drop(first);
    while handle.connections() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_serving_future_that_is_dropped_after_any_number_of_polls_harms_no_connection() {
    for polls in 0..12 {
        let server = Server::bind("127.0.0.1:0").await.expect("a port");
        let (address, handle) = (server.local_addr().expect("tcp"), server.handle());
        let mut streams = Vec::new();
        for _ in 0..4 {
            streams.push(TcpStream::connect(address).await.expect("the kernel takes it"));
        }
        let mut serving = Box::pin(server.serve(told));
        for _ in 0..polls {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(serving.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            tokio::task::yield_now().await;
        }
        drop(serving);
        // Each was accepted, and is served; or it was not, and is told so by a reset.
        let mut served = 0;
        for stream in streams {
            served += usize::from(ClientConn::new(stream).send(get("/"), ()).await.is_ok());
        }
        assert!(polls == 0 || served == 4, "{served} of 4 after {polls} polls");
        while handle.connections() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Set in a process that another test starts to play a part.
#[cfg(unix)]
const CHILD: &str = "PERSIST_TEST_CHILD";

/// Run by the next test in a process that may open few files.
#[cfg(unix)]
#[test]
#[ignore = "run by another test, under a limit"]
fn serve_with_few_descriptors() {
    if std::env::var_os(CHILD).is_none() {
        return; // as one of all ignored tests it has nobody to serve, and would wait for ever
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (address, handle, serving) = start(ServerConfig::default()).await;
        println!("listening on {address}");
        let mut line = String::new();
        let mut input = tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line).map(|_| ()));
        (&mut input).await.expect("no panic").expect("told to end");
        handle.shutdown(Duration::from_secs(60));
        serving.await.expect("no panic");
    });
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_without_descriptors_goes_on_when_it_has_some_again() {
    use std::io::BufRead;
    use std::process::{Command, Stdio};
    let program = std::env::current_exe().expect("this test");
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 24; exec \"$0\" --exact serve_with_few_descriptors --ignored --nocapture"])
        .env(CHILD, "1")
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("piped")).lines();
    let address = loop {
        let line = lines.next().expect("it says where").expect("text");
        if let Some((_, address)) = line.split_once("listening on ") {
            break address.to_owned();
        }
    };
    // More than it has descriptors for: some are accepted, the others wait in the kernel's queue.
    let mut streams = Vec::new();
    for _ in 0..40 {
        streams.push(TcpStream::connect(&address).await.expect("the kernel takes it"));
    }
    let first = ClientConn::new(streams.remove(0));
    first.send(get("/"), ()).await.expect("those it has are served");
    let last = ClientConn::new(streams.pop().expect("forty of them"));
    drop(streams); // and now there is room again
    last.send(get("/"), ()).await.expect("accepting goes on");
    first.send(get("/"), ()).await.expect("and the old ones are unharmed");
    drop(child.stdin.take());
    drop((first, last));
    assert!(child.wait().expect("it ends").success());
}
