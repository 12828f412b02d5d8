//! The two connections against each other and against raw peers, over socket pairs and TCP loopback.

mod bursts;
#[path = "../common/mod.rs"]
mod common;
mod content;
mod deadlines;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use crate::deadlines::stalled;
use common::{get, pair, post, read_head, server_config, wide_open};
use persist_sync::persist_core::{
    CloseReason, Config, Disposition, Fields, Method, Request, Response, SendError, StatusCode,
};
use persist_sync::{Body, ClientConn, ServerConn, error::Ended};

#[test]
fn requests_and_replies_pass_in_both_directions() {
    let (client, server) = pair(Config::client());
    let serving = thread::spawn(move || {
        let received = server.read().expect("a request").expect("not the end");
        assert_eq!((received.head.method(), received.head.target()), (&Method::POST, "/echo"));
        let body = received.body.bytes(100).expect("the body");
        server.write(received.responder, Response::ok(), body).expect("the reply leaves");
        assert!(server.read().expect("a graceful end").is_none());
    });
    let reply = client.send(post("/echo"), "hello").expect("a reply");
    assert_eq!(reply.head.status(), StatusCode::OK);
    assert!(!reply.reused && reply.interim.is_empty());
    assert_eq!(reply.body.bytes(100).expect("a body"), "hello");
    assert_eq!(client.close().expect("a graceful end").reason, CloseReason::OurClose);
    serving.join().expect("the server is content");
}

#[test]
fn chunked_bodies_keep_their_trailers_both_ways() {
    let (client, server) = pair(Config::client());
    let serving = thread::spawn(move || {
        let mut received = server.read().expect("a request").expect("not the end");
        let mut text = String::new();
        received.body.read_to_string(&mut text).expect("the body");
        assert_eq!(text, "up");
        let trailers = received.body.trailers().expect("trailers").clone();
        assert_eq!(trailers.get("X-Sum").and_then(|value| value.to_str()), Some("1"));
        let body = Body::reader(&b"down"[..], None).with_trailers(trailers);
        received.responder.send(Response::ok(), body).expect("the reply leaves");
    });
    let mut trailers = Fields::new();
    trailers.push("X-Sum", "1").expect("a field");
    let mut reply = client.send(post("/"), Body::from("up").with_trailers(trailers)).expect("a reply");
    let mut text = String::new();
    reply.body.read_to_string(&mut text).expect("the body");
    assert_eq!(text, "down");
    assert_eq!(reply.body.trailers().and_then(|all| all.get("x-sum")).and_then(|value| value.to_str()), Some("1"));
    serving.join().expect("the server is content");
}

#[test]
fn interim_responses_come_with_the_reply_and_never_for_it() {
    let (client, server) = pair(Config::client());
    let serving = thread::spawn(move || {
        for _ in 0..2 {
            let received = server.read().expect("a request").expect("not the end");
            received.responder.interim(Response::new(StatusCode::EARLY_HINTS)).expect("interim");
            let target = received.head.target().to_owned();
            received.responder.send(Response::ok(), target).expect("the reply leaves");
        }
    });
    for path in ["/a", "/b"] {
        let reply = client.send(get(path), ()).expect("a reply");
        let interim: Vec<_> = reply.interim.iter().map(|head| head.status()).collect();
        assert_eq!(interim, [StatusCode::EARLY_HINTS]);
        assert_eq!(reply.body.bytes(10).expect("a body"), path);
    }
    serving.join().expect("the server is content");
}

