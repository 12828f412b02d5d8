//! The pooled client: requests that are dropped while they wait, dial, send, receive or read; dials and handshakes; and the upkeep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use persist_async::persist_core::pool::Counts;
use persist_async::persist_core::{Destination, Direct, Route};
use persist_async::{
    Body, Client, ClientConfig, Connector, DialTimer, Dialer, Error, Method, Phase, Request, Response, ServerConn,
    Stream, async_trait,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Seed, poll_times, seeds};

const LONG: Duration = Duration::from_secs(60);

/// Dials take some polls, and now and then they fail. The far ends come out of a channel.
#[derive(Debug)]
struct Pipes {
    dice: std::sync::Mutex<u64>,
    hand: UnboundedSender<DuplexStream>,
}

impl Pipes {
    fn new(seed: u64) -> (Arc<Self>, UnboundedReceiver<DuplexStream>) {
        let (hand, handed) = unbounded_channel();
        (Arc::new(Self { dice: seed.into(), hand }), handed)
    }
}

#[async_trait]
impl Dialer for Pipes {
    async fn dial(&self, _: &Destination, timer: &mut DialTimer) -> Result<Stream, Error> {
        let (polls, fails, size) = {
            let mut last = self.dice.lock().expect("no panic");
            let mut dice = Seed(*last);
            let drawn = (dice.below(6), dice.below(12) == 0, 16 + dice.below(3_000));
            *last = dice.0;
            drawn
        };
        let dialling = async {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
            Ok(())
        };
        timer.within(Phase::Connect, dialling).await?;
        if fails {
            return Err(Error::new(Phase::Connect, "nobody is there"));
        }
        let (near, far) = tokio::io::duplex(size as usize);
        self.hand.send(far).expect("kept");
        Ok(Stream::new(near))
    }
}

/// Answers with the target, and as many bytes as that begins with, once it has read the request.
async fn serve(stream: DuplexStream) {
    let conn = ServerConn::new(stream);
    while let Ok(Some(mut received)) = conn.read().await {
        let target = received.head.target().to_owned();
        if received.body.bytes(1 << 20).await.is_err() {
            continue;
        }
        let len = target.split('/').nth(1).and_then(|len| len.parse().ok()).unwrap_or(0);
        let response = Response::ok().field("Target", &target).expect("a target is a field value");
        let _ = received.responder.send(response, Body::from(vec![b'x'; len])).await;
    }
}

