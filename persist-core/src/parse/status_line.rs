//! The status line (RFC 9112 §4): a version, one SP, three digits, one SP, and a reason phrase that may be empty.

use crate::error::Cause;
use crate::framing;
use crate::head::{ResponseHead, Version};
use crate::leniency::Leniency;
use crate::limits::Limits;
use crate::parse::{Asked, Bad, Lines, Part, ResponseFacts, ResponseStart, StartLine, part, scan};
use crate::status::StatusCode;

/// A status line: positions in the head.
#[derive(Debug)]
pub(crate) struct StatusLine {
    pub(crate) version: Version,
    pub(crate) status: StatusCode,
    pub(crate) reason: Part,
}

const REASON: usize = 13;

impl StartLine for StatusLine {
    type Start = ResponseStart;
    type Facts = ResponseFacts;
    type Asked = Asked;

    #[inline(always)]
    fn plain(bytes: &[u8], _limits: &Limits) -> Option<(Self, usize)> {
        // What nearly all say.
        if bytes.first_chunk::<17>() == Some(b"HTTP/1.1 200 OK\r\n") {
            let reason = part(REASON, REASON + "OK".len());
            return Some((Self { version: Version::Http11, status: StatusCode::OK, reason }, 17));
        }
        let (b"HTTP/1.", rest) = bytes.split_first_chunk::<7>()? else { return None };
        let &[minor, b' ', a @ b'1'..=b'9', b, c, b' '] = rest.first_chunk::<6>()? else { return None };
        if ![minor, b, c].iter().all(u8::is_ascii_digit) {
            return None;
        }
        let end = scan::value_end(bytes, REASON);
        if bytes.get(end..end + 2) != Some(b"\r\n") {
            return None;
        }
        let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
        let status = StatusCode::new(code).ok()?;
        // RFC 9110 §2.5: a higher minor version is processed as the highest one that we know.
        let version = if minor == b'0' { Version::Http10 } else { Version::Http11 };
        Some((Self { version, status, reason: part(REASON, end) }, end + 2))
    }

    #[cold]
    fn other(bytes: &[u8], _limits: &Limits) -> Result<Option<(Self, usize)>, Bad> {
        Self::check_prefix(bytes)?;
        let Some(len) = memchr::memchr(b'\n', bytes) else { return Ok(None) };
        let (cause, at) = line_fault(&bytes[..len]);
        Err(Bad::new(cause, at))
    }

    fn check_prefix(bytes: &[u8]) -> Result<(), Bad> {
        let name = b"HTTP/";
        let same = bytes.iter().zip(name).take_while(|(a, b)| a == b).count();
        match bytes.get(same) {
            None => Ok(()),
            Some(&byte) if same == 0 => Err(Bad::new(Cause::NotHttp { byte }, 0)),
            Some(b'1') if same == name.len() => match bytes.get(name.len() + 1) {
                None | Some(b'.') => Ok(()),
                Some(_) => Err(Bad::new(Cause::InvalidVersion, 0)),
            },
            Some(&digit) if same == name.len() && digit.is_ascii_digit() => {
                Err(Bad::new(Cause::UnsupportedVersion { major: digit - b'0' }, name.len()))
            }
            Some(_) => Err(Bad::new(Cause::InvalidVersion, 0)),
        }
    }

    fn may_follow_empty_lines(leniency: Leniency) -> bool {
        leniency.empty_lines_before_response
    }

    fn too_long(limit: u64) -> Cause {
        Cause::HeadTooLarge { limit }
    }

    #[inline(always)]
    fn judge(&self, head: &Lines<'_>, asked: Asked) -> Result<ResponseFacts, Bad> {
        framing::response(head, self, asked)
    }

    fn start(self, head: &Lines<'_>, facts: ResponseFacts) -> ResponseStart {
        ResponseStart { head: ResponseHead::new(head.bytes, head.section, &self), facts, wire_len: head.wire_len }
    }
}

/// `line` has its LF cut off, begins with `HTTP/1.`, and is no status line.
fn line_fault(line: &[u8]) -> (Cause, usize) {
    let body = match line {
        [body @ .., b'\r'] => body,
        _ => line,
    };
    if !body.get(7).is_some_and(u8::is_ascii_digit) || body.get(8).is_some_and(|byte| !matches!(byte, b' ' | b'\t')) {
        return (Cause::InvalidVersion, 0);
    }
    let well_formed = matches!(body.get(8..REASON), Some([b' ', a, b, c, b' ']) if [a, b, c].iter().all(|byte| byte.is_ascii_digit()));
    if !well_formed {
        return (Cause::InvalidStatusLine, 8);
    }
    let end = scan::value_end(body, REASON);
    match body.get(end) {
        // Three digits that are no status.
        None if body.len() < line.len() => (Cause::InvalidStatus(number(&body[9..12])), 9),
        None => (Cause::BareLf, body.len()),
        Some(b'\r') => (Cause::BareCr, end),
        Some(&byte) => (Cause::InvalidFieldValue { byte }, end),
    }
}

fn number(digits: &[u8]) -> u16 {
    digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'))
}