#[test]
fn an_interim_response_can_be_had_before_the_final_one_exists() {
    let (client, server) = pair(Config::client());
    let (heard, was_heard) = std::sync::mpsc::channel();
    let serving = thread::spawn(move || {
        let received = server.read().expect("a request").expect("not the end");
        received.responder.interim(Response::new(StatusCode::PROCESSING)).expect("interim");
        was_heard.recv().expect("the client had it");
        received.responder.send(Response::ok(), "done").expect("the reply leaves");
    });
    let mut exchange = client.write(get("/"), ()).expect("written");
    let interim = client.interim(&mut exchange).expect("interim").expect("not the final one");
    assert_eq!(interim.status(), StatusCode::PROCESSING);
    heard.send(()).expect("told");
    assert!(client.interim(&mut exchange).expect("the final one").is_none());
    let reply = client.read(exchange).expect("a reply");
    assert!(reply.interim.is_empty());
    assert_eq!(reply.body.bytes(9).expect("a body"), "done");
    serving.join().expect("the server is content");
}

#[test]
fn replies_given_in_any_order_leave_in_the_order_of_the_requests() {
    let (client, server) = pair(wide_open(8));
    let serving = thread::spawn(move || {
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(server.read().expect("a request").expect("not the end"));
        }
        while let Some(received) = held.pop() {
            let target = received.head.target().to_owned();
            received.responder.send(Response::ok(), target).expect("the reply is taken");
        }
        assert!(server.read().expect("a graceful end").is_none());
    });
    let paths: Vec<_> = (0..8).map(|n| format!("/{n}")).collect();
    let exchanges: Vec<_> = paths.iter().map(|path| client.write(get(path), ()).expect("written")).collect();
    for (path, exchange) in paths.iter().zip(exchanges) {
        let reply = client.read(exchange).expect("a reply");
        assert_eq!(reply.body.bytes(10).expect("a body"), path.as_str());
    }
    drop(client);
    serving.join().expect("the server is content");
}

#[test]
fn every_thread_gets_the_reply_to_its_own_request() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 200;
    let mut config = wide_open(64);
    config.limits.outbox_bytes_max = 4096;
    let (client, server) = pair(config);
    let serving = thread::spawn(move || {
        let mut served = 0;
        while let Some(received) = server.read().expect("a request or the end") {
            let answer =
                [received.head.target().as_bytes(), b" ", &received.body.bytes(1 << 20).expect("a body")].concat();
            received.responder.send(Response::ok(), answer).expect("the reply leaves");
            served += 1;
        }
        served
    });
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let client = &client;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let path = format!("/{thread}/{round}");
                    let body = "x".repeat((thread * 977 + round * 131) % 5000);
                    let exchange = client.write(post(&path), body.clone()).expect("written");
                    let reply = client.read(exchange).expect("a reply");
                    assert_eq!(reply.body.bytes(1 << 20).expect("a body"), format!("{path} {body}"));
                }
            });
        }
    });
    client.close().expect("a graceful end");
    assert_eq!(serving.join().expect("the server is content"), THREADS * ROUNDS);
}

#[test]
fn a_dropped_responder_answers_500_and_closes() {
    let (client, server) = pair(Config::client());
    let serving = thread::spawn(move || drop(server.read().expect("a request")));
    let reply = client.send(get("/"), ()).expect("a reply");
    assert_eq!(reply.head.status(), StatusCode::INTERNAL_SERVER_ERROR);
    drop(reply);
    assert!(client.is_closing());
    serving.join().expect("the server is content");
}

#[test]
fn a_dropped_reply_is_drained_and_the_connection_used_again() {
    let (client, server) = pair(Config::client());
    let serving = thread::spawn(move || {
        while let Some(received) = server.read().expect("a request or the end") {
            received.responder.send(Response::ok(), vec![b'x'; 100_000]).expect("the reply leaves");
        }
    });
    drop(client.send(get("/1"), ()).expect("a reply"));
    let reply = client.send(get("/2"), ()).expect("a reply, once the rest of the other was dropped");
    assert!(reply.reused);
    assert_eq!(reply.body.bytes(1 << 20).expect("a body").len(), 100_000);
    drop(client);
    serving.join().expect("the server is content");
}

