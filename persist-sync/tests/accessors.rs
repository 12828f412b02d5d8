//! What a connection says of itself: its state, its end, its socket.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use common::{get, pair, post, read_head, wide_open};
use persist_sync::persist_core::Config;
use persist_sync::{
    Body, ClientConn, CloseReason, Closed, Delivery, KeepAliveProbes, Response, ServerConn, StateEvent, StatusCode,
};
use socket2::SockRef;

/// Two ends of a TCP connection whose far one takes in only little that nobody reads, and whose near one can hold a lot.
fn narrow() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    SockRef::from(&listener).set_recv_buffer_size(4096).expect("set");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    SockRef::from(&near).set_send_buffer_size(200_000).expect("set");
    (near, listener.accept().expect("accepted").0)
}

/// Answers a request whose body it leaves unread.
fn answer_unread(far: &mut TcpStream) {
    read_head(far);
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("written");
}

#[test]
fn close_does_not_wait_for_a_peer_that_has_everything_and_keeps_its_side_open() {
    let (near, mut far) = narrow();
    let mut config = Config::client();
    config.timeouts.linger = None;
    let client = ClientConn::with_config(near, config).expect("a connection");
    let exchange = client.write(get("/"), ()).expect("written");
    assert_eq!(exchange.connection(), client.id());
    answer_unread(&mut far);
    drop(client.read(exchange).expect("a reply"));
    let closed = client.close().expect("a graceful end");
    assert_eq!(closed, Closed::new(CloseReason::OurClose, Delivery::Acknowledged));
    assert_eq!(client.close().expect("closed already"), closed);
    assert_eq!(far.read(&mut [0]).expect("the end"), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn close_tells_how_much_did_not_arrive() {
    let (near, mut far) = narrow();
    let mut config = Config::client();
    config.timeouts.linger = Some(Duration::from_millis(20));
    let client = ClientConn::with_config(near, config).expect("a connection");
    let exchange = client.write(post("/"), vec![0; 60_000]).expect("written");
    answer_unread(&mut far);
    drop(client.read(exchange).expect("a reply"));
    let closed = client.close().expect("our own end, in order");
    assert!(matches!(closed.delivery, Delivery::Unacknowledged { bytes } if bytes > 10_000), "{closed:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn unsent_bytes_are_those_the_peer_has_not_acknowledged() {
    let (near, mut far) = narrow();
    let client = ClientConn::new(near).expect("a connection");
    assert_eq!(client.unsent_bytes().expect("healthy"), 0);
    let exchange = client.write(post("/"), vec![0; 60_000]).expect("written");
    assert!(client.unsent_bytes().expect("healthy") > 10_000, "in the kernel's queue: the peer has no room");
    answer_unread(&mut far);
    far.read_exact(&mut vec![0; 60_000]).expect("the body");
    drop(client.read(exchange).expect("a reply"));
    while client.unsent_bytes().expect("healthy") > 0 {
        // The last acknowledgement is on its way.
        thread::yield_now();
    }
    drop(far);
    assert_eq!(client.closed(), Some(CloseReason::PeerClosed));
    client.unsent_bytes().expect_err("nobody will ever know");
}

#[test]
fn a_failure_is_told_by_every_accessor_and_a_graceful_end_is_none() {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::new(near).expect("a connection");
    assert!(client.err().is_none() && !client.is_broken() && client.close_reason().is_none());
    let exchange = client.write(get("/"), ()).expect("written");
    read_head(&mut far);
    drop(far);
    client.read(exchange).expect_err("no reply");
    assert!(client.is_broken() && client.is_closing());
    assert_eq!(client.close_reason(), Some(CloseReason::PeerClosedEarly));
    let error = client.err().expect("a reason");
    assert!(error.to_string().contains("closed before the message was complete"), "{error}");

    let (client, server) = pair(Config::client());
    server.listener_gone();
    assert!(server.err().is_some() && !server.is_broken());
    assert_eq!(client.closed(), Some(CloseReason::PeerClosed));
    assert!(!client.is_broken() && client.err().is_some());
    assert!(server.close().is_ok());
}

#[test]
fn the_last_read_and_write_are_known() {
    let (client, server) = pair(Config::client());
    assert_eq!((client.last_read(), client.last_write(), server.last_read()), (None, None, None));
    let before = Instant::now();
    let exchange = client.write(get("/"), ()).expect("written");
    let wrote = client.last_write().expect("a write");
    assert!(before <= wrote && wrote <= Instant::now());
    let received = server.read().expect("a request").expect("not the end");
    received.responder.send(Response::ok(), "x").expect("the reply leaves");
    drop(client.read(exchange).expect("a reply"));
    assert!(client.last_read().expect("a read") >= server.last_write().expect("a write"));
    assert!(server.last_read().expect("a read") >= wrote);
    assert_eq!((client.completed(), server.completed()), (1, 1));
}

#[test]
fn keepalive_probes_are_set_on_the_socket_and_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    let client = ClientConn::new(TcpStream::connect(addr).expect("connected")).expect("a connection");
    let server = ServerConn::new(listener.accept().expect("accepted").0).expect("a connection");
    let probes = KeepAliveProbes { idle: Duration::from_secs(7), interval: Duration::from_secs(3), count: 2 };
    client.set_keep_alive(Some(probes)).expect("set");
    server.set_keep_alive(Some(probes)).expect("set");
    for stream in [client.get_ref().expect("open"), server.get_ref().expect("open")] {
        let socket = SockRef::from(stream.as_tcp().expect("TCP"));
        assert!(socket.keepalive().expect("told"));
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().expect("told"), probes.idle);
            assert_eq!(socket.tcp_keepalive_interval().expect("told"), probes.interval);
            assert_eq!(socket.tcp_keepalive_retries().expect("told"), probes.count);
        }
    }
    client.set_keep_alive(None).expect("set");
    assert!(!SockRef::from(client.get_ref().expect("open").as_tcp().expect("TCP")).keepalive().expect("told"));
    assert_eq!(client.peer_addr(), Some(addr));
    assert_eq!(client.local_addr(), server.peer_addr());
    let unix = pair(Config::client()).0;
    assert_eq!(unix.set_keep_alive(Some(probes)).expect_err("not TCP").kind(), std::io::ErrorKind::Unsupported);
    client.abort();
    assert!(client.get_ref().is_none() && client.set_keep_alive(None).is_err());
}

