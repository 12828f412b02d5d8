//! Byte classes, and scans over them eight bytes at a time.

use crate::field::{is_token_byte, is_value_byte};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

const TOKEN: u8 = 1;
const TARGET: u8 = 2;

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
pub(super) fn token_end(bytes: &[u8], at: usize) -> usize {
    run_end::<TOKEN>(bytes, at)
}

/// Where the run of target bytes that begins at `at` ends.
#[inline]
pub(super) fn target_end(bytes: &[u8], at: usize) -> usize {
    run_end::<TARGET>(bytes, at)
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

/// Where the run of field value bytes (SP and HTAB included) that begins at `at` ends.
#[inline]
pub(super) fn value_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        // The lowest mark is exact; a borrow can only mark bytes above it.
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        let delete = word ^ (ONES * 0x7f);
        let delete = delete.wrapping_sub(ONES) & !delete;
        let marks = (below_space | delete) & HIGHS;
        if marks == 0 {
            at += 8;
            continue;
        }
        at += (marks.trailing_zeros() / 8) as usize;
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
    while bytes.get(at).is_some_and(|&byte| is_value_byte(byte)) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

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
    fn runs_end_where_the_class_ends() {
        for byte in 0..=255u8 {
            let bytes = [b'a', byte, b'b'];
            assert_eq!(token_end(&bytes, 0), if is_token_byte(byte) { 3 } else { 1 });
            assert_eq!(target_end(&bytes, 0), if is_target_byte(byte) { 3 } else { 1 });
        }
    }
}
