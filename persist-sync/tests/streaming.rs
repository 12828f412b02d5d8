//! Bodies that are written by whoever sends them, both ways.

mod common;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use common::{Running, get, pair, post, read_head, wide_open};
use persist_sync::persist_core::Config;
use persist_sync::{
    ClientConn, CloseReason, Disposition, Error, Fields, Method, Received, Request, Response, SendError, ServerConfig,
    StatusCode,
};

fn cause_of(error: &Error) -> Option<&SendError> {
    std::error::Error::source(error).and_then(|cause| cause.downcast_ref())
}

#[test]
fn bodies_are_written_both_ways_with_their_trailers() {
    let (client, server) = pair(Config::client());
    let serving = thread::spawn(move || {
        let mut received = server.read().expect("a request").expect("not the end");
        let mut answer = received.responder.send_streaming(Response::ok(), None).expect("begun");
        let mut piece = [0; 1000];
        loop {
            let n = received.body.read(&mut piece).expect("a piece");
            if n == 0 {
                break;
            }
            answer.write_all(&piece[..n].to_ascii_uppercase()).expect("taken");
        }
        answer.finish_with(received.body.trailers().expect("trailers")).expect("the reply leaves");
    });
    let (exchange, mut body) = client.write_streaming(post("/"), None).expect("begun");
    for n in 0..5000 {
        writeln!(body, "line {n}").expect("taken");
    }
    let mut trailers = Fields::new();
    trailers.push("X-Lines", "5000").expect("a field");
    body.finish_with(&trailers).expect("sent");
    let mut reply = client.read(exchange).expect("a reply");
    let mut text = String::new();
    reply.body.read_to_string(&mut text).expect("the body");
    assert_eq!(text.lines().count(), 5000);
    assert!(text.ends_with("LINE 4999\n"));
    assert_eq!(reply.body.trailers().and_then(|all| all.get("x-lines")).and_then(|value| value.to_str()), Some("5000"));
    serving.join().expect("the server is content");
}

#[test]
fn a_reply_is_read_while_its_request_is_written() {
    let server = Running::start(ServerConfig::default(), common::echo);
    let client = server.client(Config::client());
    let (exchange, mut body) = client.write_streaming(post("/"), Some(8 << 20)).expect("begun");
    thread::scope(|scope| {
        // Far more than the sockets hold: neither could go on without the other.
        scope.spawn(|| {
            for n in 0..=255 {
                body.write_all(&vec![n; 1 << 15]).expect("taken");
            }
            body.finish().expect("sent");
        });
        let all = client.read(exchange).expect("a reply").body.bytes(8 << 20).expect("all of it");
        assert!(all.chunks(1 << 15).zip(0..=u8::MAX).all(|(block, n)| block.iter().all(|byte| *byte == n)));
    });
    drop(client);
    server.end(common::LONG);
}

#[test]
fn flushed_pieces_leave_at_once_and_small_ones_are_gathered() {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::new(near).expect("a connection");
    let (_exchange, mut body) = client.write_streaming(post("/"), None).expect("begun");
    assert!(read_head(&mut far).contains("Transfer-Encoding: chunked"));
    body.write_all(b"one ").expect("taken");
    body.write_all(b"two").expect("taken");
    body.flush().expect("sent");
    let mut seen = [0; 12];
    far.read_exact(&mut seen).expect("the piece");
    assert_eq!(&seen, b"7\r\none two\r\n");
    body.finish().expect("sent");
    let mut end = [0; 5];
    far.read_exact(&mut end).expect("the last chunk");
    assert_eq!(&end, b"0\r\n\r\n");
}

#[test]
fn a_body_that_is_dropped_is_never_taken_for_whole() {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::new(near).expect("a connection");
    let (exchange, mut body) = client.write_streaming(post("/"), None).expect("begun");
    body.write_all(b"some").expect("taken");
    body.flush().expect("sent");
    drop(body);
    let error = client.read(exchange).expect_err("given up");
    assert!(matches!(error.disposition(), Some(Disposition::PartlySent { .. })), "{error:?}");
    assert_eq!(error.failure().map(|failure| &failure.reason), Some(&CloseReason::Aborted));
    let mut seen = String::new();
    far.read_to_string(&mut seen).expect("the end");
    assert!(seen.ends_with("4\r\nsome\r\n"), "{seen}");
}

#[test]
fn more_or_less_than_declared_is_refused() {
    let (client, server) = pair(Config::client());
    let (_exchange, mut body) = client.write_streaming(post("/"), Some(4)).expect("begun");
    body.write_all(b"12345").expect("gathered");
    let error = body.flush().expect_err("too long").downcast::<Error>().expect("the whole error inside");
    assert_eq!(cause_of(&error), Some(&SendError::TooLong { excess: 1 }));
    drop((body, client, server));

    let (client, server) = pair(Config::client());
    let (exchange, mut body) = client.write_streaming(post("/"), Some(4)).expect("begun");
    body.write_all(b"123").expect("gathered");
    let error = body.finish().expect_err("too short");
    assert!(error.to_string().contains("1 bytes early"), "{error}");
    client.read(exchange).expect_err("it was broken off");
    drop((client, server));

    let (client, _server) = pair(Config::client());
    let (_exchange, mut body) = client.write_streaming(post("/"), Some(0)).expect("begun");
    body.write_all(b"1").expect("gathered");
    assert_eq!(cause_of(&body.finish().expect_err("too long")), Some(&SendError::TooLong { excess: 1 }));
}

