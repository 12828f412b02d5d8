//! The rules of framing and persistence, one table each: the bytes, and what is made of them.

use alloc::format;
use alloc::string::String;

use super::*;
use crate::error::ProtocolError;
use crate::leniency::Leniency;
use crate::limits::Limits;
use crate::parse::{self, Partial};
use crate::parse::{RequestStart, ResponseStart};

fn request_start(head: &str) -> Result<RequestStart, ProtocolError> {
    let found =
        parse::request(&mut Partial::default(), &mut head.as_bytes(), 0, &Limits::default(), Leniency::strict());
    found.map(|start| start.expect("a whole head"))
}

fn response_start(head: &str, asked: Asked) -> Result<ResponseStart, ProtocolError> {
    let mut partial = Partial::default();
    let found = parse::response(&mut partial, &mut head.as_bytes(), 0, &Limits::default(), Leniency::strict(), asked);
    found.map(|start| start.expect("a whole head"))
}

fn cause(error: ProtocolError) -> String {
    format!("{:?} {}", error.cause(), error.suggested_status())
}

/// What a POST with these field lines is framed as.
fn body(version: &str, lines: &str) -> String {
    match request_start(&format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n\r\n")) {
        Ok(start) => format!("{:?}", start.facts.body),
        Err(error) => cause(error),
    }
}

#[test]
fn a_content_length_is_digits_once() {
    for (value, expected) in [
        ("5", "Length(5)"),
        ("\t 5\t ", "Length(5)"),
        ("0", "Length(0)"),
        ("0000000000000000000000005", "Length(5)"),
        ("18446744073709551615", "Length(18446744073709551615)"),
        ("18446744073709551616", "ContentLengthOverflow 400"),
        ("99999999999999999999999", "ContentLengthOverflow 400"),
        ("", "InvalidContentLength 400"),
        ("+5", "InvalidContentLength 400"),
        ("-0", "InvalidContentLength 400"),
        ("0x5", "InvalidContentLength 400"),
        ("5 5", "InvalidContentLength 400"),
        ("1_0", "InvalidContentLength 400"),
        ("5;", "InvalidContentLength 400"),
        ("5,", "InvalidContentLength 400"),
        (",5", "InvalidContentLength 400"),
        ("\"5\"", "InvalidContentLength 400"),
        ("5.0", "InvalidContentLength 400"),
        ("\u{665}", "InvalidContentLength 400"),
        ("5, 5", "RepeatedContentLength(5) 400"),
        ("5, 6", "ConflictingContentLength { first: 5, second: 6 } 400"),
        ("5\r\nContent-Length: 05", "RepeatedContentLength(5) 400"),
        ("5\r\ncontent-length: 6", "ConflictingContentLength { first: 5, second: 6 } 400"),
        ("\r\nContent-Length: 5", "InvalidContentLength 400"),
    ] {
        assert_eq!(body("1.1", &format!("Content-Length: {value}")), expected, "{value:?}");
    }
}

#[test]
fn a_transfer_encoding_is_chunked_once_and_last() {
    for (value, expected) in [
        ("chunked", "Chunked"),
        ("CHUNKED", "Chunked"),
        ("\tchunked\t ", "Chunked"),
        ("xchunked", "UnsupportedCoding 501"),
        ("chunkedx", "UnsupportedCoding 501"),
        ("identity", "UnsupportedCoding 501"),
        ("gzip, chunked", "UnsupportedCoding 501"),
        ("foo\r\nTransfer-Encoding: chunked", "UnsupportedCoding 501"),
        ("gzip", "ChunkedNotLast 400"),
        ("chunked, gzip", "ChunkedNotLast 400"),
        ("chunked\r\nTransfer-Encoding: gzip", "ChunkedNotLast 400"),
        ("chunked, chunked", "ChunkedTwice 400"),
        ("chunked\r\nTransfer-Encoding: chunked", "ChunkedTwice 400"),
        ("", "InvalidTransferEncoding 400"),
        ("\r\nTransfer-Encoding: chunked", "InvalidTransferEncoding 400"),
        (", chunked", "InvalidTransferEncoding 400"),
        ("chunked,", "InvalidTransferEncoding 400"),
        ("chunked;a=b", "InvalidTransferEncoding 400"),
        ("chunked ;", "InvalidTransferEncoding 400"),
        ("\"chunked\"", "InvalidTransferEncoding 400"),
        ("chun ked", "InvalidTransferEncoding 400"),
        ("\u{a0}chunked", "InvalidTransferEncoding 400"),
        ("chunked\r\nContent-Length: 5", "LengthAndEncoding 400"),
        ("chunked\r\nContent-Length: z", "InvalidContentLength 400"),
    ] {
        assert_eq!(body("1.1", &format!("Transfer-Encoding: {value}")), expected, "{value:?}");
    }
    assert_eq!(body("1.1", "Transfer_Encoding: chunked\r\nContent-Length: 5"), "Length(5)");
    assert_eq!(body("1.0", "Transfer-Encoding: chunked"), "EncodingInHttp10 400");
}

