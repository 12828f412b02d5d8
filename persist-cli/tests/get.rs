//! `persist get`, as a program, against servers that do what a test tells them.
#![allow(clippy::unwrap_used, reason = "a test, and what helps it, may fail where it stands")]

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use common::{Log, json, persist, server, stderr, stdout, target};
use serde_json::{Value, json};

/// Runs `persist get` with these arguments.
fn get(arguments: &[&str]) -> std::process::Output {
    persist(&[&["get"], arguments].concat(), b"")
}

/// The report: one object for each URL, and the summary.
fn report(output: &std::process::Output) -> (Vec<Value>, Value) {
    let mut lines = json(&stderr(output));
    let summary = lines.pop().expect("there is a summary");
    assert_eq!(summary["summary"], true);
    (lines, summary)
}

fn each<'a>(lines: &'a [Value], key: &str) -> Vec<&'a Value> {
    lines.iter().map(|line| &line[key]).collect()
}

#[test]
fn one_connection_carries_everything_pipelined() {
    let address = server(|_, mut peer| {
        // The first answer shows that the connection is kept; then four requests must be here before the next is answered.
        let first = peer.request().expect("a request");
        peer.ok(target(&first));
        let requests: Vec<String> = (0..4).map(|_| peer.request().expect("four requests")).collect();
        requests.iter().for_each(|request| peer.ok(target(request)));
    });
    let urls: Vec<String> = (0..5).map(|number| format!("http://{address}/{number}")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let output = get(&[&["--pipeline", "4", "--format", "json"], &urls[..]].concat());
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "/0/1/2/3/4"));
    let (lines, mut summary) = report(&output);
    assert_eq!(each(&lines, "url"), urls);
    assert_eq!(each(&lines, "reused"), [false, true, true, true, true]);
    assert_eq!(
        lines[1],
        json!({"url": urls[1], "method": "GET", "status": 200, "bytes": 2, "connection": 1, "reused": true, "retries": 0,
            "disposition": "complete", "file": null, "error": null})
    );
    assert!(summary["seconds"].take().is_f64());
    assert_eq!(
        summary,
        json!({"summary": true, "exchanges": 5, "failed": 0, "connections": 1, "reused": 4, "retries": 0, "bytes": 10, "seconds": null})
    );
}

#[test]
fn standard_output_is_in_the_order_asked_although_the_second_connection_is_faster() {
    let (late, early) = channel::<()>();
    let (late, early) = (Mutex::new(Some(late)), Mutex::new(early));
    let address = server(move |_, mut peer| {
        let request = peer.request().expect("a request");
        if target(&request) == "/0" {
            // Until the other connection has been answered in full.
            early.lock().unwrap().recv().expect("the other connection says so");
            peer.ok("first");
        } else {
            peer.ok("x".repeat(100_000));
            late.lock().unwrap().take().expect("once").send(()).expect("the other connection waits");
        }
        peer.echo_targets();
    });
    let output = get(&["-s", "--connections", "2", &format!("http://{address}/0"), &format!("http://{address}/1")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), format!("first{}", "x".repeat(100_000)));
    assert_eq!(stderr(&output), "", "-s");
}

#[test]
fn more_destinations_than_are_served_at_once_do_not_wait_for_each_other_in_a_circle() {
    // The second round of each is more than may be kept, and waits for the first round of those that come later.
    let content = |number: usize| char::from(b'a' + (number % 26) as u8).to_string().repeat(500_000);
    let address = |number: usize| {
        server(move |_, mut peer| {
            while peer.request().is_some() {
                peer.ok(content(number))
            }
        })
    };
    let addresses: Vec<_> = (0..40).map(address).collect();
    let urls: Vec<String> = addresses.iter().chain(&addresses).map(|address| format!("http://{address}/")).collect();
    let output = persist(&["get", "-s", "--pipeline", "2", "--input", "-"], urls.join("\n").as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let expected: String = (0..40).chain(0..40).map(content).collect();
    assert!(stdout(&output) == expected, "the order, or the content, is another");
}

#[test]
fn what_a_closing_server_leaves_unanswered_goes_again_in_order() {
    let log = Log::default();
    let seen = log.clone();
    let address = server(move |number, mut peer| {
        // The first connection answers two of four and closes without a word; the second says close with its first.
        match number {
            0 => {
                let first = peer.request().expect("a request");
                peer.ok(target(&first));
                let requests: Vec<String> = (0..3).map_while(|_| peer.request()).collect();
                peer.ok(target(&requests[0]));
            }
            1 => {
                let request = peer.request().expect("a request");
                seen.add(target(&request));
                peer.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n/2");
            }
            _ => peer.echo_targets(),
        }
    });
    let urls: Vec<String> = (0..5).map(|number| format!("http://{address}/{number}")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let output = get(&[&["--pipeline", "3", "--format", "json"], &urls[..]].concat());
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "/0/1/2/3/4"), "{}", stderr(&output));
    assert_eq!(log.all(), ["/2"]);
    let (lines, summary) = report(&output);
    // What may have been processed goes first on a fresh connection. The last may or may not have been written before the end was seen.
    assert_eq!(each(&lines[..4], "connection"), [1, 1, 2, 3]);
    assert_eq!(each(&lines[..4], "retries"), [0, 0, 1, 1]);
    assert_eq!(summary["failed"], 0);
}

