//! How the pool's cost grows with destinations and connections. `cargo xtask bench-pool` prints the table of docs/pool.md.

use std::alloc::System;
use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use persist_core::{Action, ConnId, Instant, Loss, Pool, PoolConfig, PoolKey, Use, Want};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Destinations, and connections to each.
const SIZES: [(u32, u32); 10] = [
    (1, 1),
    (10, 1),
    (100, 1),
    (1_000, 1),
    (10_000, 1),
    (100_000, 1),
    (1, 100),
    (1, 10_000),
    (1, 100_000),
    (1_000, 100),
];

/// How long each figure is measured.
const LONG_ENOUGH: Duration = Duration::from_millis(400);

fn main() {
    println!("| destinations | connections | reuse, ns | dial, ns | cancel, ns | bytes per idle connection |");
    println!("|---:|---:|---:|---:|---:|---:|");
    for (destinations, each) in SIZES {
        let before = Region::new(ALLOCATOR);
        let mut bench = Bench::new(destinations, each);
        let used = before.change();
        let bytes = (used.bytes_allocated - used.bytes_deallocated) / (destinations * each) as usize;
        let (reuse, dial, wait) = (bench.measure(Bench::reuse), bench.measure(Bench::dial), bench.measure(Bench::wait));
        println!("| {destinations} | {} | {reuse} | {dial} | {wait} | {bytes} |", destinations * each);
    }
}

struct Bench {
    pool: Pool,
    keys: Vec<PoolKey>,
    now: Instant,
    random: u64,
}

impl Bench {
    /// All connections are open and idle.
    fn new(destinations: u32, each: u32) -> Self {
        let mut config = PoolConfig::default();
        let room = destinations * each + 1;
        (config.total_max, config.per_destination_max) = (room, room);
        (config.idle_max, config.idle_per_destination_max) = (room, room);
        let pool = Pool::new(config).expect("no contradictions");
        let keys = (0..destinations).map(|n| PoolKey::new(&format!("http://service-{n}.example.com:8080")));
        let mut bench = Self { pool, keys: keys.collect(), now: Instant::ZERO, random: 1 };
        for n in 0..destinations as usize {
            let conns: Vec<_> = (0..each).map(|_| bench.connect(n)).collect();
            conns.into_iter().for_each(|conn| bench.pool.release(conn, Use::Completed, bench.now));
        }
        bench
    }

    fn connect(&mut self, n: usize) -> ConnId {
        self.pool.acquire(&self.keys[n], Want::Fresh, None, self.now).expect("room in the queue");
        let Some(Action::Dial { conn, .. }) = self.pool.poll_action() else { panic!("no dial") };
        self.pool.handle_dialed(conn, 1, self.now);
        assert!(matches!(self.pool.poll_action(), Some(Action::Hand { .. })));
        conn
    }

    /// Any destination.
    fn pick(&mut self) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % self.keys.len()
    }

    /// An idle connection is used once more.
    fn reuse(&mut self) {
        let n = self.pick();
        self.now = self.now + Duration::from_micros(1);
        self.pool.acquire(&self.keys[n], Want::Any, None, self.now).expect("room in the queue");
        let Some(Action::Hand { conn, reused: true, .. }) = self.pool.poll_action() else { panic!("not reused") };
        self.pool.handle_response(conn, None, self.now);
        self.pool.release(conn, Use::Completed, self.now);
        self.pool.handle_timeout(self.now);
    }

    /// A connection is made beside the others, used, and closed by the peer.
    fn dial(&mut self) {
        let n = self.pick();
        let conn = self.connect(n);
        self.pool.handle_response(conn, None, self.now);
        self.pool.handle_closed(conn, Loss::Expected, self.now, 0);
        assert!(self.pool.poll_action().is_none());
    }

    /// A request that wants a fresh connection and has a deadline gives up before its dial ends, which fails.
    fn wait(&mut self) {
        let n = self.pick();
        let deadline = self.now + Duration::from_secs(1);
        let waiter =
            self.pool.acquire(&self.keys[n], Want::Fresh, Some(deadline), self.now).expect("room in the queue");
        let Some(Action::Dial { conn, .. }) = self.pool.poll_action() else { panic!("no dial") };
        assert!(self.pool.cancel(waiter, self.now));
        self.pool.handle_dialed(conn, 1, self.now);
        self.pool.handle_closed(conn, Loss::Expected, self.now, 0);
        assert!(self.pool.poll_action().is_none());
    }

    /// Nanoseconds per call, in the fastest thousand: whatever else the machine does only adds.
    fn measure(&mut self, work: fn(&mut Self)) -> u128 {
        let (start, mut fastest) = (Clock::now(), Duration::MAX);
        while start.elapsed() < LONG_ENOUGH {
            let batch = Clock::now();
            (0..1_000).for_each(|_| work(black_box(self)));
            fastest = fastest.min(batch.elapsed());
        }
        fastest.as_nanos() / 1_000
    }
}
