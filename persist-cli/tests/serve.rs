//! `persist serve`, as a program, asked over plain sockets.
#![allow(clippy::unwrap_used, reason = "a test, and what helps it, may fail where it stands")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// A running server; killed when dropped.
struct Serve {
    child: Child,
    address: SocketAddr,
}

impl Serve {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_persist"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says a line");
        let address = line.trim_end().strip_prefix("listening on http://").expect("its first line is as promised");
        Self { child, address: address.parse().expect("an address") }
    }

    fn connect(&self) -> Client {
        Client { stream: BufReader::new(TcpStream::connect(self.address).expect("it listens")) }
    }

    /// One request on a connection of its own.
    fn ask(&self, request: &str) -> Reply {
        self.connect().ask(request)
    }

    #[cfg(unix)]
    fn signal(&self) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(status.success());
    }

    /// Its exit code and its report.
    #[cfg(unix)]
    fn end(self) -> (Option<i32>, String) {
        self.signal();
        self.wait()
    }

    #[cfg(unix)]
    fn wait(mut self) -> (Option<i32>, String) {
        let mut report = String::new();
        self.child.stderr.take().expect("it is piped").read_to_string(&mut report).expect("the report is UTF-8");
        (self.child.wait().expect("it ends").code(), report)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    stream: BufReader<TcpStream>,
}

struct Reply {
    status: u16,
    fields: Vec<(String, String)>,
    content: Vec<u8>,
}

impl Reply {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.content).expect("the content is UTF-8")
    }
}

impl Client {
    fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Sends a request line and fields without `Host`, separated by newlines, and reads the reply.
    fn ask(&mut self, request: &str) -> Reply {
        let request = request.replace('\n', "\r\n");
        self.say(format!("{request}\r\nHost: h\r\n\r\n"));
        self.reply(request.starts_with("HEAD "))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line comes");
        line.trim_end().to_owned()
    }

    fn reply(&mut self, head: bool) -> Reply {
        let status = self.line();
        let status: u16 = status.split(' ').nth(1).unwrap_or_else(|| panic!("{status:?}")).parse().expect("a number");
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { break };
            fields.push((name.to_owned(), value.to_owned()));
        }
        let mut reply = Reply { status, fields, content: Vec::new() };
        if head || status == 304 || status == 204 || status < 200 {
            return reply;
        }
        if let Some(length) = reply.field("Content-Length") {
            reply.content = vec![0; length.parse().expect("a number")];
            self.stream.read_exact(&mut reply.content).expect("the content comes");
            return reply;
        }
        assert_eq!(reply.field("Transfer-Encoding"), Some("chunked"));
        loop {
            let size = usize::from_str_radix(&self.line(), 16).expect("a chunk size");
            let mut chunk = vec![0; size];
            self.stream.read_exact(&mut chunk).expect("the chunk comes");
            reply.content.append(&mut chunk);
            assert_eq!(self.line(), "");
            if size == 0 {
                return reply;
            }
        }
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("sub/with index")).unwrap();
    fs::write(root.join("hello.txt"), "Hello, World!").unwrap();
    fs::write(root.join("big.bin"), (0..300_000u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>()).unwrap();
    fs::write(root.join("sub/<b>.html"), "<p>").unwrap();
    fs::write(root.join("sub/with index/index.html"), "the index").unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    folder
}

fn site(folder: &tempfile::TempDir, options: &[&str]) -> Serve {
    let root = folder.path().join("root");
    Serve::start(&[options, &[root.to_str().unwrap()]].concat())
}

