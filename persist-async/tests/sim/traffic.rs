//! The clients: pooled ones, and connections that are used by themselves, with several requests in flight.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use persist_async::persist_core::{Destination, Gate};
use persist_async::{
    Client, ClientConfig, ClientConn, Config, Connector, Detached, DialTimer, Dialer, Disposition, Error, Exchange,
    Phase, Reply, Request, Stream, async_trait,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::dice::Dice;
use crate::oracle::{Asker, Outcome};
use crate::plan::{Plan, Reading, Way, content};
use crate::plant::Plant;
use crate::stream::SimStream;
use crate::world::{Check, World};

/// The deadline of a request that has none of its own; and when one that is not over by then never will be.
pub(crate) const DEADLINE: Duration = Duration::from_secs(100);
const NEVER: Duration = Duration::from_secs(140);

/// A pooled client of this number, and what it decides by.
pub(crate) fn client(world: &Arc<World>, number: usize, servers: usize, dice: &mut Dice) -> (Client, ClientConfig) {
    let mut config = ClientConfig::default();
    let most = dice.within(1, 4) as u32;
    (config.pool.per_destination_max, config.pool.idle_per_destination_max) = (most, most);
    config.pool.total_max = dice.within(most as usize, most as usize * servers) as u32;
    config.pool.idle_max = config.pool.total_max;
    // What is random must come from the seed.
    config.pool.backoff.jitter_percent = 0;
    config.retry.backoff.jitter_percent = 0;
    config.conn.pipelining.depth = if dice.percent(60) { 1 } else { dice.within(2, 4) as u32 };
    config.deadline = Some(DEADLINE);
    config.wait_timeout = Some(DEADLINE);
    config.failures_max = 10_000;
    if !world.calm {
        config.pool.idle_timeout = dice.pick(&[Some(Duration::from_millis(600)), Some(Duration::from_secs(90))]);
        config.upkeep.probe_after = dice.pick(&[None, None, Some(Duration::from_secs(7))]);
        config.pool.requests_max = dice.pick(&[None, None, Some(4)]);
    }
    let dialer = SimDialer { world: world.clone(), client: number };
    let connector = Connector::new(&config).with_dialer(Arc::new(dialer));
    (Client::with_connector(config.clone(), connector).expect("no contradiction"), config)
}

struct SimDialer {
    world: Arc<World>,
    client: usize,
}

impl std::fmt::Debug for SimDialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimDialer")
    }
}

#[async_trait]
impl Dialer for SimDialer {
    async fn dial(&self, to: &Destination, timer: &mut DialTimer) -> Result<Stream, Error> {
        let server = to.to_string().trim_start_matches("http://s").parse().expect("a server's number");
        let net = &self.world.net;
        let dialling = async { net.dial(self.client, server).await.map_err(|error| Error::new(Phase::Connect, error)) };
        let stream = timer.within(Phase::Connect, dialling).await?;
        if self.world.plant == Plant::LeakedConnection
            && let Ok(second) = net.dial(self.client, server).await
        {
            net.with(|net| net.kept.push(second));
        }
        Ok(Stream::new(stream))
    }
}

/// Requests one after the other, through a pool that others use, too.
pub(crate) async fn pooled(world: Arc<World>, client: Client, asker: Asker, servers: usize, mut dice: Dice) {
    for _ in 0..dice.within(3, 9) {
        tokio::time::sleep(if dice.percent(50) { Duration::ZERO } else { dice.millis(1, 1_500) }).await;
        let plan = world.oracle.asks(asker, |n| Plan::draw(n, world.whims, &mut dice));
        ask(&world, &client, &plan, dice.below(servers)).await;
    }
}

/// One request; true if its own reply came.
pub(crate) async fn ask(world: &World, client: &Client, plan: &Plan, server: usize) -> bool {
    let n = plan.n;
    let asking = async {
        if world.strikes(Plant::MadeUpReply, n) {
            return Outcome::Reply;
        }
        let request = plan.request(format!("http://s{server}/{n}"));
        let send = async || match plan.deadline {
            Some(within) => client.send_within(&request, plan.body(), within).await,
            None => client.send(&request, plan.body()).await,
        };
        let mut replied = send().await;
        if world.plant == Plant::ResentPosts && replied.is_err() {
            replied = send().await;
        }
        match replied {
            Ok(reply) => receive(world, plan, reply).await,
            Err(error) => failed(world, &error),
        }
    };
    let outcome = match plan.patience {
        Some(patience) => timeout(patience, asking).await.unwrap_or(Outcome::Dropped),
        None => match timeout(NEVER, asking).await {
            Ok(outcome) => outcome,
            Err(_) => {
                world.oracle.broken("hang", format_args!("request {n} is not over after its deadline"));
                Outcome::Dropped
            }
        },
    };
    world.oracle.ends(n, outcome);
    outcome == Outcome::Reply
}

