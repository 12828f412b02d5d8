//! Deadlines of a client's connection, one for each phase, against peers that stop.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::common::{get, post, read_head};
use persist_sync::ClientConn;
use persist_sync::persist_core::{CloseReason, Config, Deadline, Disposition};

/// A client whose deadlines are `set`, and a peer that reads the request and then says `said` and nothing more.
pub(crate) fn stalled(set: impl FnOnce(&mut Config), said: &str) -> (ClientConn, UnixStream, persist_sync::Exchange) {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let mut config = Config::client();
    set(&mut config);
    let client = ClientConn::with_config(near, config).expect("a connection");
    let exchange = client.write(get("/"), ()).expect("written");
    read_head(&mut far);
    far.write_all(said.as_bytes()).expect("written");
    (client, far, exchange)
}

const SHORT: Option<Duration> = Some(Duration::from_millis(20));

#[test]
fn a_peer_that_never_answers_meets_the_header_deadline() {
    let (client, _far, exchange) = stalled(|config| config.timeouts.header = SHORT, "HTTP/1.1 200");
    let error = client.read(exchange).expect_err("late");
    let failure = error.failure().expect("what became of it");
    assert_eq!(failure.reason, CloseReason::Timeout(Deadline::Header));
}

#[test]
fn a_peer_that_stops_in_the_middle_meets_the_body_deadline() {
    let said = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let (client, _far, exchange) = stalled(|config| config.timeouts.body_idle = SHORT, said);
    let mut reply = client.read(exchange).expect("the head is in time");
    let mut text = Vec::new();
    let error = reply.body.read_to_end(&mut text).expect_err("late");
    assert_eq!((error.kind(), text.as_slice()), (std::io::ErrorKind::TimedOut, &b"half"[..]));
    let error = error.downcast::<persist_sync::Error>().expect("the whole error inside");
    assert_eq!(error.failure().map(|failure| failure.disposition), Some(Disposition::ReplyPartial));
}

#[test]
fn an_exchange_as_a_whole_meets_its_deadline_whoever_drives() {
    let (client, _far, exchange) = stalled(|config| config.timeouts.total = SHORT, "");
    thread::scope(|scope| {
        // Another thread waits in vain for all to be over, and so may drive.
        scope.spawn(|| client.close().expect_err("not in an orderly way"));
        let error = client.read(exchange).expect_err("late");
        assert_eq!(error.failure().expect("what became of it").reason, CloseReason::Timeout(Deadline::Total));
    });
}

#[test]
fn a_peer_that_takes_no_bytes_meets_the_write_deadline() {
    let (near, _far) = UnixStream::pair().expect("a pair");
    let mut config = Config::client();
    config.timeouts.write_stall = SHORT;
    let client = ClientConn::with_config(near, config).expect("a connection");
    let error = client.send(post("/"), vec![0; 16 << 20]).expect_err("stuck");
    let failure = error.failure().expect("what became of it");
    assert_eq!(failure.reason, CloseReason::Timeout(Deadline::WriteStall));
    assert!(matches!(failure.disposition, Disposition::PartlySent { bytes } if bytes > 0), "{error}");
}