#[test]
fn a_file_comes_with_its_type_and_validators_and_is_not_sent_again_unchanged() {
    let folder = folder();
    let serve = site(&folder, &[]);
    let reply = serve.ask("GET /hello.txt HTTP/1.1");
    assert_eq!((reply.status, reply.text()), (200, "Hello, World!"));
    assert_eq!(reply.field("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(reply.field("Content-Length"), Some("13"));
    assert!(reply.field("Date").is_some());
    let (etag, modified) = (reply.field("ETag").unwrap(), reply.field("Last-Modified").unwrap());

    let head = serve.ask("HEAD /hello.txt HTTP/1.1");
    let same = |name: &str| assert_eq!(head.field(name), reply.field(name), "{name}");
    ["Content-Type", "Content-Length", "ETag", "Last-Modified"].iter().for_each(|name| same(name));

    for condition in [format!("If-None-Match: {etag}"), format!("If-Modified-Since: {modified}")] {
        let unchanged = serve.ask(&format!("GET /hello.txt HTTP/1.1\n{condition}"));
        assert_eq!((unchanged.status, unchanged.field("ETag")), (304, Some(etag)), "{condition}");
    }
    assert_eq!(serve.ask("GET /hello.txt HTTP/1.1\nIf-Match: \"other\"").status, 412);
}

#[test]
fn one_range_is_honoured() {
    let folder = folder();
    let serve = site(&folder, &[]);
    let whole = fs::read(folder.path().join("root/big.bin")).unwrap();
    let mut client = serve.connect();
    for (range, first, last) in [("0-9", 0, 9), ("-7", 299_993, 299_999), ("100000-", 100_000, 299_999)] {
        let reply = client.ask(&format!("GET /big.bin HTTP/1.1\nRange: bytes={range}"));
        assert_eq!(reply.status, 206, "{range}");
        assert_eq!(reply.field("Content-Range"), Some(format!("bytes {first}-{last}/300000").as_str()));
        assert!(reply.content == whole[first..=last], "{range}");
    }
    let reply = client.ask("GET /big.bin HTTP/1.1\nRange: bytes=300000-");
    assert_eq!((reply.status, reply.field("Content-Range")), (416, Some("bytes */300000")));
    let reply = client.ask("GET /big.bin HTTP/1.1\nRange: bytes=0-1\nIf-Range: \"other\"");
    assert_eq!((reply.status, reply.content.len()), (200, 300_000));
    let reply = client.ask("GET /big.bin HTTP/1.1\nRange: bytes=0-1,4-5");
    assert_eq!((reply.status, reply.content.len()), (200, 300_000));
}

#[test]
fn a_directory_is_its_index_or_a_list_of_names() {
    let folder = folder();
    let serve = site(&folder, &[]);
    let reply = serve.ask("GET /sub?x HTTP/1.1");
    assert_eq!((reply.status, reply.field("Location")), (301, Some("/sub/?x")));
    let reply = serve.ask("GET //sub HTTP/1.1");
    assert_eq!((reply.status, reply.field("Location")), (301, Some("/sub/")), "never the name of another host");
    let reply = serve.ask("GET /sub/ HTTP/1.1");
    assert_eq!((reply.status, reply.field("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert!(reply.text().contains("<a href=\"%3Cb%3E.html\">&lt;b&gt;.html</a>"), "{}", reply.text());
    assert!(reply.text().contains("<a href=\"with%20index/\">with index/</a>"), "{}", reply.text());
    assert_eq!(serve.ask("GET /sub/with%20index/ HTTP/1.1").text(), "the index");
}

#[test]
fn what_is_not_there_or_not_allowed_says_so_and_keeps_the_connection() {
    let folder = folder();
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path().join("secret"), folder.path().join("root/link")).unwrap();
    let serve = site(&folder, &[]);
    let mut client = serve.connect();
    for target in ["/none", "/../secret", "/%2e%2e/secret", "/sub/..%2f..%2fsecret", "/link", "/hello.txt/", "/%00"] {
        let reply = client.ask(&format!("GET {target} HTTP/1.1"));
        assert_eq!((reply.status, reply.text()), (404, "404 Not Found\n"), "{target}");
    }
    let reply = client.ask("DELETE /hello.txt HTTP/1.1");
    assert_eq!((reply.status, reply.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert_eq!(client.ask("OPTIONS * HTTP/1.1").status, 204);
    // A body that nobody asked for is read and dropped.
    client.say("POST /hello.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.reply(false).status, 405);
    assert_eq!(client.ask("GET /hello.txt HTTP/1.1").text(), "Hello, World!");
}

#[test]
fn the_echo_streams_both_framings_back() {
    let serve = Serve::start(&["--echo"]);
    let mut client = serve.connect();
    client.say("POST /x HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello");
    let reply = client.reply(false);
    assert_eq!((reply.status, reply.text(), reply.field("Content-Type")), (200, "hello", Some("a/b")));
    assert_eq!(reply.field("Content-Length"), Some("5"));

    client.say("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    // The first chunk comes back before the second is sent: nothing waits for the whole.
    assert_eq!(client.line(), "HTTP/1.1 200 OK");
    while !client.line().is_empty() {}
    assert_eq!((client.line().as_str(), client.line().as_str()), ("3", "abc"));
    client.say("2\r\nde\r\n0\r\n\r\n");
    assert_eq!([client.line(), client.line(), client.line(), client.line()], ["2", "de", "0", ""]);

    let reply = client.ask("GET / HTTP/1.1");
    assert_eq!((reply.status, reply.content.len()), (200, 0));
}

#[cfg(unix)]
#[test]
fn the_report_tells_each_exchange_with_its_place_on_its_connection() {
    let folder = folder();
    let serve = site(&folder, &["--format", "json"]);
    let mut client = serve.connect();
    client.ask("GET /hello.txt HTTP/1.1");
    client.ask("HEAD /big.bin HTTP/1.1");
    client.ask("GET /big.bin HTTP/1.1");
    drop(client);
    serve.ask("GET /none?q HTTP/1.1");
    let (code, report) = serve.end();
    assert_eq!(code, Some(0), "{report}");
    let mut lines: Vec<Value> = report.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Lines of different connections come as their responses end.
    lines.sort_by_key(|line| (line["connection"].as_u64(), line["request"].as_u64()));
    for line in &mut lines {
        assert!(line["peer"].take().as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{report}");
    }
    let line = |connection: u64, request: u64, method: &str, target: &str, status: u16, bytes: u64| {
        json!({"connection": connection, "request": request, "reused": request > 1, "peer": null, "method": method,
            "target": target, "status": status, "bytes": bytes, "complete": true})
    };
    assert_eq!(
        lines,
        [
            line(1, 1, "GET", "/hello.txt", 200, 13),
            line(1, 2, "HEAD", "/big.bin", 200, 0),
            line(1, 3, "GET", "/big.bin", 200, 300_000),
            line(2, 1, "GET", "/none?q", 404, 14),
        ]
    );
}

#[cfg(unix)]
#[test]
fn a_signal_lets_what_is_under_way_finish() {
    let serve = Serve::start(&["--echo"]);
    let mut busy = serve.connect();
    busy.say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab");
    assert_eq!(busy.line(), "HTTP/1.1 200 OK");
    let mut idle = serve.connect();
    idle.ask("GET / HTTP/1.1");
    serve.signal();
    // The idle connection is closed at once; by then the signal has come.
    assert_eq!(idle.stream.read(&mut [0]).expect("a clean end"), 0);
    drop(idle);
    busy.say("cd");
    let mut rest = String::new();
    busy.stream.read_to_string(&mut rest).expect("a clean end");
    assert!(rest.ends_with("\r\n\r\nabcd"), "{rest}");
    drop(busy);
    let (code, report) = serve.wait();
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn what_cannot_be_served_ends_with_one_line() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_persist")).arg("serve").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&["/nowhere"]);
    assert_eq!((code, said.starts_with("persist serve: reading /nowhere: ")), (Some(26), true), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = run(&["--listen", &address]);
    assert_eq!(
        (code, said.starts_with(&format!("persist serve: listening on {address}: "))),
        (Some(7), true),
        "{said}"
    );
    assert_eq!(run(&["--echo", "dir"]).0, Some(2));
}