#[test]
fn bytes_on_an_idle_connection_poison_it() {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::new(near).expect("a connection");
    let exchange = client.write(get("/"), ()).expect("written");
    read_head(&mut far);
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("written");
    assert_eq!(client.read(exchange).expect("a reply").body.bytes(9).expect("a body"), "ok");
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").expect("written");
    let error = client.send(get("/next"), ()).expect_err("poisoned");
    assert_eq!(error.disposition(), Some(Disposition::NotSent));
    let ended = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<Ended>()).expect("a reason");
    assert_eq!(ended.reason, Some(CloseReason::Poisoned));
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).expect("the end");
    assert!(rest.is_empty(), "nothing of the second request was sent");
}

#[test]
fn a_connection_closed_while_idle_is_noticed_before_it_is_used() {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::new(near).expect("a connection");
    let exchange = client.write(get("/"), ()).expect("written");
    read_head(&mut far);
    far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("written");
    drop(client.read(exchange).expect("a reply"));
    drop(far);
    let error = client.send(post("/"), "once").expect_err("closed");
    assert_eq!(error.disposition(), Some(Disposition::NotSent));
}

#[test]
fn what_follows_a_reply_at_once_on_a_closed_connection_fails_by_what_became_of_it() {
    for _ in 0..50 {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let client = ClientConn::new(near).expect("a connection");
        let serving = thread::spawn(move || {
            read_head(&mut far);
            far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("written");
        });
        drop(client.send(get("/"), ()).expect("a reply"));
        let became = client.send(get("/"), ()).expect_err("closed").disposition();
        assert!(matches!(became, Some(Disposition::NotSent | Disposition::SentNoReply)), "{became:?}");
        let refused = client.send(post("/"), "once").expect_err("closed").disposition();
        assert_eq!(refused, Some(Disposition::NotSent));
        serving.join().expect("the peer is content");
    }
}

#[test]
fn a_reply_cut_in_the_middle_is_partial_and_its_successor_says_what_became_of_it() {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::with_config(near, wide_open(2)).expect("a connection");
    let first = client.write(get("/1"), ()).expect("written");
    let second = client.write(get("/2"), ()).expect("written");
    read_head(&mut far);
    read_head(&mut far);
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").expect("written");
    drop(far);
    let reply = client.read(first).expect("the head came");
    let error = reply.body.bytes(100).expect_err("cut");
    assert_eq!(error.disposition(), Some(Disposition::ReplyPartial));
    assert_eq!(client.read(second).expect_err("no reply").disposition(), Some(Disposition::SentNoReply));
}

#[test]
fn behind_a_reply_that_says_close_requests_come_back_declined_or_unsent() {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::with_config(near, wide_open(2)).expect("a connection");
    let first = client.write(get("/1"), ()).expect("written");
    let second = client.write(get("/2"), ()).expect("written");
    read_head(&mut far);
    far.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").expect("written");
    assert_eq!(client.read(first).expect("a reply").body.bytes(9).expect("a body"), "ok");
    assert_eq!(client.read(second).expect_err("declined").disposition(), Some(Disposition::Declined));
}

#[test]
fn a_request_behind_the_gate_is_refused_at_once() {
    let (near, _far) = UnixStream::pair().expect("a pair");
    let mut config = Config::client();
    config.pipelining.depth = 4;
    let client = ClientConn::with_config(near, config).expect("a connection");
    let _first = client.write(post("/1"), ()).expect("written");
    let error = client.write(get("/2"), ()).expect_err("behind a POST");
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<SendError>());
    assert_eq!(cause, Some(&SendError::AnswerFirst));
}

#[test]
fn a_full_pipeline_is_refused_at_once_and_reservations_count() {
    let (near, _far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::with_config(near, wide_open(2)).expect("a connection");
    let reserved = client.reserve().expect("a place");
    let _first = client.write(get("/1"), ()).expect("written");
    assert_eq!((client.in_flight(), client.pending(), client.available()), (2, 1, 0));
    let error = client.write(get("/2"), ()).expect_err("full");
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<SendError>());
    assert_eq!(cause, Some(&SendError::Full { in_flight: 2 }));
    let _second = client.write_reserved(reserved, get("/2"), ()).expect("in the reserved place");
    assert_eq!((client.in_flight(), client.pending()), (2, 2));
}

