//! The exchanges that benchmarks count: whole, in memory, driven as an adapter would drive them.
//!
//! *Server cycle*: bytes of one request in, its head as an event, a response with `Server`, `Date`, `Content-Type`, `Content-Length` and 13
//! bytes of content, its bytes out, connection kept. *Client cycle*: a small request out, bytes of one response in, its events out.

use std::hint::black_box;
use std::time::Duration;

use bytes::Buf;
use persist_core::{
    BodyLen, Client, Config, Conn, Event, FieldLines, FieldValue, Fields, Instant, Method, Next, Request, Role, Room,
    Server, Stamp, StatusCode,
};

const CONTENT: &[u8; 13] = b"Hello, World!";
/// What a handler says of its content.
const CONTENT_TYPE: FieldLines<'static> = FieldLines::from_static("Content-Type: text/plain\r\n");
/// 22 November 2026, 12:00:00 UTC.
const NOW: u64 = 1_795_348_800;

/// One connection on which the same exchange can be run again and again.
pub trait Cycle {
    /// Runs the exchange once; returns how many bytes of content arrived.
    fn run(&mut self) -> u64;
    /// How many requests one run holds.
    fn exchanges(&self) -> u64;
    /// How many exchanges the machine counted as complete, all runs together.
    fn completed(&self) -> u64;
}

/// A named cycle. `content` is what each run must bring.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on a command line.
    pub name: &'static str,
    /// Bytes of content that one run receives.
    pub content: u64,
    make: fn() -> Box<dyn Cycle>,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "server-small", content: 0, make: || ServerCycle::boxed(small_request(), 1) },
    Scenario { name: "server-medium", content: 0, make: || ServerCycle::boxed(medium_request(), 1) },
    Scenario { name: "server-big", content: 0, make: || ServerCycle::boxed(big_request(), 1) },
    Scenario { name: "server-pipelined", content: 0, make: || ServerCycle::boxed(small_request().repeat(16), 16) },
    Scenario { name: "server-pipelined-64", content: 0, make: || ServerCycle::boxed(small_request().repeat(64), 64) },
    Scenario { name: "bytewise-700", content: 0, make: || ServerCycle::bytewise(medium_request()) },
    Scenario { name: "bytewise-7k", content: 0, make: || ServerCycle::bytewise(long_request()) },
    Scenario { name: "client-small", content: 13, make: || ClientCycle::boxed(small_response(), None) },
    Scenario { name: "client-medium", content: 13, make: || ClientCycle::boxed(medium_response(), None) },
    Scenario { name: "client-big", content: 13, make: || ClientCycle::boxed(big_response(), None) },
    Scenario { name: "client-made", content: 13, make: || ClientCycle::boxed(small_response(), Some("/plaintext")) },
    Scenario { name: "chunks-64", content: 64 << 10, make: || ClientCycle::boxed(chunked_response(1024, 64), None) },
    Scenario {
        name: "chunks-16k",
        content: 1 << 20,
        make: || ClientCycle::boxed(chunked_response(64, 16 << 10), None),
    },
];

impl Scenario {
    /// The scenario of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// A fresh connection for it.
    pub fn start(&self) -> Box<dyn Cycle> {
        (self.make)()
    }

    /// Runs it so often on one connection.
    ///
    /// # Panics
    /// If the machine did not do the work: a count of instructions would then mean nothing.
    pub fn run(&self, times: u64) {
        let mut cycle = self.start();
        let content: u64 = (0..times).map(|_| cycle.run()).sum();
        assert_eq!(content, times * self.content, "{}: content bytes received", self.name);
        assert_eq!(cycle.completed(), times * cycle.exchanges(), "{}: exchanges completed", self.name);
    }
}

/// A machine, the clock it is shown, and the buffer that one thread would lend to all its machines.
#[derive(Debug)]
struct Driven<R: Role> {
    conn: Conn<R>,
    now: Instant,
    scratch: Room,
    out: u64,
}

impl<R: Role> Driven<R> {
    fn new(conn: Conn<R>) -> Self {
        Self { conn, now: Instant::ZERO, scratch: Room::with_capacity(16 << 10), out: 0 }
    }

    /// What a driver does before it waits: write all there is, take its buffer back, ask for the deadline.
    fn flush(&mut self) {
        let mut transmit = self.conn.transmit(self.now);
        while transmit.has_remaining() {
            let written = black_box(transmit.chunk()).len();
            transmit.advance(written);
            self.out += written as u64;
        }
        self.conn.reclaim(&mut self.scratch);
        assert!(!self.conn.poll_shutdown(), "the connection is kept");
        black_box(self.conn.poll_timeout());
    }
}

struct ServerCycle {
    driven: Driven<Server>,
    /// `Server`, and `Date` rendered once a second, as a server adds them.
    stamp: Stamp,
    input: Vec<u8>,
    /// How many bytes of it come with one read.
    read_bytes: usize,
    requests: u64,
}

