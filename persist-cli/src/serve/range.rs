//! `Range: bytes=...`: one range is honoured, several are answered in full (RFC 9110 §14.2 lets a server ignore the field).

/// What a `Range` field asks for, of a representation of known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// No range, several, another unit, or not a range: all of it.
    Whole,
    /// These bytes: at least one.
    Part { first: u64, last: u64 },
    /// 416: nothing of the representation lies in it.
    Unsatisfiable,
}

/// RFC 9110 §14.1.2
pub(super) fn parse(value: &str, len: u64) -> Asked {
    let Some((unit, set)) = value.split_once('=') else { return Asked::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    let Some((first, last)) = set.trim_matches([' ', '\t']).split_once('-') else { return Asked::Whole };
    match (number(first), number(last)) {
        (Some(Number::None), Some(Number::Is(suffix))) => match suffix.min(len) {
            0 => Asked::Unsatisfiable,
            suffix => Asked::Part { first: len - suffix, last: len - 1 },
        },
        (Some(Number::Is(first)), Some(Number::Is(last))) if last < first => Asked::Whole,
        (Some(Number::Is(first)), Some(_)) if first >= len => Asked::Unsatisfiable,
        (Some(Number::Is(first)), Some(Number::Is(last))) => Asked::Part { first, last: last.min(len - 1) },
        (Some(Number::Is(first)), Some(Number::None)) => Asked::Part { first, last: len - 1 },
        _ => Asked::Whole,
    }
}

enum Number {
    None,
    Is(u64),
}

/// Digits only; a number past 64 bits lies past every file.
fn number(text: &str) -> Option<Number> {
    match text {
        "" => Some(Number::None),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(Number::Is(text.parse().unwrap_or(u64::MAX))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked::*, parse};

    #[test]
    fn ranges_come_out_as_the_rfc_says() {
        let table = [
            ("bytes=0-499", Part { first: 0, last: 499 }),
            ("Bytes=500-999", Part { first: 500, last: 999 }),
            ("bytes=9500-", Part { first: 9500, last: 9999 }),
            ("bytes=-500", Part { first: 9500, last: 9999 }),
            ("bytes=-20000", Part { first: 0, last: 9999 }),
            ("bytes=9999-99999", Part { first: 9999, last: 9999 }),
            ("bytes=0-99999999999999999999999", Part { first: 0, last: 9999 }),
            ("bytes=10000-", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-4", Whole),
            ("bytes=0-1,3-4", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=a-b", Whole),
            ("lines=0-1", Whole),
            ("0-1", Whole),
        ];
        for (value, expected) in table {
            assert_eq!(parse(value, 10_000), expected, "{value}");
        }
    }

    #[test]
    fn an_empty_file_has_no_range() {
        assert_eq!(parse("bytes=0-", 0), Unsatisfiable);
        assert_eq!(parse("bytes=-1", 0), Unsatisfiable);
    }
}
