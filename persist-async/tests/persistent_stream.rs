//! A stream that outlives its connections, against peers that do not make it easy.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BufMut as _;
use persist_async::persist_core::{
    Blame, Destination, GaveUp, HeartbeatConfig, Hop, PeerSilent, Route, RouteError, Router, SessionState,
};
use persist_async::{Error, PersistentStream, PersistentStreamConfig, Phase};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A peer that plays with each connection in turn, given its number.
async fn peer<F: Future<Output = ()> + Send + 'static>(
    mut play: impl FnMut(usize, TcpStream) -> F + Send + 'static,
) -> Destination {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let there = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        for n in 0.. {
            play(n, listener.accept().await.expect("a connection").0).await;
        }
    });
    destination(there)
}

/// A peer that hands its connections over to the test.
async fn held() -> (Destination, UnboundedReceiver<TcpStream>) {
    let (hand, handed) = unbounded_channel();
    let there = peer(move |_, stream| {
        hand.send(stream).expect("kept");
        std::future::ready(())
    });
    (there.await, handed)
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

async fn line(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") && stream.read_buf(&mut (&mut line).limit(1)).await.expect("read") > 0 {}
    String::from_utf8(line).expect("ASCII")
}

#[tokio::test]
async fn nothing_is_dialled_before_it_is_used_and_its_name_is_where_it_leads() {
    let dialled = Arc::new(AtomicUsize::new(0));
    let count = dialled.clone();
    let there = peer(move |_, mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            let said = line(&mut stream).await;
            stream.write_all(said.to_uppercase().as_bytes()).await.expect("written");
        }
    });
    let there = there.await;
    let mut stream = PersistentStream::new(there.clone());
    assert_eq!((stream.to_string(), stream.is_connected()), (there.to_string(), false));
    assert_eq!((dialled.load(Ordering::SeqCst), stream.session_state()), (0, SessionState::Idle));
    stream.write_all(b"hello\n").await.expect("dialled and written");
    assert_eq!(line(&mut stream).await, "HELLO\n");
    assert!(stream.is_connected() && stream.connections() == 1);
}

#[tokio::test]
async fn an_end_is_told_once_and_the_next_use_dials_and_greets_again() {
    let there = peer(|n, mut stream| async move {
        assert_eq!(line(&mut stream).await, "AUTH secret\n");
        stream.write_all(b"OK\n").await.expect("written");
        let said = line(&mut stream).await;
        stream.write_all(format!("{n}: {said}").as_bytes()).await.expect("written");
        if n == 1 {
            // Without a proper end: what is unread when the socket closes resets the connection.
            assert_eq!(line(&mut stream).await, "bye\n");
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set");
        }
    });
    let greeted = Arc::new(AtomicUsize::new(0));
    let count = greeted.clone();
    let mut stream = stream(there.await, quick()).on_connect(move |mut greeting| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            greeting.write_all(b"AUTH secret\n").await?;
            if line(&mut greeting).await == "OK\n" { Ok(greeting) } else { Err("refused".into()) }
        }
    });
    stream.write_all(b"one\n").await.expect("written");
    assert_eq!(line(&mut stream).await, "0: one\n");
    assert_eq!(stream.read(&mut [0; 8]).await.expect("an end"), 0);
    assert!(!stream.is_connected());
    stream.write_all(b"two\n").await.expect("written");
    assert_eq!(line(&mut stream).await, "1: two\n");
    stream.write_all(b"bye\n").await.expect("written");
    let error = stream.read(&mut [0; 8]).await.expect_err("a reset");
    assert_eq!((error.kind(), inside(&error).phase()), (io::ErrorKind::ConnectionReset, Phase::Receive));
    stream.write_all(b"three\n").await.expect("written");
    assert_eq!(line(&mut stream).await, "2: three\n");
    assert_eq!((greeted.load(Ordering::SeqCst), stream.connections()), (3, 3));
}

