//! The server: many connections, few threads, orderly ends.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use common::{LONG, Running, echo, get, post, read_head, wide_open};
use persist_sync::persist_core::bytes::Bytes;
use persist_sync::persist_core::{Config, Response, StatusCode};
use persist_sync::{Body, ClientConn, Received, Server, ServerConfig, Stream};

#[test]
fn connections_are_kept_and_responses_stamped() {
    let config = ServerConfig::default().server_name("persist-test").expect("a field value");
    let server = Running::start(config, echo);
    let client = server.client(Config::client());
    for n in 0..5 {
        let reply = client.send(post("/"), format!("hello {n}")).expect("a reply");
        assert_eq!(reply.head.field("Server").and_then(|value| value.to_str()), Some("persist-test"));
        let date = reply.head.field("Date").and_then(|value| value.to_str()).expect("a date").to_owned();
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
        assert_eq!(reply.reused, n > 0);
        assert_eq!(reply.body.bytes(100).expect("a body"), format!("hello {n}"));
    }
    drop(client);
    assert_eq!(server.end(LONG).connections, 1);
}

#[test]
fn idle_and_half_read_clients_starve_nobody() {
    let mut config = ServerConfig::default();
    config.threads_max = 2;
    let server = Running::start(config, echo);
    // 1,000 that say nothing, and 100 that have begun a head: far more than there are threads.
    let idle: Vec<_> = (0..1000).map(|_| server.connect()).collect();
    let halves: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: loc").expect("written");
            stream
        })
        .collect();
    let client = server.client(Config::client());
    for n in 0..200 {
        let reply = client.send(post("/"), format!("{n}")).expect("a reply");
        assert_eq!(reply.body.bytes(100).expect("a body"), format!("{n}"));
    }
    // And each of those that waited is served as soon as it asks.
    for mut half in halves {
        half.write_all(b"alhost\r\n\r\n").expect("written");
        assert!(read_head(&mut half).starts_with("HTTP/1.1 200 "));
    }
    for mut stream in idle {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));
    }
    drop(client);
    let served = server.end(LONG);
    assert_eq!((served.connections, served.aborted), (1101, 0));
}

#[test]
fn a_panicking_handler_answers_500_closes_and_harms_nobody_else() {
    let mut config = ServerConfig::default();
    config.threads_max = 1;
    let server = Running::start(config, |received: Received| {
        assert!(received.head.target() != "/panic", "as asked");
        echo(received)
    });
    let client = server.client(Config::client());
    let reply = client.send(get("/panic"), ()).expect("a reply");
    assert_eq!(reply.head.status(), StatusCode::INTERNAL_SERVER_ERROR);
    drop(reply);
    assert!(client.send(get("/"), ()).is_err(), "that connection is closed");
    let other = server.client(Config::client());
    assert_eq!(other.send(get("/"), ()).expect("a reply").head.status(), StatusCode::OK);
    drop((client, other));
    server.end(LONG);
}

#[test]
fn a_burst_of_pipelined_requests_is_answered_in_order() {
    let server = Running::start(ServerConfig::default(), |received: Received| {
        let target = received.head.target().to_owned();
        received.responder.send(Response::ok(), target)
    });
    let mut stream = server.connect();
    let burst: String = (0..200).map(|n| format!("GET /{n:03} HTTP/1.1\r\nHost: localhost\r\n\r\n")).collect();
    stream.write_all(burst.as_bytes()).expect("written");
    for n in 0..200 {
        read_head(&mut stream);
        let mut body = [0; 4];
        stream.read_exact(&mut body).expect("a body");
        assert_eq!(body, *format!("/{n:03}").as_bytes());
    }
    drop(stream);
    server.end(LONG);
}

#[test]
fn a_shutdown_lets_the_running_request_finish() {
    let (begun, go) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let server = Running::start(ServerConfig::default(), {
        let (begun, go) = (begun.clone(), go.clone());
        move |received: Received| {
            begun.wait();
            go.wait();
            received.responder.send(Response::ok(), "done")
        }
    });
    let (mut idle, mut busy) = (server.connect(), server.connect());
    busy.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
    begun.wait();
    server.handle.shutdown(LONG);
    // The idle connection is closed at once, which shows that the shutdown is under way.
    assert_eq!(idle.read(&mut [0]).expect("the end"), 0);
    drop(idle);
    go.wait();
    let mut reply = String::new();
    busy.read_to_string(&mut reply).expect("a reply, and then the end");
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("\r\n\r\ndone"), "{reply}");
    drop(busy);
    assert_eq!(server.end(LONG).aborted, 0);
}

