//! What a connection says of itself: its state, its end, its socket, and the events of all that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use persist_async::{
    ClientConn, CloseReason, Closed, Config, Delivery, KeepAliveProbes, Method, Request, Response, ServerConn,
    StateEvent, Stream,
};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

fn get(target: &str) -> Request {
    Request::get(target).field("Host", "test").expect("a valid field")
}

fn post(target: &str) -> Request {
    Request::new(Method::POST, target).field("Host", "test").expect("a valid field")
}

fn deep(depth: u32) -> Config {
    let mut config = Config::client();
    config.pipelining.depth = depth;
    config
}

fn pair(config: Config) -> (ClientConn<DuplexStream>, ServerConn<DuplexStream>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    (ClientConn::with_config(near, config), ServerConn::new(far))
}

/// Two ends of a TCP connection whose far one takes in only little that nobody reads, and whose near one can hold a lot.
async fn narrow() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    SockRef::from(&listener).set_recv_buffer_size(4096).expect("set");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
    SockRef::from(&near).set_send_buffer_size(200_000).expect("set");
    (near, listener.accept().await.expect("accepted").0)
}

/// Answers a request whose body it leaves unread.
async fn answer_unread(far: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(far.read_u8().await.expect("a head"));
    }
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("written");
}

#[tokio::test]
async fn close_does_not_wait_for_a_peer_that_has_everything_and_keeps_its_side_open() {
    let (near, mut far) = narrow().await;
    let mut config = Config::client();
    config.timeouts.linger = None;
    let client = ClientConn::with_config(near, config);
    let exchange = client.write(get("/"), ()).await.expect("written");
    answer_unread(&mut far).await;
    drop(client.read(exchange).await.expect("a reply"));
    let closed = client.close().await.expect("a graceful end");
    if cfg!(target_os = "linux") {
        assert_eq!(closed, Closed::new(CloseReason::OurClose, Delivery::Acknowledged));
    }
    assert_eq!(client.close().await.expect("closed already"), closed);
    assert_eq!(far.read(&mut [0]).await.expect("the end"), 0);
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn close_tells_how_much_did_not_arrive() {
    let (near, mut far) = narrow().await;
    let mut config = Config::client();
    config.timeouts.linger = Some(Duration::from_millis(20));
    let client = ClientConn::with_config(near, config);
    let exchange = client.write(post("/"), vec![0; 60_000]).await.expect("written");
    answer_unread(&mut far).await;
    drop(client.read(exchange).await.expect("a reply"));
    let closed = client.close().await.expect("our own end, in order");
    assert!(matches!(closed.delivery, Delivery::Unacknowledged { bytes } if bytes > 10_000), "{closed:?}");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn unsent_bytes_are_those_the_peer_has_not_acknowledged() {
    let (near, mut far) = narrow().await;
    let client = ClientConn::new(near);
    assert_eq!(client.unsent_bytes().expect("healthy"), 0);
    let exchange = client.write(post("/"), vec![0; 60_000]).await.expect("written");
    assert!(client.unsent_bytes().expect("healthy") > 10_000, "in the kernel's queue: the peer has no room");
    answer_unread(&mut far).await;
    far.read_exact(&mut vec![0; 60_000]).await.expect("the body");
    drop(client.read(exchange).await.expect("a reply"));
    while client.unsent_bytes().expect("healthy") > 0 {
        // The last acknowledgement is on its way.
        tokio::task::yield_now().await;
    }
    drop(far);
    assert_eq!(client.closed().await, CloseReason::PeerClosed);
    client.unsent_bytes().expect_err("nobody will ever know");
}

#[tokio::test]
async fn a_failure_is_told_by_every_accessor_and_a_graceful_end_is_none() {
    let (near, far) = tokio::io::duplex(1024);
    let client = ClientConn::new(near);
    assert!(client.err().is_none() && !client.is_broken() && client.close_reason().is_none());
    let exchange = client.write(get("/"), ()).await.expect("written");
    drop(far);
    client.read(exchange).await.expect_err("no reply");
    assert!(client.is_broken() && client.is_closing());
    assert_eq!(client.close_reason(), Some(CloseReason::PeerClosedEarly));
    let error = client.err().expect("a reason");
    assert!(error.to_string().contains("closed before the message was complete"), "{error}");

    let (client, server) = pair(Config::client());
    server.listener_gone();
    assert!(server.err().is_some() && !server.is_broken());
    let (reason, closed) = tokio::join!(client.closed(), server.close());
    assert_eq!(reason, CloseReason::PeerClosed);
    assert!(!client.is_broken() && client.err().is_some());
    // A pipe in memory does not tell what has arrived.
    assert_eq!(closed.expect("graceful").delivery, Delivery::Unknown);
}

#[tokio::test]
async fn the_last_read_and_write_are_known() {
    let (client, server) = pair(Config::client());
    assert_eq!((client.last_read(), client.last_write(), server.last_read()), (None, None, None));
    let before = Instant::now();
    let exchange = client.write(get("/"), ()).await.expect("written");
    let wrote = client.last_write().expect("a write");
    assert!(before <= wrote && wrote <= Instant::now());
    let received = server.read().await.expect("a request").expect("not the end");
    server.write(received.responder, Response::ok(), "x").await.expect("the reply leaves");
    let server = Arc::new(server);
    let driving = tokio::spawn({
        let server = server.clone();
        async move { server.read().await.expect("a graceful end").is_none() }
    });
    drop(client.read(exchange).await.expect("a reply"));
    assert!(client.last_read().expect("a read") >= wrote);
    assert!(server.last_read().expect("a read") >= wrote);
    assert!(server.last_write().expect("a write") >= wrote);
    assert_eq!((client.completed(), server.completed()), (1, 1));
    drop(client);
    assert!(driving.await.expect("no panic"));
}

#[tokio::test]
async fn keepalive_probes_are_set_on_the_socket_and_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    let client = ClientConn::new(Stream::from(TcpStream::connect(addr).await.expect("connected")));
    let server = ServerConn::new(listener.accept().await.expect("accepted").0);
    let probes = KeepAliveProbes { idle: Duration::from_secs(7), interval: Duration::from_secs(3), count: 2 };
    client.set_keep_alive(Some(probes)).expect("set");
    server.set_keep_alive(Some(probes)).expect("set");
    let check = |socket: SockRef<'_>| {
        assert!(socket.keepalive().expect("told"));
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().expect("told"), probes.idle);
            assert_eq!(socket.tcp_keepalive_interval().expect("told"), probes.interval);
            assert_eq!(socket.tcp_keepalive_retries().expect("told"), probes.count);
        }
    };
    check(SockRef::from(client.get_ref().expect("open").as_tcp().expect("TCP")));
    check(SockRef::from(&*server.get_ref().expect("open")));
    client.set_keep_alive(None).expect("set");
    assert!(!SockRef::from(client.get_ref().expect("open").as_tcp().expect("TCP")).keepalive().expect("told"));
    assert_eq!(client.peer_addr(), Some(addr));
    assert_eq!(client.local_addr(), server.peer_addr());
    let memory = pair(Config::client()).0;
    assert_eq!(memory.set_keep_alive(Some(probes)).expect_err("not TCP").kind(), std::io::ErrorKind::Unsupported);
    client.abort();
    assert!(client.get_ref().is_none() && client.set_keep_alive(None).is_err());
}

