//! Waits grow, stop growing, and spread.

use alloc::string::ToString;
use core::time::Duration;

use proptest::prelude::*;

use super::{Backoff, BackoffConfig};
use crate::time::Instant;

const MS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn waits_double_up_to_the_longest() {
    let config = BackoffConfig { first: MS(100), max: MS(1000), jitter_percent: 50 };
    let whole = [0, 100, 200, 400, 800, 1000, 1000].map(MS);
    for (failures, whole) in (0..).zip(whole) {
        assert_eq!(config.delay(failures, 0), whole);
        assert_eq!(config.delay(failures, u64::MAX), whole / 2);
    }
    assert_eq!(config.delay(u32::MAX, 0), MS(1000));
    assert_eq!(BackoffConfig::none().delay(u32::MAX, 7), Duration::ZERO);
}

#[test]
fn a_success_forgets_all_failures() {
    let (config, start) = (BackoffConfig::default(), Instant::from_duration(MS(5)));
    let mut backoff = Backoff::default();
    assert!(backoff.is_ready(start) && backoff.ready_at().is_none());
    assert_eq!(backoff.handle_failure(&config, start, 0), start + MS(100));
    assert_eq!(backoff.handle_failure(&config, start, 0), start + MS(200));
    assert!(!backoff.is_ready(start + MS(199)) && backoff.is_ready(start + MS(200)));
    assert_eq!(backoff.failures(), 2);
    backoff.handle_success();
    assert_eq!(backoff, Backoff::default());
}

#[test]
fn contradictions_are_named_with_both_values() {
    let config = BackoffConfig { first: MS(2000), max: MS(1500), jitter_percent: 0 };
    let text = "backoff first 2s contradicts backoff max 1.5s: the first wait cannot be longer than the longest";
    assert_eq!(config.check().unwrap_err().to_string(), text);
    let config = BackoffConfig { jitter_percent: 101, ..BackoffConfig::default() };
    assert_eq!(config.check().unwrap_err().other_value, "100");
    assert!(BackoffConfig::default().check().is_ok() && BackoffConfig::none().check().is_ok());
}

proptest! {
    #![proptest_config(crate::property_tests::config())]

    #[test]
    fn a_wait_is_within_its_jitter(first in 0u64..1_000_000, more in 0u64..1_000_000_000, jitter in 0u32..=100, failures: u32, random: u64) {
        let config = BackoffConfig {
            first: Duration::from_micros(first),
            max: Duration::from_micros(first + more),
            jitter_percent: jitter,
        };
        let (whole, delay) = (config.delay(failures, 0), config.delay(failures, random));
        prop_assert!(delay <= whole && whole <= config.max);
        // One nanosecond for rounding.
        prop_assert!(delay + Duration::from_nanos(1) >= whole * (100 - jitter) / 100);
        prop_assert!(config.delay(failures.saturating_add(1), 0) >= whole);
    }
}
