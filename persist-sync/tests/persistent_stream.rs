//! A stream that outlives its connections, against peers that do not make it easy.

mod common;

use std::error::Error as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use common::{LONG, reset, within};
use persist_sync::persist_core::{
    Blame, Destination, GaveUp, HeartbeatConfig, Hop, PeerSilent, Route, RouteError, Router, SessionState,
};
use persist_sync::{Error, PersistentStream, PersistentStreamConfig, Phase};

/// A peer that plays with each connection in turn, given its number.
fn peer(mut play: impl FnMut(usize, TcpStream) + Send + 'static) -> Destination {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let there = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            play(n, stream.expect("a connection"));
        }
    });
    destination(there)
}

fn destination(there: SocketAddr) -> Destination {
    format!("http://{there}").parse().expect("a destination")
}

/// Waits that a test can afford, and few retries.
fn quick() -> PersistentStreamConfig {
    let mut config = PersistentStreamConfig::default();
    config.session.backoff.first = Duration::from_millis(1);
    config.session.backoff.max = Duration::from_millis(4);
    config.session.retries_max = Some(3);
    config
}

fn stream(there: Destination, config: PersistentStreamConfig) -> PersistentStream {
    PersistentStream::with_config(there, config).expect("no contradiction")
}

fn inside(error: &io::Error) -> &Error {
    error.get_ref().and_then(|inner| inner.downcast_ref()).expect("an error of this crate")
}

fn cause<T: std::error::Error + 'static>(error: &io::Error) -> Option<&T> {
    let mut next = inside(error).source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

fn line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") && stream.read(&mut byte).expect("read") > 0 {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("ASCII")
}

#[test]
fn nothing_is_dialled_before_it_is_used_and_its_name_is_where_it_leads() {
    let dialled = Arc::new(AtomicUsize::new(0));
    let count = dialled.clone();
    let there = peer(move |_, mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let said = line(&mut stream);
        stream.write_all(said.to_uppercase().as_bytes()).expect("written");
    });
    let mut stream = PersistentStream::new(there.clone());
    assert_eq!((stream.to_string(), stream.is_connected()), (there.to_string(), false));
    assert_eq!((dialled.load(Ordering::SeqCst), stream.session_state()), (0, SessionState::Idle));
    stream.connect().expect("dialled");
    assert!(stream.is_connected());
    stream.write_all(b"hello\n").expect("written");
    assert_eq!(line(&mut stream), "HELLO\n");
    assert!(stream.is_connected() && stream.connections() == 1);
}

#[test]
fn an_end_is_told_once_and_the_next_use_dials_and_greets_again() {
    let there = peer(|n, mut stream| {
        assert_eq!(line(&mut stream), "AUTH secret\n");
        stream.write_all(b"OK\n").expect("written");
        let said = line(&mut stream);
        write!(stream, "{n}: {said}").expect("written");
        if n == 1 {
            // Without a proper end.
            let _ = line(&mut stream);
            reset(stream);
        }
    });
    let greeted = Arc::new(AtomicUsize::new(0));
    let count = greeted.clone();
    let mut stream = stream(there, quick()).on_connect(move |greeting| {
        count.fetch_add(1, Ordering::SeqCst);
        greeting.write_all(b"AUTH secret\n")?;
        if line(greeting) == "OK\n" { Ok(()) } else { Err("refused".into()) }
    });
    stream.write_all(b"one\n").expect("written");
    assert_eq!(line(&mut stream), "0: one\n");
    assert_eq!(stream.read(&mut [0; 8]).expect("an end"), 0);
    assert!(!stream.is_connected());
    stream.write_all(b"two\n").expect("written");
    assert_eq!(line(&mut stream), "1: two\n");
    stream.write_all(b"bye\n").expect("written");
    let error = stream.read(&mut [0; 8]).expect_err("a reset");
    assert_eq!((error.kind(), inside(&error).phase()), (io::ErrorKind::ConnectionReset, Phase::Receive));
    stream.write_all(b"three\n").expect("written");
    assert_eq!(line(&mut stream), "2: three\n");
    assert_eq!((greeted.load(Ordering::SeqCst), stream.connections()), (3, 3));
}

#[test]
fn a_peer_that_closes_what_it_accepts_is_not_stormed_and_closing_begins_anew() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let there = peer(move |_, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        drop(stream);
    });
    let mut stream = stream(there, quick());
    let mut ends = 0;
    let error = loop {
        match stream.read(&mut [0; 8]) {
            Ok(n) => {
                assert_eq!(n, 0);
                ends += 1;
            }
            Err(error) => break error,
        }
    };
    // The first, and three retries; more only where this machine was so slow that a connection outlived its backoff.
    assert!(ends >= 4 && accepted.load(Ordering::SeqCst) == ends, "{ends}");
    assert_eq!(cause::<GaveUp>(&error).map(|gave_up| gave_up.failures), Some(4));
    assert!(stream.read(&mut [0; 8]).is_err() && accepted.load(Ordering::SeqCst) == ends);
    stream.close();
    assert_eq!(stream.read(&mut [0; 8]).expect("dialled again"), 0);
    assert_eq!(accepted.load(Ordering::SeqCst), ends + 1);
}

