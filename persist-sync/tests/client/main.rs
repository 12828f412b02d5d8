//! The pooled client, against our server and against peers that misbehave.

#[path = "../common/mod.rs"]
mod common;
mod deadlines;
mod download;
mod errors;
mod upkeep;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use common::{Running, echo, read_head};
use persist_sync::persist_core::{
    CloseReason, DialConfig, Disposition, Method, Phase, Request, Response, RetryPolicy, StatusCode, pool::PoolError,
};
use persist_sync::{Body, Client, ClientConfig, Received, ServerConfig};

const LONG: Duration = Duration::from_secs(30);

/// A peer that is given each connection, and its URL.
fn peer(
    connections: usize,
    mut each: impl FnMut(usize, TcpStream) + Send + 'static,
) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let serving = thread::spawn(move || {
        for n in 0..connections {
            each(n, listener.accept().expect("a connection").0);
        }
    });
    (url, serving)
}

fn respond(stream: &mut TcpStream, text: &str) {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).expect("written");
}

#[test]
fn connections_are_reused_and_counted() {
    let server = Running::start(ServerConfig::default(), echo);
    let client = Client::new();
    for n in 0..20 {
        let reply = client.send(Request::new(Method::POST, server.url("/")), format!("{n}")).expect("a reply");
        assert_eq!(reply.reused, n > 0);
        assert_eq!(reply.body.bytes(10).expect("a body"), format!("{n}"));
    }
    let counts = client.counts();
    assert_eq!((counts.open, counts.idle, counts.exchanges), (1, 1, 0));
    drop(client);
    assert_eq!(server.end(LONG).connections, 1);
}

#[test]
fn behind_the_last_request_of_a_connection_a_pooled_one_takes_another() {
    let (told, held) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let server = Running::start(ServerConfig::default(), move |received: Received| {
        if received.head.target() == "/held" {
            told.send(()).expect("the test listens");
            released.lock().expect("no panic").recv().expect("the test says so");
        }
        received.responder.send(Response::ok(), "done")
    });
    let mut config = ClientConfig::default();
    config.conn.pipelining.depth = 4;
    let client = Client::with_config(config).expect("no contradiction");
    // Pipelining begins behind a first reply.
    let first = client.send(Request::get(server.url("/")), ()).expect("a reply").connection;
    thread::scope(|scope| {
        let last = Request::get(server.url("/held")).field("Connection", "close").expect("a field");
        let asking = scope.spawn(|| client.send(last, ()).expect("its own reply").connection);
        held.recv().expect("it came");
        for _ in 0..2 {
            let reply = client.send(Request::get(server.url("/")), ()).expect("a reply, over another connection");
            assert_ne!(reply.connection, first);
        }
        release.send(()).expect("it waits");
        assert_eq!(asking.join().expect("no panic"), first);
    });
}

#[test]
fn a_reply_that_is_held_keeps_its_connection() {
    let server = Running::start(ServerConfig::default(), |received: Received| {
        received.responder.send(Response::ok(), vec![b'x'; 1 << 20])
    });
    let client = Client::new();
    let held = client.send(Request::get(server.url("/")), ()).expect("a reply");
    let other = client.send(Request::get(server.url("/")), ()).expect("another reply");
    assert_ne!(held.connection, other.connection);
    assert_eq!(client.counts().exchanges, 2);
    drop((held, other));
    assert_eq!(client.counts().exchanges, 0);
    drop(client);
    server.end(LONG);
}

#[test]
fn many_threads_share_no_more_connections_than_allowed() {
    const THREADS: usize = 16;
    let server = Running::start(ServerConfig::default(), echo);
    let mut config = ClientConfig::default();
    (config.pool.per_destination_max, config.pool.idle_per_destination_max) = (3, 3);
    let client = Client::with_config(config).expect("no contradiction");
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (client, server, start) = (client.clone(), &server, &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..50 {
                    let text = format!("{thread} {round}");
                    let reply = client.send(Request::new(Method::PUT, server.url("/")), text.clone()).expect("a reply");
                    assert_eq!(reply.body.bytes(100).expect("a body"), text);
                    assert!(client.counts().open <= 3);
                }
            });
        }
    });
    drop(client);
    assert!(server.end(LONG).connections <= 3);
}

