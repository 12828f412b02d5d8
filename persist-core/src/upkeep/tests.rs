//! What a glance means, and who is checked when.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Check, Glance, Upkeep, UpkeepConfig, Verdict};
use crate::close::{CloseReason, Side};
use crate::pool::{Action, ConnId, Pool, PoolConfig, Use, Want};
use crate::route::PoolKey;
use crate::time::Instant;

const SEC: fn(u64) -> Duration = Duration::from_secs;

fn at(seconds: u64) -> Instant {
    Instant::from_duration(SEC(seconds))
}

/// A pool with so many idle connections, each made a second after the other.
fn idle_pool(count: u64) -> (Pool, Vec<ConnId>) {
    let mut pool = Pool::new(PoolConfig::default()).unwrap();
    let conns = (0..count).map(|n| {
        pool.acquire(&PoolKey::new(&format!("{n}")), Want::Any, None, at(n)).unwrap();
        let Some(Action::Dial { conn, .. }) = pool.poll_action() else { panic!("no dial") };
        pool.handle_dialed(conn, 1, at(n));
        assert!(matches!(pool.poll_action(), Some(Action::Hand { .. })));
        pool.release(conn, Use::Completed, at(n));
        conn
    });
    let conns = conns.collect();
    (pool, conns)
}

#[test]
fn only_silence_and_stray_line_ends_leave_a_connection_usable() {
    let stale = Verdict::Stale;
    for (glance, verdict) in [
        (Glance::Nothing, Verdict::Usable),
        (Glance::Bytes(b"\r\n"), Verdict::LookAgain),
        (Glance::Bytes(b"\r\n\r\n"), Verdict::LookAgain),
        (Glance::Eof, stale(CloseReason::PeerClosed)),
        (Glance::Failed, stale(CloseReason::Io(Side::Read))),
        (Glance::Bytes(b"HTTP/1.1 408 Request Timeout\r\n"), stale(CloseReason::PeerClosed)),
        (Glance::Bytes(b"HTTP/1.0 408\r\n"), stale(CloseReason::PeerClosed)),
        (Glance::Bytes(b"HTTP/1.1 200 OK\r\n"), stale(CloseReason::Poisoned)),
        (Glance::Bytes(b"\r\nHTTP/1.1 200 OK\r\n"), stale(CloseReason::Poisoned)),
        (Glance::Bytes(b"\r\n\r\n\r\n"), stale(CloseReason::Poisoned)),
        (Glance::Bytes(b"\0"), stale(CloseReason::Poisoned)),
        (Glance::Bytes(b" "), stale(CloseReason::Poisoned)),
    ] {
        assert_eq!(glance.verdict(), verdict, "{glance:?}");
    }
}

#[test]
fn every_idle_connection_has_its_turn_however_few_a_round_takes() {
    let (mut pool, conns) = idle_pool(5);
    let config = UpkeepConfig { checks_max: 2, ..UpkeepConfig::default() };
    let mut upkeep = Upkeep::new(config, at(10)).unwrap();
    assert_eq!(upkeep.handle_timeout(&mut pool, at(14)), []);
    let mut seen = Vec::new();
    for round in 1..=5 {
        let due = upkeep.poll_timeout(&pool).unwrap();
        assert_eq!(due, at(10 + 5 * round));
        for checking in upkeep.handle_timeout(&mut pool, due) {
            assert_eq!(checking.check, Check::Look);
            seen.push(conns.iter().position(|&conn| conn == checking.conn).unwrap());
            pool.release(checking.conn, Use::Unused, due);
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
}

#[test]
fn a_connection_that_was_quiet_for_long_is_probed_and_then_left_alone() {
    let (mut pool, conns) = idle_pool(1);
    let config = UpkeepConfig { probe_after: Some(SEC(30)), ..UpkeepConfig::default() };
    let mut upkeep = Upkeep::new(config, at(0)).unwrap();
    for (now, check, how) in [
        (29, Check::Look, Use::Unused),
        (34, Check::Probe, Use::Probed),
        (60, Check::Look, Use::Unused),
        (65, Check::Probe, Use::Probed),
    ] {
        let checks = upkeep.handle_timeout(&mut pool, at(now));
        assert_eq!(
            checks.iter().map(|checking| (checking.conn, checking.check)).collect::<Vec<_>>(),
            [(conns[0], check)]
        );
        assert_eq!(pool.counts().idle, 0, "nobody else gets it meanwhile");
        pool.release(conns[0], how, at(now));
    }
    // Probes did not make it younger.
    assert_eq!(pool.poll_timeout(), Some(at(90)));
}

#[test]
fn an_empty_pool_wakes_nobody() {
    let (pool, _) = idle_pool(0);
    assert_eq!(Upkeep::new(UpkeepConfig::default(), at(0)).unwrap().poll_timeout(&pool), None);
}

#[test]
fn contradictions_are_refused_with_both_values() {
    let config = UpkeepConfig { probe_after: Some(SEC(2)), ..UpkeepConfig::default() };
    let text = "interval 5s contradicts probe_after 2s: a probe is sent in a round, so no earlier than the next one";
    assert_eq!(config.check().unwrap_err().to_string(), text);
    let config = UpkeepConfig { checks_max: 0, ..UpkeepConfig::default() };
    assert!(config.check().is_err());
}