#[tokio::test]
async fn a_used_connection_is_looked_at_before_the_next_request() {
    let (near, mut far) = tokio::io::duplex(1024);
    let client = ClientConn::new(near);
    for said in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let exchange = client.write(get("/"), ()).await.expect("written");
        far.write_all(said.as_bytes()).await.expect("written");
        let reply = client.read(exchange).await.expect("a reply");
        assert_eq!(reply.head.status().as_u16(), 204);
    }
    let error = client.send(get("/evil"), ()).await.expect_err("the second reply answers nothing");
    assert_eq!(error.disposition(), Some(persist_async::Disposition::NotSent), "{error}");
}

#[tokio::test]
async fn events_are_coalesced_and_the_end_comes_last() {
    let (client, server) = pair(deep(4));
    let mut events = client.events();
    assert_eq!(events.poll(), Some(StateEvent::Available(4)));
    assert_eq!(events.poll(), Some(StateEvent::InFlight(0)));
    assert_eq!(events.poll(), None);
    let place = client.reserve().expect("a place");
    let exchange = client.write(get("/"), ()).await.expect("written");
    assert_eq!(events.wait().await, Some(StateEvent::Available(2)));
    assert_eq!(events.poll(), Some(StateEvent::InFlight(2)));
    client.release(place);
    // Down to 3 and up again, which nobody saw.
    drop(client.reserve().expect("a place"));
    assert_eq!(events.poll(), Some(StateEvent::Available(3)));
    assert_eq!(events.poll(), Some(StateEvent::InFlight(1)));
    assert_eq!(events.poll(), None);
    let serving = tokio::spawn(async move {
        let received = server.read().await.expect("a request").expect("not the end");
        let last = Response::ok().field("Connection", "close").expect("a field");
        received.responder.send(last, "x").await.expect("it leaves");
        server.close().await.expect("a graceful end");
    });
    drop(client.read(exchange).await.expect("a reply"));
    let mut rest = Vec::new();
    while let Some(event) = events.wait().await {
        rest.push(event);
    }
    let closed = StateEvent::Closed(CloseReason::PeerSaidClose);
    assert_eq!(rest, [StateEvent::Available(0), StateEvent::InFlight(0), closed.clone()]);
    let mut late = client.events();
    let mut last = None;
    while let Some(event) = late.wait().await {
        last = Some(event);
    }
    assert_eq!(last, Some(closed), "the end is told to whoever asks after it, too");
    serving.await.expect("no panic");
}