#[test]
fn a_request_without_length_or_encoding_has_no_content() {
    assert_eq!(body("1.1", "X: y"), "Empty");
    assert_eq!(body("1.0", "X: y"), "Empty");
}

#[test]
fn a_request_has_one_valid_host() {
    for (lines, expected) in [
        ("Host: a", "a"),
        ("Host:", ""),
        ("Host: a.example:8080", "a.example:8080"),
        ("Host: a:", "a:"),
        ("Host: 127.0.0.1:1", "127.0.0.1:1"),
        ("Host: [::1]:80", "[::1]:80"),
        ("Host: [v1.a:b]", "[v1.a:b]"),
        ("Host: a_b-c~%7Ed", "a_b-c~%7Ed"),
        ("X: y", "MissingHost 400"),
        ("Host: a\r\nhost: a", "RepeatedHost 400"),
        ("Host: a\r\nHost: b", "RepeatedHost 400"),
        ("Host: u@a", "InvalidHost 400"),
        ("Host: a/b", "InvalidHost 400"),
        ("Host: a, b", "InvalidHost 400"),
        ("Host: a,b", "InvalidHost 400"),
        ("Host: a b", "InvalidHost 400"),
        ("Host: a:8x", "InvalidHost 400"),
        ("Host: a:-1", "InvalidHost 400"),
        ("Host: a:65536", "InvalidHost 400"),
        ("Host: a:1:2", "InvalidHost 400"),
        ("Host: a%7", "InvalidHost 400"),
        ("Host: a%zz", "InvalidHost 400"),
        ("Host: [::1", "InvalidHost 400"),
        ("Host: [::1]x", "InvalidHost 400"),
        ("Host: [::1%25eth0]", "InvalidHost 400"),
        ("Host: [a]", "InvalidHost 400"),
        ("Host: []", "InvalidHost 400"),
        ("Host: http://a", "InvalidHost 400"),
        ("Host: a?b", "InvalidHost 400"),
        ("Host: a#b", "InvalidHost 400"),
        ("Host: a\\b", "InvalidHost 400"),
        ("Host: \u{e9}", "InvalidHost 400"),
    ] {
        let found = match request_start(&format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n")) {
            Ok(start) => start.head.authority().into(),
            Err(error) => cause(error),
        };
        assert_eq!(found, expected, "{lines:?}");
    }
    let old = request_start("GET / HTTP/1.0\r\n\r\n").expect("http/1.0 needs no host");
    assert_eq!(old.head.authority(), "");
    let error = request_start("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n").expect_err("two hosts in any version");
    assert_eq!(error.cause(), &Cause::RepeatedHost);
}

#[test]
fn an_absolute_target_overrides_host() {
    let start = request_start("GET http://b:8/x HTTP/1.1\r\nHost: a\r\n\r\n").expect("well-formed");
    assert_eq!((start.head.target(), start.head.authority()), ("http://b:8/x", "b:8"));
    let error = request_start("GET http://b/ HTTP/1.1\r\n\r\n").expect_err("host is needed all the same");
    assert_eq!(error.cause(), &Cause::MissingHost);
}

