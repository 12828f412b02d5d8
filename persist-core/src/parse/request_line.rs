//! The request line (RFC 9112 §3): a method, one SP, a target, one SP, a version.

use crate::error::Cause;
use crate::field::is_token_byte;
use crate::framing;
use crate::head::{RequestHead, Version};
use crate::leniency::Leniency;
use crate::limits::Limits;
use crate::method::{Known, Method};
use crate::parse::{Bad, Lines, Part, RequestFacts, RequestStart, StartLine, part, scan, target};

/// A request line: positions in the head.
#[derive(Debug)]
pub(crate) struct RequestLine {
    pub(crate) method: Method,
    pub(crate) target: Part,
    /// Where an absolute or authority-form target names the host.
    pub(crate) authority: Option<Part>,
    pub(crate) version: Version,
}

const GET: u32 = u32::from_le_bytes(*b"GET ");
const HTTP_1: u64 = u64::from_le_bytes(*b" HTTP/1.");

impl StartLine for RequestLine {
    type Start = RequestStart;
    type Facts = RequestFacts;
    type Asked = ();

    #[inline(always)]
    fn plain(bytes: &[u8], limits: &Limits) -> Option<(Self, usize)> {
        let (method, start, end, version) = split(bytes)?;
        // RFC 9112 §3.2.1: an absolute path, for every method but CONNECT.
        if bytes[start] != b'/' || method.known() == Known::Connect || end - start > limits.target_bytes_max as usize {
            return None;
        }
        Some((Self { method, target: part(start, end), authority: None, version }, end + 11))
    }

    #[cold]
    fn other(bytes: &[u8], limits: &Limits) -> Result<Option<(Self, usize)>, Bad> {
        let Some((method, start, end, version)) = split(bytes) else { return diagnose(bytes) };
        let len = end - start;
        if len > limits.target_bytes_max as usize {
            let cause = Cause::TargetTooLong { len: len as u64, limit: limits.target_bytes_max.into() };
            return Err(Bad::new(cause, start + limits.target_bytes_max as usize));
        }
        let authority = target::check(method.known(), bytes, start, end)?;
        Ok(Some((Self { method, target: part(start, end), authority, version }, end + 11)))
    }

    fn check_prefix(bytes: &[u8]) -> Result<(), Bad> {
        match bytes.first() {
            Some(&byte) if !is_token_byte(byte) => Err(Bad::new(Cause::NotHttp { byte }, 0)),
            _ => Ok(()),
        }
    }

    fn may_follow_empty_lines(_leniency: Leniency) -> bool {
        true
    }

    fn too_long(limit: u64) -> Cause {
        Cause::RequestLineTooLong { limit }
    }

    #[inline(always)]
    fn judge(&self, head: &Lines<'_>, _asked: ()) -> Result<RequestFacts, Bad> {
        framing::request(head, self)
    }

    fn start(self, head: &Lines<'_>, facts: RequestFacts) -> RequestStart {
        let wire_len = head.wire_len;
        RequestStart { head: RequestHead::new(head.bytes, head.section, self, facts.authority), facts, wire_len }
    }
}

/// The method, where the target begins and ends, and the version of a complete request line, whatever its target; `None` if it is none.
#[inline(always)]
fn split(bytes: &[u8]) -> Option<(Method, usize, usize, Version)> {
    // Compared as words: a pattern would be compared byte by byte.
    let is_get = bytes.first_chunk::<4>().is_some_and(|first| u32::from_le_bytes(*first) == GET);
    let start = if is_get { 4 } else { scan::token_end(bytes, 0) + 1 };
    let end = scan::target_end(bytes, start.min(bytes.len()));
    let (version, rest) = bytes.get(end..)?.split_first_chunk::<8>()?;
    let &[minor @ b'0'..=b'9', b'\r', b'\n'] = rest.first_chunk::<3>()? else { return None };
    if u64::from_le_bytes(*version) != HTTP_1 || start == end {
        return None;
    }
    let method = if is_get {
        Method::GET
    } else {
        let (b' ', name) = bytes[..start].split_last()? else { return None };
        Method::from_bytes(name)?
    };
    // RFC 9110 §2.5: a higher minor version is processed as the highest one that we know.
    let version = if minor == b'0' { Version::Http10 } else { Version::Http11 };
    Some((method, start, end, version))
}

/// What is wrong with the request line; `None` if its end has not come.
#[cold]
fn diagnose(bytes: &[u8]) -> Result<Option<(RequestLine, usize)>, Bad> {
    RequestLine::check_prefix(bytes)?;
    let Some(len) = memchr::memchr(b'\n', bytes) else { return Ok(None) };
    let line = &bytes[..len];
    let (cause, at) = line_fault(line);
    Err(Bad::new(cause, at))
}

/// `line` has its LF cut off, and is no request line.
fn line_fault(line: &[u8]) -> (Cause, usize) {
    if line == b"PRI * HTTP/2.0\r" {
        return (Cause::Http2Preface, 0);
    }
    let body = match line {
        [body @ .., b'\r'] => body,
        _ => line,
    };
    let method_end = scan::token_end(body, 0);
    match body.get(method_end) {
        Some(b' ') => {}
        None | Some(b'\t') => return (Cause::InvalidRequestLine, method_end),
        Some(&byte) => return (Cause::InvalidMethod { byte }, method_end),
    }
    let start = method_end + 1;
    let end = scan::target_end(body, start);
    match body.get(end) {
        Some(b' ') if end > start => {}
        None | Some(b' ' | b'\t') => return (Cause::InvalidRequestLine, end),
        Some(b'\r') => return (Cause::BareCr, end),
        Some(&byte) => return (Cause::InvalidTarget { byte }, end),
    }
    let version = end + 1;
    match version_fault(&body[version..]) {
        // A target with a space in it looks like a bad version.
        Some(Cause::InvalidVersion) if !body[version..].starts_with(b"HTTP/") && body[version..].contains(&b' ') => {
            (Cause::InvalidRequestLine, version)
        }
        Some(cause) => (cause, version),
        None => (Cause::BareLf, body.len()),
    }
}

/// What is wrong with a version that ends its line, if anything (RFC 9112 §2.3).
fn version_fault(version: &[u8]) -> Option<Cause> {
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] => None,
        [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Some(Cause::UnsupportedVersion { major: major - b'0' })
        }
        _ if version.contains(&b'\r') => Some(Cause::BareCr),
        [.., b' ' | b'\t'] => Some(Cause::InvalidRequestLine),
        _ => Some(Cause::InvalidVersion),
    }
}