#[tokio::test]
async fn a_peer_that_closes_what_it_accepts_is_not_stormed_and_closing_begins_anew() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let there = peer(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(())
    });
    // A connection that outlives its backoff is no failure: on a busy machine, a millisecond is soon over.
    let mut config = quick();
    (config.session.backoff.first, config.session.backoff.max) =
        (Duration::from_millis(150), Duration::from_millis(150));
    let mut stream = stream(there.await, config);
    let mut ends = 0;
    let error = loop {
        match stream.read(&mut [0; 8]).await {
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
    assert!(stream.read(&mut [0; 8]).await.is_err() && accepted.load(Ordering::SeqCst) == ends);
    stream.close();
    assert_eq!(stream.read(&mut [0; 8]).await.expect("dialled again"), 0);
    assert_eq!(accepted.load(Ordering::SeqCst), ends + 1);
}

#[tokio::test]
async fn a_peer_that_never_comes_is_given_up_with_the_last_dials_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let there = listener.local_addr().expect("an address");
    drop(listener);
    let mut stream = stream(destination(there), quick());
    let error = stream.write(b"hello").await.expect_err("nobody is there");
    let told = inside(&error);
    assert_eq!((error.kind(), told.phase()), (io::ErrorKind::ConnectionRefused, Phase::Connect));
    assert_eq!(told.hint(), Some("gave up after 4 in a row; close the stream to begin anew"));
    let again = stream.write(b"hello").await.expect_err("it gave up");
    assert_eq!(cause::<GaveUp>(&again).map(|gave_up| gave_up.failures), Some(4));
    assert_eq!(stream.session_state(), SessionState::GivenUp);
}

#[tokio::test]
async fn a_refused_session_counts_as_a_failure_and_a_slow_one_meets_its_deadline() {
    let there = peer(|n, mut stream| async move {
        let answer: &[u8] = if n < 2 { b"NO\n" } else { b"OK\nbanner\n" };
        stream.write_all(answer).await.expect("written");
    });
    let hook = |mut greeting: persist_async::Greeting| async move {
        let mut reader = BufReader::new(&mut greeting);
        let mut answer = String::new();
        reader.read_line(&mut answer).await?;
        let ahead = reader.buffer().to_vec();
        greeting.unread(&ahead);
        if answer == "OK\n" { Ok(greeting) } else { Err(format!("the server said {answer:?}").into()) }
    };
    let mut patient = stream(there.await, quick()).on_connect(hook);
    assert_eq!(line(&mut patient).await, "banner\n");
    assert_eq!(patient.connections(), 1);

    let (silent, _keep) = held().await;
    let mut config = quick();
    config.session.retries_max = Some(0);
    config.dial.handshake = Some(Duration::from_millis(30));
    let mut hasty = stream(silent, config).on_connect(hook);
    let error = hasty.read(&mut [0; 8]).await.expect_err("silence");
    assert_eq!((error.kind(), inside(&error).phase()), (io::ErrorKind::TimedOut, Phase::Handshake));
}

#[tokio::test]
async fn a_hook_that_panics_leaves_the_stream_usable() {
    let there = peer(|_, mut stream| async move { stream.write_all(b"hello\n").await.expect("written") });
    let first = Arc::new(AtomicUsize::new(0));
    let stream = stream(there.await, quick()).on_connect(move |greeting| {
        let first = first.clone();
        async move {
            assert!(first.fetch_add(1, Ordering::SeqCst) > 0, "on purpose");
            Ok(greeting)
        }
    });
    let shared = Arc::new(tokio::sync::Mutex::new(stream));
    let panicking = shared.clone();
    tokio::spawn(async move { panicking.lock().await.read(&mut [0; 8]).await }).await.expect_err("it panics");
    assert_eq!(line(&mut *shared.lock().await).await, "hello\n");
}

#[tokio::test]
async fn a_silent_peer_gets_heartbeats_and_its_answers_are_read() {
    let (there, mut handed) = held().await;
    let mut config = quick();
    config.heartbeat = Some(HeartbeatConfig::every(Duration::from_millis(5)).answered_within(Duration::from_secs(60)));
    config.heartbeat_payload = b"PING\n".to_vec();
    let mut stream = stream(there, config);
    let echo = tokio::spawn(async move {
        let mut far = handed.recv().await.expect("a connection");
        let mut heard = Vec::new();
        while heard.len() < 3 {
            heard.push(line(&mut far).await);
            far.write_all(b"PONG\n").await.expect("written");
        }
        (far, heard)
    });
    for _ in 0..3 {
        assert_eq!(line(&mut stream).await, "PONG\n");
    }
    let (_far, heard) = echo.await.expect("no panic");
    assert_eq!(heard, ["PING\n"; 3]);
}