#[test]
fn a_shutdown_cuts_what_is_still_busy_at_its_deadline() {
    let begun = Arc::new(Barrier::new(2));
    let server = Running::start(ServerConfig::default(), {
        let begun = begun.clone();
        move |mut received: Received| {
            begun.wait();
            // The rest never comes: only the end of the connection ends this.
            let mut rest = Vec::new();
            assert!(received.body.read_to_end(&mut rest).is_err());
            Ok(())
        }
    });
    let mut stream = server.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf").expect("written");
    begun.wait();
    assert_eq!(server.end(Duration::ZERO).aborted, 1);
    let mut rest = Vec::new();
    // A reset or an end; what matters is that the connection does not go on.
    let _ = stream.read_to_end(&mut rest);
}

#[test]
fn large_bodies_are_echoed_while_they_come() {
    let server = Running::start(ServerConfig::default(), echo);
    let client = server.client(Config::client());
    let sent: Vec<u8> = (0..8_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let pieces = |len| {
        let all = Bytes::from(sent.clone());
        let pieces = (0..all.len()).step_by(100_000).map(move |at| Ok(all.slice(at..all.len().min(at + 100_000))));
        Body::pieces(pieces, len)
    };
    let reader = |len| Body::reader(std::io::Cursor::new(sent.clone()), len);
    let len = Some(sent.len() as u64);
    for body in [Body::from(sent.clone()), reader(None), reader(len), pieces(None), pieces(len)] {
        let reply = client.send(post("/"), body).expect("a reply");
        assert!(reply.body.bytes(sent.len()).expect("a body") == sent);
    }
    drop(client);
    server.end(LONG);
}

/// One thread writes 64 requests of 1 MiB before it reads any reply, to a server that echoes while it reads; the sockets' buffers are the system's.
/// The second request is read before the first reply is consumed; over a Unix socket, whose buffers do not hold a whole reply, most of it must be.
fn full_duplex(server: Server, consumed: usize, connect: impl FnOnce(&Server) -> Stream) {
    const COUNT: usize = 64;
    let begun = Arc::new(AtomicUsize::new(0));
    let handle = server.handle();
    let client = ClientConn::with_config(connect(&server), wide_open(COUNT as u32)).expect("a connection");
    let serving = thread::spawn({
        let begun = begun.clone();
        move || {
            let echo = move |received: Received| {
                begun.fetch_add(1, Ordering::SeqCst);
                echo(received)
            };
            server.serve(echo).expect("served")
        }
    });
    let body = |n: usize| vec![n as u8; 1 << 20];
    let exchanges: Vec<_> = (0..COUNT).map(|n| client.write(post("/"), body(n)).expect("written")).collect();
    let mut exchanges = exchanges.into_iter();
    let mut first = client.read(exchanges.next().expect("the first")).expect("a reply");
    let mut part = vec![0; consumed];
    first.body.read_exact(&mut part).expect("its beginning");
    while begun.load(Ordering::SeqCst) < 2 {
        thread::yield_now();
    }
    let rest = first.body.bytes(1 << 20).expect("a body");
    assert!([part, rest.to_vec()].concat() == body(0), "reply 1");
    for (n, exchange) in exchanges.enumerate() {
        let reply = client.read(exchange).expect("a reply");
        assert!(reply.body.bytes(1 << 20).expect("a body") == body(n + 1), "reply {n}");
    }
    drop(client);
    handle.shutdown(LONG);
    serving.join().expect("the server is content");
}

#[test]
fn sixty_four_pipelined_posts_of_a_mebibyte_do_not_deadlock_on_one_thread() {
    full_duplex(Server::bind("127.0.0.1:0").expect("a port"), 0, |server| {
        TcpStream::connect(server.local_addr().expect("TCP")).expect("connected").into()
    });
}

#[test]
fn nor_do_they_over_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let server = Server::bind_unix(&path).expect("a socket");
    full_duplex(server, 960 << 10, |_| UnixStream::connect(&path).expect("connected").into());
}

