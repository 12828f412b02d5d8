//! The servers: real ones, whose handlers do what each request's plan says. They can be told to end, crash, and start again.

use std::sync::Arc;
use std::time::Duration;

use persist_async::{
    Body, Config, Incoming, Listener, Method, Received, Responder, Response, Served, Server, ServerConfig, ServerConn,
    ServerHandle, StatusCode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use crate::dice::Dice;
use crate::network::{HostState, SimListener};
use crate::plan::{Answer, Drip, Plan, Takes, Way, content};
use crate::plant::Plant;
use crate::stream::SimStream;
use crate::world::{Check, Signal, World};

/// Long enough for whatever is pending.
pub(crate) const PATIENT: Duration = Duration::from_secs(300);

/// A server that runs.
pub(crate) struct Running {
    server: usize,
    kind: Kind,
    life: Arc<Life>,
    /// The number of connections that there were before.
    first_link: usize,
}

/// A [`Server`], or [`ServerConn`]s that a program of its own accepts.
enum Kind {
    Server(ServerHandle, JoinHandle<std::io::Result<Served>>),
    Conns(JoinHandle<()>),
}

/// One life of a server's process.
#[derive(Default)]
struct Life {
    over: Signal,
    /// It takes no more connections, and no more requests on those that it has.
    ending: Signal,
    /// What is pending then is cut.
    aborting: Signal,
}

/// How servers are in one run.
#[derive(Clone, Debug)]
pub(crate) struct ServerStyle {
    concurrent: usize,
    idle: Duration,
    requests_max: Option<u64>,
    connections_max: usize,
    /// The second one is no `Server`.
    second_is_bare: bool,
}

impl ServerStyle {
    pub(crate) fn draw(dice: &mut Dice, calm: bool) -> Self {
        Self {
            concurrent: dice.within(1, 4),
            idle: if calm { PATIENT } else { dice.pick(&[PATIENT, Duration::from_millis(700)]) },
            requests_max: if calm { None } else { dice.pick(&[None, None, Some(3)]) },
            connections_max: dice.pick(&[1_000, 1_000, 40]),
            second_is_bare: dice.percent(50),
        }
    }
}

impl Running {
    pub(crate) fn server(&self) -> usize {
        self.server
    }

    pub(crate) fn start(world: &Arc<World>, server: usize) -> Self {
        let first_link = world.net.with(|net| net.links.len());
        let style = &world.servers;
        let mut config = ServerConfig::default();
        config.conn.timeouts.idle = Some(style.idle);
        config.conn.requests_max = style.requests_max;
        config.connections_max = style.connections_max;
        let listener = world.net.listen(server);
        let life = Arc::new(Life::default());
        world.trace.say(format_args!("s{server} listens"));
        let kind = if server == 1 && style.second_is_bare {
            Kind::Conns(tokio::spawn(serve_conns(world.clone(), listener, config.conn, life.clone())))
        } else {
            let running = Server::new(Listener::of(listener)).with_config(config).concurrent_handlers(style.concurrent);
            let handle = running.handle();
            let (world, life) = (world.clone(), life.clone());
            let serving = running.serve(move |received| handle_in(world.clone(), server, life.clone(), received));
            Kind::Server(handle, tokio::spawn(serving))
        };
        Self { server, kind, life, first_link }
    }

    /// Tells it to end, and waits until it has.
    pub(crate) async fn stop(self, world: &World, patience: Duration) {
        let server = self.server;
        world.trace.say(format_args!("s{server} is told to end within {patience:?}"));
        if patience < PATIENT {
            world.net.harm(server);
        }
        self.life.ending.set();
        let (handle, task) = match self.kind {
            Kind::Server(handle, task) => (handle, task),
            Kind::Conns(mut task) => {
                if tokio::time::timeout(patience, &mut task).await.is_err() {
                    let harmed = world.net.with(|net| net.links[self.first_link..].iter().any(|link| link.harmed));
                    if patience == PATIENT && !harmed {
                        world.oracle.broken("shutdown", format_args!("connections of s{server} do not end"));
                    }
                    self.life.aborting.set();
                    let _ = task.await;
                }
                world.trace.say(format_args!("s{server} has ended"));
                return;
            }
        };
        handle.shutdown(patience);
        let Ok(Ok(served)) = task.await else {
            return world.oracle.broken("panic", format_args!("s{server} did not end well"));
        };
        world.trace.say(format_args!("s{server} has ended"));
        if patience == PATIENT && served.aborted > 0 {
            let harmed = world.net.with(|net| net.links[self.first_link..].iter().any(|link| link.harmed));
            if !harmed {
                world.oracle.broken("shutdown", format_args!("s{server} cut {} connections", served.aborted));
            }
        }
        let (stats, accepted) = (handle.stats(), world.net.accepted(server));
        // One that only waited for its client's end is let go at the deadline, too, and may leave a little later.
        let all_left = served.aborted == 0 && (patience == PATIENT || stats.open == 0);
        if all_left && (stats.open, stats.accepted, served.connections) != (0, accepted, accepted) {
            world.oracle.broken("stats", format_args!("s{server} counts {stats:?}, {accepted} were accepted"));
        }
        let (written, read) = world
            .net
            .carried(self.first_link, |link| (link.between.1 == server).then_some(crate::link::Side::Acceptor));
        // Nobody counts what goes through a connection that was taken apart.
        let upgraded = world.net.with(|net| net.links[self.first_link..].iter().any(|link| link.upgraded));
        let differs = if upgraded { stats.traffic.sent > written } else { stats.traffic.sent != written };
        if all_left && (differs || stats.traffic.received > read) {
            world
                .oracle
                .broken("stats", format_args!("s{server} counts {stats:?}; {written} were written, {read} read"));
        }
    }

    /// Its process dies, or its host does.
    pub(crate) async fn crash(self, world: &World, state: HostState) {
        world.trace.say(format_args!("s{} crashes: {state:?}", self.server));
        self.life.over.set();
        world.net.crash(self.server, state);
        self.life.ending.set();
        self.life.aborting.set();
        match self.kind {
            Kind::Server(handle, task) => {
                handle.shutdown(Duration::ZERO);
                let _ = task.await;
            }
            Kind::Conns(task) => drop(task.await),
        }
        // What it still listened to is gone, too.
        world.net.crash(self.server, state);
    }
}

/// Accepts, and lets each connection have a task, and each request another one.
async fn serve_conns(world: Arc<World>, listener: SimListener, config: Config, life: Arc<Life>) {
    let config = Arc::new(config);
    let mut conns = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = life.ending.wait() => break,
            accepted = listener.next() => accepted,
        };
        match accepted {
            Ok(stream) => drop(conns.spawn(serve_conn(world.clone(), stream, config.clone(), life.clone()))),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    drop(listener);
    while conns.join_next().await.is_some() {}
}

async fn serve_conn(world: Arc<World>, stream: SimStream, config: Arc<Config>, life: Arc<Life>) {
    let conn = ServerConn::with_config(stream, config);
    let mut ends = false;
    loop {
        let read = tokio::select! {
            biased;
            () = life.aborting.wait() => {
                conn.abort();
                return;
            }
            () = life.ending.wait(), if !ends => {
                conn.listener_gone();
                ends = true;
                continue;
            }
            read = conn.read() => read,
        };
        let Ok(Some(received)) = read else { return };
        tokio::spawn(handle_in(world.clone(), 1, life.clone(), received));
    }
}

async fn handle_in(world: Arc<World>, server: usize, life: Arc<Life>, received: Received) {
    let id = received.head.field("Id").and_then(|value| value.to_str()).and_then(|text| text.parse().ok());
    let Some(n) = id else {
        if *received.head.method() != Method::OPTIONS {
            world.oracle.broken("pairing", format_args!("a request without its number: {:?}", received.head));
        }
        let _ = received.responder.send(Response::ok(), ()).await;
        return;
    };
    tokio::select! {
        biased;
        () = life.over.wait() => world.oracle.cut(n),
        () = handle(&world, server, &life, n, received) => {}
    }
}

async fn handle(world: &World, server: usize, life: &Life, n: u64, received: Received) {
    let Received { head, mut body, responder, .. } = received;
    let target = head.target().to_owned();
    let Some(plan) = world.oracle.arrives(n, head.method()) else { return };
    world.trace.say(format_args!("s{server} got {n}"));
    if target != format!("/{n}") {
        world.oracle.broken("pairing", format_args!("request {n} came for {target}"));
    }
    if head.field("Upgrade").is_some() {
        return echo(world, n, responder).await;
    }
    if world.strikes(Plant::HandledTwice, n) {
        world.oracle.arrives(n, head.method());
    }
    tokio::time::sleep(plan.handling.think[0]).await;
    for _ in 0..plan.handling.interims {
        let _ = responder.interim(Response::new(StatusCode::EARLY_HINTS));
    }
    if !take(world, &plan, &mut body).await {
        world.trace.say(format_args!("s{server} cannot read {n}"));
        return;
    }
    drop(body);
    tokio::time::sleep(plan.handling.think[1]).await;
    if world.plant == Plant::ForgottenAtShutdown && life.ending.is_set() {
        return;
    }
    let answer = match plan.handling.answer {
        Answer::None => return,
        // Not `panic!`, which would print.
        Answer::Panic => std::panic::resume_unwind(Box::new("the handler panics, as it was told to")),
        Answer::Whole(len) => Body::from(content(n, Way::Down, len)),
        Answer::Read { len, declared, pace } => {
            Body::reader(Drip::new(content(n, Way::Down, len), None, pace), declared.then_some(len as u64))
        }
    };
    let mut response =
        Response::ok().field("Id", n.to_string()).expect("a value").field("Target", target).expect("a value");
    if plan.handling.close {
        response = response.field("Connection", "close").expect("a value");
    }
    world.oracle.answers(n);
    let sent = responder.send(response, answer).await;
    world.trace.say(format_args!("s{server} answered {n}: {}", sent.is_ok()));
}

/// Takes the connection over, and gives back whatever comes, to its end.
async fn echo(world: &World, n: u64, responder: Responder) {
    let response = Response::new(StatusCode::SWITCHING_PROTOCOLS).field("Id", n.to_string()).expect("a value");
    let response = response.field("Upgrade", "echo").expect("a value").field("Connection", "upgrade").expect("a value");
    world.oracle.answers(n);
    let Ok(hijacked) = responder.upgrade(response).await else { return };
    let mut stream = hijacked.into_stream();
    let mut buf = [0; 700];
    while let Ok(read @ 1..) = stream.read(&mut buf).await {
        if stream.write_all(&buf[..read]).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

/// Reads as much of the content as planned. False if it broke off.
async fn take(world: &World, plan: &Plan, body: &mut Incoming) -> bool {
    if plan.handling.takes == Takes::Nothing {
        return true;
    }
    let mut check = Check::new(content(plan.n, Way::Up, plan.uploads()));
    loop {
        match body.chunk().await {
            Ok(Some(piece)) => {
                if let Err(what) = check.eat(&piece) {
                    world.oracle.broken("content", format_args!("upload {}: {what}", plan.n));
                }
                if plan.handling.takes == Takes::Part {
                    return true;
                }
            }
            Ok(None) => {
                if let Err(what) = check.end() {
                    world.oracle.broken("content", format_args!("upload {}: {what}", plan.n));
                }
                world.oracle.uploaded(plan.n);
                return true;
            }
            Err(_) => return false,
        }
    }
}