#[test]
fn a_reply_that_comes_before_a_reset_reaches_the_caller_40_of_40() {
    let bodies: [fn() -> Body; 2] =
        [|| Body::from(vec![b'x'; 16 << 20]), || Body::reader(std::io::repeat(b'x'), Some(16 << 20))];
    let (url, serving) = peer(40, |_, mut stream| {
        read_head(&mut stream);
        stream.read_exact(&mut [0; 1000]).expect("some of it");
        stream
            .write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo big\n")
            .expect("written");
        // Closing with bytes unread makes the system send a reset.
    });
    let client = Client::new();
    let mut delivered = 0;
    for n in 0..40 {
        let reply = client.send(Request::new(Method::POST, url.as_str()), bodies[n % 2]()).expect("the reply");
        assert_eq!(reply.head.status(), StatusCode::CONTENT_TOO_LARGE);
        assert_eq!(reply.body.bytes(100).expect("its body"), "too big\n");
        delivered += 1;
    }
    assert_eq!(delivered, 40);
    serving.join().expect("the peer is content");
}

#[test]
fn a_server_that_refuses_an_upload_lingers_until_the_client_has_its_answer() {
    let server = Running::start(ServerConfig::default(), |received: Received| {
        received.responder.send(Response::new(StatusCode::CONTENT_TOO_LARGE), "too big\n")
    });
    for _ in 0..20 {
        // A connection each: one that the server is about to close may be taken for a good one by the next request, which is another matter.
        let client = Client::new();
        let request = Request::new(Method::POST, server.url("/"));
        let reply = client.send(request, vec![b'x'; 16 << 20]).expect("the reply");
        assert_eq!(reply.head.status(), StatusCode::CONTENT_TOO_LARGE);
        assert_eq!(reply.body.bytes(100).expect("its body"), "too big\n");
    }
    server.end(LONG);
}

#[test]
fn a_get_on_a_connection_that_went_stale_is_sent_again_on_a_fresh_one() {
    let (url, serving) = peer(2, |n, mut stream| {
        read_head(&mut stream);
        respond(&mut stream, "one");
        if n == 0 {
            // The second request arrives, and is dropped with the connection.
            read_head(&mut stream);
            stream.shutdown(Shutdown::Both).expect("shut");
        }
    });
    let client = Client::new();
    let first = client.send(Request::get(url.as_str()), ()).expect("a reply");
    let connection = first.connection;
    assert_eq!(first.body.bytes(10).expect("a body"), "one");
    let second = client.send(Request::get(url.as_str()), ()).expect("a reply, by a retry");
    assert!(second.connection != connection && !second.reused);
    assert_eq!(second.body.bytes(10).expect("a body"), "one");
    serving.join().expect("the peer is content");
}

#[test]
fn a_post_that_may_have_been_seen_is_not_sent_again() {
    let (url, serving) = peer(1, |_, mut stream| {
        read_head(&mut stream);
        respond(&mut stream, "one");
        read_head(&mut stream);
    });
    let client = Client::new();
    client.send(Request::get(url.as_str()), ()).expect("a reply").body.bytes(10).expect("a body");
    let error = client.send(Request::new(Method::POST, url.as_str()), ()).expect_err("nobody knows");
    let failure = error.failure().expect("what became of it");
    assert_eq!((failure.disposition, failure.reused), (Disposition::SentNoReply, true));
    assert_eq!(error.destination().map(|there| format!("{there}/")), Some(url));
    serving.join().expect("the peer is content");
}

#[test]
fn a_post_on_a_connection_closed_while_idle_is_sent_on_a_fresh_one() {
    let (closed, was_closed) = std::sync::mpsc::channel();
    let (url, serving) = peer(2, move |n, mut stream| {
        read_head(&mut stream);
        respond(&mut stream, if n == 0 { "one" } else { "two" });
        drop(stream);
        closed.send(()).expect("told");
    });
    let client = Client::new();
    client.send(Request::get(url.as_str()), ()).expect("a reply").body.bytes(10).expect("a body");
    was_closed.recv().expect("closed");
    let reply = client.send(Request::new(Method::POST, url.as_str()), ()).expect("unsent, so sent again");
    assert_eq!(reply.body.bytes(10).expect("a body"), "two");
    serving.join().expect("the peer is content");
}

#[test]
fn a_refused_connection_is_an_error_of_connecting_that_names_the_place() {
    // Bound, never listening: nobody else can take the port, and nobody answers.
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).expect("a socket");
    rustix::net::bind(&socket, &std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = rustix::net::getsockname(&socket).expect("a name");
    let address = std::net::SocketAddr::try_from(address).expect("an address");
    let mut config = ClientConfig::default();
    config.retry = RetryPolicy::never();
    let client = Client::with_config(config).expect("no contradiction");
    let error = client.send(Request::get(format!("http://{address}/")), ()).expect_err("refused");
    assert_eq!((error.phase(), error.disposition()), (Phase::Connect, Some(Disposition::NotSent)));
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && text.contains("refused"), "{text}");
}

