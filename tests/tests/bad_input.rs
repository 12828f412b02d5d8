//! What `persist get` says when something is wrong: one line with the URL, the phase and the cause; and the other URLs still arrive.

use persist_tests::command::{Serve, run_persist};
use persist_tests::folder::Folder;
use persist_tests::process::{RefusingPort, Said};
use persist_tests::script::always_replies;

/// Fetches `bad` between two good URLs; the good ones must arrive, the exit code must not be 0, and one line must hold all of `words`.
fn assert_one_clear_line(bad: &str, words: &[&str]) {
    let folder = Folder::new();
    folder.write("first.txt", "first ");
    folder.write("last.txt", "last");
    let server = Serve::start([folder.path()]);
    let said = run_persist(["get", &server.url("/first.txt"), bad, &server.url("/last.txt")]);
    let printed = String::from_utf8_lossy(&said.stdout);
    assert!(printed.starts_with("first ") && printed.ends_with("last"), "{printed:?}\n{}", said.stderr);
    assert_failed_clearly(&said, bad, words);
}

fn assert_failed_clearly(said: &Said, bad: &str, words: &[&str]) {
    assert!(said.code.is_some_and(|code| code != 0), "exit code {:?}: {}", said.code, said.stderr);
    let lines: Vec<&str> = said.stderr.lines().filter(|line| line.contains(bad)).collect();
    let [line] = lines[..] else { panic!("{} lines name {bad}:\n{}", lines.len(), said.stderr) };
    for word in words {
        assert!(line.to_lowercase().contains(word), "{word:?} is not in: {line}");
    }
}

#[test]
fn a_refused_connection_is_named() {
    let port = RefusingPort::new();
    assert_one_clear_line(&format!("http://{}/x", port.address), &["connect", "refused"]);
}

#[test]
fn a_host_that_does_not_resolve_is_named() {
    // RFC 6761: `invalid` never resolves.
    assert_one_clear_line("http://nowhere.invalid/x", &["resolv"]);
}

#[test]
fn a_reply_that_is_not_http_is_named() {
    let address = always_replies(b"220 mail.example.com ESMTP ready\r\n");
    assert_one_clear_line(&format!("http://{address}/x"), &["response"]);
}

#[test]
fn a_reply_that_is_cut_in_the_middle_is_named() {
    let address = always_replies(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
    assert_one_clear_line(&format!("http://{address}/x"), &["9", "100"]);
}

#[test]
fn a_reply_that_is_cut_in_its_head_is_named() {
    let address = always_replies(b"HTTP/1.1 200 OK\r\nContent-Le");
    assert_one_clear_line(&format!("http://{address}/x"), &["response"]);
}

#[test]
fn an_output_file_that_cannot_be_written_is_named_and_the_others_are_written() {
    let folder = Folder::new();
    folder.write("first.txt", "first");
    folder.write("second.txt", "second");
    let server = Serve::start([folder.path()]);
    let into = Folder::new();
    // A folder stands where the file should.
    std::fs::create_dir(into.join("first.txt")).expect("the folder can be made");
    let into_path = into.path().to_str().expect("the path is UTF-8");
    let bad = server.url("/first.txt");
    let said = run_persist(["get", "--output-dir", into_path, &bad, &server.url("/second.txt")]);
    assert_failed_clearly(&said, &bad, &["first.txt", "writ"]);
    assert_eq!(std::fs::read(into.join("second.txt")).expect("the other file is written"), b"second");
}
