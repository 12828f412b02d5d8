//! Heads: what is read, what is rejected, and that cuts change nothing.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::*;
use crate::head::Version;

fn limits() -> Limits {
    Limits::default()
}

/// Reads one request head from pieces of `size` bytes; the rest of the input comes back.
fn request_cut<'i>(
    bytes: &'i [u8],
    size: usize,
    limits: &Limits,
) -> (Result<Option<RequestStart>, ProtocolError>, &'i [u8]) {
    let mut partial = Partial::default();
    let mut at = 0;
    loop {
        let end = (at + size).min(bytes.len());
        let mut input = &bytes[at..end];
        let offset = (at - partial.len()) as u64;
        let found = request(&mut partial, &mut input, offset, limits, Leniency::strict());
        if !matches!(found, Ok(None)) || end == bytes.len() {
            if let Ok(None) = found {
                assert!(input.is_empty(), "all input is consumed");
            }
            return (found, &bytes[end - input.len()..]);
        }
        at = end;
    }
}

fn response_cut(
    bytes: &[u8],
    size: usize,
    leniency: Leniency,
    asked: Asked,
) -> Result<Option<ResponseStart>, ProtocolError> {
    let mut partial = Partial::default();
    let mut at = 0;
    loop {
        let end = (at + size).min(bytes.len());
        let mut input = &bytes[at..end];
        let offset = (at - partial.len()) as u64;
        let found = response(&mut partial, &mut input, offset, &limits(), leniency, asked);
        if !matches!(found, Ok(None)) || end == bytes.len() {
            return found;
        }
        at = end;
    }
}

const GET: Asked = Asked { method: Known::Get, upgrade: false };

fn request_text(start: &RequestStart) -> String {
    let mut text = String::new();
    let head = &start.head;
    write!(
        text,
        "{} {} {:?} for {:?}, {:?}, persist {}, continue {}, keep-alive {}, upgrade {}, {} bytes:",
        head.method(),
        head.target(),
        head.version(),
        head.authority(),
        start.facts.body,
        start.facts.persist,
        start.facts.expects_continue,
        start.facts.asks_keep_alive,
        start.facts.upgrade,
        start.wire_len
    )
    .expect("a string takes everything");
    for field in head.fields() {
        write!(text, " {}={:?}", field.name, field.value).expect("a string takes everything");
    }
    text
}

/// What came of a request head, the same for every cut.
#[track_caller]
fn request_verdict(bytes: &[u8]) -> String {
    let verdict = |size| match request_cut(bytes, size, &limits()).0 {
        Ok(Some(start)) => request_text(&start),
        Ok(None) => String::from("incomplete"),
        Err(error) => alloc::format!("{error}"),
    };
    let whole = verdict(bytes.len().max(1));
    for size in 1..bytes.len() {
        assert_eq!(verdict(size), whole, "cut into pieces of {size} bytes: {}", bytes.escape_ascii());
    }
    whole
}

#[track_caller]
fn response_verdict(bytes: &[u8], leniency: Leniency) -> String {
    let verdict = |size| match response_cut(bytes, size, leniency, GET) {
        Ok(Some(start)) => {
            let fields: Vec<_> = start.head.fields().collect();
            alloc::format!(
                "{} {:?} {:?} {fields:?}",
                start.head.status(),
                start.head.reason().escape_ascii().collect::<Vec<_>>(),
                start.facts.body
            )
        }
        Ok(None) => String::from("incomplete"),
        Err(error) => alloc::format!("{error}"),
    };
    let whole = verdict(bytes.len().max(1));
    for size in 1..bytes.len() {
        assert_eq!(verdict(size), whole, "cut into pieces of {size} bytes: {}", bytes.escape_ascii());
    }
    whole
}

