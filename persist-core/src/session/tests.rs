//! A session from dial to close: what resets the count, what waits, what gives up.

use alloc::string::ToString;
use core::time::Duration;

use proptest::prelude::*;

use super::{GaveUp, Session, SessionConfig, SessionState, SessionStep};
use crate::backoff::BackoffConfig;
use crate::time::Instant;

fn at(millis: u64) -> Instant {
    Instant::from_duration(Duration::from_millis(millis))
}

fn session(retries_max: Option<u32>) -> Session {
    let backoff = BackoffConfig { jitter_percent: 0, ..BackoffConfig::default() };
    Session::new(SessionConfig { backoff, retries_max }).unwrap()
}

/// Connects at this time, waiting for nothing.
fn connect(session: &mut Session, now: Instant) {
    assert_eq!(session.poll_use(now), Ok(SessionStep::Dial));
    session.handle_dialed();
    session.handle_greeted(now);
    assert_eq!(session.poll_use(now), Ok(SessionStep::Go));
}

#[test]
fn it_dials_lazily_and_once() {
    let mut session = session(None);
    assert_eq!(session.state(), SessionState::Idle);
    assert_eq!(session.poll_use(at(0)), Ok(SessionStep::Dial));
    assert_eq!(session.poll_use(at(0)), Ok(SessionStep::Busy));
    session.handle_dialed();
    assert_eq!(session.poll_use(at(0)), Ok(SessionStep::Busy), "user bytes wait for the hook");
    session.handle_greeted(at(5));
    assert_eq!(session.poll_use(at(5)), Ok(SessionStep::Go));
    assert_eq!((session.connections(), session.age(at(9))), (1, Some(Duration::from_millis(4))));
}

#[test]
fn a_connection_that_answered_is_replaced_at_once() {
    let mut session = session(None);
    connect(&mut session, at(0));
    session.handle_received();
    session.handle_broken(at(1), 0);
    connect(&mut session, at(1));
}

#[test]
fn accept_then_close_waits_longer_each_time_whatever_was_written() {
    let mut session = session(None);
    let mut now = at(0);
    for expected in [100, 200, 400, 800] {
        connect(&mut session, now);
        // The caller writes; the session is not told, for it would prove nothing.
        session.handle_broken(now, 0);
        let until = now + Duration::from_millis(expected);
        assert_eq!(session.poll_use(now), Ok(SessionStep::Wait(until)));
        now = until;
    }
}

#[test]
fn a_connection_that_outlived_the_backoff_counts_as_having_worked() {
    for (lived, state) in [(100, SessionState::Waiting { until: at(200) }), (101, SessionState::Idle)] {
        let mut session = session(None);
        connect(&mut session, at(0));
        session.handle_broken(at(lived), 0);
        assert_eq!(session.state(), state, "after {lived} ms");
    }
}

#[test]
fn failed_dials_and_failed_hooks_count_alike_and_end() {
    let mut session = session(Some(2));
    let mut now = at(0);
    for hook in [false, true, false] {
        assert_eq!(session.poll_use(now), Ok(SessionStep::Dial));
        if hook {
            session.handle_dialed();
        }
        session.handle_failed(now, 0);
        now = now + Duration::from_secs(20);
    }
    let gave_up = session.poll_use(now).unwrap_err();
    assert_eq!(gave_up, GaveUp { failures: 3 });
    assert_eq!(gave_up.to_string(), "gave up after 3 connections in a row that failed; close the stream to begin anew");
    assert_eq!(session.poll_use(now + Duration::from_secs(99)), Err(gave_up), "time alone changes nothing");
    session.close();
    assert_eq!((session.state(), session.failures()), (SessionState::Idle, 0));
    connect(&mut session, now);
}

#[test]
fn a_received_byte_resets_the_count() {
    let mut session = session(Some(1));
    session.poll_use(at(0)).unwrap();
    session.handle_failed(at(0), 0);
    connect(&mut session, at(100));
    session.handle_received();
    assert_eq!(session.failures(), 0);
    session.handle_broken(at(100), 0);
    assert_eq!(session.state(), SessionState::Idle);
}

#[test]
fn what_does_not_fit_the_state_changes_nothing() {
    let mut session = session(None);
    session.handle_dialed();
    session.handle_greeted(at(0));
    session.handle_received();
    session.handle_broken(at(0), 0);
    session.handle_failed(at(0), 0);
    assert_eq!((session.state(), session.failures(), session.connections()), (SessionState::Idle, 0, 0));
}

proptest! {
    #![proptest_config(crate::property_tests::config())]

    /// Against a server that fails in any way without ever answering, dials never come faster than the backoff allows.
    #[test]
    fn a_server_that_never_answers_is_never_stormed(
        ends in prop::collection::vec((0u8..3, 0u64..50, any::<u64>()), 1..30),
        jitter in 0u32..=50,
    ) {
        let backoff = BackoffConfig { jitter_percent: jitter, ..BackoffConfig::default() };
        let mut session = Session::new(SessionConfig { backoff, retries_max: None }).unwrap();
        let mut now = at(0);
        for (count, (how, lived, random)) in (1u32..).zip(ends) {
            prop_assert_eq!(session.poll_use(now), Ok(SessionStep::Dial));
            if how > 0 {
                session.handle_dialed();
            }
            if how > 1 {
                session.handle_greeted(now);
                now = now + Duration::from_millis(lived);
                session.handle_broken(now, random);
            } else {
                session.handle_failed(now, random);
            }
            let SessionState::Waiting { until } = session.state() else { panic!("{:?}", session.state()) };
            prop_assert!(until - now >= backoff.delay(count, u64::MAX));
            now = until;
        }
    }
}