#[test]
fn a_url_that_is_none_and_a_scheme_we_do_not_speak_are_told_apart() {
    let client = Client::new();
    let mut cases = vec![("/path", Phase::Prepare), ("ftp://localhost/", Phase::Prepare)];
    if !cfg!(feature = "tls") {
        cases.push(("https://localhost/", Phase::Prepare));
    }
    for (url, phase) in cases {
        let error = client.send(Request::get(url), ()).expect_err("not sent");
        assert_eq!((error.phase(), error.disposition()), (phase, Some(Disposition::NotSent)), "{url}");
    }
}

#[test]
fn waiting_for_a_connection_has_its_deadline() {
    let server = Running::start(ServerConfig::default(), |received: Received| {
        received.responder.send(Response::ok(), vec![b'x'; 1 << 20])
    });
    let mut config = ClientConfig::default();
    (config.pool.per_destination_max, config.pool.idle_per_destination_max) = (1, 1);
    (config.wait_timeout, config.dial) = (Some(Duration::from_millis(1)), DialConfig::unlimited());
    let client = Client::with_config(config).expect("no contradiction");
    // The first may be late itself, where dialling takes longer than that.
    let held = loop {
        match client.send(Request::get(server.url("/")), ()) {
            Ok(reply) => break reply,
            Err(error) => assert_eq!(error.phase(), Phase::Wait),
        }
    };
    let error = client.send(Request::get(server.url("/")), ()).expect_err("all are busy");
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<PoolError>());
    assert!(matches!(cause, Some(PoolError::Deadline { .. })), "{error}");
    drop((held, client));
    server.end(LONG);
}

#[test]
fn a_peer_that_speaks_something_else_is_a_protocol_error() {
    let (url, serving) = peer(1, |_, mut stream| {
        stream.write_all(b"220 mail.example ESMTP\r\n").expect("written");
        // Until the client has seen it and left.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = Client::new().send(Request::get(url), ()).expect_err("not HTTP");
    let failure = error.failure().expect("what became of it");
    assert!(matches!(failure.reason, CloseReason::Protocol(_) | CloseReason::Poisoned), "{error}");
    serving.join().expect("the peer is content");
}

#[test]
fn an_idle_deadline_closes_pooled_connections_without_anybody_asking() {
    let (url, serving) = peer(1, |_, mut stream| {
        read_head(&mut stream);
        respond(&mut stream, "one");
        // Ends when the client closes its end: the upkeep does that.
        assert_eq!(stream.read(&mut [0; 10]).expect("the end"), 0);
    });
    let mut config = ClientConfig::default();
    config.pool.idle_timeout = Some(Duration::from_millis(10));
    let client = Client::with_config(config).expect("no contradiction");
    client.send(Request::get(url), ()).expect("a reply").body.bytes(10).expect("a body");
    serving.join().expect("the connection was closed");
    while client.counts().open > 0 {
        thread::yield_now();
    }
}

#[test]
fn a_client_and_a_server_count_the_same() {
    let server = Running::start(ServerConfig::default(), echo);
    let mut config = ClientConfig::default();
    config.upkeep.interval = Duration::from_millis(10); // the server waits for our end of the connection
    let client = Client::with_config(config).expect("no contradiction");
    for n in 0..5 {
        let reply = client.send(Request::new(Method::POST, server.url("/")), "0123456789").expect("a reply");
        assert_eq!((reply.reused, reply.body.bytes(10).expect("content").len()), (n > 0, 10));
    }
    let (ours, theirs) = (client.stats(), server.handle.stats());
    assert_eq!((ours.requests, ours.failed, ours.retries, ours.dials, ours.dials_failed), (5, 0, 0, 1, 0));
    assert_eq!((ours.traffic.completed, ours.traffic.reused, ours.pool.open, ours.pool.idle), (5, 4, 1, 1));
    assert_eq!((theirs.accepted, theirs.open, theirs.refused), (1, 1, 0));
    assert_eq!((ours.traffic.sent, ours.traffic.received), (theirs.traffic.received, theirs.traffic.sent));
    assert!(ours.traffic.sent > 50 && ours.oldest > Duration::ZERO);
    // What is gone is still counted.
    let (url, handle) = (server.url("/"), server.handle.clone());
    server.end(LONG);
    assert_eq!((handle.stats().traffic.completed, handle.stats().traffic.connections, handle.stats().open), (5, 1, 0));
    let error = client.send(Request::get(url), ()).expect_err("nobody listens");
    assert_eq!(error.phase(), Phase::Connect);
    let gone = client.stats();
    assert_eq!((gone.requests, gone.failed, gone.dials_failed, gone.traffic.completed), (6, 1, 1, 5));
    assert_eq!(gone.traffic.connections, 1);
}