#[test]
fn an_upgrade_hands_over_every_byte() {
    let (near, far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::new(near).expect("a connection");
    let server = ServerConn::with_config(far, server_config()).expect("a connection");
    let serving = thread::spawn(move || {
        let received = server.read().expect("a request").expect("not the end");
        let response = Response::new(StatusCode::SWITCHING_PROTOCOLS).field("Upgrade", "shout").expect("a field");
        let mut stream = received.responder.upgrade(response).expect("an upgrade").into_stream();
        let mut said = [0; 5];
        stream.read_exact(&mut said).expect("five bytes");
        stream.write_all(&said.to_ascii_uppercase()).expect("written");
        stream.flush().expect("flushed");
    });
    let request =
        get("/chat").field("Upgrade", "shout").expect("a field").field("Connection", "upgrade").expect("a field");
    let reply = client.send(request, ()).expect("a reply");
    assert_eq!(reply.head.status(), StatusCode::SWITCHING_PROTOCOLS);
    drop(reply);
    let hijacked = client.hijack().expect("taken apart");
    assert!(hijacked.failures.is_empty() && hijacked.unsent.is_empty());
    let mut stream = hijacked.into_stream();
    stream.write_all(b"hello").expect("written");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).expect("heard");
    assert_eq!(heard, "HELLO");
    serving.join().expect("the server is content");
}

#[test]
fn what_came_behind_the_switch_is_leftover() {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::new(near).expect("a connection");
    far.write_all(b"").expect("written");
    let request = get("/").field("Upgrade", "x").expect("a field").field("Connection", "upgrade").expect("a field");
    let exchange = client.write(request, ()).expect("written");
    read_head(&mut far);
    far.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nfirst")
        .expect("written");
    drop(client.read(exchange).expect("a reply"));
    far.write_all(b" second").expect("written");
    drop(far);
    let mut all = String::new();
    client.into_stream().expect("taken apart").read_to_string(&mut all).expect("read");
    assert_eq!(all, "first second");
}

#[test]
fn a_failing_reader_ends_the_exchange_with_its_error_and_the_peer_never_sees_it_whole() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is on fire"))
        }
    }
    let pieces = || [Ok("some".into()), Err(std::io::Error::other("the disk is on fire"))].into_iter();
    for body in [Body::reader((&b"some"[..]).chain(Broken), None), Body::pieces(pieces(), None)] {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let client = ClientConn::new(near).expect("a connection");
        let error = client.send(post("/"), body).expect_err("the body broke off");
        assert!(error.to_string().contains("the disk is on fire"), "{error}");
        assert!(
            matches!(error.disposition(), Some(Disposition::PartlySent { .. } | Disposition::NotSent)),
            "{error:?}"
        );
        drop(client);
        let mut seen = Vec::new();
        far.read_to_end(&mut seen).expect("the end");
        assert!(!seen.ends_with(b"0\r\n\r\n"), "the last chunk was never written");
    }
}

#[test]
fn an_exchange_of_another_connection_is_refused() {
    let (a, _far_a) = UnixStream::pair().expect("a pair");
    let (b, _far_b) = UnixStream::pair().expect("a pair");
    let (a, b) = (ClientConn::new(a).expect("a connection"), ClientConn::new(b).expect("a connection"));
    let exchange = a.write(get("/"), ()).expect("written");
    let error = b.read(exchange).expect_err("not its own");
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<SendError>());
    assert_eq!(cause, Some(&SendError::NoSuchExchange));
}

