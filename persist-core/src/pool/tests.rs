//! The pool's rules, one scenario each.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Action, ConnId, Counts, Loss, Pool, PoolConfig, PoolError, Use, WaiterId, Want};
use crate::close::CloseReason;
use crate::keep_alive::KeepAlive;
use crate::route::PoolKey;
use crate::time::Instant;

const SEC: fn(u64) -> Duration = Duration::from_secs;

fn at(seconds: u64) -> Instant {
    Instant::from_duration(SEC(seconds))
}

fn key(name: &str) -> PoolKey {
    PoolKey::new(name)
}

fn pool(change: impl FnOnce(&mut PoolConfig)) -> Pool {
    let mut config = PoolConfig::default();
    config.backoff.jitter_percent = 0;
    change(&mut config);
    Pool::new(config).unwrap()
}

fn drain(pool: &mut Pool) -> Vec<Action> {
    core::iter::from_fn(|| pool.poll_action()).collect()
}

fn ask(pool: &mut Pool, name: &str, now: Instant) -> WaiterId {
    pool.acquire(&key(name), Want::Any, None, now).unwrap()
}

/// The dials among the actions; nothing else may be there.
fn dials(pool: &mut Pool) -> Vec<ConnId> {
    let dial = |action| match action {
        Action::Dial { conn, .. } => conn,
        other => panic!("not a dial: {other:?}"),
    };
    drain(pool).into_iter().map(dial).collect()
}

fn hand(waiter: WaiterId, conn: ConnId, reused: bool) -> Action {
    Action::Hand { waiter, conn, reused }
}

fn close(conn: ConnId, reason: CloseReason) -> Action {
    Action::Close { conn, reason }
}

/// A connection that has carried one request and is idle.
fn warm(pool: &mut Pool, name: &str, now: Instant) -> ConnId {
    let waiter = pool.acquire(&key(name), Want::Fresh, None, now).unwrap();
    let Some(Action::Dial { conn, .. }) = pool.poll_action() else { panic!("no dial") };
    pool.handle_dialed(conn, 1, now);
    assert_eq!(drain(pool), [hand(waiter, conn, false)]);
    pool.release(conn, Use::Completed, now);
    conn
}

#[test]
fn the_newest_idle_connection_is_reused_first() {
    let mut pool = pool(|_| {});
    let (one, two) = (ask(&mut pool, "a", at(0)), ask(&mut pool, "a", at(0)));
    let conns = dials(&mut pool);
    conns.iter().for_each(|&conn| pool.handle_dialed(conn, 1, at(0)));
    assert_eq!(drain(&mut pool), [hand(one, conns[0], false), hand(two, conns[1], false)]);
    pool.release(conns[1], Use::Completed, at(1));
    pool.release(conns[0], Use::Completed, at(2));
    let (three, four) = (ask(&mut pool, "a", at(3)), ask(&mut pool, "a", at(3)));
    assert_eq!(drain(&mut pool), [hand(three, conns[0], true), hand(four, conns[1], true)]);
}

#[test]
fn waiters_are_served_in_the_order_of_their_coming() {
    let mut pool = pool(|config| (config.per_destination_max, config.idle_per_destination_max) = (1, 1));
    let waiters: Vec<_> = (0..4).map(|_| ask(&mut pool, "a", at(0))).collect();
    let conn = dials(&mut pool)[0];
    pool.handle_dialed(conn, 1, at(0));
    for (turn, &waiter) in waiters.iter().enumerate() {
        assert_eq!(drain(&mut pool), [hand(waiter, conn, turn > 0)]);
        pool.release(conn, Use::Completed, at(1));
    }
    assert_eq!(pool.counts(), Counts { open: 1, idle: 1, ..Counts::default() });
}

#[test]
fn a_dial_that_nobody_wants_any_more_is_kept_as_idle() {
    let mut pool = pool(|_| {});
    let conn = warm(&mut pool, "a", at(0));
    let (one, two) = (ask(&mut pool, "a", at(1)), ask(&mut pool, "a", at(1)));
    let Some(Action::Hand { .. }) = pool.poll_action() else { panic!() };
    let second = dials(&mut pool)[0];
    pool.release(conn, Use::Completed, at(2));
    assert_eq!(drain(&mut pool), [hand(two, conn, true)]);
    pool.handle_dialed(second, 1, at(3));
    assert_eq!(drain(&mut pool), []);
    assert_eq!(pool.counts_of(&key("a")), Counts { open: 2, idle: 1, exchanges: 1, ..Counts::default() });
    let three = pool.acquire(&key("a"), Want::Fresh, None, at(4)).unwrap();
    assert_eq!(drain(&mut pool), [hand(three, second, false)]);
    assert!(!pool.cancel(one, at(5)));
}

