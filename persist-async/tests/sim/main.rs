//! A simulation: real clients and servers in simulated time, over a network that delays, splits, parts and breaks, and an oracle that knows what must hold
//! all the same. docs/simulation.md tells more.
//!
//! One seed is one run. `PERSIST_SIM_SEED` replays one and prints what happened; `PERSIST_SIM_SEEDS` runs so many fresh ones.

mod dice;
mod hosts;
mod link;
mod nemesis;
mod network;
mod oracle;
mod plan;
mod plant;
mod run;
mod stream;
mod tap;
mod trace;
mod traffic;
mod world;

use std::time::{SystemTime, UNIX_EPOCH};

use plant::Plant;
use run::{Ran, run};

/// What one run says, with the command that replays it, if a rule was broken.
fn complaint(seed: u64, ran: &Ran) -> Option<String> {
    if ran.broken.is_empty() {
        return None;
    }
    let broken = ran.broken.join("\n  ");
    Some(format!(
        "seed {seed}:\n  {broken}\nreplay it: PERSIST_SIM_SEED={seed} cargo test -p persist-async --all-features --test sim replay -- --nocapture"
    ))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

#[test]
fn whatever_befalls_the_network_clients_and_servers_keep_their_promises() {
    let requests: usize = (0..20)
        .map(|seed| {
            let ran = run(seed, Plant::Nothing);
            assert_eq!(complaint(seed, &ran), None);
            ran.requests
        })
        .sum();
    assert!(requests > 800, "{requests} requests are too few to show anything");
}

#[test]
fn a_seed_says_all_that_happens() {
    for seed in [1, 3, 11, 20] {
        let (first, second) = (run(seed, Plant::Nothing), run(seed, Plant::Nothing));
        let differs = first.trace.lines().zip(second.trace.lines()).find(|(first, second)| first != second);
        assert_eq!(differs, None, "seed {seed}");
        assert!(first.trace == second.trace && first.trace.lines().count() > 100, "seed {seed}");
    }
}

#[test]
fn every_planted_fault_is_found() {
    for (plant, rules) in Plant::FAULTS {
        let breaks =
            |seed| run(seed, plant).broken.into_iter().any(|broken| rules.iter().any(|rule| broken.starts_with(rule)));
        let found = (0..40).find(|&seed| breaks(seed));
        println!("{plant:?}: found with seed {found:?}");
        assert!(found.is_some(), "{plant:?} is not found");
    }
}

/// As many fresh seeds as `PERSIST_SIM_SEEDS` says: none unless it is set.
#[test]
fn fresh_seeds_show_nothing_new() {
    let Some(count) = number("PERSIST_SIM_SEEDS") else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let first = number("PERSIST_SIM_FIRST").unwrap_or(now >> 10 << 10);
    let mut complaints = Vec::new();
    let mut requests = 0;
    for seed in first..first + count {
        let ran = run(seed, Plant::Nothing);
        requests += ran.requests;
        // What cannot be replayed is of little use.
        assert!(
            seed % 16 > 0 || run(seed, Plant::Nothing).trace == ran.trace,
            "seed {seed} has not the same trace again"
        );
        if let Some(complaint) = complaint(seed, &ran) {
            println!("{complaint}");
            complaints.push(seed);
        }
    }
    println!("{count} seeds from {first}, {requests} requests");
    assert!(complaints.is_empty(), "of {count} seeds, these broke a rule: {complaints:?}");
}

/// The run that `PERSIST_SIM_SEED` names, with the fault that `PERSIST_SIM_PLANT` names, and all that happened in it.
#[test]
fn replay() {
    let Some(seed) = number("PERSIST_SIM_SEED") else { return };
    let plant = std::env::var("PERSIST_SIM_PLANT").map_or(Plant::Nothing, |name| Plant::named(&name).expect("a fault"));
    let ran = run(seed, plant);
    println!("{}", ran.trace);
    assert_eq!(complaint(seed, &ran), None);
}
