//! The same cases in every run, unless fresh ones are asked for; a failure prints the command that replays it.

use std::hash::{BuildHasher, Hasher, RandomState};

use proptest::prelude::ProptestConfig;
use proptest::strategy::Strategy;
use proptest::test_runner::{RngAlgorithm, RngSeed, TestRunner};

/// The seed of every run unless `PERSIST_FRESH_SEEDS` says otherwise.
const SEED: u64 = 0x9110_9112;

/// What proptest calls the usual number of cases; `PROPTEST_CASES` scales ours by its ratio to this.
const USUAL_CASES: u32 = 256;

/// `cases` cases under the seed of this run. `PERSIST_FRESH_SEEDS=1` draws a fresh seed, `PERSIST_FRESH_SEEDS=<number>` replays one.
pub fn config(cases: u32) -> ProptestConfig {
    let seed = match std::env::var("PERSIST_FRESH_SEEDS").as_deref() {
        Err(_) => SEED,
        Ok("1") => RandomState::new().build_hasher().finish(),
        Ok(text) => text.parse().expect("PERSIST_FRESH_SEEDS is 1 or a number"),
    };
    let usual = ProptestConfig::default();
    let cases = u64::from(cases) * u64::from(usual.cases) / u64::from(USUAL_CASES);
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    println!("replay: PERSIST_FRESH_SEEDS={seed} PROPTEST_CASES={} cargo test -p persist-core {test}", usual.cases);
    ProptestConfig {
        cases: u32::try_from(cases).unwrap_or(u32::MAX).max(1),
        rng_seed: RngSeed::Fixed(seed),
        rng_algorithm: RngAlgorithm::ChaCha,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        max_local_rejects: u32::MAX,
        ..usual
    }
}

/// Runs `test`, which panics where the property does not hold, for so many cases of `strategy`.
pub fn check<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value)) {
    let outcome = TestRunner::new(config(cases)).run(&strategy, |case| {
        test(case);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// A stream of numbers from a seed, for choices that a case makes too many of to have a strategy each (xorshift64*).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `n`; 0 if `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.next() as usize % n }
    }

    /// True `n` times out of a hundred.
    pub fn percent(&mut self, n: usize) -> bool {
        self.below(100) < n
    }
}
