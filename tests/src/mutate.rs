//! Messages and mutations of them, by the grammar: duplicated, folded, split, re-cased, control bytes inserted, sizes changed.

use crate::seeded::Random;

/// Bytes for one side, and what they answer.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// `request` or `response`.
    pub role: &'static str,
    /// Responses: the method of the request.
    pub method: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A message in parts, so that a mutation can take hold of one.
#[derive(Clone, Debug)]
struct Message {
    first: Vec<u8>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Between name and value.
    colon: Vec<Vec<u8>>,
    /// How each line ends, the first and the empty one too.
    ends: Vec<Vec<u8>>,
    body: Vec<u8>,
}

const REQUEST_LINES: [&str; 14] = [
    "GET / HTTP/1.1",
    "POST /form?x=y HTTP/1.1",
    "PUT /a HTTP/1.1",
    "HEAD / HTTP/1.1",
    "DELETE /a%20b HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "GET http://b.example:8080/c HTTP/1.1",
    "CONNECT a.example:443 HTTP/1.1",
    "GET / HTTP/1.0",
    "POST / HTTP/1.0",
    "GET / HTTP/1.2",
    "PROPFIND /x HTTP/1.1",
    "GET /[a]|{b} HTTP/1.1",
    "GET / HTTP/2.0",
];

const STATUS_LINES: [&str; 12] = [
    "HTTP/1.1 200 OK",
    "HTTP/1.1 404 Not Found",
    "HTTP/1.1 500 ",
    "HTTP/1.1 204 No Content",
    "HTTP/1.1 304 Not Modified",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 200",
    "HTTP/1.1 103 Early Hints",
    "HTTP/1.1 100 Continue",
    "HTTP/1.1 101 Switching Protocols",
    "HTTP/1.2 200 OK",
    "HTTP/1.1 299 ",
];

const OTHER_FIELDS: [(&str, &str); 12] = [
    ("Accept", "text/html, */*;q=0.8"),
    ("X-Empty", ""),
    ("Cookie", "a=b; c=\"d\""),
    ("Connection", "keep-alive"),
    ("Connection", "close"),
    ("Connection", "upgrade"),
    ("Upgrade", "websocket"),
    ("Expect", "100-continue"),
    ("Trailer", "X-A"),
    ("Keep-Alive", "timeout=5"),
    ("TE", "trailers"),
    ("X-Text", "caf\u{e9} \u{1f600}"),
];

const LENGTHS: [&str; 16] = [
    "5",
    "05",
    "+5",
    "-5",
    "5, 5",
    "5,6",
    "0x5",
    "5 5",
    "",
    "5;",
    "18446744073709551621",
    "4",
    "6",
    "5.0",
    " 5\t",
    "5,",
];

const CODINGS: [&str; 16] = [
    "chunked",
    "Chunked",
    "chunked, chunked",
    "gzip, chunked",
    "chunked, gzip",
    "gzip",
    "identity",
    "xchunked",
    "chunked;a=b",
    "\"chunked\"",
    ", chunked",
    "chunked,",
    "",
    "chunked\u{b}",
    " chunked ",
    "chunked identity",
];

const CHUNKS: [&[u8]; 20] = [
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX-A: b\r\n\r\n",
    b"5;a=b\r\nhello\r\n0;z\r\n\r\n",
    b"5 ; a = \"b;c\" \r\nhello\r\n0\r\n\r\n",
    b"5;a=\"\r\nhello\r\n0\r\n\r\n",
    b"00005\r\nhello\r\n000\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\n0\n\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"4\r\nhello\r\n0\r\n\r\n",
    b"6\r\nhello\r\n0\r\n\r\n",
    b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r",
    b"5;\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    b"1\r\nh\r\n4\r\nello\r\n0\r\n\r\n",
];

impl Message {
    fn new(random: &mut Random, is_request: bool) -> Self {
        let lines: &[&str] = if is_request { &REQUEST_LINES } else { &STATUS_LINES };
        // The first few are what most traffic is.
        let some = if random.below(3) == 0 { lines } else { &lines[..3] };
        let first = random.pick(some);
        let mut message = Self {
            first: first.as_bytes().to_vec(),
            fields: Vec::new(),
            colon: Vec::new(),
            ends: Vec::new(),
            body: Vec::new(),
        };
        if is_request {
            message.push("Host", "a.example");
        }
        for _ in 0..random.below(3) {
            let (name, value) = random.pick(&OTHER_FIELDS);
            message.push(name, value);
        }
        match random.below(4) {
            0 => {}
            1 => {
                let usual = random.below(3) > 0;
                message.push("Content-Length", if usual { "5" } else { random.pick(&LENGTHS) });
                message.body = b"hello".to_vec();
            }
            _ => {
                let usual = random.below(3) > 0;
                message.push("Transfer-Encoding", if usual { "chunked" } else { random.pick(&CODINGS) });
                let some = if random.below(3) > 0 { &CHUNKS[..3] } else { &CHUNKS[..] };
                message.body = random.pick(some).to_vec();
            }
        }
        message.ends = vec![b"\r\n".to_vec(); message.fields.len() + 2];
        message
    }

    fn push(&mut self, name: &str, value: &str) {
        self.fields.push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        self.colon.push(b": ".to_vec());
        self.ends.push(b"\r\n".to_vec());
    }

