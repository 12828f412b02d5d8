//! Many requests in one write, and what can come in between.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::{LONG, get, pair, post, read_head, wide_open, within};
use persist_sync::persist_core::bytes::Bytes;
use persist_sync::persist_core::{CloseReason, Deadline, Disposition, Request, Response, SendError};
use persist_sync::{Body, ClientConn, Config, Error, PartlyWritten, ServerConn, error::Ended};

fn open(depth: u32) -> (ClientConn, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a pair");
    (ClientConn::with_config(near, wide_open(depth)).expect("a connection"), far)
}

fn cause<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    std::error::Error::source(error).and_then(|cause| cause.downcast_ref())
}

/// Reads that many heads, and answers each with its target.
fn answer(far: &mut UnixStream, requests: usize) -> Vec<String> {
    let targets = (0..requests).map(|_| read_head(far).split(' ').nth(1).expect("a target").to_owned());
    let targets: Vec<_> = targets.collect();
    for target in &targets {
        write!(far, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()).expect("written");
    }
    targets
}

fn echo_targets(server: &ServerConn) {
    while let Some(received) = server.read().expect("a graceful end") {
        let target = received.head.target().to_owned();
        let body = received.body.bytes(1 << 20).expect("the body");
        let answer = [target.as_bytes(), &body].concat();
        received.responder.send(Response::ok(), answer).expect("the reply leaves");
    }
}

fn content(client: &ClientConn, exchange: persist_sync::Exchange) -> Bytes {
    client.read(exchange).expect("a reply").body.bytes(1 << 20).expect("a body")
}

#[test]
fn a_burst_leaves_as_a_whole_and_each_reply_finds_its_request() {
    let (client, mut far) = open(8);
    let looking = far.try_clone().expect("cloned");
    looking.set_nonblocking(true).expect("set");
    let requests = ["/a", "/b", "/c", "/d"].into_iter().map(|path| {
        let nothing = (&looking).read(&mut [0; 1]).expect_err("nothing left so far");
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        (get(path), ())
    });
    let exchanges = client.write_all(requests).expect("written");
    assert_eq!(client.pending(), 4);
    looking.set_nonblocking(false).expect("set");
    assert_eq!(answer(&mut far, 4), ["/a", "/b", "/c", "/d"]);
    for (exchange, path) in exchanges.into_iter().zip(["/a", "/b", "/c", "/d"]) {
        assert_eq!(content(&client, exchange), path);
    }
    assert!(client.is_idle());
    assert!(client.write_all::<Request, ()>([]).expect("nothing to write").is_empty());
}

#[test]
fn bodies_in_the_middle_of_a_burst_arrive_each_behind_its_head() {
    let (client, server) = pair(wide_open(8));
    let serving = thread::spawn(move || echo_targets(&server));
    let reader = Body::reader(io::repeat(b'r').take(300_000), Some(300_000));
    let bodies = [Body::empty(), Body::from("memory"), reader, Body::empty(), Body::reader(&b"chunked"[..], None)];
    let requests = bodies.into_iter().enumerate().map(|(n, body)| (post(&format!("/{n}")), body));
    let exchanges = within(LONG, {
        let requests: Vec<_> = requests.collect();
        let writer = Arc::new(client);
        let client = writer.clone();
        move || writer.write_all(requests).map(|exchanges| (client, exchanges)).expect("written")
    });
    let (client, exchanges) = exchanges;
    let replies: Vec<_> = exchanges.into_iter().map(|exchange| content(&client, exchange)).collect();
    assert_eq!((&replies[0][..], &replies[1][..], &replies[3][..]), (&b"/0"[..], &b"/1memory"[..], &b"/3"[..]));
    assert_eq!((replies[2].len(), &replies[4][..]), (300_002, &b"/4chunked"[..]));
    client.close().expect("a graceful end");
    serving.join().expect("the server is content");
}

