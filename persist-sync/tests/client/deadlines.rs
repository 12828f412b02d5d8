//! Requests that may take only so long, and the book of those that failed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use persist_sync::persist_core::{Deadline, Destination, Disposition, pool::PoolError};
use persist_sync::{
    Client, ClientConfig, CloseReason, Connector, DialTimer, Dialer, Error, Method, Phase, Request, Stream,
};

use crate::common::read_head;
use crate::peer;

/// Short enough to wait for, and nothing depends on how long it is.
const SHORT: Duration = Duration::from_millis(20);

/// So long that whatever is there comes before it passes, and short enough to wait for once.
const AMPLE: Duration = Duration::from_millis(300);

fn destination(url: &str) -> Destination {
    url.trim_end_matches('/').parse().expect("a destination")
}

/// Until the client has gone.
fn linger(mut stream: TcpStream) {
    while stream.read(&mut [0; 1024]).is_ok_and(|n| n > 0) {}
}

fn assert_late(error: &Error, url: &str) {
    assert_eq!(error.failure().map(|failure| &failure.reason), Some(&CloseReason::Timeout(Deadline::Total)), "{error}");
    assert_eq!(error.destination(), Some(&destination(url)));
}

#[test]
fn a_deadline_ends_a_request_while_its_reply_is_awaited() {
    let (url, serving) = peer(1, |_, stream| linger(stream));
    let error = Client::new().send_within(Request::get(&*url), (), SHORT).expect_err("silence");
    assert_late(&error, &url);
    assert_eq!(error.disposition(), Some(Disposition::SentNoReply));
    serving.join().expect("the peer sees the end");
}

#[test]
fn a_deadline_ends_a_request_while_its_content_is_read() {
    let (url, serving) = peer(1, |_, mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").expect("written");
        linger(stream);
    });
    let mut config = ClientConfig::default();
    config.deadline = Some(AMPLE);
    let client = Client::with_config(config).expect("no contradiction");
    let mut reply = client.send(Request::get(&*url), ()).expect("a head");
    assert_eq!(reply.body.chunk().expect("half of it").expect("some"), "ha");
    let error = reply.body.chunk().expect_err("late");
    assert_late(&error, &url);
    assert_eq!(error.disposition(), Some(Disposition::ReplyPartial));
    assert_eq!(client.pending_to(&destination(&url)).failed.len(), 1);
    serving.join().expect("the peer sees the end");
}

#[test]
fn a_deadline_ends_a_request_while_its_body_is_sent() {
    let (done, wait) = channel::<()>();
    let (url, serving) = peer(1, move |_, _unread| {
        // Ends when the test does.
        let _ = wait.recv();
    });
    let put = Request::new(Method::PUT, &*url);
    let error = Client::new().send_within(put, vec![0; 64 << 20], AMPLE).expect_err("nobody reads");
    assert_late(&error, &url);
    assert!(matches!(error.disposition(), Some(Disposition::PartlySent { bytes: 1.. })), "{error}");
    drop(done);
    serving.join().expect("no panic");
}

#[derive(Debug)]
struct Nowhere;

impl Dialer for Nowhere {
    fn dial(&self, _: &Destination, timer: &mut DialTimer) -> Result<Stream, Error> {
        timer.enter(Phase::Connect);
        // As long as a dial may take in all, which is shorter here than it would be for a socket.
        thread::sleep(AMPLE);
        Err(Error::new(Phase::Connect, "there is no way"))
    }
}

#[test]
fn a_deadline_covers_dialling_and_the_clients_counts_where_a_request_has_none() {
    let mut config = ClientConfig::default();
    config.deadline = Some(SHORT);
    let connector = Connector::new(&config).with_dialer(std::sync::Arc::new(Nowhere));
    let client = Client::with_connector(config, connector).expect("no contradiction");
    for own in [false, true] {
        let request = Request::get("http://host/");
        let sent = if own { client.send_within(request, (), SHORT / 2) } else { client.send(request, ()) };
        let error = sent.expect_err("it never connects");
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<PoolError>());
        assert!(matches!(cause, Some(PoolError::Deadline { .. })), "{error}");
        assert_eq!((error.phase(), error.disposition()), (Phase::Wait, Some(Disposition::NotSent)));
        assert_eq!(error.destination(), Some(&destination("http://host")));
    }
}

#[test]
fn what_is_owed_to_a_destination_and_what_failed_there_can_be_asked() {
    let (url, serving) = peer(4, |n, mut stream| {
        read_head(&mut stream);
        if n == 0 {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").expect("written");
        }
    });
    let there = destination(&url);
    let mut config = ClientConfig::default();
    config.failures_max = 2;
    let client = Client::with_config(config).expect("no contradiction");
    let reply = client.send(Request::get(&*url).field("X", "1").expect("a field"), ()).expect("a head");
    assert_eq!(client.pending_to(&there).unfinished, 1, "its content is unread");
    reply.body.bytes(10).expect_err("it broke off");
    let pending = client.pending_to(&there);
    assert_eq!((pending.unfinished, pending.failed.len(), pending.forgotten), (0, 1, 0));
    let failed = &pending.failed[0];
    assert_eq!(failed.error.disposition(), Some(Disposition::ReplyPartial));
    assert_eq!((&failed.request.target, failed.request.fields.len()), (&url, 1), "as it was given");
    assert!(client.pending_to(&there).failed.is_empty(), "they were taken");
    // The next ones get no reply at all.
    for _ in 0..3 {
        let error = client.send(Request::new(Method::POST, &*url), "x").expect_err("no reply");
        assert_eq!(error.disposition(), Some(Disposition::SentNoReply));
    }
    let pending = client.pending_to(&there);
    assert_eq!((pending.failed.len(), pending.forgotten), (2, 1), "there is room for two");
    assert!(pending.failed.iter().all(|failed| failed.request.method == Method::POST));
    assert_eq!(client.pending_to(&"http://other".parse().expect("a destination")).unfinished, 0);
    serving.join().expect("the peer is content");
}

#[test]
fn requests_that_wait_are_owed_and_fail_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let mut config = ClientConfig::default();
    (config.pool.per_destination_max, config.pool.idle_per_destination_max) = (1, 1);
    let client = Client::with_config(config).expect("no contradiction");
    thread::scope(|scope| {
        let (client, url) = (&client, &*url);
        let first = scope.spawn(move || client.send(Request::get(url), ()).map(drop));
        let (mut stream, _) = listener.accept().expect("a connection");
        read_head(&mut stream);
        let second = scope.spawn(move || client.send_within(Request::get(url), (), SHORT).map(drop));
        let error = second.join().expect("no panic").expect_err("the only connection is taken");
        assert_eq!((error.phase(), error.destination()), (Phase::Wait, Some(&destination(url))));
        let pending = client.pending_to(&destination(url));
        assert_eq!((pending.unfinished, pending.failed.len()), (1, 1));
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("written");
        first.join().expect("no panic").expect("a reply");
    });
    assert_eq!(client.pending_to(&destination(&url)).unfinished, 0);
}