    fn mutate(&mut self, random: &mut Random) {
        let at = random.below(self.fields.len());
        let has_fields = !self.fields.is_empty();
        match random.below(16) {
            0 if has_fields => {
                let field = self.fields[at].clone();
                self.insert(random.below(self.fields.len() + 1), field);
            }
            1 if has_fields => {
                let fold = random.pick(&[&b"\r\n "[..], b"\r\n\t", b"\n ", b"\r\n \r\n "]);
                let into = random.below(self.fields[at].1.len() + 1);
                self.fields[at].1.splice(into..into, fold.iter().copied());
            }
            2 if has_fields => {
                let into = random.below(self.fields[at].1.len() + 1);
                let second = (self.fields[at].0.clone(), self.fields[at].1.split_off(into));
                self.insert(at + 1, second);
            }
            3 if has_fields => {
                let name = &mut self.fields[at].0;
                let byte = random.below(name.len());
                if let Some(byte) = name.get_mut(byte) {
                    *byte = if random.below(2) == 0 { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
                }
            }
            4 | 5 => {
                let byte =
                    random.pick(&[0, 1, 7, 8, 9, 10, 11, 12, 13, 27, 32, 34, 35, 44, 58, 59, 127, 128, 160, 255]);
                let line = random.below(3);
                let part = match line {
                    0 => &mut self.first,
                    1 if has_fields => &mut self.fields[at].0,
                    _ if has_fields => &mut self.fields[at].1,
                    _ => &mut self.first,
                };
                let into = random.below(part.len() + 1);
                part.insert(into, byte);
            }
            6 if has_fields => {
                self.colon[at] =
                    random.pick(&[&b":"[..], b" : ", b":\t", b"\t:", b":  ", b"", b"=", b":\r\n "]).to_vec();
            }
            7 => {
                let end = random.below(self.ends.len());
                self.ends[end] = random.pick(&[&b"\n"[..], b"\r", b"\r\r\n", b"\n\r", b"", b"\r\n\r\n"]).to_vec();
            }
            8 if has_fields => {
                self.fields.remove(at);
                self.colon.remove(at);
                self.ends.remove(at + 1);
            }
            9 => {
                let value = random.pick(&LENGTHS).as_bytes().to_vec();
                self.insert(random.below(self.fields.len() + 1), (b"Content-Length".to_vec(), value));
            }
            10 => {
                let value = random.pick(&CODINGS).as_bytes().to_vec();
                self.insert(random.below(self.fields.len() + 1), (b"Transfer-Encoding".to_vec(), value));
            }
            11 => {
                self.body = match random.below(4) {
                    0 => random.pick(&CHUNKS).to_vec(),
                    1 => Vec::new(),
                    2 => b"hell".to_vec(),
                    _ => b"hello!".to_vec(),
                };
            }
            12 => {
                let at = random.below(self.body.len() + 1);
                self.body.insert(at, random.pick(b"\r\n 0;=\"x\0f"));
            }
            13 => {
                let len = random.below(self.body.len() + 1);
                self.body.truncate(len);
            }
            14 if has_fields => {
                let value = &mut self.fields[at].1;
                let (from, to) = (random.below(value.len()), random.below(value.len()));
                if !value.is_empty() {
                    value.swap(from, to);
                }
            }
            _ => {
                let byte = random.below(self.first.len());
                if let Some(byte) = self.first.get_mut(byte) {
                    *byte = random.pick(b" \t/.:1209@#?GTHx");
                }
            }
        }
    }

    fn insert(&mut self, at: usize, field: (Vec<u8>, Vec<u8>)) {
        self.fields.insert(at, field);
        self.colon.insert(at, b": ".to_vec());
        self.ends.insert(at, b"\r\n".to_vec());
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut ends = self.ends.iter().map(Vec::as_slice).chain(std::iter::repeat(&b"\r\n"[..]));
        let mut line = |parts: &[&[u8]]| {
            parts.iter().for_each(|part| out.extend_from_slice(part));
            out.extend_from_slice(ends.next().unwrap_or_default());
        };
        line(&[&self.first]);
        for ((name, value), colon) in self.fields.iter().zip(&self.colon) {
            line(&[name, colon, value]);
        }
        line(&[]);
        out.extend_from_slice(&self.body);
    }
}

/// The mutant of this number. About one in ten is not mutated.
pub fn mutant(number: u64) -> Mutant {
    let mut random = Random::new(number);
    let is_request = random.below(2) == 0;
    let mut bytes = Vec::new();
    let messages = if is_request { 1 + random.below(2) } else { 1 };
    for _ in 0..messages {
        let mut message = Message::new(&mut random, is_request);
        for _ in 0..[0, 1, 1, 1, 1, 2, 2, 2, 3, 4][random.below(10)] {
            message.mutate(&mut random);
        }
        message.write(&mut bytes);
    }
    if random.below(30) == 0 {
        bytes.extend_from_slice(random.pick(&[&b"\r\n"[..], b"GET", b"\0", b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n"]));
    }
    let methods = if is_request { "" } else { random.pick(&["GET", "GET", "GET", "GET", "POST", "CONNECT", "HEAD"]) };
    Mutant { role: if is_request { "request" } else { "response" }, method: methods, bytes }
}

#[cfg(test)]
mod tests {
    use super::mutant;

    #[test]
    fn a_number_is_always_the_same_mutant_and_numbers_differ() {
        assert_eq!(mutant(7).bytes, mutant(7).bytes);
        let distinct: std::collections::HashSet<_> = (0..1000).map(|number| mutant(number).bytes).collect();
        assert!(distinct.len() > 800, "{} of 1000", distinct.len());
    }
}
