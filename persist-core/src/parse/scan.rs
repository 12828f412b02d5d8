//! Byte classes, and scans over them eight bytes at a time.

use crate::field::{is_token_byte, is_value_byte};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const HOST: u8 = 4;

/// One look-up for each byte of a name or method.
static CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        if is_token_byte(byte as u8) {
            class[byte] |= TOKEN;
        }
        if is_target_byte(byte as u8) {
            class[byte] |= TARGET;
        }
        if (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b'-') {
            class[byte] |= HOST;
        }
        byte += 1;
    }
    class
};

/// Visible ASCII but `"`, `#`, `<` and `>`: what RFC 3986 has, and what browsers leave unencoded besides (`docs/strictness.md`).
pub(crate) const fn is_target_byte(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'#' | b'<' | b'>')
}

/// Where the run of token bytes that begins at `at` ends.
#[inline]
pub(super) fn token_end(bytes: &[u8], mut at: usize) -> usize {
    // Nearly all names are letters and hyphens up to a colon or space.
    while let Some(word) = word(bytes, at) {
        let marks = !letters_and_hyphens(word) & HIGHS;
        if marks != 0 {
            return run_end::<TOKEN>(bytes, at + first(marks));
        }
        at += 8;
    }
    run_end::<TOKEN>(bytes, at)
}

/// Where the run of target bytes that begins at `at` ends.
#[inline]
pub(super) fn target_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = word(bytes, at) {
        // `"` and `#` differ in one bit, and so do `<` and `>`. The lowest mark is exact; a borrow can only mark bytes above it.
        let marks = below(word, 0x21)
            | zeros(word ^ splat(0x7f))
            | zeros((word & splat(0xfe)) ^ splat(b'"'))
            | zeros((word & splat(0xfd)) ^ splat(b'<'))
            | word;
        if marks & HIGHS != 0 {
            return at + first(marks & HIGHS);
        }
        at += 8;
    }
    run_end::<TARGET>(bytes, at)
}

/// Where the run of field value bytes (SP and HTAB included) that begins at `at` ends.
#[inline(always)]
pub(super) fn value_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<32>()) {
            // Without a branch in it, the compiler makes this a handful of vector instructions.
            let stops = block.iter().fold(0, |stops, &byte| stops | u8::from(byte < 0x20) | u8::from(byte == 0x7f));
            if stops != 0 {
                break;
            }
            at += 32;
        }
        while let Some(word) = word(bytes, at) {
            let marks = (below(word, 0x20) | zeros(word ^ splat(0x7f))) & HIGHS;
            if marks != 0 {
                at += first(marks);
                break;
            }
            at += 8;
        }
        while bytes.get(at).is_some_and(|&byte| is_value_byte(byte) && byte != b'\t') {
            at += 1;
        }
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
}

/// Where the run of letters, digits, dots and hyphens at the beginning ends: nearly all hosts hold nothing else.
#[inline]
pub(super) fn host_end(bytes: &[u8]) -> usize {
    run_end::<HOST>(bytes, 0)
}

/// Whether it is certain that this is a host with at most a colon and four digits behind it: at least eight bytes long, and
/// letters, digits, dots and hyphens otherwise. Nearly all are.
#[inline]
pub(super) fn is_plain_host(value: &[u8]) -> bool {
    let Some((before, last)) = value.split_last_chunk::<8>() else { return false };
    let mut at = 0;
    while at < before.len() {
        // The word overlaps the last one, where a colon may stand.
        let own = (before.len() - at).min(8);
        let Some(word) = word(value, at) else { return false };
        let (others, _) = host_marks(word);
        if others << (64 - 8 * own) != 0 {
            return false;
        }
        at += 8;
    }
    let word = u64::from_le_bytes(*last);
    let (others, not_digits) = host_marks(word);
    if others == 0 {
        return true;
    }
    let colon = first(others);
    // Four digits or fewer are a port below 65,536.
    colon >= 3 && last[colon] == b':' && not_digits & (HIGHS << (8 * colon) << 8) == 0
}