#[test]
fn a_peer_that_is_not_there_yet_is_dialled_until_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let there = listener.local_addr().expect("an address");
    drop(listener);
    let mut config = quick();
    config.session.retries_max = None;
    let stream = Arc::new(stream(destination(there), config));
    let using = stream.clone();
    let reading = thread::spawn(move || line(&mut &*using));
    while stream.failures() < 3 {
        thread::yield_now();
    }
    let listener = TcpListener::bind(there).expect("the port is free still");
    listener.accept().expect("a connection").0.write_all(b"at last\n").expect("written");
    assert_eq!(reading.join().expect("no panic"), "at last\n");
    assert_eq!(stream.failures(), 0, "a received byte resets the count");
}

#[test]
fn a_peer_that_never_comes_is_given_up_with_the_last_dials_error() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let there = listener.local_addr().expect("an address");
    drop(listener);
    let mut stream = stream(destination(there), quick());
    let error = stream.write(b"hello").expect_err("nobody is there");
    let told = inside(&error);
    assert_eq!((error.kind(), told.phase()), (io::ErrorKind::ConnectionRefused, Phase::Connect));
    assert_eq!(told.hint(), Some("gave up after 4 in a row; close the stream to begin anew"));
    let again = stream.write(b"hello").expect_err("it gave up");
    assert_eq!(cause::<GaveUp>(&again).map(|gave_up| gave_up.failures), Some(4));
    assert_eq!(stream.session_state(), SessionState::GivenUp);
}

#[test]
fn a_refused_session_counts_as_a_failure_and_a_slow_one_meets_its_deadline() {
    let there = peer(|n, mut stream| match n {
        0..=1 => stream.write_all(b"NO\n").expect("written"),
        _ => stream.write_all(b"OK\nbanner\n").expect("written"),
    });
    let hook = |greeting: &mut persist_sync::Greeting<'_>| {
        let mut reader = BufReader::new(&mut *greeting);
        let mut answer = String::new();
        reader.read_line(&mut answer)?;
        let ahead = reader.buffer().to_vec();
        greeting.unread(&ahead);
        if answer == "OK\n" { Ok(()) } else { Err(format!("the server said {answer:?}").into()) }
    };
    let mut patient = stream(there.clone(), quick()).on_connect(hook);
    assert_eq!(line(&mut patient), "banner\n");
    assert_eq!(patient.connections(), 1);

    let (held, keep) = channel();
    let silent = peer(move |_, stream| held.send(stream).expect("kept"));
    let mut config = quick();
    config.session.retries_max = Some(0);
    config.dial.handshake = Some(Duration::from_millis(30));
    let mut hasty = stream(silent, config).on_connect(hook);
    let error = within(LONG, move || hasty.read(&mut [0; 8]).expect_err("silence"));
    assert_eq!((error.kind(), inside(&error).phase()), (io::ErrorKind::TimedOut, Phase::Handshake));
    drop(keep);
}

#[test]
fn a_hook_that_panics_leaves_the_stream_usable() {
    let there = peer(|_, mut stream| stream.write_all(b"hello\n").expect("written"));
    let first = AtomicUsize::new(0);
    let stream = Arc::new(stream(there, quick()).on_connect(move |_| {
        assert!(first.fetch_add(1, Ordering::SeqCst) > 0, "on purpose");
        Ok(())
    }));
    let panicking = stream.clone();
    thread::spawn(move || (&*panicking).read(&mut [0; 8])).join().expect_err("it panics");
    assert_eq!(within(LONG, move || line(&mut &*stream)), "hello\n");
}

/// What the peer gets, whole, once it has ended.
fn hearing(answer: &'static [u8]) -> (Destination, Receiver<Vec<u8>>) {
    let (tell, told) = channel();
    let there = peer(move |_, mut stream| {
        let mut all = Vec::new();
        let mut piece = [0; 64];
        while let Ok(n @ 1..) = stream.read(&mut piece) {
            all.extend_from_slice(&piece[..n]);
            stream.write_all(answer).expect("written");
        }
        tell.send(all).expect("heard");
    });
    (there, told)
}

#[test]
fn a_silent_peer_gets_heartbeats_and_its_answers_are_read() {
    let (there, told) = hearing(b"PONG\n");
    let mut config = quick();
    config.heartbeat = Some(HeartbeatConfig::every(Duration::from_millis(5)).answered_within(LONG));
    config.heartbeat_payload = b"PING\n".to_vec();
    let mut stream = stream(there, config);
    for _ in 0..3 {
        assert_eq!(line(&mut stream), "PONG\n");
    }
    drop(stream);
    let heard = told.recv().expect("heard");
    assert!(heard.len() >= 15 && heard.chunks(5).all(|beat| beat == b"PING\n"), "{heard:?}");
}

