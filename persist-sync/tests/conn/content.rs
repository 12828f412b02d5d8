//! Content as it comes in: what is given stays as it came, and whoever waits for more of it is not forgotten.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use crate::common::{get, pair, read_head};
use crate::deadlines::stalled;
use persist_sync::ClientConn;
use persist_sync::persist_core::{CloseReason, Config, Disposition, Response};

#[test]
fn pieces_that_are_kept_stay_as_they_came_while_others_are_dropped() {
    let content: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_le_bytes).collect();
    let (client, server) = pair(Config::client());
    let sent = content.clone();
    let serving = thread::spawn(move || {
        let received = server.read().expect("a request").expect("not the end");
        received.responder.send(Response::ok(), sent).expect("the reply leaves");
    });
    let mut body = client.send(get("/"), ()).expect("a reply").body;
    let (mut kept, mut at) = (Vec::new(), 0);
    for number in 0.. {
        let Some(piece) = body.chunk().expect("a piece") else { break };
        assert_eq!(piece, content[at..at + piece.len()], "at {at}");
        let from = at;
        at += piece.len();
        if number % 3 == 0 {
            kept.push((from, piece));
        }
    }
    assert_eq!(at, content.len());
    for (from, piece) in kept {
        assert_eq!(piece, content[from..from + piece.len()], "kept from {from}");
    }
    serving.join().expect("the server is content");
}

#[test]
fn a_thread_that_waits_for_content_hears_that_another_has_ended_the_connection() {
    let said = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let (client, _far, exchange) = stalled(|_| {}, said);
    let mut body = client.read(exchange).expect("the head is here").body;
    let mut half = [0; 4];
    body.read_exact(&mut half).expect("as far as it came");
    thread::scope(|scope| {
        let reading = scope.spawn(move || body.chunk().expect_err("no more comes"));
        client.abort();
        let failure = reading.join().expect("no panic").failure().expect("what became of it").clone();
        assert_eq!((failure.reason, failure.disposition), (CloseReason::Aborted, Disposition::ReplyPartial));
    });
}

#[test]
fn content_comes_while_another_thread_writes_the_next_request() {
    let mut config = Config::client();
    config.pipelining.depth = 2;
    let (client, mut far, exchange) = stalled(|wide| *wide = config, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfir");
    let mut body = client.read(exchange).expect("the head is here").body;
    thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut text = String::new();
            body.read_to_string(&mut text).map(|_| text)
        });
        let next = client.write(get("/next"), ()).expect("written while the other reads");
        far.write_all(b"st!HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext").expect("written");
        assert_eq!(reading.join().expect("no panic").expect("all of it"), "first!");
        assert_eq!(client.read(next).expect("a reply").body.bytes(9).expect("a body"), "next");
    });
}

#[test]
fn content_of_any_declared_length_is_given_as_far_as_it_came() {
    for len in [5, 1 << 20, 1 << 40, u64::MAX] {
        let said = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\nhalf");
        let (client, far, exchange) = stalled(|_| {}, &said);
        let mut body = client.read(exchange).expect("a reply").body;
        assert_eq!(body.chunk().expect("as it came").as_deref(), Some(&b"half"[..]), "{len}");
        // The reader may wait already when the end comes.
        let ending = thread::spawn(move || drop(far));
        let error = body.chunk().expect_err("the rest never came");
        assert_eq!(error.disposition(), Some(Disposition::ReplyPartial), "{len}");
        ending.join().expect("no panic");
    }
}

#[test]
fn a_reply_that_came_whole_is_complete_whatever_comes_behind_it() {
    let long = "x".repeat(100);
    for content in ["", "x", &long] {
        for behind in ["", "HTTP/1.1 200 OK\r\n\r\n", "\u{0}"] {
            let said = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}{behind}", content.len());
            let (near, mut far) = UnixStream::pair().expect("a pair");
            let client = ClientConn::new(near).expect("a connection");
            let answering = thread::spawn(move || {
                read_head(&mut far);
                far.write_all(said.as_bytes()).expect("written");
            });
            let reply = client.send(get("/"), ()).expect("a reply");
            answering.join().expect("no panic");
            assert_eq!(reply.body.bytes(100).expect("all of it"), content, "{behind:?}");
            let error = client.send(get("/"), ()).expect_err("the connection has ended");
            assert_eq!(error.disposition(), Some(Disposition::NotSent), "{behind:?}");
        }
    }
}