#[test]
fn persistence_follows_version_and_connection() {
    for (version, lines, expected) in [
        ("1.1", "", true),
        ("1.2", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive, Close\r\n", false),
        ("1.1", "Connection: x ,\tCLOSE\t,y\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection: \"close\"\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive\r\nConnection: close\r\n", false),
    ] {
        let start = request_start(&format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n")).expect("well-formed");
        assert_eq!(start.facts.persist, expected, "request {version} {lines:?}");
        assert_eq!(start.facts.asks_keep_alive, expected && version == "1.0");
        let head = format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n{lines}\r\n");
        assert_eq!(
            response_start(&head, GET).expect("well-formed").facts.persist,
            expected,
            "response {version} {lines:?}"
        );
    }
}

#[test]
fn expectations_and_upgrades_count_in_http11_only() {
    let start = |version, lines: &str| request_start(&format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n\r\n"));
    let expects = |version, lines: &str| start(version, lines).expect("well-formed").facts.expects_continue;
    assert!(expects("1.1", "Content-Length: 5\r\nExpect: 100-Continue"));
    assert!(expects("1.1", "Transfer-Encoding: chunked\r\nExpect: , 100-continue"));
    assert!(!expects("1.1", "Content-Length: 0\r\nExpect: 100-continue"), "there is nothing to wait for");
    assert!(!expects("1.1", "Expect: 100-continue"));
    assert!(!expects("1.0", "Content-Length: 5\r\nExpect: 100-continue"));
    assert!(!expects("1.0", "Content-Length: 5\r\nExpect: miracles"));
    let error = start("1.1", "Expect: 100-continue, miracles").expect_err("unknown");
    assert_eq!(cause(error), "UnknownExpectation 417");

    let upgrade = |version, lines: &str| start(version, lines).expect("well-formed").facts.upgrade;
    assert!(upgrade("1.1", "Upgrade: websocket\r\nConnection: keep-alive, Upgrade"));
    assert!(!upgrade("1.1", "Upgrade: websocket"));
    assert!(!upgrade("1.1", "Connection: upgrade"));
    assert!(!upgrade("1.0", "Upgrade: websocket\r\nConnection: Upgrade"));
}

const GET: Asked = Asked { method: Known::Get, upgrade: false };
const HEAD: Asked = Asked { method: Known::Head, upgrade: false };
const CONNECT: Asked = Asked { method: Known::Connect, upgrade: false };
const UPGRADE: Asked = Asked { method: Known::Get, upgrade: true };

#[test]
fn a_response_is_framed_by_what_it_answers_its_status_and_its_fields() {
    use BodyLen::{Chunked, Empty, Length, UntilClose};
    let te = "Transfer-Encoding: chunked\r\n";
    let cl = "Content-Length: 5\r\n";
    // What was asked, the status, the fields: on the wire, declared, persists, switches.
    for (asked, status, lines, expected) in [
        (GET, "200", cl, (Length(5), Length(5), true, false)),
        (GET, "200", te, (Chunked, Chunked, true, false)),
        (GET, "200", "", (UntilClose, UntilClose, false, false)),
        (GET, "200", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", (Chunked, Chunked, false, false)),
        (GET, "205", cl, (Length(5), Length(5), true, false)),
        (GET, "204", cl, (Empty, Empty, true, false)),
        (GET, "204", te, (Empty, Empty, true, false)),
        (GET, "304", cl, (Empty, Length(5), true, false)),
        (GET, "304", te, (Empty, Empty, true, false)),
        (GET, "304", "", (Empty, Empty, true, false)),
        (GET, "100", cl, (Empty, Empty, true, false)),
        (GET, "103", te, (Empty, Empty, true, false)),
        (GET, "199", "", (Empty, Empty, true, false)),
        (HEAD, "200", cl, (Empty, Length(5), true, false)),
        (HEAD, "200", te, (Empty, Empty, true, false)),
        (HEAD, "404", "", (Empty, Empty, true, false)),
        (CONNECT, "200", cl, (Empty, Empty, true, true)),
        (CONNECT, "299", te, (Empty, Empty, true, true)),
        (CONNECT, "407", cl, (Length(5), Length(5), true, false)),
        (UPGRADE, "101", cl, (Empty, Empty, true, true)),
        (UPGRADE, "200", cl, (Length(5), Length(5), true, false)),
        (GET, "999", cl, (Length(5), Length(5), true, false)),
    ] {
        let start = response_start(&format!("HTTP/1.1 {status} \r\n{lines}\r\n"), asked).expect("well-formed");
        assert_eq!(
            (start.facts.body, start.facts.declared, start.facts.persist, start.facts.switches),
            expected,
            "{asked:?} {status} {lines:?}"
        );
    }
    let old =
        response_start(&format!("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n{te}\r\n"), GET).expect("well-formed");
    assert_eq!((old.facts.body, old.facts.persist), (Chunked, false), "faulty framing: not reused");
}

#[test]
fn a_response_that_cannot_be_framed_is_an_error() {
    for (asked, status, lines, expected) in [
        (GET, "101", "Upgrade: x\r\nConnection: upgrade\r\n", "UnaskedSwitch 400"),
        (
            GET,
            "200",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "ConflictingContentLength { first: 5, second: 6 } 400",
        ),
        (GET, "200", "Content-Length: -1\r\n", "InvalidContentLength 400"),
        (GET, "304", "Content-Length: x\r\n", "InvalidContentLength 400"),
        (HEAD, "200", "Content-Length: x\r\n", "InvalidContentLength 400"),
        (GET, "200", "Transfer-Encoding: gzip\r\n", "UnsupportedCoding 501"),
        (GET, "200", "Transfer-Encoding: gzip, chunked\r\n", "UnsupportedCoding 501"),
        (GET, "200", "Transfer-Encoding: chunked, chunked\r\n", "ChunkedTwice 400"),
        (GET, "200", "Transfer-Encoding: chunked;x\r\n", "InvalidTransferEncoding 400"),
    ] {
        let error = response_start(&format!("HTTP/1.1 {status} \r\n{lines}\r\n"), asked).expect_err("not to be framed");
        assert_eq!(cause(error), expected, "{status} {lines:?}");
    }
}

#[test]
fn keep_alive_announcements_come_with_the_response() {
    let start = response_start("HTTP/1.1 204 \r\nKeep-Alive: timeout=5, max=9\r\nKeep-Alive: timeout=4\r\n\r\n", GET);
    let announced = start.expect("well-formed").facts.keep_alive;
    assert_eq!((announced.timeout, announced.max), (Some(core::time::Duration::from_secs(4)), Some(9)));
}