#[test]
fn an_invalid_request_stops_a_burst_and_the_rest_can_go_on() {
    let (client, mut far) = open(8);
    let mut requests = ["/1", "/two words", "/3"].map(|path| (get(path), ())).into_iter();
    let PartlyWritten { written, error, .. } = client.write_all(&mut requests).expect_err("no target");
    assert!(
        cause::<SendError>(&error).is_some() && error.disposition().is_none_or(|what| what == Disposition::NotSent)
    );
    assert_eq!((written.len(), requests.len()), (1, 1), "the third was not looked at");
    let rest = client.write_all(requests).expect("written");
    assert_eq!(answer(&mut far, 2), ["/1", "/3"], "nothing of the second left");
    for (exchange, path) in written.into_iter().chain(rest).zip(["/1", "/3"]) {
        assert_eq!(content(&client, exchange), path);
    }
    let error = client.write_all([(Request::get("/"), ())]).expect_err("without a Host");
    assert!(error.written.is_empty());
    assert_eq!(cause(&error.error), Some(&SendError::Hosts { hosts: 0 }));
}

#[test]
fn a_full_pipeline_stops_a_burst_until_there_is_room() {
    let (client, mut far) = open(2);
    let mut requests = ["/1", "/2", "/3", "/4"].map(|path| (get(path), ())).into_iter();
    let partly = client.write_all(&mut requests).expect_err("room for two");
    assert_eq!(cause(&partly.error), Some(&SendError::Full { in_flight: 2 }));
    assert!(partly.to_string().starts_with("the request behind 2 that were written: "), "{partly}");
    answer(&mut far, 2);
    for (exchange, path) in partly.written.into_iter().zip(["/1", "/2"]) {
        assert_eq!(content(&client, exchange), path);
    }
    assert_eq!(client.write_all(requests).expect("there is room").len(), 1, "the refused one is gone, one was left");
}

#[test]
fn the_gate_behind_an_upload_stops_a_burst() {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let mut config = Config::client();
    config.pipelining.depth = 8;
    let client = ClientConn::with_config(near, config).expect("a connection");
    let requests = [(get("/1"), Body::empty()), (post("/2"), Body::from("up")), (get("/3"), Body::empty())];
    let mut partly = client.write_all(requests).expect_err("behind a POST");
    assert_eq!((partly.written.len(), cause(&partly.error)), (2, Some(&SendError::AnswerFirst)));
    assert_eq!(answer(&mut far, 2), ["/1", "/2"], "what stood before it left");
    assert_eq!(content(&client, partly.written.remove(0)), "/1");
    assert_eq!(content(&client, partly.written.remove(0)), "/2");
}

#[test]
fn a_reader_that_fails_in_a_burst_ends_it_and_its_own_request_only() {
    let (client, mut far) = open(8);
    let fails = Body::reader(b"half".chain(Fails), Some(8));
    let requests = [(get("/1"), Body::empty()), (post("/2"), fails), (get("/3"), Body::empty())];
    let mut partly = client.write_all(requests).expect_err("it fails");
    assert_eq!(partly.written.len(), 1);
    assert!(matches!(partly.error.disposition(), Some(Disposition::PartlySent { .. } | Disposition::NotSent)));
    assert_eq!(cause::<io::Error>(&partly.error).map(io::Error::kind), Some(ErrorKind::PermissionDenied));
    assert!(read_head(&mut far).starts_with("GET /1 "));
    far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("written");
    client.read(partly.written.remove(0)).expect("the first is answered");
    assert!(client.is_closing(), "nothing can follow half a request");
    let error = client.write_all([(get("/4"), ())]).expect_err("closed").error;
    assert!(cause::<Ended>(&error).is_some());
}

struct Fails;

impl Read for Fails {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::PermissionDenied.into())
    }
}

