//! Writing heads: start lines, and the framing fields that are ours alone to write.

use alloc::vec::Vec;
use core::time::Duration;

use crate::error::SendError;
use crate::head::BodyLen;
use crate::method::{Known, Method};
use crate::status::StatusCode;

pub(crate) fn request_line(out: &mut Vec<u8>, method: &Method, target: &str) -> Result<(), SendError> {
    // RFC 9112 §3.2: no white space or control character may stand in a target; a fragment is never sent.
    if target.is_empty() || !target.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#') {
        return Err(SendError::InvalidTarget);
    }
    out.reserve(method.as_str().len() + target.len() + 256);
    if method.known() == Known::Get {
        // What most say, with one append of a known length.
        out.extend_from_slice(b"GET ");
    } else {
        out.extend_from_slice(method.as_str().as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    Ok(())
}

#[inline(always)]
pub(crate) fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    out.reserve(256);
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        any_status_line(out, status);
    }
}

fn any_status_line(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(status.as_u16()));
    // RFC 9112 §4: the SP stays even if no reason follows.
    out.push(b' ');
    out.extend_from_slice(status.reason().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The framing field of a request (RFC 9112 §6).
#[inline]
pub(crate) fn request_framing(out: &mut Vec<u8>, method: Known, body: BodyLen) {
    match body {
        // RFC 9110 §8.6: a method that usually has content says that there is none.
        BodyLen::Empty if matches!(method, Known::Post | Known::Put | Known::Patch) => content_length(out, 0),
        BodyLen::Empty => {}
        BodyLen::Length(length) => content_length(out, length),
        BodyLen::Chunked | BodyLen::UntilClose => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

/// How the head of a response ends: with the framing field (RFC 9112 §6), if there is one, and the empty line.
#[inline(always)]
pub(crate) fn response_end(out: &mut Vec<u8>, body: BodyLen) {
    match body {
        // Short numbers, which most are, with one append.
        BodyLen::Length(length @ 10..100) => {
            let mut line = *b"Content-Length: 00\r\n\r\n";
            line[16] += (length / 10) as u8;
            line[17] += (length % 10) as u8;
            return out.extend_from_slice(&line);
        }
        BodyLen::Empty => return out.extend_from_slice(b"Content-Length: 0\r\n\r\n"),
        BodyLen::Length(length) => content_length(out, length),
        BodyLen::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyLen::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// What an HTTP/1.0 client asked for, and for how long.
#[cold]
pub(crate) fn keep_alive(out: &mut Vec<u8>, idle: Option<Duration>) {
    out.extend_from_slice(b"Connection: keep-alive\r\n");
    if let Some(idle) = idle {
        out.extend_from_slice(b"Keep-Alive: timeout=");
        decimal(out, idle.as_secs());
        out.extend_from_slice(b"\r\n");
    }
}

fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// RFC 9112 §7.1: the line before a chunk's data.
pub(crate) fn chunk_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[size >> (digit * 4) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn decimal(out: &mut Vec<u8>, mut number: u64) {
    if number < 100 {
        if number >= 10 {
            out.push(b'0' + (number / 10) as u8);
        }
        out.push(b'0' + (number % 10) as u8);
        return;
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full_at_both_ends_of_their_range() {
        let mut out = Vec::new();
        for number in [0, 9, 10, 99, 100, u64::MAX] {
            decimal(&mut out, number);
            out.push(b' ');
        }
        for size in [0, 0xf, 0x10, usize::MAX] {
            chunk_size(&mut out, size);
        }
        assert_eq!(out, b"0 9 10 99 100 18446744073709551615 0\r\nf\r\n10\r\nffffffffffffffff\r\n");
    }
}
