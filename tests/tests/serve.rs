//! `persist serve` under clients that others wrote.

use std::process::Command;

use persist_tests::certificates::Authority;
use persist_tests::command::{Serve, run_persist};
use persist_tests::folder::{Folder, content};
use persist_tests::peers::{installed, python::python};
use persist_tests::process::run;
use serde_json::Value;

/// The server's own report: for each exchange its connection's number, and whether that had carried one before.
fn connections(said: &str) -> Vec<(u64, bool)> {
    let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
    let pair = |object: Value| Some((object["connection"].as_u64()?, object["reused"].as_bool()?));
    said.lines().filter_map(|line| pair(parse(line))).collect()
}

fn served() -> (Folder, Vec<u8>) {
    let folder = Folder::new();
    let big = content(1, 300_000);
    folder.write("small.txt", "Hello, World!");
    folder.write("sub/big.bin", &big);
    (folder, big)
}

#[test]
fn curl_sends_two_requests_on_one_connection() {
    let Some(curl) = installed("curl") else { return };
    let (folder, big) = served();
    let server = Serve::start(["--format", "json", folder.path().to_str().expect("the path is UTF-8")]);
    let into = Folder::new();
    let mut command = Command::new(curl);
    command.args(["--silent", "--show-error", "--fail"]);
    command.arg("-o").arg(into.join("small")).arg(server.url("/small.txt"));
    command.arg("-o").arg(into.join("big")).arg(server.url("/sub/big.bin"));
    let said = run(&mut command);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(std::fs::read(into.join("small")).expect("curl wrote it"), b"Hello, World!");
    assert!(std::fs::read(into.join("big")).expect("curl wrote it") == big, "the big file arrived changed");

    let (code, report) = server.terminate();
    assert_eq!(code, Some(0), "{report}");
    let connections = connections(&report);
    assert!(matches!(connections[..], [(a, false), (b, true)] if a == b), "{report}");
}

#[test]
fn curl_uploads_to_the_echo_and_gets_it_back() {
    let Some(curl) = installed("curl") else { return };
    let server = Serve::start(["--echo"]);
    let folder = Folder::new();
    // Past 1 MiB curl waits for `100 Continue`.
    let sent = content(2, 3 << 20);
    let file = folder.write("sent", &sent);
    for framing in ["Content-Length", "Transfer-Encoding: chunked"] {
        let got = folder.join("got");
        let mut command = Command::new(&curl);
        command.args(["--silent", "--show-error", "--fail", "--data-binary"]).arg(format!("@{}", file.display()));
        if framing.contains(':') {
            command.args(["-H", framing]);
        }
        let said = run(command.arg("-o").arg(&got).arg(server.url("/")));
        assert_eq!(said.code, Some(0), "{framing}: {}", said.stderr);
        assert!(std::fs::read(&got).expect("curl wrote it") == sent, "{framing}: the echo is not what was sent");
    }
}

#[test]
fn pythons_http_client_keeps_its_connection() {
    let (folder, big) = served();
    let server = Serve::start(["--format", "json", folder.path().to_str().expect("the path is UTF-8")]);
    let program = "
import http.client, sys, hashlib
connection = http.client.HTTPConnection(sys.argv[1])
connection.connect()
socket = connection.sock
for path in ('/small.txt', '/sub/big.bin', '/none', '/small.txt'):
    connection.request('GET', path)
    response = connection.getresponse()
    print(response.status, len(response.read()))
    assert connection.sock is socket, 'the connection was not kept'
connection.request('HEAD', '/sub/big.bin')
response = connection.getresponse()
print(response.status, response.getheader('Content-Length'), len(response.read()))
connection.close()
";
    let Some(said) = python(program, &[&server.address.to_string()]) else { return };
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let lines: Vec<String> = String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect();
    let big = big.len();
    assert_eq!(
        [&lines[0], &lines[1], &lines[3], &lines[4]],
        ["200 13", &format!("200 {big}"), "200 13", &format!("200 {big} 0")]
    );
    assert!(lines[2].starts_with("404 "), "{lines:?}");
    let (code, report) = server.terminate();
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(
        connections(&report).iter().map(|&(_, reused)| reused).collect::<Vec<_>>(),
        [false, true, true, true, true]
    );
}