fn failed(world: &World, error: &Error) -> Outcome {
    let disposition = match error.disposition() {
        Some(Disposition::SentNoReply) if world.plant == Plant::FalseNotSent => Some(Disposition::NotSent),
        disposition => disposition,
    };
    world.trace.say(format_args!("failed: {:?} {disposition:?}", error.phase()));
    Outcome::Failed(disposition, error.phase())
}

/// Reads a reply as planned, and compares it with what it should be.
async fn receive(world: &World, plan: &Plan, mut reply: Reply) -> Outcome {
    let n = plan.n;
    let status = reply.head.status().as_u16();
    let field = |name| reply.head.field(name).and_then(|value| value.to_str()).map(str::to_owned);
    let Some(id) = field("Id") else {
        return match world.drain(&mut reply).await {
            Ok(()) => Outcome::Status(status),
            Err(()) => Outcome::BrokeOff,
        };
    };
    if (id, field("Target"), status) != (n.to_string(), Some(format!("/{n}")), 200) {
        world.oracle.broken("pairing", format_args!("request {n} got the reply {:?}", reply.head));
    }
    let len = if plan.method == persist_async::Method::HEAD { 0 } else { plan.downloads().unwrap_or(0) };
    let mut check = Check::new(content(n, Way::Down, len));
    if plan.reading == Reading::Dropped {
        return Outcome::Reply;
    }
    for pieces in 0.. {
        match reply.body.chunk().await {
            Ok(Some(piece)) => {
                if let Err(what) = check.eat(&piece) {
                    world.oracle.broken("content", format_args!("reply {n}: {what}"));
                }
            }
            Ok(None) => {
                if let Err(what) = check.end() {
                    world.oracle.broken("content", format_args!("reply {n}: {what}"));
                }
                return Outcome::Reply;
            }
            Err(error) => {
                world.trace.say(format_args!("reply {n} broke off: {:?}", error.disposition()));
                return Outcome::BrokeOff;
            }
        }
        match plan.reading {
            Reading::Part => return Outcome::Reply,
            // Not for every byte of it: even so it must be over before its deadline.
            Reading::Slow(pace) if pieces < 100 => tokio::time::sleep(pace).await,
            Reading::Slow(_) | Reading::Whole | Reading::Dropped => {}
        }
        if world.strikes(Plant::CutContent, n) {
            if let Err(what) = check.end() {
                world.oracle.broken("content", format_args!("reply {n}: {what}"));
            }
            return Outcome::Reply;
        }
    }
    Outcome::Reply
}

impl World {
    async fn drain(&self, reply: &mut Reply) -> Result<(), ()> {
        while reply.body.chunk().await.map_err(drop)?.is_some() {}
        Ok(())
    }
}

/// Connections that are used by themselves: bursts of requests, read in their order or side by side.
pub(crate) async fn bare(world: Arc<World>, client: usize, servers: usize, mut dice: Dice) {
    for _ in 0..dice.within(1, 3) {
        let mut config = Config::client();
        config.pipelining.depth = dice.within(1, 6) as u32;
        config.pipelining.behind_non_idempotent = dice.pick(&[Gate::Closed, Gate::Open]);
        config.timeouts.total = Some(DEADLINE);
        let asker = Asker { client, pooled: false, depth: config.pipelining.depth };
        let dialling = timeout(Duration::from_secs(20), world.net.dial(client, dice.below(servers)));
        let Ok(Ok(stream)) = dialling.await else { continue };
        let conn = ClientConn::with_config(stream, config);
        for _ in 0..dice.within(1, 3) {
            if dice.percent(50) {
                side_by_side(&world, &conn, asker, &mut dice).await;
            } else {
                burst(&world, &conn, asker, &mut dice).await;
            }
        }
        match dice.below(6) {
            4 | 5 => upgrade(&world, conn, asker, &mut dice).await,
            0 => conn.abort(),
            1 => drop(conn.into_stream()),
            2 => drop(conn),
            _ => {
                if timeout(NEVER, conn.close()).await.is_err() {
                    world.oracle.broken("hang", "a connection does not close");
                }
            }
        }
    }
}

