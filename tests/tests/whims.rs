//! Pooled clients of both kinds, used by many at once, and a server that breaks off at whim: whatever fails, each reply is its request's own, nothing hangs,
//! nothing that may not be repeated is processed twice, and what is said to have been left alone was.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use persist_core::{Disposition, ExchangeError, Request};
use persist_tests::seeded::Random;
use persist_tests::whimsical::Whimsical;

const WORKERS: u64 = 8;
const CALLS: u64 = 60;

/// Far longer than a round takes, on any machine.
const LONG: Duration = Duration::from_secs(120);

/// What callers came to: by target, whether the reply was right, or what became of the request.
type Outcomes = HashMap<String, Result<(), Option<Disposition>>>;

/// A GET or a POST, and its content.
fn request(server: &Whimsical, random: &mut Random, number: u64) -> (String, Request, Vec<u8>) {
    let is_get = random.below(2) == 0;
    let target = format!("/{}/{number}", if is_get { "get" } else { "post" });
    let url = format!("http://{}{target}", server.address);
    let content = if is_get { Vec::new() } else { vec![b'c'; random.below(60_000)] };
    (target, if is_get { Request::get(url) } else { Request::post(url) }, content)
}

fn outcome(target: &str, reply: Result<&[u8], &ExchangeError>) -> Result<(), Option<Disposition>> {
    match reply {
        Ok(content) => {
            let own =
                content.starts_with(target.as_bytes()) && content[target.len()..].iter().all(|&byte| byte == b'.');
            assert!(own, "the reply to another request: {target}");
            Ok(())
        }
        Err(error) => Err(error.failure().map(|failure| failure.disposition)),
    }
}

fn blocking(server: &Whimsical, seed: u64) -> Outcomes {
    let client = persist_sync::Client::new();
    let outcomes = Mutex::new(Outcomes::new());
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (client, outcomes) = (&client, &outcomes);
            scope.spawn(move || {
                let mut random = Random::new(seed * WORKERS + worker + 1);
                for number in (seed * WORKERS + worker) * CALLS..(seed * WORKERS + worker + 1) * CALLS {
                    let (target, request, content) = request(server, &mut random, number);
                    let reply = client.send(request, content).and_then(|reply| reply.body.bytes(1 << 20));
                    let outcome = outcome(&target, reply.as_deref());
                    outcomes.lock().expect("no panic").insert(target, outcome);
                }
            });
        }
    });
    outcomes.into_inner().expect("no panic")
}

fn tokio(server: &Whimsical, seed: u64) -> Outcomes {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("threads");
    let client = persist_async::Client::new();
    runtime.block_on(async {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let mut random = Random::new(seed * WORKERS + worker + 1);
                let numbers = (seed * WORKERS + worker) * CALLS..(seed * WORKERS + worker + 1) * CALLS;
                let calls: Vec<_> = numbers.map(|number| request(server, &mut random, number)).collect();
                let client = client.clone();
                tokio::spawn(async move {
                    let mut outcomes = Outcomes::new();
                    for (target, request, content) in calls {
                        let reply = match client.send(request, content).await {
                            Ok(mut reply) => reply.body.bytes(1 << 20).await,
                            Err(error) => Err(error),
                        };
                        let outcome = outcome(&target, reply.as_deref());
                        outcomes.insert(target, outcome);
                    }
                    outcomes
                })
            })
            .collect();
        let mut outcomes = Outcomes::new();
        for worker in workers {
            outcomes.extend(worker.await.expect("its own replies"));
        }
        outcomes
    })
}

/// Compares what callers were told with what the server saw.
fn judge(server: &Whimsical, outcomes: &Outcomes) -> (usize, usize) {
    let seen = server.seen();
    for (target, outcome) in outcomes {
        let times = seen.get(target).copied().unwrap_or(0);
        match outcome {
            Ok(()) => assert!(times >= 1, "{target} was answered by nobody"),
            Err(Some(Disposition::NotSent)) => assert_eq!(times, 0, "{target} was sent after all"),
            Err(_) => {}
        }
        if target.starts_with("/post") {
            assert!(times <= 1, "{target} was processed {times} times");
        }
    }
    let right = outcomes.values().filter(|outcome| outcome.is_ok()).count();
    (right, outcomes.len() - right)
}

fn meet(use_client: fn(&Whimsical, u64) -> Outcomes, seeds: std::ops::Range<u64>) {
    let (mut right, mut failed) = (0, 0);
    for seed in seeds.clone() {
        let (done, finished) = channel();
        thread::spawn(move || {
            let server = Whimsical::start(seed);
            let outcomes = use_client(&server, seed);
            let _ = done.send(judge(&server, &outcomes));
        });
        let (some, others) = finished.recv_timeout(LONG).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        right += some;
        failed += others;
    }
    println!("{right} replies, {failed} failures, of seeds {seeds:?}");
    assert!(right > failed && failed > 0, "whims that hurt nobody, or everybody");
}

#[test]
fn a_blocking_client_tells_the_truth_of_a_whimsical_server() {
    meet(blocking, 0..4);
}

#[test]
fn a_tokio_client_tells_the_truth_of_a_whimsical_server() {
    meet(tokio, 0..4);
}

#[test]
#[ignore = "a minute"]
fn and_they_do_sixty_times_each() {
    let from = u64::from(std::process::id()) & 0xffff;
    meet(blocking, from..from + 60);
    meet(tokio, from..from + 60);
}