#[tokio::test]
async fn several_listeners_are_each_told_while_others_drive() {
    let (client, server) = pair(deep(2));
    let client = Arc::new(client);
    let listeners: Vec<_> = (0..3)
        .map(|_| {
            let mut events = client.events();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Some(event) = events.wait().await {
                    seen.push(event);
                }
                seen
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let exchange = client.write(get("/"), ()).await.expect("written");
    tokio::task::yield_now().await;
    client.cancel(exchange);
    client.abort();
    for listener in listeners {
        let seen = listener.await.expect("no panic");
        assert_eq!(seen.last(), Some(&StateEvent::Closed(CloseReason::Aborted)));
        assert!(seen.contains(&StateEvent::InFlight(1)), "{seen:?}");
    }
    drop(server);
}

#[tokio::test]
async fn a_connection_that_was_taken_apart_has_ended_for_its_listeners() {
    let (client, _server) = pair(Config::client());
    let mut events = client.events();
    drop(client.hijack().expect("taken apart"));
    let mut last = None;
    while let Some(event) = events.wait().await {
        last = Some(event);
    }
    assert_eq!(last, Some(StateEvent::Closed(CloseReason::Switched)));
}

#[tokio::test]
async fn whoever_flushes_is_told_though_another_task_drives() {
    let (near, mut far) = tokio::io::duplex(64);
    let client = Arc::new(ClientConn::with_config(near, deep(2)));
    let exchange = client.write(post("/"), vec![b'x'; 4096]).await.expect("taken");
    let flushing = tokio::spawn({
        let client = client.clone();
        async move { client.flush().await }
    });
    tokio::task::yield_now().await;
    // Comes later, and drives from here on; it waits for news of the connection, too.
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.closed().await }
    });
    tokio::task::yield_now().await;
    let mut heard = Vec::new();
    while heard.iter().filter(|byte| **byte == b'x').count() < 4096 {
        far.read_buf(&mut heard).await.expect("the request");
    }
    flushing.await.expect("no panic").expect("all has left");
    drop((exchange, far));
    closing.await.expect("no panic");
}

#[tokio::test]
async fn a_connection_counts_what_it_carried_at_both_ends() {
    let (client, server) = pair(deep(2));
    let server = Arc::new(server);
    let serving = tokio::spawn({
        let server = server.clone();
        async move {
            for _ in 0..3 {
                let mut received = server.read().await.expect("no error").expect("a request");
                let content = received.body.bytes(100).await.expect("its content");
                received.responder.send(Response::ok(), persist_async::Body::from(content)).await.expect("answered");
            }
            server.read().await // and this drives what was answered
        }
    });
    for _ in 0..3 {
        let mut reply = client.send(post("/"), "0123456789").await.expect("a reply");
        assert_eq!(reply.body.bytes(100).await.expect("content"), "0123456789");
    }
    let (ours, theirs) = (client.stats(), server.stats());
    assert_eq!((ours.completed, ours.reused(), ours.pending, ours.failed.total()), (3, 2, 0, 0));
    assert_eq!((theirs.completed, theirs.failed.total()), (3, 0));
    let request = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n0123456789".len() as u64;
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789".len() as u64;
    assert_eq!((ours.sent, ours.received), (3 * request, 3 * reply));
    assert_eq!((theirs.sent, theirs.received), (3 * reply, 3 * request));
    // Two are on their way when the server goes.
    let first = client.write(get("/"), ()).await.expect("written");
    let second = client.write(get("/"), ()).await.expect("written");
    client.flush().await.expect("flushed");
    drop((serving.await.expect("no panic"), server));
    let _ = (client.read(first).await.expect_err("gone"), client.read(second).await.expect_err("gone"));
    assert_eq!(client.stats().failed.sent_no_reply, 2);
    assert!(client.stats().age > Duration::ZERO);
}

