//! The defaults that `SECURITY.md` promises to a server exposed to the internet are the code's.

use std::time::Duration;

use persist_core::{Config, Leniency};

const PAGE: &str = include_str!("../../SECURITY.md");

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("none".into(), |time| format!("{} s", time.as_secs()))
}

#[test]
fn the_defaults_of_a_server_exposed_to_the_internet_are_those_of_the_page() {
    let config = Config::server();
    let (limits, timeouts) = (config.limits, config.timeouts);
    let bytes = |limit: u32| format!("{} bytes", with_commas(limit.into()));
    let per_peer = persist_async::ServerConfig::default().connections_per_peer_max;
    let rows = [
        ("limits.head_bytes_max", bytes(limits.head_bytes_max)),
        ("limits.fields_max", limits.fields_max.to_string()),
        ("limits.target_bytes_max", bytes(limits.target_bytes_max)),
        ("limits.chunk_ext_bytes_max", format!("{} a body", bytes(limits.chunk_ext_bytes_max))),
        ("limits.trailer_bytes_max", bytes(limits.trailer_bytes_max)),
        ("limits.outbox_bytes_max", bytes(limits.outbox_bytes_max)),
        ("limits.parked_bytes_max", bytes(limits.parked_bytes_max)),
        ("limits.drain_bytes_max", format!("{} bytes", with_commas(limits.drain_bytes_max))),
        ("timeouts.idle", seconds(timeouts.idle)),
        ("timeouts.header", seconds(timeouts.header)),
        ("timeouts.body_idle", seconds(timeouts.body_idle)),
        ("timeouts.total", seconds(timeouts.total)),
        ("timeouts.write_stall", seconds(timeouts.write_stall)),
        ("pipelining.depth", config.pipelining.depth.to_string()),
        ("connections_per_peer_max", per_peer.map_or("none".into(), |max| max.to_string())),
        ("proxy_headers", format!("{:?}", persist_async::ServerConfig::default().proxy_headers).to_lowercase()),
        ("connections_max", with_commas(persist_async::ServerConfig::default().connections_max as u64)),
    ];
    for (name, value) in rows {
        let row = format!("| `{name}` | {value} |");
        assert!(PAGE.contains(&row), "SECURITY.md lacks the row {row}");
    }
    let linger = format!("| `timeouts.drain`, `timeouts.linger` | {} each |", seconds(timeouts.drain));
    assert!(PAGE.contains(&linger) && timeouts.drain == timeouts.linger, "{linger}");
    assert_eq!(config.leniency, Leniency::strict(), "| `leniency` | strict |");
    assert_eq!(limits.body_bytes_max, u64::MAX, "| `limits.body_bytes_max` | no limit |");
    assert_eq!(timeouts.body_bytes_per_second_min, None, "| `timeouts.body_bytes_per_second_min` | none |");
    #[cfg(unix)]
    assert_eq!(
        persist_sync::ServerConfig::default().connections_max,
        persist_async::ServerConfig::default().connections_max
    );
}