#[test]
fn a_cancelled_waiter_gets_nothing_and_leaves_no_trace() {
    let mut pool = pool(|_| {});
    let waiter = ask(&mut pool, "a", at(0));
    let conn = dials(&mut pool)[0];
    assert!(pool.cancel(waiter, at(1)));
    assert!(!pool.cancel(waiter, at(1)));
    pool.handle_dialed(conn, 1, at(2));
    assert_eq!(drain(&mut pool), []);
    pool.handle_closed(conn, Loss::Expected, at(3), 0);
    assert_eq!((pool.counts(), pool.destinations(), pool.poll_timeout()), (Counts::default(), 0, None));
}

#[test]
fn an_idle_connection_ends_at_its_timeout_its_age_and_what_the_peer_announced() {
    let announced = |timeout| Some(KeepAlive { timeout: Some(SEC(timeout)), max: None });
    for (age_max, keep_alive, ends, reason) in [
        (None, None, 90, CloseReason::Idle),
        (Some(SEC(60)), None, 60, CloseReason::MaxAge),
        (None, announced(5), 4, CloseReason::Idle), // a margin of one second
        (Some(SEC(3)), announced(5), 3, CloseReason::MaxAge),
        (None, announced(500), 90, CloseReason::Idle),
    ] {
        let mut pool = pool(|config| config.age_max = age_max);
        let waiter = ask(&mut pool, "a", at(0));
        let conn = dials(&mut pool)[0];
        pool.handle_dialed(conn, 1, at(0));
        assert_eq!(drain(&mut pool), [hand(waiter, conn, false)]);
        pool.handle_whole_response(conn, keep_alive, at(0));
        assert_eq!(pool.poll_timeout(), Some(at(ends)));
        pool.handle_timeout(at(ends - 1));
        assert_eq!(drain(&mut pool), []);
        // Even if the deadline was missed, it is not reused: it is closed, and another is dialled.
        pool.acquire(&key("a"), Want::Any, None, at(ends)).unwrap();
        let actions = drain(&mut pool);
        assert_eq!(actions[0], close(conn, reason));
        assert!(matches!(actions[1..], [Action::Dial { .. }]));
    }
}

#[test]
fn what_the_peer_keeps_no_longer_than_the_margin_is_not_kept_at_all() {
    for is_whole in [false, true] {
        let mut pool = pool(|_| {});
        let conn = warm(&mut pool, "a", at(0));
        let waiter = ask(&mut pool, "a", at(1));
        assert_eq!(drain(&mut pool), [hand(waiter, conn, true)]);
        let announced = Some(KeepAlive::parse(b"timeout=1"));
        if is_whole {
            pool.handle_whole_response(conn, announced, at(1));
            pool.handle_whole_response(conn, announced, at(1)); // to no request: a no-op
        } else {
            pool.handle_response(conn, announced, at(1));
            pool.release(conn, Use::Completed, at(1));
        }
        assert_eq!(drain(&mut pool), [close(conn, CloseReason::Idle)]);
    }
}

#[test]
fn requests_are_counted_ours_and_the_peers() {
    let mut pool = pool(|config| config.requests_max = Some(2));
    let conn = warm(&mut pool, "a", at(0));
    let waiter = ask(&mut pool, "a", at(1));
    assert_eq!(drain(&mut pool), [hand(waiter, conn, true)]);
    pool.release(conn, Use::Completed, at(1));
    assert_eq!(drain(&mut pool), [close(conn, CloseReason::MaxRequests)]);

    let other = warm(&mut pool, "b", at(0));
    let waiter = ask(&mut pool, "b", at(1));
    assert_eq!(drain(&mut pool), [hand(waiter, other, true)]);
    pool.handle_response(other, Some(KeepAlive::parse(b"max=0")), at(1));
    pool.release(other, Use::Unused, at(1));
    // A place that was not used is given back, to both counts.
    assert_eq!(drain(&mut pool), []);
    let waiter = ask(&mut pool, "b", at(2));
    assert_eq!(drain(&mut pool), [hand(waiter, other, true)]);
    pool.release(other, Use::Completed, at(2));
    assert_eq!(drain(&mut pool), [close(other, CloseReason::MaxRequests)]);
}

