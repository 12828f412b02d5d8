//! One run: a world from a seed, and what the oracle says about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use persist_async::{Client, ClientConfig};

use crate::dice::Dice;
use crate::hosts::{PATIENT, Running, ServerStyle};
use crate::link::Side;
use crate::network::{Network, Style};
use crate::oracle::{Asker, Oracle};
use crate::plan::{Plan, Whims};
use crate::plant::Plant;
use crate::trace::Trace;
use crate::world::World;
use crate::{nemesis, traffic};

/// What a run showed.
pub(crate) struct Ran {
    /// The rules that were broken.
    pub(crate) broken: Vec<String>,
    pub(crate) trace: String,
    pub(crate) requests: usize,
}

/// Simulated time after which a run that is not over never will be.
const END: Duration = Duration::from_secs(4 * 3_600);

pub(crate) fn run(seed: u64, plant: Plant) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let dice = Dice::new(seed);
        let world = world(&dice, plant);
        if tokio::time::timeout(END, live(&world, &dice)).await.is_err() {
            world.oracle.broken("hang", "the run does not come to its end");
        }
        Ran { broken: world.oracle.verdict(), trace: world.trace.take(), requests: world.oracle.cases() }
    })
}

const CLIENTS: usize = 3;
const SERVERS: usize = 2;

fn world(dice: &Dice, plant: Plant) -> Arc<World> {
    let trace = Arc::new(Trace::new());
    let mut draw = dice.fork(1);
    let calm = draw.percent(25);
    let style = Style::draw(&mut draw);
    let whims = Whims {
        impatient: draw.pick(&[0, 0, 10, 40]),
        careless: draw.pick(&[0, 0, 10, 30]),
        breaking: draw.pick(&[0, 0, 5, 20]),
    };
    let servers = ServerStyle::draw(&mut draw, calm);
    trace.say(format_args!("calm: {calm}, {style:?}, {whims:?}, {servers:?}"));
    Arc::new(World {
        net: Network::new((CLIENTS, SERVERS), style, dice.fork(2), plant, trace.clone()),
        oracle: Oracle::new(trace.clone()),
        trace,
        plant,
        whims,
        servers,
        calm,
        quiet: AtomicBool::new(false),
    })
}

async fn live(world: &Arc<World>, dice: &Dice) {
    let mut servers: Vec<_> = (0..SERVERS).map(|server| Running::start(world, server)).collect();
    let mut draw = dice.fork(3);
    // The last one has no pool.
    let clients: Vec<_> = (0..CLIENTS - 1).map(|number| traffic::client(world, number, SERVERS, &mut draw)).collect();
    let mut working = Vec::new();
    for (number, (client, config)) in clients.iter().enumerate() {
        let asker = Asker { client: number, pooled: true, depth: config.conn.pipelining.depth };
        for task in 0..draw.within(1, 4) {
            let dice = dice.fork(100 * (number as u64 + 1) + task as u64);
            working.push(tokio::spawn(traffic::pooled(world.clone(), client.clone(), asker, SERVERS, dice)));
        }
    }
    for task in 0..draw.within(1, 2) {
        let dice = dice.fork(10_000 + task as u64);
        working.push(tokio::spawn(traffic::bare(world.clone(), CLIENTS - 1, SERVERS, dice)));
    }
    if world.calm {
        join(world, working, &clients).await;
    } else {
        let weather = tokio::spawn(nemesis::weather(world.clone(), (CLIENTS, SERVERS), dice.fork(4)));
        let fate = tokio::spawn(nemesis::fate(world.clone(), servers, dice.fork(5)));
        join(world, working, &clients).await;
        world.quiet.store(true, Ordering::Relaxed);
        weather.await.expect("no panic");
        servers = fate.await.expect("no panic");
    }
    world.trace.say("all is quiet");
    for (number, (client, config)) in clients.iter().enumerate() {
        recovers(world, number, client, config).await;
    }
    for (number, (client, _)) in clients.into_iter().enumerate() {
        settles(world, number, client).await;
    }
    for server in servers {
        server.stop(world, PATIENT).await;
    }
    for _ in 0..600 {
        if world.net.held().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for held in world.net.held() {
        world.oracle.broken("leak", format_args!("somebody still holds {held}"));
    }
    let kept = world.net.with(|net| {
        world.oracle.judge(&net.links, world.calm);
        std::mem::take(&mut net.kept)
    });
    drop(kept);
}

/// Waits until the clients are done, and looks now and then whether their pools keep their bounds.
async fn join(world: &World, working: Vec<tokio::task::JoinHandle<()>>, clients: &[(Client, ClientConfig)]) {
    for mut task in working {
        loop {
            match tokio::time::timeout(Duration::from_millis(250), &mut task).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => {
                    world.oracle.broken("panic", format_args!("a client's task: {error}"));
                    break;
                }
                Err(_) => clients.iter().for_each(|(client, config)| bounds(world, client, config)),
            }
        }
    }
}

