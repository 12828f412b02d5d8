//! Runs the command, and servers that do what a test tells them.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// Runs `persist` with these arguments and this on standard input.
pub(crate) fn persist(arguments: &[&str], input: &[u8]) -> Output {
    persist_with(&[], arguments, input)
}

/// The same, with these variables about proxies and no others.
pub(crate) fn persist_with(variables: &[(&str, &str)], arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_persist"));
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    let mut child = command
        .envs(variables.iter().copied())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("the program ends");
    // It may end without having read everything.
    let _ = writer.join().expect("the writer does not panic");
    output
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the output is UTF-8")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("the report is UTF-8")
}

/// Lines of JSON.
pub(crate) fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {text}"))).collect()
}

/// A server on loopback; each connection, numbered from 0, is given to `serve` on a thread of its own. Runs as long as the process.
pub(crate) fn server(serve: impl Fn(usize, Peer) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(number, Peer { stream, read: Vec::new() }));
        }
    });
    address
}

/// The client, as a server sees it.
pub(crate) struct Peer {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Peer {
    /// The next request, head and content (by `Content-Length` only), as it came; `None` at the end.
    pub(crate) fn request(&mut self) -> Option<String> {
        let head = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let text = String::from_utf8_lossy(&self.read[..head]).to_ascii_lowercase();
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        while self.read.len() < head + length {
            self.more()?;
        }
        let rest = self.read.split_off(head + length);
        Some(String::from_utf8_lossy(&std::mem::replace(&mut self.read, rest)).into_owned())
    }

    /// Everything until `end`.
    pub(crate) fn until(&mut self, end: &str) -> String {
        while !self.read.windows(end.len()).any(|window| window == end.as_bytes()) {
            self.more().expect("the end comes");
        }
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// The next so many bytes; fewer at the end.
    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        while self.read.len() < n && self.more().is_some() {}
        let rest = self.read.split_off(n.min(self.read.len()));
        std::mem::replace(&mut self.read, rest)
    }

    fn more(&mut self) -> Option<()> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(n @ 1..) => {
                self.read.extend_from_slice(&piece[..n]);
                Some(())
            }
            _ => None,
        }
    }

    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        // The client may have given up already.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Ends the connection in stages, as a server should (RFC 9112 §9.6): what the client still sends is read and dropped.
    pub(crate) fn end(&mut self) {
        // The client may have gone already.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        while self.more().is_some() {}
    }

    /// 200, with this content.
    pub(crate) fn ok(&mut self, content: impl AsRef<[u8]>) {
        let content = content.as_ref();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len());
        self.say([head.as_bytes(), content].concat());
    }

    /// Answers every request with its own target.
    pub(crate) fn echo_targets(&mut self) {
        while let Some(request) = self.request() {
            self.ok(target(&request));
        }
    }
}

/// The target of a request.
pub(crate) fn target(request: &str) -> &str {
    request.split(' ').nth(1).expect("a request line has three parts")
}

/// A list that threads add to.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}
