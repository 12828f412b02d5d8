//! Byte classes, and scans over them sixteen bytes at a time.

use crate::field::{is_token_byte, is_value_byte};

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const VALUE: u8 = 4;
const HOST: u8 = 8;

/// One look-up for each byte, where there are too few left for a block.
static CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        class[at] = if is_token_byte(byte) { TOKEN } else { 0 }
            | if is_target_byte(byte) { TARGET } else { 0 }
            | if is_value_byte(byte) { VALUE } else { 0 }
            | if is_host_byte(byte) { HOST } else { 0 };
        at += 1;
    }
    class
};

// The classes are written with `&` and `|`: a branch in one of them, and the compiler makes no vector instructions of a block.

/// Visible ASCII but `"`, `#`, `<` and `>`: what RFC 3986 has, and what browsers leave unencoded besides (`docs/strictness.md`).
pub(crate) const fn is_target_byte(byte: u8) -> bool {
    // `"` and `#` differ in one bit, and so do `<` and `>`.
    (byte > b' ') & (byte < 0x7f) & (byte & 0xfe != b'"') & (byte & 0xfd != b'<')
}

/// Letters, digits, dots and hyphens: nearly all hosts hold nothing else.
const fn is_host_byte(byte: u8) -> bool {
    // Hyphen, dot, slash and the digits follow each other.
    is_letter(byte) | ((byte >= b'-') & (byte <= b'9') & (byte != b'/'))
}

const fn is_letter(byte: u8) -> bool {
    // 0x20 is what sets cases apart.
    (byte | 0x20).wrapping_sub(b'a') < 26
}

/// Where the run of token bytes that begins at `at` ends.
#[inline(always)]
pub(super) fn token_end(bytes: &[u8], at: usize) -> usize {
    // Nearly all names are letters and hyphens up to a colon.
    let end = run_end::<TOKEN>(bytes, at, |byte| is_letter(byte) | (byte == b'-'));
    if bytes.get(end) == Some(&b':') { end } else { rest_end::<TOKEN>(bytes, end) }
}

/// Where the run of target bytes that begins at `at` ends.
#[inline(always)]
pub(super) fn target_end(bytes: &[u8], at: usize) -> usize {
    run_end::<TARGET>(bytes, at, is_target_byte)
}

/// Where the run of field value bytes (SP and HTAB included) that begins at `at` ends.
#[inline(always)]
pub(super) fn value_end(bytes: &[u8], at: usize) -> usize {
    run_end::<VALUE>(bytes, at, |byte| (byte >= b' ') & (byte != 0x7f) | (byte == b'\t'))
}

/// Where the run of letters, digits, dots and hyphens that begins at `at` ends.
#[inline(always)]
pub(super) fn host_end(bytes: &[u8], at: usize) -> usize {
    run_end::<HOST>(bytes, at, is_host_byte)
}

/// How many letters and hyphens stand at the front; `None` if other bytes do not follow them soon enough to be found by blocks.
#[inline(always)]
pub(super) fn letters(bytes: &[u8]) -> Option<usize> {
    whole_run(bytes, |byte| is_letter(byte) | (byte == b'-'))
}

/// How many field value bytes stand at the front; `None` likewise.
#[inline(always)]
pub(super) fn value(bytes: &[u8]) -> Option<usize> {
    whole_run(bytes, |byte| (byte >= b' ') & (byte != 0x7f) | (byte == b'\t'))
}

/// How many bytes that are `fine` stand at the front, if those that are left behind the last of them fill a block.
#[inline(always)]
fn whole_run(bytes: &[u8], fine: impl Fn(u8) -> bool) -> Option<usize> {
    let mut rest = bytes;
    while let Some((block, behind)) = rest.split_first_chunk::<16>() {
        if let Some(at) = first_stop(block, &fine) {
            return Some(bytes.len() - rest.len() + at);
        }
        rest = behind;
    }
    None
}

/// Where the run of bytes of a class that begins at `at` ends; `fine` has no branch, and may leave out some of the class.
#[inline(always)]
fn run_end<const CLASS: u8>(bytes: &[u8], mut at: usize, fine: impl Fn(u8) -> bool) -> usize {
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        if let Some(stop) = first_stop(block, &fine) {
            return at + stop;
        }
        at += block.len();
    }
    rest_end::<CLASS>(bytes, at)
}