impl ServerCycle {
    fn boxed(input: Vec<u8>, requests: u64) -> Box<dyn Cycle> {
        Box::new(Self::new(input, usize::MAX, requests))
    }

    fn bytewise(input: Vec<u8>) -> Box<dyn Cycle> {
        Box::new(Self::new(input, 1, 1))
    }

    fn new(input: Vec<u8>, read_bytes: usize, requests: u64) -> Self {
        let stamp = Stamp::new(Some(FieldValue::from_static("persist")));
        Self { driven: Driven::new(Conn::new(Config::server(), Instant::ZERO)), stamp, input, read_bytes, requests }
    }
}

impl Cycle for ServerCycle {
    fn run(&mut self) -> u64 {
        let Driven { conn, now, scratch, .. } = &mut self.driven;
        *now = *now + Duration::from_micros(10);
        conn.lend(scratch);
        self.stamp.set_time(black_box(NOW));
        for read in self.input.chunks(self.read_bytes) {
            let mut input = black_box(read);
            loop {
                match conn.next(&mut input, *now).expect("the request is well-formed") {
                    Next::Event(Event::Head { ticket, head, .. }) => {
                        black_box(&head);
                        let own = black_box(CONTENT_TYPE);
                        let fields = self.stamp.lines(own).and(own);
                        conn.send_whole_response(ticket, black_box(StatusCode::OK), fields, CONTENT, *now)
                            .expect("the response is well-formed");
                    }
                    Next::Event(_) => {}
                    Next::NeedRead | Next::Paused => break,
                }
            }
            assert!(input.is_empty(), "all input is taken");
        }
        self.driven.flush();
        0
    }

    fn exchanges(&self) -> u64 {
        self.requests
    }

    fn completed(&self) -> u64 {
        self.driven.conn.completed()
    }
}

struct ClientCycle {
    driven: Driven<Client>,
    /// `Host`, which a client says in every request to one place.
    host: Fields,
    /// The target of a [`Request`] that is made for each exchange and dropped after it, if one is.
    made: Option<&'static str>,
    input: Vec<u8>,
}

impl ClientCycle {
    fn boxed(input: Vec<u8>, made: Option<&'static str>) -> Box<dyn Cycle> {
        let mut host = Fields::new();
        host.push("Host", "127.0.0.1:8080").expect("it is a field");
        Box::new(Self { driven: Driven::new(Conn::new(Config::client(), Instant::ZERO)), host, made, input })
    }
}

impl Cycle for ClientCycle {
    fn run(&mut self) -> u64 {
        let Driven { conn, now, scratch, .. } = &mut self.driven;
        *now = *now + Duration::from_micros(10);
        conn.lend(scratch);
        let request = self.made.map(|target| {
            let request = Request::get(black_box(target)).field(black_box("Host"), black_box("127.0.0.1:8080"));
            request.expect("it is a field")
        });
        let (method, target, fields) = match &request {
            Some(request) => (&request.method, request.target.as_str(), &request.fields),
            None => (&Method::GET, black_box("/plaintext"), &self.host),
        };
        conn.send_request(method, target, fields, BodyLen::Empty, *now).expect("the connection is idle");
        self.driven.flush();
        let Driven { conn, now, .. } = &mut self.driven;
        let mut input = black_box(self.input.as_slice());
        let mut content = 0;
        loop {
            match conn.next(&mut input, *now).expect("the response is well-formed") {
                Next::Event(Event::Data { data, .. }) => content += black_box(data).len() as u64,
                Next::Event(event) => drop(black_box(event)),
                Next::NeedRead | Next::Paused => break,
            }
        }
        assert!(input.is_empty(), "all input is taken");
        black_box(conn.poll_timeout());
        content
    }

    fn exchanges(&self) -> u64 {
        1
    }

    fn completed(&self) -> u64 {
        self.driven.conn.completed()
    }
}

/// 49 bytes: a request as load generators send it.
pub fn small_request() -> Vec<u8> {
    b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n".to_vec()
}