#[test]
fn a_server_that_closes_when_it_likes_loses_nothing() {
    for seed in 0..12_u64 {
        // After one to five replies each connection ends: with a word in its last reply, or without.
        let address = server(move |number, mut peer| {
            let choice = (seed * 7_919 + number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            let (replies, says) = (choice % 5, choice & 1 == 0);
            for _ in 0..replies {
                let Some(request) = peer.request() else { return };
                peer.ok(target(&request));
            }
            let Some(request) = peer.request() else { return };
            let content = target(&request);
            let close = if says { "Connection: close\r\n" } else { "" };
            peer.say(format!("HTTP/1.1 200 OK\r\n{close}Content-Length: {}\r\n\r\n{content}", content.len()));
            peer.end();
        });
        let urls: Vec<String> = (0..120).map(|number| format!("http://{address}/{number}")).collect();
        let (depth, connections) = ((1 << (seed % 6)).to_string(), (1 + seed % 3).to_string());
        let arguments = ["get", "--pipeline", &depth, "--connections", &connections, "--input", "-"];
        let output = persist(&arguments, urls.join("\n").as_bytes());
        let expected: String = (0..120).map(|number| format!("/{number}")).collect();
        assert_eq!((output.status.code(), stdout(&output)), (Some(0), expected), "seed {seed}: {}", stderr(&output));
    }
}

#[test]
fn a_request_that_is_not_idempotent_is_never_sent_twice() {
    let log = Log::default();
    let seen = log.clone();
    let address = server(move |number, mut peer| {
        while let Some(request) = peer.request() {
            seen.add(target(&request));
            // The second request is taken, and the connection lost.
            if number == 0 && target(&request) == "/1" {
                return;
            }
            peer.ok(target(&request));
        }
    });
    let url = |number: u32| format!("http://{address}/{number}");
    let output = get(&["--pipeline", "8", "--format", "json", "-d", "x", &url(0), &url(1), &url(2)]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(52), "/0/2"), "{}", stderr(&output));
    assert_eq!(log.all(), ["/0", "/1", "/2"]);
    let (lines, _) = report(&output);
    assert_eq!(each(&lines, "disposition"), ["complete", "sent-no-reply", "complete"]);
}

#[test]
fn a_server_that_answers_one_request_a_connection_answers_all() {
    let address = server(|_, mut peer| {
        let request = peer.request().expect("a request");
        peer.say(format!("HTTP/1.0 200 OK\r\n\r\n{}", target(&request)));
    });
    let urls: Vec<String> = (0..40).map(|number| format!("http://{address}/{number}")).collect();
    let output =
        persist(&["get", "-s", "--pipeline", "16", "--connections", "2", "--input", "-"], urls.join("\n").as_bytes());
    let expected: String = (0..40).map(|number| format!("/{number}")).collect();
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), expected), "{}", stderr(&output));
}

#[test]
fn a_list_of_urls_comes_after_the_arguments_without_its_blanks_and_comments() {
    let address = server(|_, mut peer| peer.echo_targets());
    let list = format!("# the list\r\n\r\n  http://{address}/b \r\n\t\n{address}/c");
    let output = persist(&["get", "--input", "-", &format!("http://{address}/a")], list.as_bytes());
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "/a/b/c"), "{}", stderr(&output));
}

