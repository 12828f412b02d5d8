//! What is to be asked, and what the answers must be. Servers and clients share it, so that each does the same work and none can cheat.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::Error;

/// What every small response holds.
pub const HELLO: &[u8] = b"Hello, World!";

/// What large bodies are made of, in pieces of this size.
pub static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// A large body of `len` bytes, in pieces that need not be copied.
pub fn pieces(len: u64) -> impl Iterator<Item = Bytes> + Send {
    (0..len)
        .step_by(PIECE.len())
        .map(move |at| Bytes::from_static(&PIECE[..(len - at).min(PIECE.len() as u64) as usize]))
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length,
    Chunked,
}

/// The content behind a target: its length, a multiple of a piece's, and its framing; `None` for [`HELLO`].
pub fn content(target: &str) -> Option<(u64, Framing)> {
    match target {
        "/64k" => Some((64 << 10, Framing::Length)),
        "/1m" => Some((1 << 20, Framing::Length)),
        "/1m-chunked" => Some((1 << 20, Framing::Chunked)),
        "/100m" => Some((100 << 20, Framing::Length)),
        _ => None,
    }
}

/// One actor's work.
#[derive(Clone, Debug)]
pub struct Plan {
    pub to: SocketAddr,
    pub connections: usize,
    /// Requests that are sent together on one connection.
    pub depth: usize,
    /// Requests in all, after those that warm up.
    pub requests: u64,
    pub target: String,
    /// Bytes of content in each request; none: GET.
    pub upload: u64,
    /// Bytes of fields in each request, besides `Host`.
    pub head: usize,
    /// Requests a second, on all connections together; none: each as soon as its predecessor is answered.
    pub rate: u32,
}

impl Plan {
    pub fn parse(options: &[&str]) -> Result<Self, Error> {
        let mut plan = Self {
            to: SocketAddr::from(([127, 0, 0, 1], 0)),
            connections: 1,
            depth: 1,
            requests: 0,
            target: "/".to_owned(),
            upload: 0,
            head: 0,
            rate: 0,
        };
        for pair in options.chunks(2) {
            match *pair {
                ["--to", value] => plan.to = value.parse()?,
                ["--connections", value] => plan.connections = value.parse()?,
                ["--depth", value] => plan.depth = value.parse()?,
                ["--requests", value] => plan.requests = value.parse()?,
                ["--target", value] => plan.target = value.to_owned(),
                ["--upload", value] => plan.upload = value.parse()?,
                ["--head", value] => plan.head = value.parse()?,
                ["--rate", value] => plan.rate = value.parse()?,
                _ => return Err(format!("unknown option: {}", pair.join(" ")).into()),
            }
        }
        Ok(plan)
    }

    /// How often each connection sends a burst.
    pub fn bursts(&self) -> u64 {
        self.requests / (self.connections * self.depth) as u64
    }

    /// Bytes of content in each response.
    pub fn content_len(&self) -> u64 {
        if self.upload > 0 {
            return HELLO.len() as u64;
        }
        content(&self.target).map_or(HELLO.len() as u64, |(len, _)| len)
    }

    pub fn url(&self) -> String {
        format!("http://{}{}", self.to, self.target)
    }

    /// One request without content, as bytes.
    pub fn request(&self) -> Vec<u8> {
        let filler = if self.head == 0 { String::new() } else { format!("X-Filler: {}\r\n", "x".repeat(self.head)) };
        format!("GET {} HTTP/1.1\r\nHost: {}\r\n{filler}\r\n", self.target, self.to).into_bytes()
    }

    /// The head of a request with content, as bytes.
    pub fn upload_head(&self) -> Vec<u8> {
        format!("PUT {} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", self.target, self.to, self.upload)
            .into_bytes()
    }
}