/// About 700 bytes with 12 fields: a request as browsers send it.
pub fn medium_request() -> Vec<u8> {
    request(
        "/articles/2026/11/persistent-connections?page=2",
        &[
            ("Host", "www.example.com"),
            ("Connection", "keep-alive"),
            (
                "User-Agent",
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
            ),
            ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
            ("Sec-Fetch-Site", "same-origin"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
            ("Sec-Fetch-User", "?1"),
            ("Referer", "https://www.example.com/articles/2026/11/"),
            ("Accept-Encoding", "gzip, deflate, br, zstd"),
            ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8,fr;q=0.7"),
            (
                "Cookie",
                "session=0123456789abcdef0123456789abcdef; theme=dark; consent=necessary.statistics; last=8f14e45f",
            ),
        ],
    )
}

/// About 2 KB with 30 fields, cookies among them: a request that passed proxies.
pub fn big_request() -> Vec<u8> {
    let mut bytes = medium_request();
    bytes.truncate(bytes.len() - 2);
    let cookie = "session=0123456789abcdef0123456789abcdef; theme=dark; consent=necessary.statistics; cart=8f14e45fceea167a5a36dedd4bea2543; ";
    push_fields(&mut bytes, &[("X-Cookies-Seen", &(cookie.repeat(5) + "last=1"))]);
    for (name, value) in PROXY_FIELDS {
        push_fields(&mut bytes, &[(name, value)]);
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Ten times as long as the medium request, in as few fields as the limit of a hundred allows.
pub fn long_request() -> Vec<u8> {
    let mut bytes = medium_request();
    let long = bytes.len() * 10;
    bytes.truncate(bytes.len() - 2);
    while bytes.len() + 76 < long {
        push_fields(&mut bytes, &[("X-Filler", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]);
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

const PROXY_FIELDS: [(&str, &str); 17] = [
    ("X-Forwarded-For", "203.0.113.195, 70.41.3.18, 150.172.238.178"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "www.example.com"),
    ("X-Forwarded-Port", "443"),
    ("X-Real-IP", "203.0.113.195"),
    ("X-Request-ID", "7b44d3c4-9a0f-4b5e-8a6a-5d5fd1a4c0de"),
    ("Via", "1.1 edge-17.example.net, 1.1 cache-4.example.net"),
    ("Forwarded", "for=203.0.113.195;proto=https;by=203.0.113.43"),
    ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("Tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
    ("Sec-CH-UA", "\"Chromium\";v=\"131\", \"Not_A Brand\";v=\"24\""),
    ("Sec-CH-UA-Mobile", "?0"),
    ("Sec-CH-UA-Platform", "\"Linux\""),
    ("DNT", "1"),
    ("If-None-Match", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
    ("If-Modified-Since", "Sat, 21 Nov 2026 07:28:00 GMT"),
    ("Priority", "u=0, i"),
];

/// 130 bytes, 13 of them content.
pub fn small_response() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
        .to_vec()
}

/// About 700 bytes with 12 fields and 13 bytes of content.
pub fn medium_response() -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
    push_fields(&mut bytes, &MEDIUM_RESPONSE_FIELDS);
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(CONTENT);
    bytes
}

const MEDIUM_RESPONSE_FIELDS: [(&str, &str); 12] = [
    ("Date", "Sun, 22 Nov 2026 12:00:00 GMT"),
    ("Server", "nginx/1.27.3"),
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Length", "13"),
    ("Cache-Control", "public, max-age=300, stale-while-revalidate=60"),
    ("ETag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
    ("Last-Modified", "Sat, 21 Nov 2026 07:28:00 GMT"),
    ("Vary", "Accept-Encoding, Accept-Language, Cookie"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload"),
    (
        "Content-Security-Policy",
        "default-src 'self'; img-src 'self' data: https://images.example.com https://cdn.example.com; script-src 'self' 'unsafe-inline'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
];

/// About 2 KB with 30 fields, cookies among them, and 13 bytes of content.
pub fn big_response() -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
    push_fields(&mut bytes, &MEDIUM_RESPONSE_FIELDS);
    for number in 0..7 {
        let cookie = format!(
            "id{number}=0123456789abcdef0123456789abcdef; Path=/; Max-Age=86400; Secure; HttpOnly; SameSite=Lax"
        );
        push_fields(&mut bytes, &[("Set-Cookie", &cookie)]);
    }
    for (name, value) in &PROXY_FIELDS[..11] {
        push_fields(&mut bytes, &[(name, value)]);
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(CONTENT);
    bytes
}

/// A chunked response of so many chunks of one size.
pub fn chunked_response(chunks: usize, size: usize) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..chunks {
        bytes.extend_from_slice(format!("{size:x}\r\n").as_bytes());
        bytes.resize(bytes.len() + size, b'x');
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn request(target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = format!("GET {target} HTTP/1.1\r\n").into_bytes();
    push_fields(&mut bytes, fields);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn push_fields(bytes: &mut Vec<u8>, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_sizes_and_fields_that_the_budgets_were_set_for() {
        let fields = |bytes: &[u8]| bytes.windows(2).filter(|pair| pair == b"\r\n").count() - 2;
        for (message, size, count) in [
            (small_request(), 49..=49, 1),
            (medium_request(), 650..=750, 12),
            (big_request(), 1900..=2200, 30),
            (long_request(), 6500..=7500, 91),
            (small_response(), 130..=130, 4),
            (medium_response(), 650..=750, 12),
            (big_response(), 1800..=2200, 30),
        ] {
            assert!(size.contains(&message.len()), "{} bytes, not {size:?}: {}", message.len(), message.escape_ascii());
            assert_eq!(fields(&message), count, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn every_scenario_does_its_work() {
        for scenario in SCENARIOS {
            scenario.run(3);
        }
    }
}