#[test]
fn handles_may_cross_threads() {
    fn check<T: Send>() {}
    check::<ClientConn>();
    check::<ServerConn>();
    check::<persist_sync::Exchange>();
    check::<persist_sync::Reply>();
    check::<persist_sync::Received>();
    check::<persist_sync::Incoming>();
    check::<Body>();
    fn share<T: Sync>() {}
    share::<ClientConn>();
    share::<ServerConn>();
}

#[test]
fn a_cancelled_request_does_not_shift_the_pairing() {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::with_config(near, wide_open(3)).expect("a connection");
    let first = client.write(get("/1"), ()).expect("written");
    let second = client.write(get("/2"), ()).expect("written");
    let third = client.write(get("/3"), ()).expect("written");
    for _ in 0..3 {
        read_head(&mut far);
    }
    client.cancel(second);
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3")
        .expect("written");
    assert_eq!(client.read(third).expect("a reply").body.bytes(9).expect("a body"), "3");
    assert_eq!(client.read(first).expect("a reply").body.bytes(9).expect("a body"), "1");
    assert!(client.is_idle());
}

#[test]
fn a_request_target_that_would_end_its_line_is_refused() {
    let (near, _far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::new(near).expect("a connection");
    let request = Request::get("/ HTTP/1.1\r\nX: y").field("Host", "h").expect("a field");
    let error = client.write(request, ()).expect_err("invalid");
    assert_eq!(error.disposition(), Some(Disposition::NotSent));
    assert_eq!(client.pending(), 0);
}

#[test]
fn when_the_listener_is_gone_the_last_response_says_close() {
    let (client, server) = pair(Config::client());
    let exchange = client.write(get("/"), ()).expect("written");
    let received = server.read().expect("a request").expect("not the end");
    server.listener_gone();
    received.responder.send(Response::ok(), "last").expect("the reply leaves");
    assert!(server.read().expect("a graceful end").is_none());
    let reply = client.read(exchange).expect("a reply");
    assert_eq!(reply.head.field("Connection").and_then(|value| value.to_str()), Some("close"));
    assert_eq!(reply.body.bytes(9).expect("a body"), "last");
    assert!(client.is_closing());
}

#[test]
fn an_abort_ends_the_waits_of_other_threads() {
    let (client, _far, exchange) = stalled(|_| {}, "");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.read(exchange).expect_err("aborted"));
        client.abort();
        let error = waiting.join().expect("no panic");
        assert_eq!(error.failure().expect("what became of it").reason, CloseReason::Aborted);
    });
}

#[test]
fn a_body_outlives_the_handle_of_its_connection() {
    let (client, server) = pair(Config::client());
    let serving = thread::spawn(move || {
        let received = server.read().expect("a request").expect("not the end");
        received.responder.send(Response::ok(), vec![b'x'; 1 << 20]).expect("the reply leaves");
    });
    let reply = client.send(get("/"), ()).expect("a reply");
    drop(client);
    assert_eq!(reply.body.bytes(1 << 20).expect("all of it").len(), 1 << 20);
    serving.join().expect("the server is content");
}

#[test]
fn handles_may_be_dropped_while_their_thread_ends() {
    thread_local!(static KEPT: std::cell::RefCell<Option<persist_sync::Reply>> = const { std::cell::RefCell::new(None) });
    for kept_first in [true, false] {
        let (client, server) = pair(Config::client());
        let serving = thread::spawn(move || {
            let received = server.read().expect("a request").expect("not the end");
            // The client drains some of it and then leaves.
            let _ = received.responder.send(Response::ok(), vec![b'x'; 1 << 20]);
        });
        let holding = thread::spawn(move || {
            // What a thread made first is not what it drops first, so both orders are tried.
            if kept_first {
                KEPT.with_borrow_mut(|kept| assert!(kept.is_none()));
            }
            let reply = client.send(get("/"), ()).expect("a reply");
            KEPT.set(Some(reply));
        });
        holding.join().expect("no panic in its end");
        serving.join().expect("the server is content");
    }
}