#[test]
fn a_peer_that_answers_no_heartbeat_is_gone_and_that_is_told_once() {
    let (there, told) = hearing(b"");
    let mut config = quick();
    config.heartbeat =
        Some(HeartbeatConfig::every(Duration::from_millis(5)).answered_within(Duration::from_millis(20)));
    config.heartbeat_payload = b"PING\n".to_vec();
    let mut stream = stream(there, config);
    let error = stream.read(&mut [0; 8]).expect_err("silence");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(cause::<PeerSilent>(&error).is_some_and(|silent| silent.silent >= Duration::from_millis(20)), "{error}");
    assert!(!stream.is_connected());
    assert!(told.recv().expect("the connection was closed").starts_with(b"PING\n"));
    stream.write_all(b"again").expect("dialled again");
}

#[test]
fn closing_ends_the_calls_of_other_threads() {
    let (held, keep) = channel();
    let there = peer(move |_, stream| held.send(stream).expect("kept"));
    let stream = Arc::new(stream(there, quick()));
    let using = stream.clone();
    let reading = thread::spawn(move || (&*using).read(&mut [0; 8]));
    let far = keep.recv().expect("a connection");
    while !stream.is_connected() {
        thread::yield_now();
    }
    stream.close();
    let error = within(LONG, move || reading.join().expect("no panic").expect_err("closed"));
    assert_eq!((error.kind(), inside(&error).blame()), (io::ErrorKind::ConnectionAborted, Blame::Caller));
    assert_eq!((stream.failures(), stream.session_state()), (0, SessionState::Idle));
    (&*stream).write_all(b"hello").expect("usable again");
    assert_eq!(keep.recv().expect("another").read(&mut [0; 8]).expect("read"), 5);
    drop(far);
}

#[test]
fn a_read_that_times_out_harms_nothing_and_a_write_that_does_ends_the_connection() {
    let (held, keep) = channel();
    let there = peer(move |_, stream| held.send(stream).expect("kept"));
    let mut stream = stream(there, quick());
    assert!(stream.set_read_timeout(Some(Duration::ZERO)).is_err());
    stream.set_read_timeout(Some(Duration::from_millis(10))).expect("a time");
    let error = stream.read(&mut [0; 8]).expect_err("nothing comes");
    assert!(error.kind() == io::ErrorKind::TimedOut && stream.is_connected());
    let mut far = keep.recv().expect("a connection");
    far.write_all(b"late\n").expect("written");
    stream.set_read_timeout(None).expect("none");
    assert_eq!(line(&mut stream), "late\n");

    stream.set_write_timeout(Some(Duration::from_millis(50))).expect("a time");
    let error = stream.write(&vec![0; 64 << 20]).expect_err("nobody reads");
    assert_eq!((error.kind(), inside(&error).phase()), (io::ErrorKind::TimedOut, Phase::Send));
    assert!(!stream.is_connected());
    stream.write_all(b"whole\n").expect("on another connection");
    assert_eq!(line(&mut keep.recv().expect("another")), "whole\n");
}

#[test]
fn one_thread_reads_while_another_writes() {
    let there = peer(|_, stream| {
        let (mut from, mut to) = (stream.try_clone().expect("the same"), stream);
        thread::spawn(move || io::copy(&mut from, &mut to));
    });
    let stream = stream(there, quick());
    let all: Vec<u8> = (0..8 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    let mut back = vec![0; all.len()];
    thread::scope(|scope| {
        scope.spawn(|| all.chunks(100_000).for_each(|piece| (&stream).write_all(piece).expect("written")));
        (&stream).read_exact(&mut back).expect("read");
    });
    assert!(back == all);
    assert_eq!(stream.connections(), 1);
}

/// A proxy that takes requests in absolute form.
#[derive(Debug)]
struct Absolute(Destination);

impl Router for Absolute {
    fn route(&self, destination: &Destination) -> Result<Route, RouteError> {
        let mut route = Route::direct(destination);
        route.hops = vec![Hop::socket(self.0.clone())];
        Ok(route)
    }
}

#[test]
fn a_route_that_is_no_stream_to_the_destination_is_refused_before_anything_is_dialled() {
    let there = peer(|_, _| panic!("nobody dials"));
    let mut config = quick();
    config.router = Arc::new(Absolute(there));
    let mut stream = stream("http://example.com".parse().expect("a destination"), config);
    let error = stream.write(b"hello").expect_err("refused");
    assert_eq!((inside(&error).phase(), inside(&error).blame()), (Phase::Prepare, Blame::Caller));
    assert_eq!(stream.failures(), 1, "and not tried again by that call");
}

#[test]
fn the_handle_may_cross_threads_and_shows_no_secret() {
    fn crosses<T: Send + Sync>(_: &T) {}
    let stream = PersistentStream::new("http://localhost:1".parse().expect("a destination"));
    crosses(&stream);
    assert!(format!("{stream:?}").contains("http://localhost:1"));
}
