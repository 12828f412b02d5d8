//! Chunked bodies against a second decoder: slow, naive, and written from the grammar alone.

use std::num::NonZeroUsize;

use persist_cli::inspect::replay::{Outcome, Recording, Replayer, Role, Strictness, What};
use persist_core::Limits;

use super::Choices;

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The first byte chooses a cut; the rest is a chunked body.
///
/// # Panics
/// If the two decoders differ about whether the body is well-formed, what its content is, or where it ends.
pub fn chunked(data: &[u8]) {
    let mut choices = Choices(data);
    let split = NonZeroUsize::new(usize::from(choices.byte()));
    let input = [HEAD, choices.0].concat();
    let expected = decode(choices.0);

    let (mut content, mut fields, mut end) = (Vec::new(), 0, None);
    let recording = Recording { role: Role::Request, input: &input, eof: false, split, methods: Vec::new() };
    let mut messages = 0;
    let verdict = Replayer::new(Strictness::Strict).replay(&recording, &mut |seen| match seen.what {
        What::Data(data) if messages == 0 => content.extend_from_slice(data),
        What::End(trailers) => {
            messages += 1;
            if messages == 1 {
                fields = trailers.map_or(0, |trailers| trailers.len());
                end = Some(seen.end as usize - HEAD.len());
            }
        }
        _ => {}
    });
    let rejected = matches!(verdict.outcome, Outcome::Reject);
    match expected {
        // Limits are not the grammar's business.
        _ if choices.0.len() > 4096 => {}
        Expected::Complete(body) => {
            assert!(!rejected, "rejected: {:?}: {}", verdict.rejection, choices.0.escape_ascii());
            assert_eq!((content.as_slice(), fields), (body.content.as_slice(), body.fields));
            assert_eq!(end, Some(body.len), "where the body ends");
        }
        Expected::Incomplete => {
            assert!(!rejected && end.is_none(), "{verdict:?}: {}", choices.0.escape_ascii());
        }
        Expected::Malformed => assert!(rejected && end.is_none(), "accepted: {}", choices.0.escape_ascii()),
    }
}

enum Expected {
    Complete(Body),
    Incomplete,
    Malformed,
}

struct Body {
    content: Vec<u8>,
    fields: usize,
    len: usize,
}

/// Why a rule did not match: the input ends too early, or no continuation of it could match.
enum Stop {
    Short,
    Wrong,
}

struct Reader<'d> {
    bytes: &'d [u8],
    at: usize,
}

fn decode(bytes: &[u8]) -> Expected {
    let mut reader = Reader { bytes, at: 0 };
    match reader.body() {
        Ok((content, fields)) => Expected::Complete(Body { content, fields, len: reader.at }),
        Err(Stop::Short) => Expected::Incomplete,
        Err(Stop::Wrong) => Expected::Malformed,
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

impl Reader<'_> {
    fn peek(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::Short)
    }

    fn take(&mut self, fits: impl Fn(u8) -> bool) -> Result<u8, Stop> {
        let byte = self.peek()?;
        if !fits(byte) {
            return Err(Stop::Wrong);
        }
        self.at += 1;
        Ok(byte)
    }

    fn crlf(&mut self) -> Result<(), Stop> {
        self.take(|byte| byte == b'\r')?;
        self.take(|byte| byte == b'\n').map(drop)
    }

    /// Skips a run; tells whether it was empty.
    fn run(&mut self, fits: impl Fn(u8) -> bool) -> Result<bool, Stop> {
        let start = self.at;
        while fits(self.peek()?) {
            self.at += 1;
        }
        Ok(self.at == start)
    }

    fn body(&mut self) -> Result<(Vec<u8>, usize), Stop> {
        let mut content = Vec::new();
        loop {
            let size = self.size()?;
            self.extensions()?;
            self.crlf()?;
            if size == 0 {
                return Ok((content, self.trailers()?));
            }
            let size = usize::try_from(size).map_err(|_| Stop::Short)?;
            let end = self.at.checked_add(size).ok_or(Stop::Short)?;
            content.extend_from_slice(self.bytes.get(self.at..end).ok_or(Stop::Short)?);
            self.at = end;
            self.crlf()?;
        }
    }

    fn size(&mut self) -> Result<u64, Stop> {
        let mut size = 0u128;
        let mut digits = 0;
        loop {
            let byte = self.peek();
            match byte {
                Ok(byte) if byte.is_ascii_hexdigit() => {
                    size = size * 16 + u128::from((byte as char).to_digit(16).unwrap_or(0));
                    if size > u128::from(u64::MAX) {
                        return Err(Stop::Wrong);
                    }
                }
                Ok(_) if digits == 0 => return Err(Stop::Wrong),
                Ok(_) => return Ok(size as u64),
                Err(stop) => return Err(stop),
            }
            digits += 1;
            self.at += 1;
        }
    }

    fn extensions(&mut self) -> Result<(), Stop> {
        let is_space = |byte| byte == b' ' || byte == b'\t';
        loop {
            let none = self.run(is_space)?;
            if none && self.peek()? != b';' {
                return Ok(());
            }
            self.take(|byte| byte == b';')?;
            self.run(is_space)?;
            self.take(is_token)?;
            self.run(is_token)?;
            let after_name = self.at;
            self.run(is_space)?;
            if self.peek()? != b'=' {
                self.at = after_name;
                continue;
            }
            self.at += 1;
            self.run(is_space)?;
            if self.peek()? == b'"' {
                self.at += 1;
                self.quoted()?;
            } else {
                self.take(is_token)?;
                self.run(is_token)?;
            }
        }
    }

    fn quoted(&mut self) -> Result<(), Stop> {
        loop {
            match self.take(is_text)? {
                b'"' => return Ok(()),
                b'\\' => drop(self.take(is_text)?),
                _ => {}
            }
        }
    }

    /// A line is judged as a whole, once it is there.
    fn trailers(&mut self) -> Result<usize, Stop> {
        let mut fields = 0;
        let mut forbidden = false;
        loop {
            let rest = &self.bytes[self.at..];
            let len = rest.iter().position(|&byte| byte == b'\n').ok_or(Stop::Short)?;
            self.at += len + 1;
            let Some(line) = rest[..len].strip_suffix(b"\r") else { return Err(Stop::Wrong) };
            if line.is_empty() {
                return if forbidden { Err(Stop::Wrong) } else { Ok(fields) };
            }
            let colon = line.iter().position(|&byte| byte == b':').ok_or(Stop::Wrong)?;
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            if name.is_empty() || !name.iter().copied().all(is_token) || !value.iter().copied().all(is_text) {
                return Err(Stop::Wrong);
            }
            forbidden |= [&b"content-length"[..], b"transfer-encoding", b"host"]
                .iter()
                .any(|other| name.eq_ignore_ascii_case(other));
            fields += 1;
            if fields > usize::from(Limits::default().fields_max) {
                return Err(Stop::Wrong);
            }
        }
    }
}
