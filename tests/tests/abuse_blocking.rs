//! Blocking connections that many threads share and abuse at once: bodies broken off, replies dropped, exchanges cancelled, places reserved and given
//! back, requests gathered without regard to what is in flight. Each reply belongs to its request, whatever else happens, and nothing hangs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use persist_core::Gate;
use persist_sync::{
    Body, ClientConn, Config, Error, Exchange, Received, Reply, Request, Response, Server, ServerConfig,
};
use persist_tests::seeded::Random;

const THREADS: u64 = 4;
const CALLS: u64 = 60;

/// Far longer than a round takes, on any machine.
const LONG: Duration = Duration::from_secs(120);

/// What became of the exchanges of one round.
#[derive(Debug, Default)]
struct Tally {
    right: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// Answers with the number in the target, and more by its first segment.
fn handle(mut received: Received) -> Result<(), Error> {
    let target = received.head.target().to_owned();
    let (kind, number) = target[1..].split_once('/').expect("two segments");
    match kind {
        "echo" => {
            let mut answer = received.responder.send_streaming(Response::ok(), None)?;
            answer.write_all(number.as_bytes()).map_err(whole)?;
            while let Some(piece) = received.body.chunk()? {
                answer.write_all(&piece).map_err(whole)?;
            }
            answer.finish()
        }
        "large" => {
            let mut content = number.as_bytes().to_vec();
            content.resize(content.len() + padding(number), b'x');
            received.responder.send(Response::ok(), content)
        }
        // Lets others go first.
        "late" => {
            (0..padding(number) % 64).for_each(|_| thread::yield_now());
            received.responder.send(Response::ok(), number.to_owned())
        }
        "unread" => {
            drop(received.body);
            received.responder.send(Response::ok(), number.to_owned())
        }
        _ => received.responder.send(Response::ok(), number.to_owned()),
    }
}

fn whole(error: std::io::Error) -> Error {
    error.downcast().expect("the whole error")
}

/// How much a large reply has beside its number.
fn padding(number: &str) -> usize {
    number.parse::<usize>().expect("a number") * 7919 % 300_000
}

/// One thread's use of the connection that it shares.
struct Abuser<'c> {
    conn: &'c ClientConn,
    random: Random,
    tally: &'c Tally,
}

impl Abuser<'_> {
    fn run(mut self, first: u64) {
        for number in first..first + CALLS {
            if self.call(number).is_err() {
                self.tally.failed.fetch_add(1, Relaxed);
                thread::yield_now();
            }
        }
    }

    fn chance(&mut self, of: usize) -> bool {
        self.random.below(of) == 0
    }

    fn call(&mut self, number: u64) -> Result<(), Error> {
        if self.chance(10) {
            self.conn.ready()?;
        }
        if self.chance(20) {
            let place = self.conn.reserve()?;
            if self.chance(2) {
                self.conn.release(place);
            }
        }
        let kind = self.random.pick(&["echo", "large", "late", "unread", "plain"]);
        let len = if matches!(kind, "echo" | "unread") { self.random.below(200_000) } else { 0 };
        let exchange = self.ask(&format!("/{kind}/{number}"), len)?;
        if self.chance(30) {
            self.conn.cancel(exchange);
            self.tally.dropped.fetch_add(1, Relaxed);
            return Ok(());
        }
        let mut reply = self.conn.read(exchange)?;
        if self.chance(15) {
            let _ = reply.body.read(&mut [0; 3]);
            self.tally.dropped.fetch_add(1, Relaxed);
            return Ok(());
        }
        check(kind, number, len, reply)?;
        self.tally.right.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Sends a request, by one call or in pieces, which may break off.
    fn ask(&mut self, target: &str, len: usize) -> Result<Exchange, Error> {
        let request = if len == 0 { Request::get(target) } else { Request::post(target) };
        let request = request.field("Host", "abuse.test").expect("a field");
        if len == 0 || !self.chance(3) {
            return self.conn.write(request, Body::from(vec![b'u'; len]));
        }
        let declared = self.chance(2).then_some(len as u64);
        let (exchange, mut body) = self.conn.write_streaming(request, declared)?;
        let mut left = len;
        while left > 0 && !self.chance(200) {
            let piece = left.min(1 + self.random.below(40_000));
            if body.write_all(&vec![b'u'; piece]).is_err() {
                break;
            }
            left -= piece;
        }
        if left == 0 {
            // What it failed of, the reply tells.
            let _ = body.finish();
        }
        Ok(exchange)
    }
}

fn check(kind: &str, number: u64, len: usize, reply: Reply) -> Result<(), Error> {
    let content = reply.body.bytes(1 << 20)?;
    let number = number.to_string();
    let begins = String::from_utf8_lossy(&content[..content.len().min(number.len())]).into_owned();
    assert_eq!(begins, number, "the reply to another request ({kind})");
    let more = match kind {
        "echo" => len,
        "large" => padding(&number),
        _ => 0,
    };
    assert_eq!(content.len() - number.len(), more, "{kind}/{number}");
    Ok(())
}

/// One connection, from its first request until the end that it meets.
fn round(server: SocketAddr, seed: u64) -> Tally {
    let mut config = Config::client();
    config.pipelining.depth = 12;
    config.pipelining.behind_first = Gate::Open;
    config.pipelining.behind_non_idempotent = Gate::Open;
    let conn = ClientConn::with_config(TcpStream::connect(server).expect("it listens"), config).expect("a connection");
    let tally = Tally::default();
    thread::scope(|scope| {
        let watching = scope.spawn(|| conn.events().count());
        let threads: Vec<_> = (0..THREADS)
            .map(|n| {
                let random = Random::new(seed * THREADS + n + 1);
                let abuser = Abuser { conn: &conn, random, tally: &tally };
                scope.spawn(move || abuser.run((seed * THREADS + n + 1) * CALLS))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("its own replies"));
        conn.abort();
        assert!(watching.join().expect("no panic") > 0);
    });
    tally
}

fn abuse(seeds: std::ops::Range<u64>) {
    let mut config = ServerConfig::default();
    config.threads_max = 8;
    let server = Server::bind("127.0.0.1:0").expect("a port").with_config(config);
    let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
    let serving = thread::spawn(move || server.serve(handle_all).expect("it serves"));
    let (mut right, mut failed, mut dropped) = (0, 0, 0);
    for seed in seeds.clone() {
        let (done, finished) = channel();
        thread::spawn(move || done.send(round(address, seed)));
        let tally = finished.recv_timeout(LONG).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        right += tally.right.into_inner();
        failed += tally.failed.into_inner();
        dropped += tally.dropped.into_inner();
    }
    println!("{right} replies were right, {failed} exchanges failed, {dropped} were dropped, of seeds {seeds:?}");
    assert!(right > failed / 4 && failed + dropped > 0, "abuse that does not hurt, or kills everything");
    handle.shutdown(LONG);
    assert_eq!(serving.join().expect("no panic").aborted, 0);
}

fn handle_all(received: Received) -> Result<(), Error> {
    // Clients leave as they like: that is what is tested.
    let _ = handle(received);
    Ok(())
}

#[test]
fn threads_that_abuse_one_connection_get_their_own_replies_or_errors() {
    abuse(0..12);
}

#[test]
#[ignore = "a minute"]
fn and_so_they_do_five_hundred_times() {
    let from = std::process::id().into();
    abuse(from..from + 500);
}
