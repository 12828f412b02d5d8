//! The defaults fit together; what does not is refused with both values.

use alloc::string::ToString;
use core::time::Duration;

use super::ClientConfig;

#[test]
fn the_defaults_do_not_contradict_each_other() {
    assert_eq!(ClientConfig::default().check(), Ok(()));
}

#[test]
fn every_part_is_checked_and_so_is_how_they_fit() {
    type Change = fn(&mut ClientConfig);
    let changes: [(Change, &str); 9] = [
        (|config| config.pool.idle_max = 600, "idle_max 600 contradicts total_max 512"),
        (|config| config.dial.resolve = Some(Duration::from_secs(31)), "resolve 31s contradicts total 30s"),
        (|config| config.retry.backoff.jitter_percent = 200, "jitter_percent 200 contradicts the whole 100"),
        (|config| config.upkeep.checks_max = 0, "the least 1 contradicts checks_max 0"),
        (|config| config.conn.pipelining.depth = 0, "the least 1 contradicts pipelining depth 0"),
        (
            |config| config.conn.timeouts.idle = Some(Duration::from_secs(9)),
            "pool idle_timeout 90s contradicts conn idle 9s",
        ),
        (|config| config.wait_timeout = Some(Duration::from_secs(9)), "dial total 30s contradicts wait_timeout 9s"),
        (|config| config.deadline = Some(Duration::ZERO), "the least 1ns contradicts deadline 0ns"),
        (|config| config.dial.happy_eyeballs.first_family_count = 0, "the least 1 contradicts first_family_count 0"),
    ];
    for (change, text) in changes {
        let mut config = ClientConfig::default();
        change(&mut config);
        let found = config.check().unwrap_err().to_string();
        assert!(found.starts_with(text), "{found}");
    }
}