#[test]
fn a_full_pool_makes_room_by_closing_the_least_recently_used() {
    let mut pool = pool(|config| {
        (config.total_max, config.per_destination_max) = (2, 2);
        (config.idle_max, config.idle_per_destination_max) = (2, 2);
    });
    let (old, _new) = (warm(&mut pool, "a", at(0)), warm(&mut pool, "b", at(1)));
    ask(&mut pool, "c", at(2));
    assert_eq!(pool.poll_action(), Some(close(old, CloseReason::OurClose)));
    assert_eq!(dials(&mut pool).len(), 1);
}

#[test]
fn idle_limits_close_the_oldest() {
    let mut pool = pool(|config| (config.idle_max, config.idle_per_destination_max) = (2, 1));
    let first = warm(&mut pool, "a", at(0));
    let second = warm(&mut pool, "a", at(1));
    assert_eq!(drain(&mut pool), [close(first, CloseReason::OurClose)]);
    warm(&mut pool, "b", at(2));
    assert_eq!(drain(&mut pool), []);
    let waiter = ask(&mut pool, "c", at(3));
    let third = dials(&mut pool)[0];
    pool.handle_dialed(third, 1, at(3));
    assert_eq!(drain(&mut pool), [hand(waiter, third, false)]);
    pool.release(third, Use::Completed, at(3));
    assert_eq!(drain(&mut pool), [close(second, CloseReason::OurClose)]);
    assert_eq!(pool.counts().idle, 2);
}

#[test]
fn a_busy_destination_cannot_starve_another_for_ever() {
    let mut pool = pool(|config| {
        (config.total_max, config.per_destination_max) = (1, 1);
        (config.idle_max, config.idle_per_destination_max) = (1, 1);
    });
    let first = ask(&mut pool, "busy", at(0));
    let conn = dials(&mut pool)[0];
    pool.handle_dialed(conn, 1, at(0));
    assert_eq!(drain(&mut pool), [hand(first, conn, false)]);
    let second = ask(&mut pool, "busy", at(1));
    let starved = ask(&mut pool, "other", at(2));
    let third = ask(&mut pool, "busy", at(3));
    pool.release(conn, Use::Completed, at(4));
    // The second came before the starved one, the third after it.
    assert_eq!(drain(&mut pool), [hand(second, conn, true)]);
    pool.release(conn, Use::Completed, at(5));
    assert_eq!(pool.poll_action(), Some(close(conn, CloseReason::OurClose)));
    let conn = dials(&mut pool)[0];
    pool.handle_dialed(conn, 1, at(6));
    assert_eq!(drain(&mut pool), [hand(starved, conn, false)]);
    pool.release(conn, Use::Completed, at(7));
    assert_eq!(pool.poll_action(), Some(close(conn, CloseReason::OurClose)));
    let conn = dials(&mut pool)[0];
    pool.handle_dialed(conn, 1, at(8));
    assert_eq!(drain(&mut pool), [hand(third, conn, false)]);
}

#[test]
fn a_failed_dial_fails_those_it_was_for_and_the_next_waits_for_the_backoff() {
    let mut pool = pool(|_| {});
    let (one, two) = (ask(&mut pool, "a", at(0)), ask(&mut pool, "a", at(0)));
    let conns = dials(&mut pool);
    let failed = |waiter, conn| Action::Fail { waiter, error: PoolError::DialFailed { conn } };
    pool.handle_dial_failed(conns[0], at(1), 0);
    assert_eq!(drain(&mut pool), [failed(one, conns[0])]);
    // The last dial takes everybody with it.
    let three = ask(&mut pool, "a", at(1));
    pool.handle_dial_failed(conns[1], at(1), 0);
    assert_eq!(drain(&mut pool), [failed(two, conns[1]), failed(three, conns[1])]);

    // Two dials that failed together are one failure: 100 ms.
    let ready = at(1) + Duration::from_millis(100);
    let waiters: Vec<_> = (0..3).map(|_| ask(&mut pool, "a", at(1))).collect();
    assert_eq!((drain(&mut pool), pool.poll_timeout()), (Vec::new(), Some(ready)));
    pool.handle_timeout(ready);
    let probe = dials(&mut pool);
    assert_eq!(probe.len(), 1, "one probe, not one dial for each waiter");
    pool.handle_dialed(probe[0], 1, ready);
    assert_eq!(drain(&mut pool), [hand(waiters[0], probe[0], false)]);
    // Only an answer shows that the destination works; then the others may dial.
    pool.handle_response(probe[0], None, ready);
    assert_eq!(dials(&mut pool).len(), 2);
}

