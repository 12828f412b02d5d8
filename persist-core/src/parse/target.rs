//! The four forms of a request target, and which method takes which (RFC 9112 §3.2).

use crate::error::Cause;
use crate::method::Known;
use crate::parse::{Bad, Part, authority, part};

/// Judges the target, which holds target bytes only. Returns where it names the host, if it does.
#[inline]
pub(super) fn check(method: Known, head: &[u8], start: usize, end: usize) -> Result<Option<Part>, Bad> {
    // RFC 9112 §3.2.1: an absolute path, for every method but CONNECT.
    if head[start] == b'/' && method != Known::Connect {
        return Ok(None);
    }
    check_other_forms(method, head, start, end)
}

#[cold]
fn check_other_forms(method: Known, head: &[u8], start: usize, end: usize) -> Result<Option<Part>, Bad> {
    let target = &head[start..end];
    let wrong = |what| Err(Bad::new(Cause::WrongTargetForm(what), start));
    if method == Known::Connect {
        // RFC 9112 §3.2.3, RFC 9110 §9.3.6: host and port, nothing else, and the port not empty.
        return match authority::parse(target) {
            Some(authority::Parts { host, port: Some(1..) }) if !host.is_empty() => Ok(Some(part(start, end))),
            _ => wrong("connect takes a host, a colon and a port from 1 to 65535"),
        };
    }
    if target == b"*" {
        // RFC 9112 §3.2.4
        return if method == Known::Options { Ok(None) } else { wrong("only options takes the target *") };
    }
    // RFC 9112 §3.2.2: a scheme, `://`, an authority, and the rest.
    let Some((scheme, rest)) = split_scheme(target) else {
        return wrong("the target is neither a path that begins with / nor an absolute uri with ://");
    };
    let len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let is_http = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    match authority::parse(&rest[..len]) {
        // RFC 9110 §4.2.1: an http uri with an empty host is invalid.
        Some(parts) if !(parts.host.is_empty() && is_http) => {
            let authority = end - rest.len();
            Ok(Some(part(authority, authority + len)))
        }
        _ => wrong("the authority of the target is not a host with an optional port"),
    }
}

fn split_scheme(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let len =
        target.iter().position(|byte| !matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.'))?;
    let (scheme, rest) = target.split_at(len);
    (scheme.first()?.is_ascii_alphabetic()).then_some((scheme, rest.strip_prefix(b"://")?))
}