#[test]
fn a_reply_that_refuses_an_upload_stops_it_and_reaches_the_caller() {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::new(near).expect("a connection");
    let (exchange, mut body) = client.write_streaming(post("/"), Some(1 << 40)).expect("begun");
    read_head(&mut far);
    far.write_all(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!")
        .expect("written");
    let error = loop {
        if let Err(error) = body.write_all(&[0; 1 << 16]) {
            break error.downcast::<Error>().expect("the whole error inside");
        }
    };
    assert_eq!(cause_of(&error), Some(&SendError::UploadStopped));
    drop(body);
    let reply = client.read(exchange).expect("the reply is not lost");
    assert_eq!(reply.head.status(), StatusCode::CONTENT_TOO_LARGE);
    assert_eq!(reply.body.bytes(9).expect("a body"), "no!");
}

#[test]
fn the_thread_that_holds_an_unfinished_body_is_refused_and_does_not_wait_for_itself() {
    let (client, _server) = pair(wide_open(4));
    let (_exchange, _body) = client.write_streaming(post("/1"), None).expect("begun");
    let error = client.write(get("/2"), ()).expect_err("behind an unfinished body");
    assert_eq!(cause_of(&error), Some(&SendError::BodyUnfinished));
}

#[test]
fn a_response_to_head_has_no_content_whatever_is_written() {
    let server = Running::start(ServerConfig::default(), |received: Received| {
        let mut answer = received.responder.send_streaming(Response::ok(), Some(11))?;
        answer.write_all(b"hello world").expect("taken");
        answer.finish()
    });
    let client = server.client(Config::client());
    let head = Request::new(Method::HEAD, "/").field("Host", "localhost").expect("a field");
    for _ in 0..2 {
        let reply = client.send(&head, ()).expect("a reply");
        assert_eq!(reply.head.field("Content-Length").and_then(|value| value.to_str()), Some("11"));
        assert!(reply.body.bytes(100).expect("nothing").is_empty());
    }
    assert_eq!(client.send(get("/"), ()).expect("a reply").body.bytes(100).expect("a body"), "hello world");
    drop(client);
    server.end(common::LONG);
}

#[test]
fn a_response_that_is_broken_off_is_seen_incomplete_and_harms_no_other_connection() {
    let server = Running::start(ServerConfig::default(), |received: Received| {
        let mut answer = received.responder.send_streaming(Response::ok(), None)?;
        answer.write_all(b"half").and_then(|()| answer.flush()).expect("sent");
        match received.head.target() {
            "/panic" => panic!("as asked"),
            "/drop" => Ok(()),
            _ => answer.finish(),
        }
    });
    for path in ["/panic", "/drop"] {
        let client = server.client(Config::client());
        let mut reply = client.send(get(path), ()).expect("the head");
        let error = reply.body.read_to_end(&mut Vec::new()).expect_err("incomplete");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
    let client = server.client(Config::client());
    assert_eq!(client.send(get("/"), ()).expect("a reply").body.bytes(10).expect("a body"), "half");
    drop(client);
    server.end(common::LONG);
}

#[test]
fn what_comes_while_a_connection_is_taken_from_under_its_reader_is_not_lost() {
    for round in 0..8 {
        let (near, mut far) = common::tcp_pair();
        let client = ClientConn::new(near).expect("a connection");
        let exchange = client.write(get("/"), ()).expect("written");
        read_head(&mut far);
        far.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").expect("written");
        let mut body = client.read(exchange).expect("a head").body;
        body.read_exact(&mut [0]).expect("the first chunk");
        thread::scope(|scope| {
            // Whoever waits for more finds the connection gone, or is given what came in time.
            let waiting = scope.spawn(move || body.read(&mut [0; 10]).is_ok_and(|n| n > 0));
            scope.spawn(|| {
                for _ in 0..round {
                    thread::yield_now();
                }
                far.write_all(b"3\r\nall\r\n").expect("written");
                far.shutdown(Shutdown::Write).expect("shut down");
            });
            let mut rest = String::new();
            client.into_stream().expect("taken apart").read_to_string(&mut rest).expect("to the end");
            match waiting.join().expect("no panic") {
                true => assert!("3\r\nall\r\n".ends_with(&rest), "{rest:?}"),
                false => assert_eq!(rest, "3\r\nall\r\n"),
            }
        });
    }
}
