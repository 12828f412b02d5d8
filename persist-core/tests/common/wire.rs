//! Messages as bytes on the wire, with the parts that a test must know kept apart.

use proptest::collection::vec;
use proptest::prelude::*;

/// One message: its head's bytes, its body's bytes on the wire, and the content they carry.
#[derive(Clone, Debug)]
pub struct Message {
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    pub content: Vec<u8>,
    /// Of each byte of the body, whether it is content.
    pub is_content: Vec<bool>,
}

impl Message {
    /// The content among the first `n` bytes of the body.
    pub fn content_in(&self, n: usize) -> Vec<u8> {
        self.body
            .iter()
            .zip(&self.is_content)
            .take(n)
            .filter(|(_, is_content)| **is_content)
            .map(|(byte, _)| *byte)
            .collect()
    }

    pub fn bytes(&self) -> Vec<u8> {
        [self.head.as_slice(), &self.body].concat()
    }
}

pub fn stream(messages: &[Message]) -> Vec<u8> {
    messages.iter().flat_map(Message::bytes).collect()
}

/// How content is framed.
#[derive(Clone, Debug)]
pub enum Framing {
    None,
    Length,
    /// In pieces of so many bytes, with or without extensions and trailers.
    Chunked {
        piece: usize,
        extension: bool,
        trailers: bool,
    },
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![
        2 => Just(Framing::None),
        2 => Just(Framing::Length),
        2 => (1..700usize, any::<bool>(), any::<bool>())
            .prop_map(|(piece, extension, trailers)| Framing::Chunked { piece, extension, trailers }),
    ]
}

fn build(start: String, extra: &str, framing: &Framing, content: &[u8]) -> Message {
    let mut body: Vec<(u8, bool)> = Vec::new();
    let mut put = |bytes: &[u8], is_content: bool| body.extend(bytes.iter().map(|&byte| (byte, is_content)));
    let field = match framing {
        Framing::None => String::new(),
        Framing::Length => {
            put(content, true);
            format!("Content-Length: {}\r\n", content.len())
        }
        Framing::Chunked { piece, extension, trailers } => {
            for chunk in content.chunks(*piece) {
                let extension = if *extension { ";a=\"b c\"" } else { "" };
                put(format!("{:x}{extension}\r\n", chunk.len()).as_bytes(), false);
                put(chunk, true);
                put(b"\r\n", false);
            }
            put(if *trailers { b"0\r\nX-Sum: 7\r\nX-More:\r\n\r\n" } else { b"0\r\n\r\n" }, false);
            "Transfer-Encoding: chunked\r\n".into()
        }
    };
    let content = if matches!(framing, Framing::None) { Vec::new() } else { content.to_vec() };
    let (body, is_content) = body.into_iter().unzip();
    Message { head: format!("{start}\r\n{extra}{field}\r\n").into_bytes(), body, content, is_content }
}

/// A request that keeps the connection.
pub fn request(content_max: usize) -> impl Strategy<Value = Message> {
    let method = prop_oneof![
        4 => Just("GET"), 1 => Just("HEAD"), 1 => Just("OPTIONS"), 2 => Just("POST"), 1 => Just("PUT"), 1 => Just("X-OWN"),
    ];
    let extra = prop_oneof![Just(""), Just("Accept: */*\r\nX-A:\tb \r\n"), Just("Cookie: a=b; c=d\r\n")];
    (method, 0..1000u32, extra, framing(), vec(any::<u8>(), 0..=content_max)).prop_map(
        |(method, number, extra, framing, content)| {
            build(format!("{method} /{number} HTTP/1.1\r\nHost: h"), extra, &framing, &content)
        },
    )
}

/// A response that keeps the connection: a final one, perhaps behind interim ones (which are in its head's bytes).
pub fn response(content_max: usize) -> impl Strategy<Value = Message> {
    let interims = prop_oneof![4 => Just(""), 1 => Just("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
        1 => Just("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")];
    let status =
        prop_oneof![3 => Just("200 OK"), 1 => Just("404 Not Found"), 1 => Just("299 "), 1 => Just("204 No Content")];
    (interims, status, framing(), vec(any::<u8>(), 0..=content_max)).prop_map(|(interims, status, framing, content)| {
        let start = format!("{interims}HTTP/1.1 {status}");
        if status.starts_with("204") {
            return build(start, "", &Framing::None, &[]);
        }
        // Without either field a response would last until the close.
        let framing = if matches!(framing, Framing::None) { Framing::Length } else { framing };
        build(start, "Server: s\r\n", &framing, &content)
    })
}

/// Where to cut `len` bytes into pieces: positions in order, repeated ones allowed.
pub fn cuts(len: usize) -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        vec(0..=len, 0..6),
        vec(0..=len, 0..60),
        (1..40usize).prop_map(move |step| (0..len).step_by(step).collect()),
    ]
    .prop_map(|mut cuts| {
        cuts.sort_unstable();
        cuts
    })
}

/// `bytes` cut at those positions.
pub fn pieces<'b>(bytes: &'b [u8], cuts: &[usize]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for &cut in cuts {
        let cut = cut.min(bytes.len());
        pieces.push(&bytes[start..cut]);
        start = cut;
    }
    pieces.push(&bytes[start..]);
    pieces
}

/// Bytes changed, dropped or doubled here and there.
pub fn damaged(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = bytes.len().max(1);
    vec((0..len, 0..3u8, any::<u8>()), 0..4).prop_map(move |damage| {
        let mut bytes = bytes.clone();
        for (at, kind, byte) in damage {
            if at >= bytes.len() {
                continue;
            }
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        bytes
    })
}
