//! Errors stick: once the peer broke the protocol, nothing that follows changes the verdict, and no further exchange begins.

mod common;

use common::seeds::{Dice, check};
use common::seen::{Log, Seen, Stop, drain, flush};
use common::wire::{damaged, request, response, stream};
use persist_core::{
    BodyLen, Client, Config, Conn, Field, FieldName, FieldValue, Instant, Method, Overlap, Role, SendError, Server,
    Side,
};
use proptest::collection::vec;
use proptest::prelude::*;

use common::seen::Line;

/// Whatever may happen to a machine from outside.
fn befall<R: Role>(conn: &mut Conn<R>, now: &mut Instant, log: &mut Log, dice: &mut Dice, bytes: &[u8]) -> Stop
where
    R::Inbound: Line,
{
    match dice.below(7) {
        0 => conn.handle_eof(*now),
        1 => conn.handle_io_error(Side::Read, *now),
        2 => conn.handle_io_error(Side::Write, *now),
        3 => conn.close(*now),
        4 => {
            if let Some(deadline) = conn.poll_timeout() {
                *now = deadline;
                conn.handle_timeout(deadline);
            }
        }
        5 => drop(flush(conn, *now)),
        _ => drop(conn.poll_shutdown()),
    }
    drain(conn, &mut &bytes[..], *now, log, |_, _| {})
}

fn stays_broken<R: Role>(mut conn: Conn<R>, bytes: &[u8], dice: &mut Dice) -> bool
where
    R::Inbound: Line,
{
    let (mut now, mut log) = (Instant::ZERO, Log::default());
    let stop = drain(&mut conn, &mut &bytes[..], now, &mut log, |_, _| {});
    let Stop::Error(error) = stop else { return false };
    let is_begun = |seen: &&Seen| matches!(seen, Seen::Head(..) | Seen::Data(..) | Seen::Interim(..));
    let begun = log.0.iter().filter(is_begun).count();
    for _ in 0..12 {
        let again = befall(&mut conn, &mut now, &mut log, dice, bytes);
        assert_eq!(again, Stop::Error(error.clone()));
        assert_eq!(conn.error(), Some(&error));
        assert!(conn.is_closing() && conn.available() == 0);
    }
    assert_eq!(log.0.iter().filter(is_begun).count(), begun, "nothing is read behind a broken message: {log:?}");
    let closes = log.0.iter().filter(|seen| matches!(seen, Seen::Closed(_))).count();
    assert!(closes <= 1, "closed {closes} times");
    true
}

#[test]
fn an_error_of_the_peers_is_the_last_word_of_a_server() {
    let broken = std::cell::Cell::new(0);
    let bytes = vec(request(100), 1..4).prop_flat_map(|messages| damaged(stream(&messages)));
    check(1000, (bytes, any::<u64>()), |(bytes, seed)| {
        let mut config = Config::server();
        config.pipelining.overlap = Overlap::Any;
        let conn = Conn::<Server>::new(config, Instant::ZERO);
        broken.set(broken.get() + u32::from(stays_broken(conn, &bytes, &mut Dice::new(seed))));
    });
    assert!(broken.get() > 100, "only {} cases were broken at all", broken.get());
}

#[test]
fn an_error_of_the_peers_is_the_last_word_of_a_client() {
    let broken = std::cell::Cell::new(0);
    let bytes = vec(response(100), 1..4).prop_flat_map(|messages| damaged(stream(&messages)));
    check(1000, (bytes, any::<u64>()), |(bytes, seed)| {
        let mut config = Config::client();
        config.pipelining.depth = 4;
        let mut conn = Conn::<Client>::new(config, Instant::ZERO);
        let host = Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("h") };
        for _ in 0..4 {
            conn.send_request(&Method::GET, "/", [host], BodyLen::Empty, Instant::ZERO).expect("the depth allows it");
        }
        flush(&mut conn, Instant::ZERO);
        broken.set(broken.get() + u32::from(stays_broken(conn, &bytes, &mut Dice::new(seed))));
    });
    assert!(broken.get() > 100, "only {} cases were broken at all", broken.get());
}

#[test]
fn bytes_that_answer_nothing_poison_for_good() {
    let mut conn = Conn::<Client>::new(Config::client(), Instant::ZERO);
    let mut log = Log::default();
    let stray = &b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..];
    assert!(matches!(drain(&mut conn, &mut &stray[..], Instant::ZERO, &mut log, |_, _| {}), Stop::Error(_)));
    let host = Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("h") };
    let refused = conn.send_request(&Method::GET, "/", [host], BodyLen::Empty, Instant::ZERO);
    assert_eq!(refused, Err(SendError::Closed));
    assert!(matches!(drain(&mut conn, &mut &stray[..], Instant::ZERO, &mut log, |_, _| {}), Stop::Error(_)));
    assert!(!log.0.iter().any(|seen| matches!(seen, Seen::Head(..))), "{log:?}");
}
