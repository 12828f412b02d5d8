//! Reverse proxies that reuse connections to `persist-async`'s server: nobody behind one gets a 502, also where idle connections are closed just
//! when they are needed, as long as it is the proxy that closes them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use persist_async::{
    Body, ClientConn, Method, Received, Request, Response, Served, Server, ServerConfig, ServerHandle,
};
use persist_tests::folder::content;
use persist_tests::peers::reverse_proxy::{Kind, ReverseProxy};
use persist_tests::seeded::Random;
use tokio::net::TcpStream;

/// Clients of the proxy, each on a connection of its own.
const CLIENTS: u64 = 64;

/// A server that answers with the target and gives the content back, and counts what came on connections that had carried something before.
struct Origin {
    address: SocketAddr,
    handle: ServerHandle,
    serving: JoinHandle<Served>,
    reused: Arc<AtomicU64>,
}

impl Origin {
    /// Closes connections that were idle for so long; by default if that is not said.
    fn start(idle: Option<Duration>) -> Self {
        let (told, telling) = std::sync::mpsc::channel();
        let reused = Arc::new(AtomicU64::new(0));
        let counted = reused.clone();
        let serving = std::thread::spawn(move || {
            runtime().block_on(async {
                let mut config = ServerConfig::default();
                if idle.is_some() {
                    config.conn.timeouts.idle = idle;
                }
                let server = Server::bind("127.0.0.1:0").await.expect("a port").with_config(config);
                told.send((server.local_addr().expect("TCP"), server.handle())).expect("the test listens");
                let echo = move |received: Received| {
                    counted.fetch_add(u64::from(received.reused), Ordering::Relaxed);
                    let response = Response::ok().field("Target", received.head.target()).expect("a field");
                    received.responder.send(response, received.body)
                };
                server.serve(echo).await.expect("served")
            })
        });
        let (address, handle) = telling.recv().expect("it listens");
        Self { address, handle, serving, reused }
    }

    /// Ends it; how many requests found a connection that was there already.
    fn reused(self) -> u64 {
        self.handle.shutdown(Duration::from_secs(30));
        let served = self.serving.join().expect("the server is content");
        assert_eq!(served.aborted, 0);
        self.reused.load(Ordering::Relaxed)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What became of the requests.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    answered: u64,
    /// `502`, or the proxy closed without an answer, after a request that it must not send again.
    lost_posts: u64,
    /// The same after one that it may.
    lost_gets: u64,
}

/// How long a client does nothing before a request: between half and one and a half times this.
type Gap = Option<Duration>;

/// Sends requests through the proxy, `CLIENTS` at a time; all that are answered with `200` must be answered rightly.
async fn send(proxy: SocketAddr, requests: u64, gap: Gap, seed: u64) -> Tally {
    let content: Arc<[u8]> = content(seed, 20_000).into();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let dice = Random::new(seed ^ (client << 32));
            tokio::spawn(one_client(proxy, requests / CLIENTS, gap, dice, content.clone()))
        })
        .collect();
    let mut all = Tally::default();
    for client in clients {
        let tally = client.await.expect("all answers are right");
        all.answered += tally.answered;
        all.lost_posts += tally.lost_posts;
        all.lost_gets += tally.lost_gets;
    }
    assert_eq!(all.answered + all.lost_posts + all.lost_gets, requests / CLIENTS * CLIENTS);
    all
}

