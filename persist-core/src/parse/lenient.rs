//! Response heads that a leniency can mend: rewritten into a copy in the strict spelling, which is then read strictly.
//! There is one grammar, and framing is decided by it either way.

use alloc::vec::Vec;

use crate::error::Cause;
use crate::leniency::Leniency;
use crate::limits::Limits;
use crate::parse::fields::Section;
use crate::parse::{Bad, HEAD_BYTES_MAX, Lines, StartLine, fields};

/// Whether a head with this fault is worth rewriting.
#[cold]
pub(super) fn can_mend(cause: &Cause, leniency: Leniency) -> bool {
    match cause {
        Cause::BareLf => leniency.bare_lf_in_response_head,
        Cause::ObsFold => leniency.obs_fold_in_response,
        Cause::InvalidStatusLine => leniency.space_in_status_line,
        _ => false,
    }
}

/// The position after the empty line that ends the head, CR or no CR. `at`: where the first line begins that was not complete.
pub(super) fn end(bytes: &[u8], at: &mut usize) -> Option<usize> {
    while let Some(len) = memchr::memchr(b'\n', &bytes[*at..]) {
        let line = &bytes[*at..*at + len];
        *at += len + 1;
        if matches!(line, b"" | b"\r") {
            return Some(*at);
        }
    }
    None
}

/// Rewrites a complete head, and reads and judges the copy.
pub(super) fn judge<L: StartLine>(
    head: &[u8],
    wire_len: usize,
    limits: &Limits,
    leniency: Leniency,
    asked: L::Asked,
) -> Result<L::Start, Bad> {
    let (copy, lines) = rewrite(head, leniency);
    let found = if copy.len() > HEAD_BYTES_MAX {
        Err(Bad::new(Cause::HeadTooLarge { limit: HEAD_BYTES_MAX as u64 }, HEAD_BYTES_MAX))
    } else {
        read_strictly::<L>(&copy, wire_len, limits, asked)
    };
    found.map_err(|bad| {
        // The copy's lines are as long as the original's, give or take a few bytes: good enough to point at.
        let (from, to) = lines.iter().rev().find(|(_, to)| *to <= bad.at).copied().unwrap_or((0, 0));
        Bad::new(bad.cause, (from + bad.at - to).min(head.len()))
    })
}

fn read_strictly<L: StartLine>(
    copy: &[u8],
    wire_len: usize,
    limits: &Limits,
    asked: L::Asked,
) -> Result<L::Start, Bad> {
    let incomplete = || Bad::new(Cause::BareCr, copy.len());
    let (line, at) = L::read(copy, limits)?.ok_or_else(incomplete)?;
    let mut section = Section::new(at);
    let end = fields::section(copy, limits.fields_max, &mut section)?.ok_or_else(incomplete)?;
    line.judged(&Lines { bytes: &copy[..end], section: &section, wire_len }, asked)
}

/// The head in the strict spelling, and where each of its lines begins: in the original, in the copy.
fn rewrite(head: &[u8], leniency: Leniency) -> (Vec<u8>, Vec<(usize, usize)>) {
    let mut copy = Vec::with_capacity(head.len() + 64);
    let mut lines = Vec::new();
    let mut at = 0;
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        let (body, ending) = match line {
            [body @ .., b'\r', b'\n'] => (body, &b"\r\n"[..]),
            // RFC 9112 §2.2: a recipient may take LF alone for the end of a line.
            [body @ .., b'\n'] if leniency.bare_lf_in_response_head => (body, &b"\r\n"[..]),
            [body @ .., b'\n'] => (body, &b"\n"[..]),
            _ => (line, &b""[..]),
        };
        let is_fold = lines.len() > 1 && matches!(body.first(), Some(b' ' | b'\t'));
        if is_fold && leniency.obs_fold_in_response && copy.ends_with(b"\r\n") {
            // RFC 9112 §5.2: a user agent replaces each obs-fold with SP.
            copy.truncate(copy.len() - 2);
            copy.push(b' ');
            lines.push((at, copy.len()));
            copy.extend_from_slice(body.trim_ascii_start());
        } else {
            lines.push((at, copy.len()));
            if at == 0 && leniency.space_in_status_line {
                push_status_line(&mut copy, body);
            } else {
                copy.extend_from_slice(body);
            }
        }
        copy.extend_from_slice(ending);
        at += line.len();
    }
    (copy, lines)
}

/// RFC 9112 §4: white space between the parts, one SP each; the SP before an absent reason phrase added.
fn push_status_line(copy: &mut Vec<u8>, line: &[u8]) {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let skip = |part: &'_ [u8]| part.iter().take_while(|byte| is_space(byte)).count();
    let word = |part: &'_ [u8]| part.iter().take_while(|byte| !is_space(byte)).count();
    let (version, rest) = line.split_at(word(line));
    let rest = &rest[skip(rest)..];
    let (status, rest) = rest.split_at(word(rest));
    for part in [version, status] {
        copy.extend_from_slice(part);
        copy.push(b' ');
    }
    copy.extend_from_slice(&rest[skip(rest)..]);
}