#[test]
fn a_request_keeps_its_fields_in_order_and_case() {
    let verdict = request_verdict(b"\r\n\r\nGET /a?b HTTP/1.1\r\nHost: a:80\r\nX-y:\t v v \t\r\nx-Y:\r\n\r\nrest");
    assert_eq!(
        verdict,
        "GET /a?b Http11 for \"a:80\", Empty, persist true, continue false, keep-alive false, upgrade false, 56 bytes: Host=\"a:80\" X-y=\"v v\" x-Y=\"\""
    );
}

#[test]
fn what_follows_the_head_stays_in_the_input() {
    let bytes = b"GET / HTTP/1.0\r\n\r\nrest";
    for size in 1..bytes.len() {
        let (found, _) = request_cut(bytes, size, &limits());
        assert_eq!(found.expect("well-formed").expect("complete").head.version(), Version::Http10);
    }
    assert_eq!(request_cut(bytes, bytes.len(), &limits()).1, b"rest");
    assert_eq!(request_cut(bytes, 18, &limits()).1, b"rest");
}

#[test]
fn more_fields_than_fit_on_the_stack_are_kept_and_judged() {
    let mut bytes = Vec::from(&b"POST / HTTP/1.1\r\n"[..]);
    for n in 0..80 {
        bytes.extend(alloc::format!("X-{n}: {n}\r\n").bytes());
    }
    bytes.extend(b"Host: a\r\nContent-Length: 7\r\n\r\n");
    let (found, _) = request_cut(&bytes, bytes.len(), &limits());
    let start = found.expect("well-formed").expect("complete");
    assert_eq!((start.head.fields().count(), start.facts.body), (82, BodyLen::Length(7)));
    assert_eq!(start.head.field("x-79").and_then(|value| value.to_str()), Some("79"));
}

#[test]
fn a_head_may_be_as_long_as_the_limit_and_no_longer() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for head_bytes_max in 0..40 {
        let limits = Limits { head_bytes_max, ..limits() };
        for size in 1..=bytes.len() {
            let (found, _) = request_cut(bytes, size, &limits);
            if head_bytes_max as usize >= bytes.len() {
                assert!(matches!(found, Ok(Some(_))), "limit {head_bytes_max}, cut {size}");
            } else {
                let error = found.expect_err("too long");
                let limit = head_bytes_max.into();
                let expected = if head_bytes_max < 16 {
                    Cause::RequestLineTooLong { limit }
                } else {
                    Cause::HeadTooLarge { limit }
                };
                assert_eq!((error.cause(), error.offset()), (&expected, limit), "cut {size}");
            }
        }
    }
}

#[test]
fn a_response_is_mended_only_as_far_as_it_is_lenient() {
    let folded = b"HTTP/1.1  200\r\nTransfer-Encoding:\r\n chunked\nX: y\r\n\n";
    assert_eq!(
        response_verdict(folded, Leniency::strict()),
        "the status line is not a version, one space, three digits, one space and a reason phrase (RFC 9112 §4), at byte 8 of the input"
    );
    assert_eq!(
        response_verdict(folded, Leniency::client()),
        "200 [] Chunked [Field { name: Transfer-Encoding, value: \"chunked\" }, Field { name: X, value: \"y\" }]"
    );
    let fold = Leniency { bare_lf_in_response_head: false, ..Leniency::client() };
    assert!(response_verdict(folded, fold).starts_with("a line ends with LF alone"));
}

#[test]
fn other_protocols_are_rejected_at_their_first_byte() {
    for byte in [0x16, b' ', b'\t', 0, b'(', 0xff] {
        assert_eq!(request_cut(&[byte], 1, &limits()).0.expect_err("no token").cause(), &Cause::NotHttp { byte });
        assert_eq!(
            response_cut(&[byte], 1, Leniency::strict(), GET).expect_err("no H").cause(),
            &Cause::NotHttp { byte }
        );
    }
    assert!(response_cut(b"HTTP/1.", 1, Leniency::strict(), GET).expect("a prefix").is_none());
    assert_eq!(
        response_cut(b"HTTP/2", 1, Leniency::strict(), GET).expect_err("2").cause(),
        &Cause::UnsupportedVersion { major: 2 }
    );
}