#[test]
fn an_upgrade_waits_for_whoever_looks_at_the_stream() {
    let (client, server) = pair(Config::client());
    let request = get("/").field("Upgrade", "x").expect("a field").field("Connection", "upgrade").expect("a field");
    let exchange = client.write(request, ()).expect("written");
    let received = server.read().expect("a request").expect("not the end");
    let looking = server.get_ref().expect("open");
    thread::scope(|scope| {
        let response = Response::new(StatusCode::SWITCHING_PROTOCOLS).field("Upgrade", "x").expect("a field");
        let upgrading = scope.spawn(|| received.responder.upgrade(response).expect("an upgrade"));
        assert_eq!(client.read(exchange).expect("a reply").head.status(), StatusCode::SWITCHING_PROTOCOLS);
        drop(looking);
        let mut stream = upgrading.join().expect("no panic").into_stream();
        stream.write_all(b"on").expect("written");
    });
    let mut heard = [0; 2];
    client.into_stream().expect("taken apart").read_exact(&mut heard).expect("heard");
    assert_eq!(&heard, b"on");
}

#[test]
fn events_are_coalesced_and_the_end_comes_last() {
    let (client, server) = pair(wide_open(4));
    let mut events = client.events();
    assert_eq!(events.poll(), Some(StateEvent::Available(4)));
    assert_eq!(events.poll(), Some(StateEvent::InFlight(0)));
    assert_eq!(events.poll(), None);
    let place = client.reserve().expect("a place");
    let exchange = client.write(get("/"), ()).expect("written");
    assert_eq!(events.poll(), Some(StateEvent::Available(2)));
    assert_eq!(events.poll(), Some(StateEvent::InFlight(2)));
    client.release(place);
    // Down to 3 and up again, which nobody saw.
    drop(client.reserve().expect("a place"));
    assert_eq!(events.poll(), Some(StateEvent::Available(3)));
    assert_eq!(events.poll(), Some(StateEvent::InFlight(1)));
    assert_eq!(events.poll(), None);
    let received = server.read().expect("a request").expect("not the end");
    received.responder.send(Response::ok().field("Connection", "close").expect("a field"), "x").expect("it leaves");
    drop(client.read(exchange).expect("a reply"));
    let rest: Vec<_> = events.collect();
    let closed = StateEvent::Closed(CloseReason::PeerSaidClose);
    assert_eq!(rest, [StateEvent::Available(0), StateEvent::InFlight(0), closed]);
    assert_eq!(client.events().last(), Some(StateEvent::Closed(CloseReason::PeerSaidClose)));
}