#[test]
fn one_thread_streams_requests_while_another_reads_their_replies() {
    const COUNT: usize = 32;
    let server = Running::start(ServerConfig::default(), echo);
    let client = server.client(wide_open(4));
    let body = |n: usize| (0..64).map(|block: u8| vec![block ^ n as u8; 1 << 14]).collect::<Vec<_>>().concat();
    let (written, to_read) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..COUNT {
                // As many as the depth allows are under way; then the reader has to make room.
                client.ready().expect("room for one more");
                let len = (n % 2 == 0).then_some(1 << 20);
                let streamed = Body::reader(std::io::Cursor::new(body(n)), len);
                written.send(client.write(post("/"), streamed).expect("written")).expect("taken");
            }
            drop(written);
        });
        for (n, exchange) in to_read.iter().enumerate() {
            let mut reply = client.read(exchange).expect("a reply");
            let mut all = Vec::new();
            // In small pieces, so that the writer is ahead.
            let mut piece = [0; 10_007];
            loop {
                match reply.body.read(&mut piece).expect("a piece") {
                    0 => break,
                    n => all.extend_from_slice(&piece[..n]),
                }
            }
            assert!(all == body(n), "reply {n}");
        }
    });
    assert_eq!(client.completed(), COUNT as u64);
    client.close().expect("a graceful end");
    server.end(LONG);
}

#[test]
fn a_client_that_reads_no_replies_stops_being_read() {
    let served = Arc::new(AtomicUsize::new(0));
    let server = Running::start(ServerConfig::default(), {
        let served = served.clone();
        move |received: Received| {
            served.fetch_add(1, Ordering::SeqCst);
            received.responder.send(Response::ok(), vec![b'x'; 1 << 20])
        }
    });
    let mut stream = server.connect();
    stream.set_nonblocking(true).expect("set");
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // 1,000 MiB of replies are asked for; the sockets hold a few.
    let mut asked = 0;
    while asked < 1000 && stream.write(request).is_ok_and(|n| n == request.len()) {
        asked += 1;
    }
    let other = server.client(Config::client());
    for _ in 0..20 {
        other.send(get("/"), ()).expect("a reply").body.bytes(1 << 20).expect("a body");
    }
    let held = served.load(Ordering::SeqCst) - 20;
    assert!(held < 100, "{held} replies of 1 MiB each are held for a client that reads none");
    drop((stream, other));
    server.end(LONG);
}

#[test]
fn expectations_are_answered_when_the_handler_reads() {
    let server = Running::start(ServerConfig::default(), echo);
    let mut stream = server.connect();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .expect("written");
    assert_eq!(read_head(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").expect("written");
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));
    drop(stream);
    server.end(LONG);
}

#[test]
fn a_bad_request_is_answered_and_the_connection_closed() {
    let server = Running::start(ServerConfig::default(), echo);
    let mut stream = server.connect();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("written");
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 400 "), "no Host");
    stream.read_to_end(&mut Vec::new()).expect("the end");
    drop(stream);
    server.end(LONG);
}

#[test]
fn a_unix_socket_serves_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let server = Server::bind_unix(&path).expect("a socket");
    let handle = server.handle();
    let serving = thread::spawn(move || server.serve(echo).expect("served"));
    let stream = UnixStream::connect(&path).expect("connected");
    let client = ClientConn::new(stream).expect("a connection");
    let reply = client.send(post("/"), "hello").expect("a reply");
    assert_eq!(reply.body.bytes(10).expect("a body"), "hello");
    drop(client);
    handle.shutdown(LONG);
    serving.join().expect("the server is content");
}

#[test]
fn a_client_that_leaves_early_is_forgotten() {
    let server = Running::start(ServerConfig::default(), echo);
    for _ in 0..50 {
        let mut stream = server.connect();
        stream.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n").expect("written");
    }
    let served = server.end(LONG);
    assert_eq!(served.aborted, 0, "they ended by themselves");
}

#[test]
fn a_handler_may_leave_the_answer_to_another_thread() {
    let server = Running::start(ServerConfig::default(), |received: Received| {
        thread::spawn(move || match received.head.target() {
            "/echo" => received.responder.send(Response::ok(), received.body),
            "/stream" => {
                received.responder.send(Response::ok(), Body::reader(std::io::repeat(b'x').take(5 << 20), None))
            }
            _ => received.responder.send(Response::ok(), vec![b'x'; 5 << 20]),
        });
        Ok(())
    });
    thread::scope(|scope| {
        for _ in 0..4 {
            let client = server.client(Config::client());
            scope.spawn(move || {
                for round in 0..20 {
                    let sent = vec![b'x'; 5 << 20];
                    let reply = match round % 3 {
                        0 => client.send(post("/echo"), sent.clone()),
                        1 => client.send(get("/stream"), ()),
                        _ => client.send(get("/large"), ()),
                    };
                    assert!(reply.expect("a reply").body.bytes(5 << 20).expect("a body") == sent, "round {round}");
                }
            });
        }
    });
    server.end(LONG);
}

