//! Peers that break off, stall, drip and lie, in each phase of an exchange: met by a connection of a client, by the pooled client, and by the server.

#[cfg(feature = "tls")]
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../certificates/mod.rs"]
mod certificates;
mod client;
mod pooled;
mod server;

/// How often each fault is met: once, or as often as `PERSIST_FAULT_ROUNDS` says. A line for each is printed:
/// `PERSIST_FAULT_ROUNDS=40 cargo test -p persist-async --all-features --test faults -- --nocapture --test-threads 1 | grep '^|'`
fn rounds() -> usize {
    std::env::var("PERSIST_FAULT_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// What came of one fault, as a line of the table.
fn told(what: &str, fault: &str, seen: &std::collections::BTreeMap<String, usize>) {
    let count: usize = seen.values().sum();
    let seen: Vec<_> = seen.iter().map(|(outcome, count)| format!("{outcome}: {count}")).collect();
    println!("| {what} | {fault} | {count} of {count} | {} |", seen.join(", "));
}
