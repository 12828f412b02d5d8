//! The tables of docs/protocol.md that state defaults state the code's. (The diagrams are checked beside their tables.)

use persist_core::Timeouts;
use std::time::Duration;

/// The page, unless the crate stands alone, without the repository.
fn page() -> Option<String> {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    let is_in_repository = std::path::Path::new(docs).exists();
    is_in_repository.then(|| std::fs::read_to_string(format!("{docs}/protocol.md")).expect("docs/protocol.md"))
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("-".into(), |time| format!("{} s", time.as_secs()))
}

#[test]
fn the_table_of_deadlines_states_the_defaults() {
    let Some(page) = page() else { return };
    let (client, server) = (Timeouts::client(), Timeouts::server());
    let rate = |rate: Option<u32>| rate.map_or("-".into(), |rate| format!("{rate}"));
    let rows = [
        ("idle", seconds(client.idle), seconds(server.idle)),
        ("header", seconds(client.header), seconds(server.header)),
        ("body_idle", seconds(client.body_idle), seconds(server.body_idle)),
        ("body_bytes_per_second_min", rate(client.body_bytes_per_second_min), rate(server.body_bytes_per_second_min)),
        ("total", seconds(client.total), seconds(server.total)),
        ("write_stall", seconds(client.write_stall), seconds(server.write_stall)),
        ("drain", seconds(client.drain), seconds(server.drain)),
        ("linger", seconds(client.linger), seconds(server.linger)),
        ("expect_continue", seconds(client.expect_continue), seconds(server.expect_continue)),
        ("max_age", seconds(client.max_age), seconds(server.max_age)),
    ];
    for (name, client, server) in rows {
        let row = format!("| `{name}` | {client} | {server} |");
        assert!(page.contains(&row), "docs/protocol.md lacks the row {row}");
    }
}