/// Where the first byte of a block stands that is not `fine`.
#[inline(always)]
fn first_stop(block: &[u8; 16], fine: impl Fn(u8) -> bool) -> Option<usize> {
    let mut stops = [0; 16];
    for (stop, &byte) in stops.iter_mut().zip(block) {
        *stop = if fine(byte) { 0 } else { 0xff };
    }
    // Found as numbers, by the lowest bit that is set. The compiler must not look through: it would take the vector apart byte by byte.
    let stops = u128::from_le_bytes(core::hint::black_box(stops));
    let (first, second) = (stops as u64, (stops >> 64) as u64);
    if first != 0 {
        return Some(first.trailing_zeros() as usize / 8);
    }
    if second != 0 {
        return Some(8 + second.trailing_zeros() as usize / 8);
    }
    None
}

/// The same, byte by byte.
#[inline(never)]
fn rest_end<const WANTED: u8>(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at)
        && CLASS[byte as usize] & WANTED != 0
    {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// As `is_host_byte`, said in other words.
    fn is_host(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')
    }

    /// As `is_target_byte`, said in other words.
    fn is_target(byte: u8) -> bool {
        byte.is_ascii_graphic() && !b"\"#<>".contains(&byte)
    }

    #[test]
    fn two_neighbours_of_any_kind_are_told_apart() {
        // A borrow from one byte must not hide or move the mark of the next.
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let mut bytes = [b'a'; 40];
                (bytes[3], bytes[4]) = (first, second);
                let end = |class: fn(u8) -> bool| {
                    if !class(first) {
                        3
                    } else if !class(second) {
                        4
                    } else {
                        40
                    }
                };
                assert_eq!(token_end(&bytes, 0), end(is_token_byte), "{first:#x} {second:#x}");
                assert_eq!(host_end(&bytes, 0), end(is_host), "{first:#x} {second:#x}");
                assert_eq!(target_end(&bytes, 0), end(is_target), "{first:#x} {second:#x}");
                assert_eq!(value_end(&bytes, 0), end(is_value_byte), "{first:#x} {second:#x}");
            }
        }
    }

    #[test]
    fn a_host_in_a_head_is_judged_as_the_grammar_says() {
        use crate::parse::authority;
        // Every byte at every place of hosts of many lengths, with and without a port, with much and little behind them.
        for host in ["", "h", "host.exa", "127.0.0.1", "www.example.com", "a-long.name.example.com"] {
            for port in ["", ":", ":8", ":80", ":443", ":8080", ":65535", ":65536", ":0080", ":000080"] {
                let host = [host.as_bytes(), port.as_bytes()].concat();
                for (at, byte) in (0..host.len()).flat_map(|at| (0..=255u8).map(move |byte| (at, byte))) {
                    let mut changed = host.clone();
                    changed[at] = byte;
                    let valid = authority::parse(&changed).is_some();
                    for behind in ["\r\n\r\n", " \t \r\nAccept: text/html\r\n\r\n"] {
                        let head = [&b"Host: "[..], &changed, behind.as_bytes()].concat();
                        let judged = authority::is_valid(&head, 6, 6 + changed.len());
                        assert_eq!(judged, valid, "{}", head.escape_ascii());
                    }
                }
            }
        }
    }

    #[test]
    fn value_end_stops_at_every_control_character_but_tab_at_every_alignment() {
        for byte in 0..=255u8 {
            for before in 0..20 {
                for after in 0..20 {
                    let mut bytes = vec![b'v'; before];
                    bytes.push(byte);
                    bytes.extend(vec![b'\t'; after]);
                    let expected = if is_value_byte(byte) { bytes.len() } else { before };
                    assert_eq!(value_end(&bytes, 0), expected, "{byte:#x} after {before}, before {after}");
                }
            }
        }
    }

    #[test]
    fn runs_end_where_the_class_ends_at_every_alignment() {
        for byte in 0..=255u8 {
            for before in 0..20 {
                for after in 0..20 {
                    let mut bytes = vec![b'a'; before];
                    bytes.push(byte);
                    bytes.extend(vec![b'-'; after]);
                    let end = |fine: bool| if fine { bytes.len() } else { before };
                    assert_eq!(
                        token_end(&bytes, 0),
                        end(is_token_byte(byte)),
                        "{byte:#x} after {before}, before {after}"
                    );
                    assert_eq!(target_end(&bytes, 0), end(is_target(byte)), "{byte:#x} after {before}, before {after}");
                }
            }
        }
    }
}
