//! The servers: real ones, whose handlers do what each request's plan says. They can be told to end, crash, and start again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use persist_async::{
    Body, Incoming, Listener, Method, Received, Response, Served, Server, ServerConfig, ServerHandle, StatusCode,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::dice::Dice;
use crate::network::HostState;
use crate::plan::{Answer, Drip, Plan, Takes, Way, content};
use crate::plant::Plant;
use crate::world::{Check, World};

/// Long enough for whatever is pending.
pub(crate) const PATIENT: Duration = Duration::from_secs(300);

/// A server that runs.
pub(crate) struct Running {
    server: usize,
    handle: ServerHandle,
    task: JoinHandle<std::io::Result<Served>>,
    life: Arc<Life>,
    /// The number of connections that there were before.
    first_link: usize,
}

/// One life of a server's process.
struct Life {
    over: watch::Sender<bool>,
    ending: AtomicBool,
}

/// How servers are in one run.
#[derive(Clone, Debug)]
pub(crate) struct ServerStyle {
    concurrent: usize,
    idle: Duration,
    requests_max: Option<u64>,
    connections_max: usize,
}

impl ServerStyle {
    pub(crate) fn draw(dice: &mut Dice, calm: bool) -> Self {
        Self {
            concurrent: dice.within(1, 4),
            idle: if calm { PATIENT } else { dice.pick(&[PATIENT, Duration::from_millis(700)]) },
            requests_max: if calm { None } else { dice.pick(&[None, None, Some(3)]) },
            connections_max: dice.pick(&[1_000, 1_000, 40]),
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
        let listener = Listener::of(world.net.listen(server));
        let running = Server::new(listener).with_config(config).concurrent_handlers(style.concurrent);
        let handle = running.handle();
        let life = Arc::new(Life { over: watch::Sender::new(false), ending: AtomicBool::new(false) });
        let task = tokio::spawn(running.serve({
            let (world, life) = (world.clone(), life.clone());
            move |received| handle_in(world.clone(), server, life.clone(), received)
        }));
        world.trace.say(format_args!("s{server} listens"));
        Self { server, handle, task, life, first_link }
    }

    /// Tells it to end, and waits until it has.
    pub(crate) async fn stop(self, world: &World, patience: Duration) {
        let server = self.server;
        world.trace.say(format_args!("s{server} is told to end within {patience:?}"));
        if patience < PATIENT {
            world.net.harm(server);
        }
        self.life.ending.store(true, Ordering::Relaxed);
        self.handle.shutdown(patience);
        let Ok(Ok(served)) = self.task.await else {
            return world.oracle.broken("panic", format_args!("s{server} did not end well"));
        };
        world.trace.say(format_args!("s{server} has ended"));
        if patience == PATIENT && served.aborted > 0 {
            let harmed = world.net.with(|net| net.links[self.first_link..].iter().any(|link| link.harmed));
            if !harmed {
                world.oracle.broken("shutdown", format_args!("s{server} cut {} connections", served.aborted));
            }
        }
        let (stats, accepted) = (self.handle.stats(), world.net.accepted(server));
        if served.aborted == 0 && (stats.open, stats.accepted, served.connections) != (0, accepted, accepted) {
            world.oracle.broken("stats", format_args!("s{server} counts {stats:?}, {accepted} were accepted"));
        }
        let (written, read) = world
            .net
            .carried(self.first_link, |link| (link.between.1 == server).then_some(crate::link::Side::Acceptor));
        if served.aborted == 0 && (stats.traffic.sent != written || stats.traffic.received > read) {
            world
                .oracle
                .broken("stats", format_args!("s{server} counts {stats:?}; {written} were written, {read} read"));
        }
    }

    /// Its process dies, or its host does.
    pub(crate) async fn crash(self, world: &World, state: HostState) {
        world.trace.say(format_args!("s{} crashes: {state:?}", self.server));
        self.life.over.send_replace(true);
        world.net.crash(self.server, state);
        self.handle.shutdown(Duration::ZERO);
        let _ = self.task.await;
        // What it still listened to is gone, too.
        world.net.crash(self.server, state);
    }
}

async fn handle_in(world: Arc<World>, server: usize, life: Arc<Life>, received: Received) {
    let mut over = life.over.subscribe();
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
        _ = over.wait_for(|over| *over) => world.oracle.cut(n),
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
    if world.plant == Plant::ForgottenAtShutdown && life.ending.load(Ordering::Relaxed) {
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
