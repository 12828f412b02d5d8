//! What callgrind does not say: allocations per exchange, and the time of large copies. One `name value` a line.

use std::alloc::System;
use std::hint::black_box;
use std::time::{Duration, Instant};

use persist_bench::{Cycle, Scenario};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    for name in [
        "server-small",
        "server-medium",
        "server-big",
        "server-pipelined",
        "client-small",
        "client-medium",
        "client-big",
    ] {
        println!("{name} {:.2}", allocations(name));
    }
    let machine = fastest(&mut started("chunks-16k"), |cycle| _ = black_box(cycle.run()));
    let mut copy = (vec![b'x'; 1 << 20], vec![0; 1 << 20]);
    let copied = fastest(&mut copy, |(from, to)| black_box(to).copy_from_slice(black_box(from)));
    println!("chunks-16k-ns {}", machine.as_nanos());
    println!("memcpy-1m-ns {}", copied.as_nanos());
}

fn started(name: &str) -> Box<dyn Cycle> {
    Scenario::named(name).expect("the name is one of the list").start()
}

/// Allocations and reallocations per exchange in the steady state.
fn allocations(name: &str) -> f64 {
    const RUNS: u64 = 100;
    let mut cycle = started(name);
    cycle.run();
    let region = Region::new(ALLOCATOR);
    for _ in 0..RUNS {
        cycle.run();
    }
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / (RUNS * cycle.exchanges()) as f64
}

/// The shortest of many runs: the one that the rest of the machine disturbed least.
fn fastest<T>(state: &mut T, run: impl Fn(&mut T)) -> Duration {
    let time = |_| {
        let start = Instant::now();
        run(state);
        start.elapsed()
    };
    (0..300).map(time).min().expect("300 runs are not none")
}