#[test]
fn accepting_and_closing_counts_as_failing() {
    let mut pool = pool(|_| {});
    let mut now = at(0);
    for expected in [100, 200, 400] {
        let waiter = ask(&mut pool, "a", now);
        if let Some(ready) = pool.poll_timeout() {
            now = now.max(ready);
            pool.handle_timeout(now);
        }
        let conn = dials(&mut pool)[0];
        pool.handle_dialed(conn, 1, now);
        assert_eq!(drain(&mut pool), [hand(waiter, conn, false)]);
        pool.handle_closed(conn, Loss::Broken, now, 0);
        assert_eq!(pool.poll_timeout(), Some(now + Duration::from_millis(expected)));
    }
    // What is not heard of again is forgotten.
    now = pool.poll_timeout().unwrap();
    pool.handle_timeout(now);
    assert_eq!((pool.destinations(), pool.poll_timeout()), (1, Some(now + SEC(10))));
    pool.handle_timeout(now + SEC(10));
    assert_eq!((pool.destinations(), pool.poll_timeout()), (0, None));
}

#[test]
fn a_deadline_says_how_long_it_waited_and_whether_dials_failed() {
    let mut pool = pool(|config| (config.per_destination_max, config.idle_per_destination_max) = (1, 1));
    ask(&mut pool, "a", at(0));
    let conn = dials(&mut pool)[0];
    let late = pool.acquire(&key("a"), Want::Any, Some(at(5)), at(1)).unwrap();
    assert_eq!(pool.poll_timeout(), Some(at(5)));
    pool.handle_timeout(at(6));
    let Some(Action::Fail { waiter, error }) = pool.poll_action() else { panic!() };
    assert_eq!((waiter, error.to_string().as_str()), (late, "waited 5s for a connection; 0 dials in a row had failed"));
    pool.handle_dial_failed(conn, at(7), 0);
    drain(&mut pool);
    pool.acquire(&key("a"), Want::Any, Some(at(7)), at(7)).unwrap();
    pool.handle_timeout(at(7));
    let Some(Action::Fail { error: PoolError::Deadline { failures, .. }, .. }) = pool.poll_action() else { panic!() };
    assert_eq!(failures, 1);
}

#[test]
fn a_fresh_connection_is_made_even_where_an_idle_one_takes_the_last_place() {
    let mut pool = pool(|config| (config.per_destination_max, config.idle_per_destination_max) = (1, 1));
    let stale = warm(&mut pool, "a", at(0));
    let retry = pool.acquire(&key("a"), Want::Fresh, None, at(1)).unwrap();
    assert_eq!(pool.poll_action(), Some(close(stale, CloseReason::OurClose)));
    let conn = dials(&mut pool)[0];
    let later = ask(&mut pool, "a", at(1));
    pool.handle_dialed(conn, 1, at(2));
    assert_eq!(drain(&mut pool), [hand(retry, conn, false)]);
    let again = pool.acquire(&key("a"), Want::Fresh, None, at(3)).unwrap();
    let last = ask(&mut pool, "a", at(3));
    pool.release(conn, Use::Completed, at(4));
    assert_eq!(drain(&mut pool), [hand(later, conn, true)]);
    // Whoever wants a fresh one came before whoever takes any: the last place is theirs.
    pool.release(conn, Use::Completed, at(5));
    assert_eq!(pool.poll_action(), Some(close(conn, CloseReason::OurClose)));
    let conn = dials(&mut pool)[0];
    pool.handle_dialed(conn, 1, at(6));
    assert_eq!(drain(&mut pool), [hand(again, conn, false)]);
    pool.release(conn, Use::Completed, at(7));
    assert_eq!(drain(&mut pool), [hand(last, conn, true)]);
}

