//! `persist get` against servers that others wrote.

use std::fs;
use std::path::Path;
use std::process::Command;

use persist_tests::certificates::{Authority, Identity};
use persist_tests::command::run_persist;
use persist_tests::folder::{Folder, content};
use persist_tests::peers::installed;
use persist_tests::peers::nginx::Nginx;
use persist_tests::peers::origin::Origin;
use persist_tests::peers::python::HttpServer;
use persist_tests::process::{Running, Said, run, start_on_a_free_port};
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

/// What curl and `persist get` make of the same arguments. The codes must be equal, and so must what came.
fn compare(curl: &Path, arguments: &[&str]) -> (Option<i32>, Said) {
    let theirs = run(Command::new(curl).args(["-q", "--silent", "--show-error", "--noproxy", "*"]).args(arguments));
    let ours = run_persist([&["get", "--silent", "--show-error"], arguments].concat());
    let both = format!("curl: {}persist: {}", theirs.stderr, ours.stderr);
    assert_eq!(ours.code, theirs.code, "{arguments:?}\n{both}");
    assert_eq!(String::from_utf8_lossy(&ours.stdout), String::from_utf8_lossy(&theirs.stdout), "{arguments:?}\n{both}");
    (ours.code, ours)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

#[test]
fn certificates_are_judged_as_curl_judges_them_and_failures_have_its_codes() {
    let Some(curl) = installed("curl") else { return };
    let (authority, stranger) = (Authority::new("the authority"), Authority::new("a stranger"));
    let own = authority.sign(&["localhost", "named.example"]);
    let Some(origin) = Origin::start(&own.certificate, &own.key) else { return };
    let url = |host: &str, path: &str| origin.url("https", host, path);
    let port = url("localhost", "").rsplit_once(':').expect("a port").1.to_owned();
    let folder = Folder::new();
    let nothing = folder.write("nothing.pem", "nothing");
    let other = stranger.sign(&["other"]);
    let (ca, foreign) = (text(&authority.file), text(&stranger.file));
    let resolve = |name: &str| format!("{name}:{port}:127.0.0.1");
    let named = url("named.example", "/named");
    let told = format!("named.example:443:127.0.0.1:{port}");

    let good: &[&[&str]] = &[
        &["--cacert", ca, &url("localhost", "/a"), &url("localhost", "/b")],
        &["-k", &url("127.0.0.1", "/anyone")],
        &["--cacert", ca, "--resolve", &resolve("named.example"), &named],
        &["--cacert", ca, "--resolve", &resolve("*"), &named],
        &["--cacert", ca, "--connect-to", &told, "https://named.example/told"],
        // Nobody asks for it.
        &["--cacert", ca, "--cert", text(&own.certificate_file), "--key", text(&own.key_file), &url("localhost", "/c")],
        // Not looked at where there is no TLS.
        &["--cacert", "/nowhere", &origin.url("http", "localhost", "/plain")],
    ];
    for arguments in good {
        assert_eq!(compare(&curl, arguments).0, Some(0), "{arguments:?}");
    }
    let bad: &[(i32, &str, &[&str])] = &[
        (60, "UnknownIssuer", &[&url("localhost", "/")]),
        (60, "UnknownIssuer", &["--cacert", foreign, &url("localhost", "/")]),
        (60, "not valid for name", &["--cacert", ca, &url("127.0.0.1", "/")]),
        (60, "not valid for name", &["--cacert", ca, "--resolve", &resolve("x.example"), &url("x.example", "/")]),
        (77, "/nowhere: No such file", &["--cacert", "/nowhere", &url("localhost", "/")]),
        (77, "the root certificates holds no certificate", &["--cacert", text(&nothing), &url("localhost", "/")]),
        (58, "/nowhere: No such file", &["-k", "--cert", "/nowhere", &url("localhost", "/")]),
        (58, "private key", &["-k", "--cert", text(&own.certificate_file), &url("localhost", "/")]),
        (
            58,
            "client certificate is of no use",
            &[
                "--cacert",
                ca,
                "--cert",
                text(&own.certificate_file),
                "--key",
                text(&other.key_file),
                &url("localhost", "/"),
            ],
        ),
        (35, "does not speak TLS", &["-k", &origin.url("http", "localhost", "/").replace("http:", "https:")]),
    ];
    for (code, why, arguments) in bad {
        let (found, said) = compare(&curl, arguments);
        assert_eq!(found, Some(*code), "{arguments:?}");
        assert!(said.stderr.contains(why) && said.stderr.lines().count() == 1, "{arguments:?}: {}", said.stderr);
    }
    let log = origin.log();
    // Both used one connection for two URLs.
    let twice = log.iter().filter(|seen| seen.target == "/b");
    assert!(twice.clone().count() == 2, "{log:?}");
    for seen in twice {
        assert!(log.iter().any(|other| other.target == "/a" && other.connection == seen.connection), "{log:?}");
    }
}

/// `openssl s_server`, which says a page about each session.
fn s_server(own: &Identity, options: &[&str]) -> Option<(Running, String)> {
    let program = installed("openssl")?;
    let (running, address) = start_on_a_free_port(|address| {
        let mut command = Command::new(&program);
        command.args(["s_server", "-www", "-naccept", "20", "-accept", &address.to_string()]).args(options);
        command.arg("-cert").arg(&own.certificate_file).arg("-key").arg(&own.key_file);
        command
    });
    Some((running, format!("https://localhost:{}/", address.port())))
}

#[test]
fn openssl_gets_the_certificate_that_it_asks_for_and_an_old_one_of_its_own_is_refused() {
    let Some(curl) = installed("curl") else { return };
    let authority = Authority::new("the authority");
    let own = authority.sign(&["localhost"]);
    let me = authority.sign(&["me"]);
    let ca = text(&authority.file);
    for version in ["-tls1_2", "-tls1_3"] {
        let options = [version, "-Verify", "1", "-verify_return_error", "-CAfile", ca];
        let Some((_running, url)) = s_server(&own, &options) else { return };
        let with =
            ["get", "-sS", "--cacert", ca, "--cert", text(&me.certificate_file), "--key", text(&me.key_file), &url];
        let said = run_persist(with);
        assert_eq!(said.code, Some(0), "{version}: {}", said.stderr);
        let page = String::from_utf8_lossy(&said.stdout);
        assert!(page.contains("me of the authority"), "{version}: {page}");
        // With 1.3 the client is done before the server has looked: it learns of it as it reads.
        let (code, said) = compare(&curl, &["--cacert", ca, &url]);
        assert_eq!(code, Some(if version == "-tls1_2" { 35 } else { 56 }), "{version}: {}", said.stderr);
    }
    // Stricter than curl, and told how to help oneself.
    let Some((_running, url)) = s_server(&authority.itself(), &[]) else { return };
    let said = run_persist(["get", "-sS", "--cacert", ca, &url]);
    assert_eq!(said.code, Some(60), "{}", said.stderr);
    assert!(said.stderr.contains("it is an authority's, not a server's; `openssl req"), "{}", said.stderr);
    let Some((_running, url)) = s_server(&authority.sign_expired(&["localhost"]), &[]) else { return };
    let (code, said) = compare(&curl, &["--cacert", ca, &url]);
    assert_eq!(code, Some(60));
    assert!(said.stderr.contains("expired"), "{}", said.stderr);
}