/// Whoever gets a reply gets its own; and when all is over, nothing is lent, nobody waits, and every connection ends.
async fn drop_at_random(seed: u64) {
    let mut dice = Seed(seed);
    let mut config = ClientConfig::default();
    let most = 1 + dice.below(3);
    (config.pool.per_destination_max, config.pool.idle_per_destination_max) = (most, most);
    config.conn.pipelining.depth = 1 + dice.below(3);
    config.conn.timeouts.drain = Some(Duration::from_millis(20));
    let (pipes, mut handed) = Pipes::new(seed);
    let connector = Connector::new(&config).with_dialer(pipes);
    let client = Client::with_connector(config, connector).expect("no contradiction");
    let servers = tokio::spawn(async move {
        let mut serving = tokio::task::JoinSet::new();
        while let Some(far) = handed.recv().await {
            serving.spawn(serve(far));
        }
        while let Some(served) = serving.join_next().await {
            served.expect("no panic");
        }
    });
    // An upkeep of the user's, which is dropped again and again, in every second run.
    let stop = Arc::new(AtomicBool::new(seed.is_multiple_of(2)));
    let upkeep = tokio::spawn({
        let (client, stop, mut dice) = (client.clone(), stop.clone(), Seed(seed ^ 0x0fff));
        async move {
            while !stop.load(Ordering::Relaxed) {
                let _ = poll_times(client.upkeep(), dice.below(9)).await;
                // Nobody keeps it for a while; and time goes on only where nobody is busy.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let tasks: Vec<_> = (0..6_u64)
        .map(|task| {
            let (client, mut dice) = (client.clone(), Seed(seed ^ (task + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            tokio::spawn(async move {
                for n in 0..8 {
                    let len = [0, 10, 5_000, 100_000][dice.below(4) as usize];
                    let target = format!("/{len}/{task}/{n}");
                    let url = format!("http://host{}{target}", dice.below(2));
                    let (request, sent) = match dice.below(3) {
                        0 => (Request::new(Method::POST, url), 3_000),
                        _ => (Request::get(url), 0),
                    };
                    let patience = [1, 2, 5, 20, u32::MAX][dice.below(5) as usize];
                    let sending = client.send(request, vec![b'x'; sent]);
                    let Some(Ok(mut reply)) = poll_times(sending, patience).await else { continue };
                    let said = reply.head.field("Target").and_then(|value| value.to_str());
                    assert_eq!(said, Some(target.as_str()), "seed {seed}: a reply went to another request");
                    let mut read = 0;
                    while dice.below(8) > 0 {
                        match poll_times(reply.body.chunk(), patience).await {
                            Some(Ok(Some(piece))) => read += piece.len(),
                            Some(Ok(None)) => {
                                assert_eq!(read, len, "seed {seed}: content was lost");
                                break;
                            }
                            Some(Err(_)) => break,
                            None => {}
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        tokio::time::timeout(LONG, task).await.unwrap_or_else(|_| panic!("seed {seed}: it hangs")).expect("no panic");
    }
    stop.store(true, Ordering::Relaxed);
    upkeep.await.expect("no panic");
    // It serves whoever comes next, and comes to rest.
    for host in ["http://host0", "http://host1"] {
        let asked = async {
            while client.send(Request::get(format!("{host}/10/last")), ()).await.is_err() {}
            let busy = |counts: Counts| counts.exchanges > 0 || counts.waiting > 0 || counts.dialing > 0;
            while busy(client.counts()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let counts = || panic!("seed {seed}: it does not come to rest: {:?}", client.counts());
        tokio::time::timeout(LONG, asked).await.unwrap_or_else(|_| counts());
        let owed = client.pending_to(&host.parse().expect("a destination"));
        assert_eq!(owed.unfinished, 0, "seed {seed}");
    }
    drop(client);
    tokio::time::timeout(LONG, servers)
        .await
        .unwrap_or_else(|_| panic!("seed {seed}: a connection is left open"))
        .expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn replies_find_their_requests_and_the_pool_comes_to_rest() {
    for seed in seeds(0..40) {
        drop_at_random(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_find_their_requests_and_the_pool_comes_to_rest_on_two_threads() {
    for seed in seeds(1_000..1_040) {
        drop_at_random(seed).await;
    }
}

fn route(url: &str) -> Route {
    Route::direct(&url.parse().expect("a destination"))
}

/// A dial and a handshake that are dropped after so many polls, for every number of polls that there is: the peer learns of it, and the next one succeeds.
async fn drop_each_dial(
    connector: Connector,
    url: &str,
    mut handed: UnboundedReceiver<DuplexStream>,
    accept: impl AsyncFn(DuplexStream) -> Stream,
) {
    for polls in 0.. {
        let dialling = async {
            let route = route(url);
            poll_times(connector.connect(&route, &Direct), polls).await
        };
        let peer = async {
            let mut stream = accept(handed.recv().await?).await;
            let mut heard = [0; 5];
            Some(match stream.read_exact(&mut heard).await {
                Ok(_) => {
                    stream.write_all(&heard).await.expect("written");
                    stream.flush().await.expect("flushed");
                    true
                }
                Err(_) => false,
            })
        };
        // Dropped before it dialled, nobody hears of it.
        let mut peer = std::pin::pin!(peer);
        let dialled = tokio::select! {
            biased;
            dialled = dialling => dialled,
            served = &mut peer => panic!("after {polls} polls: {served:?}"),
        };
        match dialled {
            None => {
                let served = tokio::time::timeout(Duration::from_secs(1), peer).await;
                assert!(matches!(served, Err(_) | Ok(Some(false))), "after {polls} polls: {served:?}");
            }
            Some(Err(error)) => assert_eq!(error.phase(), Phase::Connect, "{error}"),
            Some(Ok(mut stream)) => {
                let echoed = async {
                    stream.write_all(b"hello").await.expect("written");
                    stream.flush().await.expect("flushed");
                    let mut heard = [0; 5];
                    stream.read_exact(&mut heard).await.expect("read");
                    heard
                };
                let (served, heard) = tokio::join!(peer, echoed);
                assert_eq!((served, &heard), (Some(true), b"hello"));
                return;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dial_may_be_dropped_after_any_poll() {
    for seed in seeds(0..20) {
        let (pipes, handed) = Pipes::new(seed);
        let connector = Connector::default().with_dialer(pipes);
        drop_each_dial(connector, "http://host", handed, async |far| Stream::new(far)).await;
    }
}

#[cfg(feature = "tls")]
#[tokio::test(start_paused = true)]
async fn a_handshake_may_be_dropped_after_any_poll() {
    let authority = super::certificates::Authority::new();
    for seed in seeds(0..5) {
        let (pipes, handed) = Pipes::new(seed);
        let connector = Connector::default().with_dialer(pipes).with_tls(authority.client());
        let tls = authority.server();
        drop_each_dial(connector, "https://localhost", handed, async |far| tls.accept(Stream::new(far))).await;
    }
}