/// What is told through `tracing`.
#[cfg(feature = "tracing")]
mod told {
    use std::fmt::{Debug, Write};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Writes a line for each span that begins, and for each event, behind the spans it is in.
    #[derive(Default)]
    struct Lines {
        lines: Mutex<Vec<String>>,
        spans: Mutex<Vec<String>>,
        entered: Mutex<Vec<u64>>,
        next: AtomicU64,
    }

    struct Shown(String);

    impl Visit for Shown {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }

    #[derive(Clone, Default)]
    struct Listens(Arc<Lines>);

    impl Subscriber for Listens {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "persist"
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            let mut shown = Shown(span.metadata().name().to_owned());
            span.record(&mut shown);
            let parent = span.parent().map(|parent| parent.into_u64());
            let inside = parent.map(|at| self.0.spans.lock().expect("no panic")[at as usize - 1].clone());
            let name = inside.map_or(shown.0.clone(), |inside| format!("{inside}: {}", shown.0));
            self.0.lines.lock().expect("no panic").push(format!("+ {name}"));
            self.0.spans.lock().expect("no panic").push(name);
            Id::from_u64(self.0.next.fetch_add(1, Ordering::SeqCst) + 1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut shown = Shown(String::new());
            event.record(&mut shown);
            let inside = self
                .0
                .entered
                .lock()
                .expect("no panic")
                .last()
                .map(|at| self.0.spans.lock().expect("no panic")[*at as usize - 1].clone());
            self.0.lines.lock().expect("no panic").push(format!("{}:{}", inside.unwrap_or_default(), shown.0));
        }

        fn enter(&self, span: &Id) {
            self.0.entered.lock().expect("no panic").push(span.into_u64());
        }

        fn exit(&self, span: &Id) {
            let mut entered = self.0.entered.lock().expect("no panic");
            assert_eq!(entered.pop(), Some(span.into_u64()), "spans are left in order");
        }
    }

    #[test]
    fn connections_and_exchanges_have_spans_that_hold_no_secret() {
        let listens = Listens::default();
        let _guard = tracing::subscriber::set_default(listens.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let id = runtime.block_on(async {
            let (client, server) = pair(Config::client());
            let asked = get("/?key=secret").field("Authorization", "Bearer secret").expect("a field");
            let serving = async {
                let received = server.read().await.expect("no error").expect("a request");
                received.responder.send(Response::ok(), "secret").await.expect("answered");
                server.read().await
            };
            let reply = tokio::select! {
                reply = client.send(asked, ()) => reply,
                _ = serving => unreachable!("nothing else is asked"),
            };
            assert_eq!(reply.expect("a reply").body.bytes(10).await.expect("content"), "secret");
            let unanswered = client.write(get("/"), ()).await.expect("written");
            drop(server);
            client.read(unanswered).await.expect_err("gone");
            client.id()
        });
        let lines = listens.0.lines.lock().expect("no panic");
        let connection = format!("connection connection={id} role=\"client\"");
        let exchange = |n: u64| format!("{connection}: exchange connection={id} exchange={n} method=\"GET\"");
        let said = |line: &str| lines.iter().any(|said| said.starts_with(line));
        assert!(said(&format!("+ {connection}")) && said(&format!("+ {}", exchange(0))), "{lines:#?}");
        assert!(
            lines.iter().any(|line| line.contains("role=\"server\": exchange ") && line.starts_with('+')),
            "{lines:#?}"
        );
        assert!(said(&format!("{}: message=received", exchange(0))), "{lines:#?}");
        assert!(said(&format!("{}: message=failed disposition=sent, no reply reason=", exchange(1))), "{lines:#?}");
        assert!(
            lines.iter().any(|line| line.starts_with(&format!("{connection}: message=response"))),
            "the core's: {lines:#?}"
        );
        assert!(!lines.iter().any(|line| line.contains("secret")), "{lines:#?}");
    }
}