/// Marks what is no letter, digit, dot or hyphen, and what is no digit, exactly.
#[inline(always)]
const fn host_marks(word: u64) -> (u64, u64) {
    let ascii = word & !HIGHS;
    let lower = ascii | splat(0x20);
    // No sum of two seven-bit numbers carries into the next byte.
    let letters = (lower + splat(0x80 - b'a')) & !(lower + splat(0x7f - b'z'));
    let up_to_nine = !(ascii + splat(0x7f - b'9'));
    let digits = (ascii + splat(0x80 - b'0')) & up_to_nine;
    // Hyphen, dot, slash and the digits follow each other.
    let not_slash = (ascii ^ splat(b'/')) + splat(0x7f);
    let marks = (ascii + splat(0x80 - b'-')) & up_to_nine & not_slash;
    (!((letters | marks) & !word) & HIGHS, !(digits & !word) & HIGHS)
}

#[inline]
fn run_end<const WANTED: u8>(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at)
        && CLASS[byte as usize] & WANTED != 0
    {
        at += 1;
    }
    at
}

/// Eight bytes, the first of them lowest.
#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|word| u64::from_le_bytes(*word))
}

const fn splat(byte: u8) -> u64 {
    ONES * byte as u64
}

/// Which byte the lowest mark stands for.
const fn first(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// Marks bytes below `limit`, which is at most 0x80. The lowest mark is exact.
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(splat(limit)) & !word
}

/// Marks bytes that are zero. The lowest mark is exact.
const fn zeros(word: u64) -> u64 {
    below(word, 1)
}

/// Marks letters and hyphens, exactly.
const fn letters_and_hyphens(word: u64) -> u64 {
    let ascii = word & !HIGHS;
    let lower = ascii | splat(0x20);
    // No sum of two seven-bit numbers carries into the next byte.
    let from_a = lower + splat(0x80 - b'a');
    let past_z = lower + splat(0x7f - b'z');
    let not_hyphen = (ascii ^ splat(b'-')) + splat(0x7f);
    ((from_a & !past_z) | !not_hyphen) & !word
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

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
                assert_eq!(target_end(&bytes, 0), end(is_target_byte), "{first:#x} {second:#x}");
                assert_eq!(value_end(&bytes, 0), end(is_value_byte), "{first:#x} {second:#x}");
            }
        }
    }

    #[test]
    fn a_plain_host_is_one_that_the_grammar_takes() {
        use crate::parse::authority;
        // Every byte at every place of hosts of many lengths, with and without a port.
        for host in ["h", "host.exa", "127.0.0.1", "www.example.com", "a-long.name.example.com"] {
            for port in ["", ":", ":8", ":80", ":443", ":8080", ":65535", ":65536", ":0080", ":000080"] {
                let host = [host.as_bytes(), port.as_bytes()].concat();
                let plain = host.len() >= 8 && port.len() <= 5;
                assert_eq!(is_plain_host(&host), plain, "{}", host.escape_ascii());
                for (at, byte) in (0..host.len()).flat_map(|at| (0..=255u8).map(move |byte| (at, byte))) {
                    let mut changed = host.clone();
                    changed[at] = byte;
                    let valid = authority::parse(&changed).is_some();
                    assert!(valid || !is_plain_host(&changed), "{}", changed.escape_ascii());
                    assert_eq!(authority::is_valid(&changed), valid, "{}", changed.escape_ascii());
                    let letters = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
                    let (others, not_digits) =
                        host_marks(u64::from_le_bytes([byte, b'0', byte, b':', byte, 0, 0xff, byte]));
                    assert_eq!(others & 0x80 == 0, letters, "{byte:#x}");
                    assert_eq!(not_digits & 0x80 == 0, byte.is_ascii_digit(), "{byte:#x}");
                    assert_eq!((others >> 56 == 0, others >> 15 & 1), (letters, 0), "{byte:#x}");
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
                    assert_eq!(
                        target_end(&bytes, 0),
                        end(is_target_byte(byte)),
                        "{byte:#x} after {before}, before {after}"
                    );
                }
            }
        }
    }
}