#[test]
fn nodes_keep_alive_agent_uses_one_socket() {
    let Some(node) = installed("node") else { return };
    let server = Serve::start(["--echo", "--format", "json"]);
    let program = "
const http = require('http');
const [host, port] = process.argv[1].split(':');
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const once = (n) => new Promise((resolve, reject) => {
  const sent = Buffer.alloc(n * 40000, String(n));
  const request = http.request({ host, port, agent, method: 'POST', path: '/' + n }, (response) => {
    const parts = [];
    response.on('data', (part) => parts.push(part));
    response.on('end', () => resolve([response.statusCode, sent.equals(Buffer.concat(parts)), request.reusedSocket].join(' ')));
    response.on('error', reject);
  });
  request.on('error', reject);
  request.end(sent);
});
(async () => {
  for (let n = 0; n < 5; n++) console.log(await once(n));
  agent.destroy();
})().catch((error) => { console.error(error); process.exit(1); });
";
    let said = run(Command::new(node).args(["-e", program]).arg(server.address.to_string()));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let lines = String::from_utf8_lossy(&said.stdout);
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        ["200 true false", "200 true true", "200 true true", "200 true true", "200 true true"]
    );
    let (code, report) = server.terminate();
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(connections(&report).len(), 5, "{report}");
}

#[test]
fn curl_gets_the_certificate_of_the_name_it_asks_for_and_shows_its_own() {
    let Some(curl) = installed("curl") else { return };
    let authority = Authority::new("the authority");
    let (first, second) = (authority.sign(&["first.example"]), authority.sign(&["second.example"]));
    let me = authority.sign(&["me"]);
    let ca = authority.file.as_os_str();
    let (folder, big) = served();
    let mut arguments = vec![folder.path().as_os_str()];
    for own in [&first, &second] {
        arguments.extend([
            "--cert".as_ref(),
            own.certificate_file.as_os_str(),
            "--key".as_ref(),
            own.key_file.as_os_str(),
        ]);
    }
    arguments.extend(["--client-ca".as_ref(), ca]);
    let server = Serve::start(arguments);
    assert!(server.url("/").starts_with("https://"));
    let port = server.address.port();
    let ask = |name: &str, with_own: bool| {
        let resolve = format!("{name}:{port}:127.0.0.1");
        let mut options = vec!["--silent".as_ref(), "--show-error".as_ref(), "--cacert".as_ref(), ca];
        if with_own {
            options.extend([
                "--cert".as_ref(),
                me.certificate_file.as_os_str(),
                "--key".as_ref(),
                me.key_file.as_os_str(),
            ]);
        }
        let url = format!("https://{name}:{port}/sub/big.bin");
        let theirs = run(Command::new(&curl).arg("-q").args(&options).args(["--resolve", &resolve, &url]));
        let ours = run_persist(
            [&["get".as_ref()], &options[..], &["--resolve".as_ref(), resolve.as_ref(), url.as_ref()]].concat(),
        );
        (theirs, ours)
    };
    for name in ["first.example", "second.example"] {
        let (theirs, ours) = ask(name, true);
        assert_eq!((theirs.code, ours.code), (Some(0), Some(0)), "{}{}", theirs.stderr, ours.stderr);
        assert!(theirs.stdout == big && ours.stdout == big, "{name}: the file arrived changed");
    }
    let (theirs, ours) = ask("first.example", false);
    assert_eq!((theirs.code, ours.code), (Some(56), Some(56)), "{}{}", theirs.stderr, ours.stderr);
    let (theirs, ours) = ask("third.example", true);
    assert_eq!((theirs.code, ours.code), (Some(60), Some(60)), "{}{}", theirs.stderr, ours.stderr);
    assert_eq!(server.terminate().0, Some(0));
}

#[test]
fn a_certificate_that_is_of_no_use_ends_the_server_before_it_listens() {
    let authority = Authority::new("the authority");
    let (own, other) = (authority.sign(&["a"]), authority.sign(&["b"]));
    let [cert, key] = [own.certificate_file.as_os_str(), other.key_file.as_os_str()];
    let cases: [(i32, &str, &[&std::ffi::OsStr]); 4] = [
        (58, "No such file", &["--cert".as_ref(), "/nowhere".as_ref()]),
        (58, "server certificate is of no use", &["--cert".as_ref(), cert, "--key".as_ref(), key]),
        (
            77,
            "No such file",
            &[
                "--cert".as_ref(),
                cert,
                "--key".as_ref(),
                own.key_file.as_os_str(),
                "--client-ca".as_ref(),
                "/nowhere".as_ref(),
            ],
        ),
        (2, "one for each", &["--cert".as_ref(), cert, "--cert".as_ref(), cert, "--key".as_ref(), key]),
    ];
    for (code, why, options) in cases {
        let said = run_persist([&["serve".as_ref(), "--listen".as_ref(), "127.0.0.1:0".as_ref()], options].concat());
        assert_eq!(said.code, Some(code), "{options:?}: {}", said.stderr);
        assert!(said.stderr.contains(why) && said.stderr.lines().count() == 1, "{options:?}: {}", said.stderr);
        assert!(said.stdout.is_empty());
    }
}
