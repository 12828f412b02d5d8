//! Heartbeats are sent into silence, at their interval, and unanswered ones end it.

use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::{Beat, Heartbeat, HeartbeatConfig};
use crate::time::Instant;

const SEC: fn(u64) -> Duration = Duration::from_secs;

fn at(seconds: u64) -> Instant {
    Instant::from_duration(SEC(seconds))
}

#[test]
fn a_peer_that_talks_needs_no_heartbeat() {
    let mut heartbeat = Heartbeat::new(HeartbeatConfig::every(SEC(30)), at(0)).unwrap();
    for now in (0..300).step_by(20) {
        heartbeat.handle_received(at(now));
        assert_eq!(heartbeat.handle_timeout(at(now + 19)), None);
    }
    assert_eq!(heartbeat.poll_timeout(), Some(at(310)));
}

#[test]
fn without_answers_they_go_on_for_ever() {
    let mut heartbeat = Heartbeat::new(HeartbeatConfig::every(SEC(10)), at(0)).unwrap();
    for beat in 1..100 {
        assert_eq!(heartbeat.poll_timeout(), Some(at(beat * 10)));
        assert_eq!(heartbeat.handle_timeout(at(beat * 10)), Some(Beat::Send));
        assert_eq!(heartbeat.handle_timeout(at(beat * 10)), None, "spurious");
    }
}

#[test]
fn the_answer_is_due_after_the_first_unanswered_one() {
    // The answer may take longer than the interval: several may be on their way.
    let config = HeartbeatConfig::every(SEC(10)).answered_within(SEC(25));
    let mut heartbeat = Heartbeat::new(config, at(0)).unwrap();
    let mut seen = Vec::new();
    while let Some(due) = heartbeat.poll_timeout() {
        seen.push((due, heartbeat.handle_timeout(due).unwrap()));
    }
    let dead = Beat::Dead { silent: SEC(35) };
    assert_eq!(seen, [(at(10), Beat::Send), (at(20), Beat::Send), (at(30), Beat::Send), (at(35), dead)]);
    assert_eq!(heartbeat.handle_timeout(at(99)), None, "said once");
}

#[test]
fn any_byte_is_an_answer() {
    let mut heartbeat = Heartbeat::new(HeartbeatConfig::every(SEC(10)).answered_within(SEC(5)), at(0)).unwrap();
    assert_eq!(heartbeat.handle_timeout(at(10)), Some(Beat::Send));
    heartbeat.handle_received(at(14));
    assert_eq!(heartbeat.handle_timeout(at(15)), None);
    assert_eq!(heartbeat.poll_timeout(), Some(at(24)));
}

#[test]
fn nothing_at_all_is_no_interval() {
    assert!(Heartbeat::new(HeartbeatConfig::every(Duration::ZERO), at(0)).is_err());
    assert!(Heartbeat::new(HeartbeatConfig::every(SEC(1)).answered_within(Duration::ZERO), at(0)).is_err());
}

proptest! {
    #![proptest_config(crate::property_tests::config())]

    #[test]
    fn death_is_never_said_of_a_peer_that_answered_in_time(
        interval in 1u64..20, answer in 1u64..40, waits in prop::collection::vec((1u64..30, any::<bool>()), 1..60),
    ) {
        let config = HeartbeatConfig::every(SEC(interval)).answered_within(SEC(answer));
        let mut heartbeat = Heartbeat::new(config, at(0)).unwrap();
        let (mut now, mut heard) = (0, 0);
        for (wait, talks) in waits {
            now += wait;
            match heartbeat.handle_timeout(at(now)) {
                Some(Beat::Dead { silent }) => {
                    prop_assert_eq!(silent, SEC(now - heard));
                    prop_assert!(now - heard >= interval + answer);
                    return Ok(());
                }
                Some(Beat::Send) => prop_assert!(now - heard >= interval),
                None => {}
            }
            if talks {
                heartbeat.handle_received(at(now));
                heard = now;
            }
        }
    }
}
