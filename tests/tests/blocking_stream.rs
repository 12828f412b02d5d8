//! `persist-sync`'s streams that outlive their connections, against a server that others wrote.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use persist_sync::PersistentStream;
use persist_sync::persist_core::{HeartbeatConfig, PersistentStreamConfig};
use persist_tests::peers::redis::Redis;

#[path = "../../persist-sync/examples/redis.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example is a program")]
mod example;

#[test]
fn the_example_keeps_its_session_with_redis_over_two_connections() {
    let Some(redis) = Redis::start() else { return };
    let answers = example::talk(&redis.address.to_string()).expect("redis answers");
    let connections = format!("2 connections to http://{}", redis.address);
    assert_eq!(answers, ["+OK", "example", "+OK", "hello", "example", &connections]);
}

#[test]
fn redis_ends_a_silent_session_but_not_one_with_a_heartbeat() {
    let Some(redis) = Redis::start() else { return };
    let there = format!("http://{}", redis.address).parse().expect("a destination");
    let mut config = PersistentStreamConfig::default();
    config.heartbeat = Some(HeartbeatConfig::every(Duration::from_millis(20)).answered_within(Duration::from_secs(20)));
    config.heartbeat_payload = b"PING\r\n".to_vec();
    let stream = PersistentStream::with_config(there, config).expect("no contradiction");
    (&stream).write_all(b"CONFIG SET timeout 1\r\n").expect("written");
    let mut reader = BufReader::new(&stream);
    let mut answers = Vec::new();
    // Longer than the second after which Redis ends silent connections, were it not for the heartbeats.
    for _ in 0..100 {
        let mut answer = String::new();
        reader.read_line(&mut answer).expect("an answer");
        answers.push(answer);
    }
    assert_eq!(answers[0], "+OK\r\n");
    assert!(answers[1..].iter().all(|answer| answer == "+PONG\r\n"), "{answers:?}");
    assert_eq!(stream.connections(), 1);
}