#[test]
fn each_failure_has_its_line_and_its_code_and_the_others_arrive() {
    let good = server(|_, mut peer| peer.echo_targets());
    let garbage = server(|_, mut peer| {
        peer.request();
        peer.say("220 ready\r\n");
    });
    let cut = server(|_, mut peer| {
        peer.request();
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
    });
    let silent = server(|_, mut peer| drop(peer.request()));
    let closed = {
        // Bound and dropped: nobody listens there.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let table = [
        (format!("http://{closed}/"), 7, "connecting to 127.0.0.1:"),
        ("http://nowhere.invalid/".to_owned(), 6, "resolving the host nowhere.invalid: "),
        (format!("http://{garbage}/"), 8, "the response is not HTTP/1.1 as it should be: "),
        (format!("http://{cut}/"), 18, "receiving the response: 9 of 100 bytes of content came: "),
        (format!("http://{silent}/"), 52, "waiting for the response: "),
        ("ftp://127.0.0.1/".to_owned(), 1, "the scheme ftp is not supported"),
        ("http://127.0.0.1:99999/".to_owned(), 3, "reading the URL: "),
    ];
    for (bad, code, message) in table {
        let output = get(&[&format!("http://{good}/a"), &bad, &format!("http://{good}/b")]);
        let (printed, said) = (stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{bad}: {said}");
        assert!(printed.starts_with("/a") && printed.ends_with("/b"), "{bad}: {printed}");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 2, "one line for the failure, one summary: {said}");
        assert!(lines[0].starts_with(&format!("persist: {bad}: ")) && lines[0].contains(message), "{bad}: {said}");
        assert!(lines[1].starts_with("2 exchanges ") && lines[1].ends_with("; 1 failed"), "{bad}: {said}");
    }
}

#[test]
fn one_broken_reply_does_not_cost_those_behind_it_in_the_pipeline() {
    let address = server(|_, mut peer| {
        while let Some(request) = peer.request() {
            if target(&request).starts_with("/bad") {
                return peer.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut");
            }
            peer.ok(target(&request));
        }
    });
    let paths = ["bad0", "1", "bad2", "3", "bad4", "5", "6"];
    let urls: Vec<String> = paths.iter().map(|path| format!("http://{address}/{path}")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let output = get(&[&["--pipeline", "8", "--format", "json"], &urls[..]].concat());
    assert_eq!(output.status.code(), Some(18));
    assert_eq!(stdout(&output), "cut/1cut/3cut/5/6", "{}", stderr(&output));
    let (lines, _) = report(&output);
    let dispositions = each(&lines, "disposition");
    assert_eq!(
        dispositions,
        ["reply-partial", "complete", "reply-partial", "complete", "reply-partial", "complete", "complete"]
    );
}

#[test]
fn fail_turns_an_error_status_into_a_failure_and_drops_its_content() {
    let address = server(|_, mut peer| {
        while peer.request().is_some() {
            peer.say("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope");
        }
    });
    let url = format!("http://{address}/");
    let output = get(&[&url]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "nope"));
    let output = get(&["--fail", "--format", "json", &url]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(22), ""));
    let (lines, _) = report(&output);
    assert_eq!((&lines[0]["status"], &lines[0]["error"]), (&json!(404), &json!("the response: status 404 Not Found")));
}

#[test]
fn dropped_content_does_not_cost_the_connection() {
    let address = server(|_, mut peer| {
        while peer.request().is_some() {
            peer.say(format!("HTTP/1.1 404 Not Found\r\nContent-Length: 200000\r\n\r\n{}", "x".repeat(200_000)));
        }
    });
    for depth in ["1", "3"] {
        let urls: Vec<String> = (0..5).map(|number| format!("http://{address}/{number}")).collect();
        let arguments = ["get", "-f", "--format", "json", "--pipeline", depth, "--input", "-"];
        let output = persist(&arguments, urls.join("\n").as_bytes());
        let (_, summary) = report(&output);
        assert_eq!((&summary["failed"], &summary["connections"]), (&json!(5), &json!(1)), "depth {depth}");
    }
}

#[test]
fn a_url_that_takes_too_long_is_given_up_and_those_behind_it_arrive() {
    let address = server(|_, mut peer| {
        while let Some(request) = peer.request() {
            if target(&request) == "/never" {
                // Until the client has gone.
                while peer.request().is_some() {}
                return;
            }
            peer.ok(target(&request));
        }
    });
    let url = |path: &str| format!("http://{address}/{path}");
    let output = get(&["-m", "2.5", "--pipeline", "4", &url("a"), &url("never"), &url("b")]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(28), "/a/b"), "{}", stderr(&output));
}

