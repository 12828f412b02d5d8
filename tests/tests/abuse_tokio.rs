//! The same as `abuse_blocking` over tokio, on several threads, and futures are dropped at any await besides.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use persist_async::{
    Body, ClientConn, Config, Error, Received, Reply, Request, Response, Server, ServerConfig, StateEvent,
};
use persist_core::Gate;
use persist_tests::seeded::Random;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const TASKS: u64 = 6;
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
async fn answer(mut received: Received) -> Result<(), Error> {
    let target = received.head.target().to_owned();
    let (kind, number) = target[1..].split_once('/').expect("two segments");
    let number = number.to_owned();
    match kind {
        "echo" => {
            let whole = std::io::Cursor::new(number).chain(received.body);
            received.responder.send(Response::ok(), Body::reader(whole, None)).await
        }
        "large" => {
            let mut content = number.as_bytes().to_vec();
            content.resize(content.len() + padding(&number), b'x');
            received.responder.send(Response::ok(), content).await
        }
        // Lets others go first.
        "late" => {
            for _ in 0..padding(&number) % 64 {
                tokio::task::yield_now().await;
            }
            received.responder.send(Response::ok(), number).await
        }
        "unread" => {
            drop(received.body);
            received.responder.send(Response::ok(), number).await
        }
        "read" => {
            while received.body.chunk().await?.is_some() {}
            received.responder.send(Response::ok(), number).await
        }
        _ => received.responder.send(Response::ok(), number).await,
    }
}

/// How much a large reply has beside its number.
fn padding(number: &str) -> usize {
    number.parse::<usize>().expect("a number") * 7919 % 300_000
}

/// One task's use of the connection that it shares.
struct Abuser {
    conn: Arc<ClientConn<TcpStream>>,
    random: Random,
    tally: Arc<Tally>,
}

impl Abuser {
    async fn run(mut self, first: u64) {
        for number in first..first + CALLS {
            // Most calls end; some are dropped on the way.
            let polls = if self.chance(25) { 1 + self.random.below(12) } else { usize::MAX };
            let tally = self.tally.clone();
            match poll_times(self.call(number), polls).await {
                Some(Ok(())) => {}
                Some(Err(_)) => {
                    tally.failed.fetch_add(1, Relaxed);
                    if self.conn.is_closing() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                None => {
                    tally.dropped.fetch_add(1, Relaxed);
                }
            }
        }
    }

    fn chance(&mut self, of: usize) -> bool {
        self.random.below(of) == 0
    }

    async fn call(&mut self, number: u64) -> Result<(), Error> {
        if self.chance(10) {
            self.conn.ready().await?;
        }
        if self.chance(20) {
            let place = self.conn.reserve()?;
            if self.chance(2) {
                self.conn.release(place);
            }
        }
        let kind = self.random.pick(&["echo", "large", "late", "unread", "read", "plain"]);
        let len = if matches!(kind, "echo" | "unread" | "read") { self.random.below(200_000) } else { 0 };
        let target = format!("/{kind}/{number}");
        let request = if len == 0 { Request::get(target) } else { Request::post(target) };
        let request = request.field("Host", "abuse.test").expect("a field");
        let body = match self.random.below(4) {
            0 => Body::reader(tokio::io::repeat(b'u').take(len as u64), None),
            // Breaks off.
            1 if len > 0 && self.chance(20) => {
                Body::reader(tokio::io::repeat(b'u').take(len as u64 / 2), Some(len as u64))
            }
            _ => Body::from(vec![b'u'; len]),
        };
        let mut reply = if self.chance(2) {
            self.conn.send(request, body).await?
        } else {
            let exchange = self.conn.write(request, body).await?;
            if self.chance(30) {
                self.conn.cancel(exchange);
                self.tally.dropped.fetch_add(1, Relaxed);
                return Ok(());
            }
            self.conn.read(exchange).await?
        };
        if self.chance(15) {
            let _ = reply.body.read(&mut [0; 3]).await;
            self.tally.dropped.fetch_add(1, Relaxed);
            return Ok(());
        }
        check(kind, number, len, reply).await?;
        self.tally.right.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// Polls so many times at most, and drops it then.
async fn poll_times<F: Future>(future: F, mut times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if times <= 1 => Poll::Ready(None),
        Poll::Pending => {
            times -= 1;
            Poll::Pending
        }
    })
    .await
}

async fn check(kind: &str, number: u64, len: usize, reply: Reply) -> Result<(), Error> {
    let mut body = reply.body;
    let content = body.bytes(1 << 20).await?;
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
async fn round(server: SocketAddr, seed: u64) -> Tally {
    let mut config = Config::client();
    config.pipelining.depth = 12;
    config.pipelining.behind_first = Gate::Open;
    config.pipelining.behind_non_idempotent = Gate::Open;
    let stream = TcpStream::connect(server).await.expect("it listens");
    let conn = Arc::new(ClientConn::with_config(stream, config));
    let mut events = conn.events();
    let watching = tokio::spawn(async move {
        let mut last = None;
        while let Some(event) = events.wait().await {
            last = Some(event);
        }
        last
    });
    let tally = Arc::new(Tally::default());
    let tasks: Vec<_> = (0..TASKS)
        .map(|n| {
            let random = Random::new(seed * TASKS + n + 1);
            let abuser = Abuser { conn: conn.clone(), random, tally: tally.clone() };
            tokio::spawn(abuser.run((seed * TASKS + n + 1) * CALLS))
        })
        .collect();
    for task in tasks {
        task.await.expect("its own replies");
    }
    conn.abort();
    let last = watching.await.expect("no panic");
    assert!(matches!(last, Some(StateEvent::Closed(_))), "{last:?}");
    Arc::into_inner(tally).expect("nobody else")
}

fn abuse(seeds: std::ops::Range<u64>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("threads");
    runtime.block_on(async {
        let mut config = ServerConfig::default();
        config.concurrent_handlers = 4;
        let server = Server::bind("127.0.0.1:0").await.expect("a port").with_config(config);
        let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
        // Clients leave as they like: that is what is tested.
        let serving = server.serve(|received| async { drop(answer(received).await) });
        let serving = tokio::spawn(async { serving.await.expect("it serves") });
        let (mut right, mut failed, mut dropped) = (0, 0, 0);
        for seed in seeds.clone() {
            let finished = tokio::time::timeout(LONG, tokio::spawn(round(address, seed))).await;
            let tally = finished.unwrap_or_else(|_| panic!("seed {seed} hangs")).expect("no panic");
            right += tally.right.into_inner();
            failed += tally.failed.into_inner();
            dropped += tally.dropped.into_inner();
        }
        println!("{right} replies were right, {failed} exchanges failed, {dropped} were dropped, of seeds {seeds:?}");
        assert!(right > failed / 4 && failed + dropped > 0, "abuse that does not hurt, or kills everything");
        handle.shutdown(LONG);
        assert_eq!(serving.await.expect("no panic").aborted, 0);
    });
}

#[test]
fn tasks_that_abuse_one_connection_get_their_own_replies_or_errors() {
    abuse(0..20);
}

#[test]
#[ignore = "a minute"]
fn and_so_they_do_five_hundred_times() {
    let from = std::process::id().into();
    abuse(from..from + 500);
}