fn bounds(world: &World, client: &Client, config: &ClientConfig) {
    let counts = client.counts();
    let exchanges = u64::from(config.pool.total_max) * u64::from(config.conn.pipelining.depth);
    if counts.open + counts.dialing > config.pool.total_max || counts.exchanges > exchanges {
        world.oracle.broken("bounds", format_args!("the pool holds {counts:?}, and may {:?}", config.pool));
    }
}

/// Whatever befell it, a client works again.
async fn recovers(world: &World, number: usize, client: &Client, config: &ClientConfig) {
    for server in 0..SERVERS {
        let mut tries = 0;
        loop {
            let asker = Asker { client: number, pooled: true, depth: config.conn.pipelining.depth };
            let plan = world.oracle.asks(asker, Plan::plain);
            if traffic::ask(world, client, &plan, server).await {
                break;
            }
            tries += 1;
            if tries == 30 {
                world.oracle.broken("recovery", format_args!("c{number} cannot get anything from s{server}"));
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// A client comes to rest, and its counts are right.
async fn settles(world: &World, number: usize, client: Client) {
    let is_busy = |client: &Client| {
        let counts = client.counts();
        counts.exchanges > 0 || counts.waiting > 0 || counts.dialing > 0
    };
    for _ in 0..300 {
        if !is_busy(&client) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    if is_busy(&client) {
        world.oracle.broken("rest", format_args!("c{number} does not come to rest: {:?}", client.counts()));
    }
    let mut failures = 0;
    for server in 0..SERVERS {
        let owed = client.pending_to(&format!("http://s{server}").parse().expect("a destination"));
        failures += owed.failed.len() + owed.forgotten as usize;
        if owed.unfinished > 0 {
            world.oracle.broken("book", format_args!("c{number} owes {} requests to s{server}", owed.unfinished));
        }
    }
    let told = world.oracle.failures(number);
    if world.plant == Plant::LostFailure {
        failures = failures.saturating_sub(1);
    }
    if failures != told {
        world.oracle.broken("book", format_args!("c{number} told {told} failures, and keeps {failures}"));
    }
    let stats = client.stats();
    let (dials, dialled) = world.net.with(|net| net.dials[number]);
    if (stats.dials, stats.dials - stats.dials_failed) < (dials, dialled)
        || stats.requests != world.oracle.requests(number) as u64
    {
        world
            .oracle
            .broken("stats", format_args!("c{number} counts {stats:?}; {dials} dials were begun, {dialled} succeeded"));
    }
    let (written, read) = world.net.carried(0, |link| (link.between.0 == number).then_some(Side::Dialler));
    if stats.traffic.sent != written || stats.traffic.received > read {
        world.oracle.broken("stats", format_args!("c{number} counts {stats:?}; {written} were written, {read} read"));
    }
}