/// Has the connection taken over at both ends: what is sent then comes back, no byte of it lost or read twice.
async fn upgrade(world: &World, conn: ClientConn<SimStream>, asker: Asker, dice: &mut Dice) {
    // The reference holds the connection's lock.
    let Some(link) = conn.get_ref().map(|stream| stream.link) else { return };
    world.net.with(|net| net.links[link].upgraded = true);
    let plan = world.oracle.asks(asker, Plan::plain);
    let n = plan.n;
    let content = content(n, Way::Up, dice.pick(&[0, 10, 5_000, 60_000]));
    let asking = async {
        let request = on_the_wire(&plan).field("Upgrade", "echo").expect("a value");
        let request = request.field("Connection", "upgrade").expect("a value");
        match conn.send(request, ()).await {
            Ok(reply) => Outcome::Status(reply.head.status().as_u16()),
            Err(error) => failed(world, &error),
        }
    };
    let answer = within(world, &plan, asking).await;
    if answer != Outcome::Status(101) {
        return world.oracle.ends(n, answer);
    }
    let Ok(stream) = conn.into_stream() else { return world.oracle.ends(n, Outcome::BrokeOff) };
    let echoed = timeout(NEVER, echoes(world, n, content, stream)).await.unwrap_or_else(|_| {
        // What was taken over has no deadlines of ours: it may wait for ever for a host that has vanished.
        if !world.net.with(|net| net.links[link].harmed) {
            world.oracle.broken("hang", format_args!("echo {n} does not end"));
        }
        false
    });
    world.oracle.ends(n, if echoed { Outcome::Reply } else { Outcome::BrokeOff });
}

/// Whether what is sent comes back, to its end.
async fn echoes(world: &World, n: u64, content: Bytes, stream: Detached<SimStream>) -> bool {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let mut check = Check::new(content.clone());
    let sending = async { writing.write_all(&content).await.is_ok() && writing.shutdown().await.is_ok() };
    let receiving = async {
        let mut buf = [0; 900];
        loop {
            match reading.read(&mut buf).await {
                Ok(0) => return check.end().is_ok(),
                Ok(read) => {
                    if let Err(what) = check.eat(&buf[..read]) {
                        world.oracle.broken("content", format_args!("echo {n}: {what}"));
                    }
                }
                Err(_) => return false,
            }
        }
    };
    tokio::join!(sending, receiving) == (true, true)
}

async fn side_by_side(world: &World, conn: &ClientConn<SimStream>, asker: Asker, dice: &mut Dice) {
    let plans: Vec<_> =
        (0..dice.within(1, 5)).map(|_| world.oracle.asks(asker, |n| Plan::draw(n, world.whims, dice))).collect();
    join_all(plans.iter().map(|plan| async {
        let asking = async {
            match conn.send(on_the_wire(plan), plan.body()).await {
                Ok(reply) => receive(world, plan, reply).await,
                Err(error) => failed(world, &error),
            }
        };
        let outcome = within(world, plan, asking).await;
        world.oracle.ends(plan.n, outcome);
    }))
    .await;
}

async fn burst(world: &World, conn: &ClientConn<SimStream>, asker: Asker, dice: &mut Dice) {
    let mut written: Vec<(Plan, Exchange)> = Vec::new();
    for _ in 0..dice.within(1, 8) {
        let plan = world.oracle.asks(asker, |n| Plan::draw(n, world.whims, dice));
        match timeout(NEVER, conn.write(on_the_wire(&plan), plan.body())).await {
            Ok(Ok(exchange)) => {
                // The next one would wait until this content is sent, and that, perhaps, until somebody reads the replies before it.
                let is_long = plan.uploads() > 10_000;
                written.push((plan, exchange));
                if is_long {
                    break;
                }
            }
            Ok(Err(error)) => {
                world.oracle.ends(plan.n, failed(world, &error));
                break;
            }
            Err(_) => {
                world.oracle.broken("hang", format_args!("request {} is not written", plan.n));
                world.oracle.ends(plan.n, Outcome::Dropped);
                break;
            }
        }
    }
    for (plan, exchange) in written {
        let reading = async {
            match conn.read(exchange).await {
                Ok(reply) => receive(world, &plan, reply).await,
                Err(error) => failed(world, &error),
            }
        };
        let outcome = within(world, &plan, reading).await;
        world.oracle.ends(plan.n, outcome);
    }
}

async fn within(world: &World, plan: &Plan, asking: impl Future<Output = Outcome>) -> Outcome {
    match timeout(plan.patience.unwrap_or(NEVER), asking).await {
        Ok(outcome) => outcome,
        Err(_) if plan.patience.is_some() => Outcome::Dropped,
        Err(_) => {
            world.oracle.broken("hang", format_args!("request {} is not over after its deadline", plan.n));
            Outcome::Dropped
        }
    }
}

fn on_the_wire(plan: &Plan) -> Request {
    plan.request(format!("/{}", plan.n)).field("Host", "sim").expect("a value")
}
