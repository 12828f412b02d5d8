//! `persist get` against servers that others wrote.

use std::fs;
use std::path::Path;

use persist_tests::command::run_persist;
use persist_tests::folder::{Folder, content};
use persist_tests::peers::nginx::Nginx;
use persist_tests::peers::python::HttpServer;
use persist_tests::process::Said;
use serde_json::Value;

/// So many files of different sizes: empty, tiny, around the sizes of buffers, and up to 200 KiB.
fn files(count: u64) -> Vec<(String, Vec<u8>)> {
    let edges = [0, 1, 13, 1_460, 4_095, 4_096, 4_097, 8_192, 16_383, 16_385, 65_535, 65_537, 200_000];
    let size = |number: u64| match number % 3 {
        0 => edges[(number / 3) as usize % edges.len()],
        _ => (number * number * 37 % 20_000) as usize,
    };
    (0..count).map(|number| (format!("file-{number:03}.bin"), content(number, size(number)))).collect()
}

/// Fetches these files with `persist get`, and returns what it said.
fn fetch(urls: &[String], into: &Path, options: &[&str]) -> Said {
    let list = Folder::new();
    let input = list.write("urls.txt", urls.join("\n"));
    let input = input.to_str().expect("the path is UTF-8");
    let into = into.to_str().expect("the path is UTF-8");
    run_persist([&["get", "--format", "json", "--output-dir", into, "--input", input], options].concat())
}

fn assert_all_arrived(files: &[(String, Vec<u8>)], into: &Path, said: &Said) {
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for (name, content) in files {
        let got = fs::read(into.join(name)).unwrap_or_else(|error| panic!("{name}: {error}\n{}", said.stderr));
        assert!(got == *content, "{name}: {} bytes arrived of {}, or others", got.len(), content.len());
    }
}

/// The report's objects: one for each exchange, and the summary.
fn report(said: &Said) -> (Vec<Value>, Value) {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
    let mut objects: Vec<Value> = said.stderr.lines().map(parse).collect();
    let summary = objects.pop().expect("there is a summary");
    (objects, summary)
}

#[test]
fn five_hundred_files_from_nginx_arrive_unchanged_over_two_pipelined_connections() {
    let files = files(500);
    let served = files.iter().map(|(name, content)| (name.as_str(), content.as_slice()));
    let Some(nginx) = Nginx::start(served, "") else { return };
    let urls: Vec<String> = files.iter().map(|(name, _)| nginx.url(&format!("/{name}"))).collect();
    let into = Folder::new();
    let said = fetch(&urls, into.path(), &["--pipeline", "8", "--connections", "2"]);
    assert_all_arrived(&files, into.path(), &said);

    let (exchanges, _) = report(&said);
    assert_eq!(exchanges.len(), 500);
    assert!(
        exchanges.iter().all(|exchange| exchange["status"] == 200 && exchange["disposition"] == "complete"),
        "{}",
        said.stderr
    );
    // What nginx saw is what counts.
    let log = nginx.log();
    assert_eq!(log.requests.values().sum::<u64>(), 500, "{log:?}");
    assert!(log.requests.len() <= 2, "{log:?}");
    // How many overlap depends on who is faster; without pipelining none does.
    assert!(log.pipelined > 0, "{log:?}");
}

#[test]
fn everything_arrives_from_a_server_that_keeps_no_connection() {
    let files = files(30);
    let folder = Folder::new();
    for (name, content) in &files {
        folder.write(name, content);
    }
    let Some(server) = HttpServer::start(folder.path()) else { return };
    let urls: Vec<String> = files.iter().map(|(name, _)| server.url(&format!("/{name}"))).collect();
    let into = Folder::new();
    let said = fetch(&urls, into.path(), &["--pipeline", "8", "--connections", "2"]);
    assert_all_arrived(&files, into.path(), &said);
    let (exchanges, _) = report(&said);
    assert_eq!(exchanges.len(), 30);
    assert!(exchanges.iter().all(|exchange| exchange["reused"] == false), "{}", said.stderr);
}

#[test]
fn a_server_that_closes_after_some_requests_loses_none_of_them() {
    let files = files(60);
    let served = files.iter().map(|(name, content)| (name.as_str(), content.as_slice()));
    let Some(nginx) = Nginx::start(served, "keepalive_requests 7;") else { return };
    let urls: Vec<String> = files.iter().map(|(name, _)| nginx.url(&format!("/{name}"))).collect();
    let into = Folder::new();
    let said = fetch(&urls, into.path(), &["--pipeline", "8", "--connections", "1"]);
    assert_all_arrived(&files, into.path(), &said);
    let log = nginx.log();
    assert_eq!(log.requests.values().sum::<u64>(), 60, "{log:?}");
    assert!(log.requests.values().all(|&count| count <= 7), "{log:?}");
}