#[test]
fn streams_are_places_on_one_connection() {
    let mut pool = pool(|_| {});
    let first = ask(&mut pool, "a", at(0));
    let conn = dials(&mut pool)[0];
    pool.handle_dialed(conn, 3, at(0));
    let more: Vec<_> = (0..2).map(|_| ask(&mut pool, "a", at(0))).collect();
    let handed = [hand(first, conn, false), hand(more[0], conn, true), hand(more[1], conn, true)];
    assert_eq!(drain(&mut pool), handed);
    // Beyond the limit, one dial for as many waiters as a connection has places.
    let waiters: Vec<_> = (0..3).map(|_| ask(&mut pool, "a", at(0))).collect();
    let second = dials(&mut pool);
    assert_eq!(second.len(), 1);
    pool.set_streams(conn, 4, at(1));
    assert_eq!(drain(&mut pool), [hand(waiters[0], conn, true)]);
    pool.retire(conn, CloseReason::PeerSaidClose, at(2));
    for _ in 0..4 {
        assert_eq!(drain(&mut pool), []);
        pool.release(conn, Use::Completed, at(2));
    }
    assert_eq!(drain(&mut pool), [close(conn, CloseReason::PeerSaidClose)]);
    pool.handle_dialed(second[0], 3, at(3));
    assert_eq!(drain(&mut pool), [hand(waiters[1], second[0], false), hand(waiters[2], second[0], true)]);
}

#[test]
fn a_probe_does_not_make_an_idle_connection_young() {
    let mut pool = pool(|_| {});
    let conn = warm(&mut pool, "a", at(0));
    assert!(pool.check_out(conn, at(30)));
    assert!(!pool.check_out(conn, at(30)));
    pool.release(conn, Use::Probed, at(31));
    assert_eq!(pool.poll_timeout(), Some(at(90)));
    let idle: Vec<_> = pool.idle().map(|idle| (idle.conn, idle.since, idle.quiet_since)).collect();
    assert_eq!(idle, [(conn, at(0), at(31))]);
}

#[test]
fn a_closed_pool_answers_everyone_and_keeps_nothing() {
    let mut pool = pool(|config| (config.per_destination_max, config.idle_per_destination_max) = (2, 2));
    let idle = warm(&mut pool, "idle", at(0));
    let _busy_waiter = ask(&mut pool, "a", at(0));
    let busy = dials(&mut pool)[0];
    pool.handle_dialed(busy, 1, at(0));
    drain(&mut pool);
    let waiter = ask(&mut pool, "a", at(0));
    let dial = dials(&mut pool)[0];
    pool.close(at(1));
    let actions = drain(&mut pool);
    assert_eq!(actions, [Action::Fail { waiter, error: PoolError::Closed }, close(idle, CloseReason::OurClose)]);
    pool.release(busy, Use::Completed, at(2));
    pool.handle_dialed(dial, 1, at(2));
    assert_eq!(drain(&mut pool), [close(busy, CloseReason::OurClose), close(dial, CloseReason::OurClose)]);
    assert_eq!(pool.acquire(&key("a"), Want::Any, None, at(3)), Err(PoolError::Closed));
    assert_eq!((pool.counts(), pool.destinations(), pool.poll_timeout()), (Counts::default(), 0, None));
}

#[test]
fn the_queue_is_bounded() {
    let mut pool = pool(|config| config.waiting_max = 2);
    ask(&mut pool, "a", at(0));
    ask(&mut pool, "b", at(0));
    let error = pool.acquire(&key("c"), Want::Any, None, at(0)).unwrap_err();
    assert_eq!(error.to_string(), "2 requests wait for connections, as many as waiting_max allows");
}

#[test]
fn contradictions_are_refused_with_both_values() {
    let refused = |change: fn(&mut PoolConfig)| {
        let mut config = PoolConfig::default();
        change(&mut config);
        let error = Pool::new(config).unwrap_err();
        (error.name, error.value, error.other, error.other_value)
    };
    let text =
        |parts: (&'static str, &str, &'static str, &str)| (parts.0, parts.1.to_string(), parts.2, parts.3.to_string());
    for (found, expected) in [
        (refused(|c| c.per_destination_max = 600), ("per_destination_max", "600", "total_max", "512")),
        (refused(|c| c.idle_per_destination_max = 65), ("idle_per_destination_max", "65", "per_destination_max", "64")),
        (refused(|c| c.idle_max = 513), ("idle_max", "513", "total_max", "512")),
        (refused(|c| c.idle_max = 63), ("idle_per_destination_max", "64", "idle_max", "63")),
        (refused(|c| c.per_destination_max = 0), ("the least", "1", "per_destination_max", "0")),
        (refused(|c| c.waiting_max = 0), ("the least", "1", "waiting_max", "0")),
        (refused(|c| c.requests_max = Some(0)), ("the least", "1", "requests_max", "0")),
        (refused(|c| c.idle_timeout = Some(Duration::ZERO)), ("the least", "1ns", "idle_timeout", "0ns")),
        (refused(|c| c.backoff.first = SEC(60)), ("backoff first", "60s", "backoff max", "10s")),
    ] {
        assert_eq!(found, text(expected));
    }
}