#[test]
fn a_peer_that_leaves_in_the_middle_of_a_burst_is_told_by_the_replies() {
    let (client, far) = open(8);
    let mut far = Some(far);
    let requests = (1..=4).map(|n| {
        if n == 3 {
            drop(far.take());
        }
        (get(&format!("/{n}")), ())
    });
    let exchanges = client.write_all(requests).expect("gathered before anybody could know");
    for exchange in exchanges {
        assert_eq!(client.read(exchange).expect_err("no reply").disposition(), Some(Disposition::NotSent));
    }
    let error = client.write_all([(get("/5"), ())]).expect_err("closed").error;
    assert_eq!(error.disposition(), Some(Disposition::NotSent));

    // After the first reply, and all of the burst.
    let (client, mut far) = open(8);
    let exchanges = client.write_all((1..=3).map(|n| (get(&format!("/{n}")), ()))).expect("written");
    (0..3).for_each(|_| drop(read_head(&mut far)));
    far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("written");
    drop(far);
    let became: Vec<_> =
        exchanges.into_iter().map(|exchange| client.read(exchange).map_err(|e| e.disposition())).collect();
    assert!(became[0].is_ok());
    assert!(became[1..].iter().all(|became| matches!(became, Err(Some(Disposition::SentNoReply)))), "{became:?}");
}

#[test]
fn a_burst_that_the_peer_does_not_take_meets_the_write_deadline() {
    let (near, far) = UnixStream::pair().expect("a pair");
    let mut config = wide_open(64);
    config.timeouts.write_stall = Some(Duration::from_millis(20));
    let client = ClientConn::with_config(near, config).expect("a connection");
    let page = Bytes::from(vec![b'x'; 100_000]);
    let exchanges = within(LONG, move || {
        let exchanges = client.write_all((0..32).map(|_| (post("/"), page.clone()))).expect("gathered");
        exchanges.into_iter().map(|exchange| client.read(exchange).expect_err("no reply")).collect::<Vec<_>>()
    });
    drop(far);
    let reason = |error: &Error| error.failure().map(|failure| failure.reason.clone());
    let timed_out = Some(CloseReason::Timeout(Deadline::WriteStall));
    assert!(exchanges.iter().all(|error| reason(error) == timed_out), "{exchanges:?}");
    assert_eq!(exchanges.last().and_then(Error::disposition), Some(Disposition::NotSent));
}

#[test]
fn what_was_written_is_cancelled_if_only_the_error_is_wanted() {
    fn only_the_error(client: &ClientConn) -> Result<(), Error> {
        client.write_all([(get("/1"), ()), (get("not a target"), ())])?;
        Ok(())
    }
    let (client, mut far) = open(2);
    let error = only_the_error(&client).expect_err("invalid");
    assert!(cause::<SendError>(&error).is_some());
    let serving = thread::spawn(move || answer(&mut far, 2));
    let reply = client.send(get("/2"), ()).expect("a reply");
    assert_eq!(reply.body.bytes(10).expect("a body"), "/2", "the pairing did not shift");
    serving.join().expect("both were asked for");
    fn is_shared_error<T: std::error::Error + Send + Sync + 'static>() {}
    is_shared_error::<PartlyWritten>();
}

#[test]
fn an_iterator_that_panics_cancels_its_burst_and_shifts_no_pairing() {
    let (client, mut far) = open(4);
    let requests = (1..=3).map(|n| if n == 3 { panic!("on purpose") } else { (get(&format!("/{n}")), ()) });
    let panicked = catch_unwind(AssertUnwindSafe(|| client.write_all(requests).map(|exchanges| exchanges.len())));
    assert!(panicked.is_err());
    let exchange = client.write(get("/4"), ()).expect("the connection goes on");
    let asked = answer(&mut far, 2);
    assert_eq!(
        asked,
        ["/2", "/4"],
        "the first was taken back; the others had left by the time that they were given up"
    );
    assert_eq!(content(&client, exchange), "/4");
}

#[test]
fn bursts_of_several_threads_may_mix_and_every_reply_finds_its_own() {
    let (client, server) = pair(wide_open(32));
    let serving = thread::spawn(move || echo_targets(&server));
    thread::scope(|scope| {
        for thread in 0..4 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..40 {
                    let paths: Vec<_> = (0..8).map(|n| format!("/{thread}/{round}/{n}")).collect();
                    let exchanges = client.write_all(paths.iter().map(|path| (get(path), ()))).expect("written");
                    for (exchange, path) in exchanges.into_iter().zip(&paths) {
                        assert_eq!(content(client, exchange), path.as_bytes());
                    }
                }
            });
        }
    });
    assert_eq!(client.completed(), 4 * 40 * 8);
    client.close().expect("a graceful end");
    serving.join().expect("the server is content");
}
