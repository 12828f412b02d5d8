//! The schedule of RFC 8305, attempt by attempt.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use proptest::prelude::*;

use super::{Family, HappyEyeballs, HappyEyeballsConfig};
use crate::time::Instant;

fn at(millis: u64) -> Instant {
    Instant::from_duration(Duration::from_millis(millis))
}

/// `4a` is the first IPv4 address, `6b` the second IPv6 one.
fn address(name: &str) -> SocketAddr {
    let last = name.as_bytes()[1];
    let text = if name.starts_with('6') { format!("[2001:db8::{last:x}]:80") } else { format!("192.0.2.{last}:80") };
    text.parse().unwrap()
}

fn addresses(names: &str) -> Vec<SocketAddr> {
    names.split_whitespace().map(address).collect()
}

fn name(address: SocketAddr) -> String {
    let last = match address {
        SocketAddr::V4(address) => address.ip().octets()[3],
        SocketAddr::V6(address) => address.ip().octets()[15],
    };
    format!("{}{}", if address.is_ipv6() { '6' } else { '4' }, last as char)
}

/// All attempts with their times, if none ever answers.
fn attempts(race: &mut HappyEyeballs, mut now: Instant) -> String {
    let mut seen = Vec::new();
    loop {
        while let Some(address) = race.poll_attempt(now) {
            seen.push(format!("{}@{}", name(address), now.since_epoch().as_millis()));
        }
        match race.poll_timeout() {
            Some(at) => now = at,
            None => return seen.join(" "),
        }
    }
}

#[test]
fn families_take_turns_and_attempts_begin_every_quarter_second() {
    for (first_count, given, expected) in [
        (1, "4a 4b 6a 6b", "6a@0 4a@250 6b@500 4b@750"),
        (1, "6a 6b 6c 4a", "6a@0 4a@250 6b@500 6c@750"),
        (2, "6a 6b 6c 4a 4b", "6a@0 6b@250 4a@500 6c@750 4b@1000"),
        (1, "4a 4b", "4a@0 4b@250"),
        (1, "6a", "6a@0"),
        (1, "", ""),
    ] {
        let mut config = HappyEyeballsConfig::rfc();
        config.first_family_count = first_count;
        let mut race = HappyEyeballs::new(config);
        race.handle_resolved(addresses(given), at(0));
        assert_eq!(attempts(&mut race, at(0)), expected, "{given}");
    }
}

#[test]
fn ipv4_waits_a_moment_for_ipv6_and_no_longer() {
    let new = || HappyEyeballs::new(HappyEyeballsConfig::rfc());
    // IPv6 comes within the resolution delay.
    let mut race = new();
    race.handle_family(Family::V4, addresses("4a"), at(10));
    assert_eq!((race.poll_attempt(at(10)), race.poll_timeout()), (None, Some(at(60))));
    race.handle_family(Family::V6, addresses("6a"), at(40));
    assert_eq!(attempts(&mut race, at(40)), "6a@40 4a@290");
    // IPv6 comes too late: it is next, in its turn.
    let mut race = new();
    race.handle_family(Family::V4, addresses("4a 4b"), at(10));
    assert_eq!(race.poll_attempt(at(60)), Some(address("4a")));
    race.handle_family(Family::V6, addresses("6a"), at(100));
    assert_eq!(attempts(&mut race, at(100)), "6a@310 4b@560");
    // There is no IPv6: nothing to wait for.
    let mut race = new();
    race.handle_family(Family::V4, addresses("4a"), at(10));
    race.handle_family(Family::V6, [], at(20));
    assert_eq!(attempts(&mut race, at(20)), "4a@20");
    // IPv6 first: it goes at once.
    let mut race = new();
    race.handle_family(Family::V6, addresses("6a"), at(10));
    assert_eq!(attempts(&mut race, at(10)), "6a@10");
    assert!(!race.is_exhausted(), "the other family may still come");
}

#[test]
fn a_failure_starts_the_next_attempt_at_once() {
    let mut race = HappyEyeballs::new(HappyEyeballsConfig::rfc());
    race.handle_resolved(addresses("6a 4a 6b"), at(0));
    assert_eq!(race.poll_attempt(at(0)), Some(address("6a")));
    race.handle_failed();
    assert_eq!(race.poll_attempt(at(20)), Some(address("4a")));
    assert_eq!((race.poll_attempt(at(20)), race.poll_timeout()), (None, Some(at(270))));
    race.handle_failed();
    assert_eq!(race.poll_attempt(at(30)), Some(address("6b")));
    assert!(!race.is_exhausted() && race.poll_timeout().is_none());
    race.handle_failed();
    assert!(race.is_exhausted());
    assert_eq!(race.failed(), 3);
}

#[test]
fn a_name_without_addresses_is_exhausted_at_once() {
    let mut race = HappyEyeballs::new(HappyEyeballsConfig::rfc());
    assert!(!race.is_exhausted());
    race.handle_resolved([], at(0));
    assert!(race.is_exhausted() && race.poll_attempt(at(0)).is_none() && race.poll_timeout().is_none());
}

#[test]
fn delays_outside_of_the_rfc_are_refused() {
    for (millis, text) in
        [(9, "the least 10ms contradicts attempt_delay 9ms"), (2001, "attempt_delay 2.001s contradicts the most 2s")]
    {
        let mut config = HappyEyeballsConfig::rfc();
        config.attempt_delay = Duration::from_millis(millis);
        assert!(config.check().unwrap_err().to_string().starts_with(text));
    }
    assert_eq!(HappyEyeballsConfig::rfc().check(), Ok(()));
}

proptest! {
    #![proptest_config(crate::property_tests::config())]

    /// Whatever fails when: each address is tried once, no two begin closer than the delay unless one failed, and the end is seen.
    #[test]
    fn every_address_is_tried_once(v4 in 0u8..6, v6 in 0u8..6, count in 1u32..4, events in prop::collection::vec((any::<bool>(), 0u64..400), 0..40)) {
        let letters = |family: char, n: u8| (0..n).map(move |i| address(&format!("{family}{}", (b'a' + i) as char)));
        let all: BTreeSet<_> = letters('4', v4).chain(letters('6', v6)).collect();
        let mut config = HappyEyeballsConfig::rfc();
        config.first_family_count = count;
        let mut race = HappyEyeballs::new(config);
        race.handle_resolved(all.iter().copied(), at(0));
        let (mut now, mut tried, mut under_way) = (at(0), Vec::new(), 0);
        let mut last: Option<Instant> = None;
        for (fails, wait) in events.into_iter().chain(core::iter::repeat_n((true, 300), 30)) {
            while let Some(address) = race.poll_attempt(now) {
                prop_assert!(last.is_none_or(|last| now >= last + config.attempt_delay));
                (last, under_way) = (Some(now), under_way + 1);
                tried.push(address);
            }
            if fails && under_way > 0 {
                race.handle_failed();
                (last, under_way) = (None, under_way - 1);
            }
            now = now + Duration::from_millis(wait);
        }
        prop_assert!(race.is_exhausted());
        prop_assert_eq!(tried.len(), all.len());
        prop_assert_eq!(tried.into_iter().collect::<BTreeSet<_>>(), all);
    }
}