#[test]
fn pipelined_requests_may_be_answered_by_many_threads_in_any_order() {
    let mut config = ServerConfig::default();
    config.conn = common::server_config();
    let server = Running::start(config, |received: Received| {
        thread::spawn(move || {
            let target = received.head.target().to_owned();
            received.responder.send(Response::ok(), target.repeat(1 + target.len() % 7))
        });
        Ok(())
    });
    let client = server.client(wide_open(16));
    for round in 0..50 {
        let paths: Vec<_> = (0..16).map(|n| format!("/{round}/{n}")).collect();
        let exchanges: Vec<_> = paths.iter().map(|path| client.write(get(path), ()).expect("written")).collect();
        for (path, exchange) in paths.iter().zip(exchanges) {
            let body = client.read(exchange).expect("a reply").body.bytes(1000).expect("a body");
            assert_eq!(body, path.repeat(1 + path.len() % 7));
        }
    }
    drop(client);
    server.end(LONG);
}

#[test]
fn a_slow_head_meets_its_deadline_while_others_are_served() {
    let mut config = ServerConfig::default();
    config.conn.timeouts.header = Some(Duration::from_millis(50));
    let server = Running::start(config, echo);
    let mut slow = server.connect();
    slow.write_all(b"GET / HTTP/1.1\r\nHo").expect("written");
    let reply = {
        let mut all = String::new();
        slow.read_to_string(&mut all).expect("an answer, and then the end");
        all
    };
    assert!(reply.starts_with("HTTP/1.1 408 "), "{reply}");
    let client = server.client(Config::client());
    assert_eq!(client.send(get("/"), ()).expect("a reply").head.status(), StatusCode::OK);
    drop((slow, client));
    server.end(LONG);
}

#[test]
fn an_idle_connection_is_closed_when_its_time_is_up() {
    let mut config = ServerConfig::default();
    config.conn.timeouts.idle = Some(Duration::from_millis(20));
    let server = Running::start(config, echo);
    let (mut fresh, mut used) = (server.connect(), server.connect());
    used.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
    assert!(read_head(&mut used).starts_with("HTTP/1.1 200 "));
    for stream in [&mut fresh, &mut used] {
        assert_eq!(stream.read(&mut [0; 10]).expect("the end"), 0);
    }
    drop((fresh, used));
    server.end(LONG);
}

#[test]
fn a_reply_does_not_wait_for_the_slow_handler_behind_it() {
    let seen = Arc::new(Barrier::new(2));
    let server = Running::start(ServerConfig::default(), {
        let seen = seen.clone();
        move |received: Received| {
            if received.head.target() == "/slow" {
                // Until the client has the reply to the request before.
                seen.wait();
            }
            received.responder.send(Response::ok(), "done")
        }
    });
    let mut stream = server.connect();
    stream
        .write_all(b"GET /fast HTTP/1.1\r\nHost: localhost\r\n\r\nGET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("written");
    let mut body = [0; 4];
    read_head(&mut stream);
    stream.read_exact(&mut body).expect("the fast one");
    seen.wait();
    read_head(&mut stream);
    stream.read_exact(&mut body).expect("the slow one");
    drop(stream);
    server.end(LONG);
}

#[test]
fn pieces_of_a_slow_reader_and_interim_responses_leave_at_once() {
    struct Step(std::sync::mpsc::Receiver<u8>);
    impl Read for Step {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            Ok(self.0.recv().map_or(0, |byte| {
                buf[0] = byte;
                1
            }))
        }
    }
    let (give, steps) = std::sync::mpsc::channel();
    let steps = std::sync::Mutex::new(Some(Step(steps)));
    let interim_seen = Arc::new(Barrier::new(2));
    let server = Running::start(ServerConfig::default(), {
        let interim_seen = interim_seen.clone();
        move |received: Received| {
            received.responder.interim(Response::new(StatusCode::EARLY_HINTS))?;
            interim_seen.wait();
            let steps = steps.lock().expect("no panic").take().expect("one request");
            received.responder.send(Response::ok(), Body::reader(steps, None))
        }
    });
    let client = server.client(Config::client());
    let mut exchange = client.write(get("/"), ()).expect("written");
    assert!(client.interim(&mut exchange).expect("early").is_some());
    interim_seen.wait();
    give.send(b'0').expect("taken");
    let mut reply = client.read(exchange).expect("a reply");
    for step in b'0'..=b'8' {
        let mut byte = [0];
        reply.body.read_exact(&mut byte).expect("a piece");
        assert_eq!(byte[0], step);
        give.send(step + 1).expect("taken");
    }
    drop(give);
    assert_eq!(reply.body.bytes(10).expect("the last"), "9");
    drop(client);
    server.end(LONG);
}