#[test]
fn an_event_ends_the_wait_of_another_thread() {
    let (client, server) = pair(wide_open(2));
    let told = Barrier::new(2);
    let mut events = client.events();
    while events.poll().is_some() {}
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            told.wait();
            let seen: Vec<_> = events.by_ref().take(2).collect();
            told.wait();
            (seen, events.last())
        });
        told.wait();
        let exchange = client.write(get("/"), ()).expect("written");
        told.wait();
        client.cancel(exchange);
        client.abort();
        let (seen, last) = waiting.join().expect("no panic");
        assert_eq!(seen, [StateEvent::Available(1), StateEvent::InFlight(1)]);
        assert_eq!(last, Some(StateEvent::Closed(CloseReason::Aborted)));
    });
    drop(server);
}

#[test]
fn a_connection_that_was_taken_apart_has_ended_for_its_listeners() {
    let (client, _server) = pair(Config::client());
    let events = client.events();
    drop(client.hijack().expect("taken apart"));
    assert_eq!(events.last(), Some(StateEvent::Closed(CloseReason::Switched)));
}

#[test]
fn pieces_are_no_larger_than_asked() {
    let (client, server) = pair(Config::client());
    let serving = thread::spawn(move || {
        let received = server.read().expect("a request").expect("not the end");
        received.responder.send(Response::ok(), Body::from(vec![b'x'; 10_000])).expect("the reply leaves");
    });
    let mut reply = client.send(get("/"), ()).expect("a reply");
    reply.body.set_chunk_bytes_max(777);
    let mut total = 0;
    while let Some(piece) = reply.body.chunk().expect("a piece") {
        assert!(piece.len() <= 777, "{}", piece.len());
        total += piece.len();
    }
    assert_eq!(total, 10_000);
    serving.join().expect("the server is content");
}

#[test]
fn a_connection_counts_what_it_carried_at_both_ends() {
    let (client, server) = pair(wide_open(2));
    let theirs = thread::scope(|scope| {
        let serving = scope.spawn(|| {
            for _ in 0..3 {
                let received = server.read().expect("no error").expect("a request");
                let content = received.body.bytes(100).expect("its content");
                received.responder.send(Response::ok(), content).expect("answered");
            }
            server.stats()
        });
        for _ in 0..3 {
            let reply = client.send(post("/"), "0123456789").expect("a reply");
            assert_eq!(reply.body.bytes(100).expect("content"), "0123456789");
        }
        serving.join().expect("no panic")
    });
    let ours = client.stats();
    assert_eq!((ours.completed, ours.reused(), ours.pending, ours.failed.total()), (3, 2, 0, 0));
    assert_eq!((theirs.completed, theirs.failed.total()), (3, 0));
    let request = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n0123456789".len() as u64;
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789".len() as u64;
    assert_eq!((ours.sent, ours.received), (3 * request, 3 * reply));
    assert_eq!((theirs.sent, theirs.received), (3 * reply, 3 * request));
    // Two are on their way when the server goes.
    let first = client.write(get("/"), ()).expect("written");
    let second = client.write(get("/"), ()).expect("written");
    drop(server);
    let _ = (client.read(first).expect_err("gone"), client.read(second).expect_err("gone"));
    assert_eq!(client.stats().failed.sent_no_reply, 2);
    assert!(client.stats().age > Duration::ZERO);
}
