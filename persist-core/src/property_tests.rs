//! How property tests are seeded: the same cases in every run, unless fresh ones are asked for.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::{RngAlgorithm, RngSeed};

extern crate std;

/// The seed of every run unless `PERSIST_FRESH_SEEDS` says otherwise.
const SEED: u64 = 0x9110_9112;

/// The configuration of all property tests in this crate.
///
/// `PERSIST_FRESH_SEEDS=1` draws a fresh seed, `PERSIST_FRESH_SEEDS=<number>` replays one; the seed is printed, so that
/// a failing test's captured output holds the command that replays it.
pub(crate) fn config() -> ProptestConfig {
    let seed = match std::env::var("PERSIST_FRESH_SEEDS").as_deref() {
        Err(_) => SEED,
        Ok("1") => fresh(),
        Ok(text) => text.parse().expect("PERSIST_FRESH_SEEDS is 1 or a number"),
    };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    std::println!("replay: PERSIST_FRESH_SEEDS={seed} cargo test -p persist-core --lib {test}");
    ProptestConfig {
        rng_seed: RngSeed::Fixed(seed),
        rng_algorithm: RngAlgorithm::ChaCha,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn fresh() -> u64 {
    use core::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
