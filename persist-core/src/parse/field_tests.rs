//! Field lines: what is taken and what is wrong with the rest, strictly and with leniency.

use alloc::format;
use alloc::string::String;

use super::*;

fn field_lines(lines: &[u8]) -> String {
    let head = [b"GET / HTTP/1.0\r\n", lines, b"\r\n"].concat();
    match request(&mut Partial::default(), &mut &head[..], 0, &Limits::default(), Leniency::strict()) {
        Ok(Some(start)) => start.head.fields().map(|field| format!("{}={:?};", field.name, field.value)).collect(),
        Ok(None) => String::from("incomplete"),
        Err(error) => format!("{:?} at {}", error.cause(), error.offset() - 16),
    }
}

#[test]
fn a_field_line_is_a_token_a_colon_and_a_value() {
    for (lines, expected) in [
        (&b"X: y\r\n"[..], "X=\"y\";"),
        (b"X:y\r\nx:\r\n", "X=\"y\";x=\"\";"),
        (b"X: \t a\tb\t \r\n", "X=\"a\\tb\";"),
        (b"X: \xe9\xff\r\n", "X=\"\\xe9\\xff\";"),
        (b"X::\r\n", "X=\":\";"),
        (b"!#$%&'*+-.^_`|~09azAZ: y\r\n", "!#$%&'*+-.^_`|~09azAZ=\"y\";"),
        (b"X : y\r\n", "SpaceBeforeColon at 1"),
        (b"X\t: y\r\n", "SpaceBeforeColon at 1"),
        (b": y\r\n", "EmptyFieldName at 0"),
        (b"X\x85: y\r\n", "InvalidFieldName { byte: 133 } at 1"),
        (b"X(: y\r\n", "InvalidFieldName { byte: 40 } at 1"),
        (b"X A: y\r\n", "InvalidFieldName { byte: 32 } at 1"),
        (b"X\0: y\r\n", "InvalidFieldName { byte: 0 } at 1"),
        (b"Xy\r\n", "NoColon at 2"),
        (b"X y\r\n", "NoColon at 1"),
        (b"X: a\0b\r\n", "InvalidFieldValue { byte: 0 } at 4"),
        (b"X: a\x07b\r\n", "InvalidFieldValue { byte: 7 } at 4"),
        (b"X: a\x7fb\r\n", "InvalidFieldValue { byte: 127 } at 4"),
        (b"X: a\x0bb\r\n", "InvalidFieldValue { byte: 11 } at 4"),
        (b"X: a\rb\r\n", "BareCr at 4"),
        (b"X: a\r\r\n", "BareCr at 4"),
        (b"X\r: a\r\n", "BareCr at 1"),
        (b"\rX: a\r\n", "BareCr at 0"),
        (b"X: a\n", "BareLf at 4"),
        (b"X: a\n\n", "BareLf at 4"),
        (b"\nX: a\r\n", "BareLf at 0"),
        (b" X: a\r\n", "SpaceBeforeFields at 0"),
        (b"X: a\r\n b\r\n", "ObsFold at 6"),
        (b"X: a\r\n\tb: c\r\n", "ObsFold at 6"),
    ] {
        assert_eq!(field_lines(lines), expected, "{}", lines.escape_ascii());
    }
}

#[test]
fn as_many_fields_as_the_limit_and_no_more() {
    let head = |n: usize| ["GET / HTTP/1.0\r\n", &"a:b\r\n".repeat(n), "\r\n"].concat();
    for fields_max in [0u16, 1, 31, 32, 33, 100] {
        let limits = Limits { fields_max, ..Limits::default() };
        let found = |n| request(&mut Partial::default(), &mut head(n).as_bytes(), 0, &limits, Leniency::strict());
        let n = usize::from(fields_max);
        assert_eq!(found(n).expect("as many").expect("complete").head.fields().count(), n);
        assert_eq!(found(n + 1).expect_err("too many").cause(), &Cause::TooManyFields { limit: fields_max.into() });
    }
}

#[test]
fn framing_fields_are_known_by_name_in_any_case() {
    for (name, kind) in [
        ("Host", Some(fields::Kind::Host)),
        ("hOST", Some(fields::Kind::Host)),
        ("EXPECT", Some(fields::Kind::Expect)),
        ("upgrade", Some(fields::Kind::Upgrade)),
        ("Connection", Some(fields::Kind::Connection)),
        ("Keep-Alive", Some(fields::Kind::KeepAlive)),
        ("content-LENGTH", Some(fields::Kind::ContentLength)),
        ("Transfer-Encoding", Some(fields::Kind::TransferEncoding)),
        ("Transfer_Encoding", None),
        ("Content-Lengt\u{f}", None),
        ("Hosts", None),
        ("", None),
    ] {
        assert_eq!(fields::classify(name.as_bytes()), kind, "{name}");
    }
}

#[test]
fn framing_fields_far_down_are_found_in_pieces_too() {
    let lines: String = (0..50).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let head = format!("POST / HTTP/1.1\r\n{lines}Host: a\r\nContent-Length: 3\r\n\r\nabc");
    let mut partial = Partial::default();
    for (n, byte) in head.bytes().enumerate() {
        let mut input = &[byte][..];
        let found = request(&mut partial, &mut input, 0, &Limits::default(), Leniency::strict()).expect("well-formed");
        let Some(start) = found else { continue };
        assert_eq!((start.facts.body, n + 4), (BodyLen::Length(3), head.len()));
        assert!(partial.is_empty() && partial.skipped == 0, "nothing is kept of a head that is complete");
        return;
    }
    panic!("the head was never complete");
}