#[tokio::test]
async fn a_peer_that_answers_no_heartbeat_is_gone_and_that_is_told_once() {
    let (there, mut handed) = held().await;
    let mut config = quick();
    config.heartbeat =
        Some(HeartbeatConfig::every(Duration::from_millis(5)).answered_within(Duration::from_millis(20)));
    config.heartbeat_payload = b"PING\n".to_vec();
    let mut stream = stream(there, config);
    let error = stream.read(&mut [0; 8]).await.expect_err("silence");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(cause::<PeerSilent>(&error).is_some_and(|silent| silent.silent >= Duration::from_millis(20)), "{error}");
    assert!(!stream.is_connected());
    let mut heard = Vec::new();
    handed.recv().await.expect("a connection").read_to_end(&mut heard).await.expect("the connection was closed");
    assert!(heard.starts_with(b"PING\n"), "{heard:?}");
    stream.write_all(b"again").await.expect("dialled again");
}

#[tokio::test]
async fn a_dropped_read_loses_nothing_and_a_dial_goes_on_where_it_was() {
    let (there, mut handed) = held().await;
    let mut stream = stream(there, quick());
    let mut connects = 0;
    // Each poll is a future of its own, dropped at once.
    while !stream.is_connected() {
        let _ = tokio::time::timeout(Duration::ZERO, stream.read(&mut [0; 8])).await;
        connects += 1;
        tokio::task::yield_now().await;
    }
    assert_eq!(stream.connections(), 1, "of {connects} reads");
    let mut far = handed.recv().await.expect("a connection");
    far.write_all(b"still there\n").await.expect("written");
    assert_eq!(line(&mut stream).await, "still there\n");
    assert!(handed.is_empty());
}

#[tokio::test]
async fn one_task_reads_while_another_writes() {
    let there = peer(|_, mut stream| async move {
        tokio::spawn(async move {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await
        });
    });
    let (mut reader, mut writer) = tokio::io::split(stream(there.await, quick()));
    let all: Vec<u8> = (0..8 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    let sent = all.clone();
    // The reader begins, so that the writer finds a dial of the other's.
    let mut back = vec![0; all.len()];
    let reading = tokio::spawn(async move {
        reader.read_exact(&mut back).await.expect("read");
        back
    });
    tokio::task::yield_now().await;
    for piece in sent.chunks(100_000) {
        writer.write_all(piece).await.expect("written");
    }
    assert!(reading.await.expect("no panic") == all);
}

#[tokio::test]
async fn a_message_that_lost_its_connection_half_way_is_not_continued_on_the_next() {
    let (there, mut handed) = held().await;
    let mut stream = stream(there, quick());
    let large = vec![b'x'; 16 << 20];
    let n = stream.write(&large).await.expect("a part of it");
    assert!(n < large.len());
    let far = handed.recv().await.expect("a connection");
    drop(far);
    // The reader learns of the end first.
    while stream.read(&mut [0; 8]).await.is_ok_and(|n| n > 0) {}
    assert!(!stream.is_connected());
    let error = stream.write(&large[n..]).await.expect_err("its beginning is lost");
    assert_eq!((error.kind(), inside(&error).phase()), (io::ErrorKind::ConnectionAborted, Phase::Send));
    stream.write_all(b"whole\n").await.expect("on another connection");
    assert_eq!(line(&mut handed.recv().await.expect("another")).await, "whole\n");
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

#[tokio::test]
async fn a_route_that_is_no_stream_to_the_destination_is_refused_before_anything_is_dialled() {
    let (there, handed) = held().await;
    let mut config = quick();
    config.router = Arc::new(Absolute(there));
    let mut stream = stream("http://example.com".parse().expect("a destination"), config);
    let error = stream.write(b"hello").await.expect_err("refused");
    assert_eq!((inside(&error).phase(), inside(&error).blame()), (Phase::Prepare, Blame::Caller));
    assert!(stream.failures() == 1 && handed.is_empty());
}

#[test]
fn it_may_cross_threads_and_shows_no_secret() {
    fn crosses<T: Send>(_: &T) {}
    let stream = PersistentStream::new("http://localhost:1".parse().expect("a destination"));
    crosses(&stream);
    assert!(format!("{stream:?}").contains("localhost"), "{stream:?}");
}
