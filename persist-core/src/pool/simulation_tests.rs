//! A thousand clients against destinations that come and go: what backoff saves, and what it costs.
//!
//! `cargo test -p persist-core --lib simulation -- --nocapture` prints the figures that docs/pool.md quotes.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;
use std::println;

use super::{Action, ConnId, Loss, Pool, PoolConfig, Use, WaiterId, Want};
use crate::backoff::BackoffConfig;
use crate::route::PoolKey;
use crate::time::Instant;

extern crate std;

const CLIENTS: usize = 1_000;
const DESTINATIONS: usize = 10;
const MS: fn(u64) -> Duration = Duration::from_millis;
const END: u64 = 30_000;

/// Every destination is down for the last third of its own 15 s period; the last one accepts connections at all times, and closes each at once.
fn is_up(destination: usize, now: Instant) -> bool {
    let millis = now.since_epoch().as_millis() as u64 + destination as u64 * 1_500;
    destination != DESTINATIONS - 1 && millis % 15_000 < 10_000
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Ask(usize),
    DialEnds(ConnId),
    ExchangeEnds(usize, ConnId),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    dials: u64,
    failed_dials: u64,
    completed: u64,
    failed: u64,
}

struct World {
    pool: Pool,
    keys: Vec<PoolKey>,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    random: u64,
    /// Who waits for what, and where each connection goes.
    waiters: BTreeMap<WaiterId, usize>,
    conns: BTreeMap<ConnId, usize>,
    figures: Figures,
}

impl World {
    fn random(&mut self) -> u64 {
        // SplitMix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn later(&mut self, millis: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + MS(millis), self.sequence), event);
    }

    fn drain(&mut self) {
        while let Some(action) = self.pool.poll_action() {
            match action {
                Action::Dial { conn, key } => {
                    let destination = self.keys.iter().position(|other| *other == key).expect("one of ours");
                    self.conns.insert(conn, destination);
                    self.figures.dials += 1;
                    self.later(5, Event::DialEnds(conn));
                }
                Action::Hand { waiter, conn, .. } => {
                    let client = self.waiters.remove(&waiter).expect("waits");
                    self.later(20, Event::ExchangeEnds(client, conn));
                }
                Action::Fail { waiter, .. } => {
                    let client = self.waiters.remove(&waiter).expect("waits");
                    self.fails(client);
                }
                Action::Close { conn, .. } => {
                    self.conns.remove(&conn);
                }
            }
        }
    }

    /// The client's own habit: it tries again a tenth of a second later, like any impatient loop.
    fn fails(&mut self, client: usize) {
        self.figures.failed += 1;
        self.later(100, Event::Ask(client));
    }

    fn happen(&mut self, event: Event) {
        let (now, random) = (self.now, self.random());
        match event {
            Event::Ask(client) => {
                let key = self.keys[client % DESTINATIONS].clone();
                let waiter =
                    self.pool.acquire(&key, Want::Any, Some(now + MS(20_000)), now).expect("room in the queue");
                self.waiters.insert(waiter, client);
            }
            Event::DialEnds(conn) => {
                let destination = self.conns[&conn];
                if is_up(destination, now) || destination == DESTINATIONS - 1 {
                    self.pool.handle_dialed(conn, 1, now);
                } else {
                    self.figures.failed_dials += 1;
                    self.conns.remove(&conn);
                    self.pool.handle_dial_failed(conn, now, random);
                }
            }
            Event::ExchangeEnds(client, conn) if is_up(self.conns[&conn], now) => {
                self.figures.completed += 1;
                self.pool.handle_response(conn, None, now);
                self.pool.release(conn, Use::Completed, now);
                self.later(400 + random % 200, Event::Ask(client));
            }
            Event::ExchangeEnds(client, conn) => {
                self.conns.remove(&conn);
                self.pool.handle_closed(conn, Loss::Broken, now, random);
                self.fails(client);
            }
        }
    }
}

fn simulate(backoff: BackoffConfig) -> Figures {
    let config = PoolConfig {
        total_max: 1_000,
        per_destination_max: 100,
        idle_max: 1_000,
        idle_per_destination_max: 100,
        backoff,
        ..PoolConfig::default()
    };
    let mut world = World {
        pool: Pool::new(config).expect("no contradictions"),
        keys: (0..DESTINATIONS).map(|n| PoolKey::new(&format!("http://{n}"))).collect(),
        now: Instant::ZERO,
        events: BTreeMap::new(),
        sequence: 0,
        random: 9_110,
        waiters: BTreeMap::new(),
        conns: BTreeMap::new(),
        figures: Figures::default(),
    };
    for client in 0..CLIENTS {
        world.later(client as u64 % 500, Event::Ask(client));
    }
    loop {
        let event = world.events.first_key_value().map(|(&(at, _), _)| at);
        let next = [event, world.pool.poll_timeout()].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= Instant::ZERO + MS(END)) else { break };
        assert!(next >= world.now, "time went back");
        world.now = next;
        if world.pool.poll_timeout().is_some_and(|at| at <= next) {
            world.pool.handle_timeout(next);
        } else if let Some((_, event)) = world.events.pop_first() {
            world.happen(event);
        }
        world.drain();
    }
    // Nobody is forgotten: each client either waits, or has something coming.
    let coming = world.events.values().filter(|event| !matches!(event, Event::DialEnds(_))).count();
    assert_eq!(world.waiters.len() + coming, CLIENTS);
    assert_eq!(world.pool.counts().waiting as usize, world.waiters.len());
    world.figures
}

#[test]
fn backoff_turns_a_storm_of_dials_into_a_few_and_costs_few_requests() {
    let (with, without) = (simulate(BackoffConfig::default()), simulate(BackoffConfig::none()));
    println!(
        "30 s, {CLIENTS} clients, {DESTINATIONS} destinations:\nwith backoff    {with:?}\nwithout backoff {without:?}"
    );
    assert!(with.dials * 10 < without.dials, "far fewer dials: {} against {}", with.dials, without.dials);
    assert!(with.failed_dials * 50 < without.failed_dials, "{} against {}", with.failed_dials, without.failed_dials);
    assert!(with.completed * 10 > without.completed * 7, "{} against {}", with.completed, without.completed);
}