async fn one_client(proxy: SocketAddr, requests: u64, gap: Gap, mut dice: Random, content: Arc<[u8]>) -> Tally {
    let mut tally = Tally::default();
    let mut kept: Option<ClientConn<TcpStream>> = None;
    for n in 0..requests {
        if let Some(gap) = gap {
            tokio::time::sleep(gap.mul_f64(0.5 + dice.below(1_000) as f64 / 1_000.0)).await;
        }
        let conn = match kept.take().filter(|conn| conn.err().is_none()) {
            Some(conn) => conn,
            None => ClientConn::new(TcpStream::connect(proxy).await.expect("the proxy listens")),
        };
        let target = format!("/{n}/{}", dice.below(1 << 30));
        let is_get = n % 2 == 0;
        let sent = if is_get { &[][..] } else { &content[..dice.below(content.len())] };
        let (method, body) = match n % 4 {
            0 | 2 => (Method::GET, Body::empty()),
            1 => (Method::POST, Body::from(sent.to_vec())),
            _ => (Method::POST, Body::reader(std::io::Cursor::new(sent.to_vec()), None)),
        };
        let request = Request::new(method, &target).field("Host", "test").expect("a field");
        let lost = match conn.send(request, body).await {
            Ok(mut reply) => {
                let got = reply.body.bytes(1 << 20).await.expect("whole");
                match reply.head.status().as_u16() {
                    200 => {
                        let told = reply.head.field("Target").and_then(|value| value.to_str());
                        assert!(told == Some(&target) && got == *sent, "{target} was answered with {told:?}");
                        false
                    }
                    502 => true,
                    other => panic!("{target} was answered with {other}"),
                }
            }
            Err(_) => true,
        };
        match (lost, is_get) {
            (false, _) => tally.answered += 1,
            (true, true) => tally.lost_gets += 1,
            (true, false) => tally.lost_posts += 1,
        }
        kept = Some(conn);
    }
    tally
}

/// The proxy closes what is idle; we would keep it.
fn none_is_lost(kind: Kind, requests: u64) {
    const THEIRS: Duration = Duration::from_millis(40);
    let origin = Origin::start(None);
    let Some(proxy) = ReverseProxy::start(kind, origin.address, THEIRS) else { return };
    let (busy, with_gaps) = runtime().block_on(async {
        let busy = send(proxy.address, requests - requests / 5, None, 1).await;
        (busy, send(proxy.address, requests / 5, Some(THEIRS), 2).await)
    });
    drop(proxy);
    let reused = origin.reused();
    println!("{kind:?}: busy {busy:?}, with gaps around {THEIRS:?} {with_gaps:?}, {reused} on used connections");
    for tally in [busy, with_gaps] {
        assert_eq!((tally.lost_posts, tally.lost_gets), (0, 0), "{tally:?}");
    }
    assert!(reused > requests / 2, "only {reused} of {requests} requests found a used connection");
}

/// We close what is idle; the proxy would keep it. It can send a request just then: what is lost that way is counted, and what is answered is right.
fn some_may_be_lost(kind: Kind, requests: u64) {
    const OURS: Duration = Duration::from_millis(40);
    let origin = Origin::start(Some(OURS));
    let Some(proxy) = ReverseProxy::start(kind, origin.address, Duration::from_secs(60)) else { return };
    let tally = runtime().block_on(send(proxy.address, requests, Some(OURS), 3));
    drop(proxy);
    let reused = origin.reused();
    println!("{kind:?}: gaps around our own {OURS:?}: {tally:?}, {reused} on used connections");
    assert!(reused > 0 && tally.answered > requests / 2, "{tally:?}");
}

#[test]
fn nginx_reuses_connections_and_loses_nothing() {
    none_is_lost(Kind::Nginx, 2_560);
}

#[test]
#[ignore = "takes minutes: in cargo xtask test --full"]
fn nginx_loses_none_of_a_hundred_thousand_requests() {
    none_is_lost(Kind::Nginx, 100_160);
}

#[test]
#[ignore = "takes minutes: in cargo xtask test --full"]
fn haproxy_loses_none_of_a_hundred_thousand_requests() {
    none_is_lost(Kind::Haproxy, 100_160);
}

#[test]
#[ignore = "reports a count: in cargo xtask test --full"]
fn nginx_may_lose_requests_where_our_timeout_is_the_shorter() {
    some_may_be_lost(Kind::Nginx, 25_600);
}

#[test]
#[ignore = "reports a count: in cargo xtask test --full"]
fn haproxy_may_lose_requests_where_our_timeout_is_the_shorter() {
    some_may_be_lost(Kind::Haproxy, 25_600);
}