#[test]
fn files_are_named_by_the_last_segment_and_never_leave_the_directory() {
    let address = server(|_, mut peer| peer.echo_targets());
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("into");
    let paths = ["/a", "/x/a?q", "/", "/%2e%2e%2fup", "/y/.."];
    let urls: Vec<String> = paths.iter().map(|path| format!("http://{address}{path}")).collect();
    let into_text = into.to_str().unwrap();
    let mut arguments = vec!["get", "--output-dir", into_text];
    arguments.extend(urls.iter().map(String::as_str));

    let output = persist(&arguments, b"");
    assert_eq!(output.status.code(), Some(23), "the directory does not exist: {}", stderr(&output));

    arguments.push("--create-dirs");
    let output = persist(&arguments, b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut names: Vec<_> = fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["%2e%2e%2fup", "a", "a.1", "index.html", "index.html.1"]);
    assert_eq!(fs::read_to_string(into.join("a.1")).unwrap(), "/x/a?q");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_output_that_cannot_be_written_fails_its_url_only() {
    let address = server(|_, mut peer| peer.echo_targets());
    let folder = tempfile::tempdir().unwrap();
    let second = folder.path().join("second");
    let output = get(&[
        "-o",
        "/nowhere/first",
        "-o",
        second.to_str().unwrap(),
        &format!("http://{address}/1"),
        &format!("http://{address}/2"),
        &format!("http://{address}/3"),
    ]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(23), "/3"));
    assert!(
        stderr(&output).contains("/1: writing the output file /nowhere/first: No such file"),
        "{}",
        stderr(&output)
    );
    assert_eq!(fs::read_to_string(second).unwrap(), "/2");
}

#[test]
fn the_run_ends_when_standard_output_is_gone() {
    let address = server(|_, mut peer| {
        while peer.request().is_some() {
            peer.ok("x".repeat(1_000_000));
        }
    });
    let urls: Vec<String> = (0..50).map(|number| format!("http://{address}/{number}")).collect();
    let mut child = Command::new(env!("CARGO_BIN_EXE_persist"))
        .args(["get", "--pipeline", "4"])
        .args(urls)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(23));
    assert_eq!(stderr(&output).lines().count(), 2, "one error, one summary: {}", stderr(&output));
}

/// What a server receives from `persist get` with these arguments; `{}` stands for its address.
fn received(arguments: &[&str], input: &[u8], end: &'static str) -> String {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let address = server(move |_, mut peer| {
        let text = if end.is_empty() { peer.request().expect("a request") } else { peer.until(end) };
        sender.lock().unwrap().send(text).unwrap();
        peer.ok("");
    });
    let arguments: Vec<String> =
        arguments.iter().map(|argument| argument.replace("{}", &address.to_string())).collect();
    let arguments: Vec<&str> = std::iter::once("get").chain(arguments.iter().map(String::as_str)).collect();
    let output = persist(&arguments, input);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    receiver.recv().unwrap().replace(&address.to_string(), "HOST")
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn a_request_is_what_curl_would_send() {
    assert_eq!(
        received(&["{}/a?b#c"], b"", ""),
        format!("GET /a?b HTTP/1.1\r\nHost: HOST\r\nUser-Agent: persist/{VERSION}\r\nAccept: */*\r\n\r\n")
    );
    assert_eq!(
        received(&["-A", "", "-H", "accept:", "-H", "Host: example.com", "-H", "X;", "http://{}/"], b"", ""),
        "GET / HTTP/1.1\r\nHost: example.com\r\nX: \r\n\r\n"
    );
    let posted = received(&["-A", "", "-d", "a=1", "--data-raw", "@b", "-d", "@-", "http://{}/"], b"li\r\nne", "");
    assert!(posted.starts_with("POST / HTTP/1.1\r\n"), "{posted}");
    assert!(posted.contains("\r\nContent-Type: application/x-www-form-urlencoded\r\n"), "{posted}");
    assert!(posted.contains("\r\nContent-Length: 11\r\n") && posted.ends_with("\r\n\r\na=1&@b&line"), "{posted}");
    let deleted = received(&["-X", "DELETE", "-u", "user:pass word", "http://{}/"], b"", "");
    assert!(deleted.starts_with("DELETE / HTTP/1.1\r\n"), "{deleted}");
    assert!(deleted.contains("\r\nAuthorization: Basic dXNlcjpwYXNzIHdvcmQ=\r\n"), "{deleted}");
}

