//! Deadlines of a dial: each phase's own, and the whole's.

use alloc::string::ToString;
use core::time::Duration;

use super::{DialClock, DialConfig, DialTimeout};
use crate::exchange_error::Phase;
use crate::time::Instant;

const SEC: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn each_phase_has_its_time_and_the_whole_ends_them_all() {
    let start = Instant::ZERO + SEC(100);
    let mut clock = DialClock::new(DialConfig::default(), start);
    for (phase, entered, ends) in [
        (Phase::Resolve, 0, 5),
        (Phase::Connect, 4, 14),
        (Phase::Tunnel, 13, 23),
        (Phase::Handshake, 22, 30), // 10 s, but the whole dial ends before
    ] {
        clock.enter(phase, start + SEC(entered));
        assert_eq!(clock.poll_timeout(), Some(start + SEC(ends)), "{phase:?}");
        assert_eq!(clock.check(start + SEC(ends - 1)), Ok(()));
        let late = clock.check(start + SEC(ends)).unwrap_err();
        assert_eq!(late, DialTimeout { phase, after: SEC(ends - entered) });
    }
    let unlimited = DialClock::new(DialConfig::unlimited(), start);
    assert_eq!((unlimited.poll_timeout(), unlimited.check(start + SEC(1 << 30))), (None, Ok(())));
}

#[test]
fn contradictions_are_refused_with_both_values() {
    assert_eq!(DialConfig::default().check(), Ok(()));
    assert_eq!(DialConfig::unlimited().check(), Ok(()));
    for (change, text) in [
        (
            (|config| config.handshake = Some(SEC(31))) as fn(&mut DialConfig),
            "handshake 31s contradicts total 30s: a part of a dial cannot take longer than all of it",
        ),
        (
            |config| config.connect = Some(Duration::from_millis(200)),
            "attempt_delay 250ms contradicts connect 200ms: connecting would end before the second address is tried",
        ),
    ] {
        let mut config = DialConfig::default();
        change(&mut config);
        assert_eq!(config.check().unwrap_err().to_string(), text);
    }
}