#[test]
fn an_upload_streams_a_file_or_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("up load.txt");
    fs::write(&file, "content").unwrap();
    let put = received(&["-T", file.to_str().unwrap(), "http://{}/d/"], b"", "");
    assert!(put.starts_with("PUT /d/up%20load.txt HTTP/1.1\r\n") && put.ends_with("\r\n\r\ncontent"), "{put}");
    assert!(put.contains("\r\nContent-Length: 7\r\n"), "{put}");
    let put = received(&["-T", "-", "http://{}/x"], b"streamed", "\r\n0\r\n\r\n");
    assert!(put.starts_with("PUT /x HTTP/1.1\r\n") && put.contains("\r\nTransfer-Encoding: chunked\r\n"), "{put}");
    assert!(put.ends_with("\r\n8\r\nstreamed\r\n0\r\n\r\n"), "{put}");
    let put = received(
        &["-T", file.to_str().unwrap(), "-H", "Transfer-Encoding: chunked", "http://{}/x"],
        b"",
        "\r\n0\r\n\r\n",
    );
    assert!(put.ends_with("\r\n7\r\ncontent\r\n0\r\n\r\n") && !put.contains("Content-Length"), "{put}");
}

#[test]
fn an_upload_that_cannot_be_read_is_named_and_the_next_url_is_fetched() {
    let address = server(|_, mut peer| peer.echo_targets());
    let folder = tempfile::tempdir().unwrap();
    let url = |path: &str| format!("http://{address}/{path}");
    for file in [folder.path().join("none"), folder.path().to_owned()] {
        let output = get(&["-T", file.to_str().unwrap(), &url("a"), &url("b")]);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(26), "/b"), "{}", stderr(&output));
        assert!(stderr(&output).contains("/a: reading "), "{}", stderr(&output));
    }
}

#[test]
fn the_demo_fetches_a_thousand_resources_over_two_connections_and_checks_them() {
    let output = get(&["--demo", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (lines, summary) = report(&output);
    assert_eq!(lines.len(), 1_000);
    assert!(lines.iter().all(|line| line["disposition"] == "complete" && line["error"].is_null()));
    assert_eq!((&summary["connections"], &summary["reused"]), (&json!(2), &json!(998)));
    assert_eq!(lines[500]["bytes"], 8 * 1024 * 1024);
}

#[test]
fn a_proxy_gets_the_absolute_form_and_its_own_credentials() {
    let asked = received(&["-A", "", "-x", "http://user:pw@{}", "http://origin.example:81/a?b"], b"", "");
    assert_eq!(
        asked,
        "GET http://origin.example:81/a?b HTTP/1.1\r\nHost: origin.example:81\r\nAccept: */*\r\nProxy-Authorization: Basic dXNlcjpwdw==\r\n\r\n"
    );
}

#[cfg(unix)]
#[test]
fn a_unix_socket_stands_in_for_every_host() {
    use std::io::{Read as _, Write as _};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        String::from_utf8(request).unwrap()
    });
    let output = get(&["-s", "--unix-socket", path.to_str().unwrap(), "http://any.invalid/x"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "hi"), "{}", stderr(&output));
    let request = server.join().unwrap();
    assert!(request.starts_with("GET /x HTTP/1.1\r\nHost: any.invalid\r\n"), "{request}");
}

#[test]
fn heads_are_shown_when_asked_for_and_credentials_never() {
    let address = server(|_, mut peer| {
        while peer.request().is_some() {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: secret\r\nX: y\r\n\r\n");
        }
    });
    let url = format!("http://{address}/");
    let output = get(&["-I", &url]);
    assert_eq!(stdout(&output), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: secret\r\nX: y\r\n\r\n");
    let output = get(&["-v", "-u", "me:secret", &url]);
    let said = stderr(&output);
    for line in
        ["> GET / HTTP/1.1", "> Authorization: (hidden)", "< HTTP/1.1 200 OK", "< Set-Cookie: (hidden)", "< X: y"]
    {
        assert!(said.lines().any(|said| said == line), "{line} is not in:\n{said}");
    }
    assert!(!said.contains("secret") && !said.contains("bWU6"), "{said}");
}

#[test]
fn a_command_line_that_makes_no_sense_sends_nothing() {
    for (arguments, message) in [
        (&["-H", "Content-Length: 3", "http://127.0.0.1:9/"][..], "the framing of a request follows from its content"),
        (&["-X", "CONNECT", "http://127.0.0.1:9/"], "would turn the connection into a tunnel"),
        (&["--input", "-", "-T", "-"], "standard input (-) can only be read once"),
        (&["-x", "gopher://h", "http://127.0.0.1:9/"], "-x: gopher:// is not a kind of proxy"),
        (&["-x", "h", "-H", "Host: x", "http://127.0.0.1:9/"], "the Host field says \"x\""),
        (&[], "required arguments"),
    ] {
        let output = get(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(message), "{arguments:?}: {}", stderr(&output));
    }
    let output = get(&["--input", "/nowhere/list"]);
    assert_eq!(output.status.code(), Some(26));
    assert!(stderr(&output).starts_with("persist get: reading /nowhere/list: "), "{}", stderr(&output));
}
