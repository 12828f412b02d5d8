//! Request lines, targets and status lines: one table each.

use alloc::format;
use alloc::string::String;

use super::*;

fn request_line(line: &[u8]) -> String {
    let head = [line, b"Host: a\r\n\r\n"].concat();
    match request(&mut Partial::default(), &mut &head[..], 0, &Limits::default(), Leniency::strict()) {
        Ok(Some(start)) => format!("{} {} {:?}", start.head.method(), start.head.target(), start.head.version()),
        Ok(None) => String::from("incomplete"),
        Err(error) => format!("{:?} at {}: {}", error.cause(), error.offset(), error.suggested_status()),
    }
}

#[test]
fn a_request_line_is_method_target_version_and_single_spaces() {
    for (line, expected) in [
        (&b"GET / HTTP/1.1\r\n"[..], "GET / Http11"),
        (b"PUT / HTTP/1.0\r\n", "PUT / Http10"),
        (b"POST / HTTP/1.2\r\n", "POST / Http11"),
        (b"GETX / HTTP/1.9\r\n", "GETX / Http11"),
        (b"a!#$%&'*+-.^_`|~9 / HTTP/1.1\r\n", "a!#$%&'*+-.^_`|~9 / Http11"),
        (b"GE(T / HTTP/1.1\r\n", "InvalidMethod { byte: 40 } at 2: 400"),
        (b"GET  / HTTP/1.1\r\n", "InvalidRequestLine at 4: 400"),
        (b"GET\t/ HTTP/1.1\r\n", "InvalidRequestLine at 3: 400"),
        (b"GET /  HTTP/1.1\r\n", "InvalidRequestLine at 6: 400"),
        (b"GET / HTTP/1.1 \r\n", "InvalidRequestLine at 6: 400"),
        (b"GET /a b HTTP/1.1\r\n", "InvalidRequestLine at 7: 400"),
        (b"GET /\r\n", "InvalidRequestLine at 5: 400"),
        (b"GET\r\n", "InvalidRequestLine at 3: 400"),
        (b"GET / http/1.1\r\n", "InvalidVersion at 6: 400"),
        (b"GET / HTTP/1.10\r\n", "InvalidVersion at 6: 400"),
        (b"GET / HTTP/11\r\n", "InvalidVersion at 6: 400"),
        (b"GET / HTTP/2.0\r\n", "UnsupportedVersion { major: 2 } at 6: 505"),
        (b"GET / HTTP/0.9\r\n", "UnsupportedVersion { major: 0 } at 6: 505"),
        (b"PRI * HTTP/2.0\r\n", "Http2Preface at 0: 505"),
        (b"GET / HTTP/1.1\n", "BareLf at 14: 400"),
        (b"GET / HTTP/1.1\rX: y\r\n", "BareCr at 6: 400"),
        (b"GET /\rX HTTP/1.1\r\n", "BareCr at 5: 400"),
    ] {
        assert_eq!(request_line(line), expected, "{}", line.escape_ascii());
    }
}

#[test]
fn targets_hold_visible_ascii_but_quotes_angles_and_fragments() {
    for byte in 0..=255u8 {
        let found = request_line(&[b"GET /a", &[byte][..], b"b HTTP/1.1\r\n"].concat());
        let fine = byte.is_ascii_graphic() && !b"\"#<>".contains(&byte);
        assert_eq!(found.starts_with("GET /a"), fine, "{byte:#x}: {found}");
    }
}

#[test]
fn each_method_takes_its_forms_of_target() {
    for (method, target, fine) in [
        ("GET", "/", true),
        ("GET", "//", true),
        ("GET", "/%", true),
        ("GET", "http://a", true),
        ("GET", "HTTPS://a:443/x?y", true),
        ("GET", "http://[::1]?x", true),
        ("GET", "ftp://a/b", true),
        ("GET", "file:///b", true),
        ("OPTIONS", "http://a", true),
        ("OPTIONS", "*", true),
        ("OPTIONS", "/", true),
        ("CONNECT", "a:80", true),
        ("CONNECT", "[::1]:80", true),
        ("GET", "*", false),
        ("OPTIONS", "**", false),
        ("options", "*", false),
        ("GET", "a:80", false),
        ("GET", "foo", false),
        ("GET", "?x", false),
        ("GET", "http:/a", false),
        ("GET", "http://", false),
        ("GET", "http:///x", false),
        ("GET", "http://u@a/", false),
        ("GET", "http://a:x/", false),
        ("GET", "1http://a/", false),
        ("GET", "://a/", false),
        ("CONNECT", "a", false),
        ("CONNECT", "a:", false),
        ("CONNECT", "a:0", false),
        ("CONNECT", "a:65536", false),
        ("CONNECT", ":80", false),
        ("CONNECT", "/", false),
        ("CONNECT", "*", false),
        ("CONNECT", "http://a:80", false),
        ("CONNECT", "u@a:80", false),
    ] {
        let found = request_line(format!("{method} {target} HTTP/1.1\r\n").as_bytes());
        let expected = if fine { format!("{method} {target} Http11") } else { String::from("WrongTargetForm") };
        assert!(found.starts_with(&expected), "{method} {target}: {found}");
    }
}

#[test]
fn a_target_may_be_as_long_as_the_limit() {
    for target_bytes_max in 1..9 {
        let limits = Limits { target_bytes_max, ..Limits::default() };
        let mut input = &b"GET /abcde HTTP/1.0\r\n\r\n"[..];
        let found = request(&mut Partial::default(), &mut input, 0, &limits, Leniency::strict());
        match found {
            Ok(found) => assert!(target_bytes_max >= 6 && found.is_some()),
            Err(error) => assert_eq!(error.suggested_status().as_u16(), 414),
        }
    }
}

fn status_line(line: &[u8], leniency: Leniency) -> String {
    let head = [line, b"Content-Length: 0\r\n\r\n"].concat();
    let asked = Asked { method: Known::Get, upgrade: false };
    match response(&mut Partial::default(), &mut &head[..], 0, &Limits::default(), leniency, asked) {
        Ok(Some(start)) => format!("{} {}", start.head.status(), start.head.reason().escape_ascii()),
        Ok(None) => String::from("incomplete"),
        Err(error) => format!("{:?} at {}", error.cause(), error.offset()),
    }
}

#[test]
fn a_status_line_is_version_digits_and_reason_and_single_spaces() {
    for (line, strict, client) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], "200 OK", "200 OK"),
        (b"HTTP/1.2 299 \r\n", "299 ", "299 "),
        (b"HTTP/1.1 404 not\t found\xe9\r\n", "404 not\\t found\\xe9", "404 not\\t found\\xe9"),
        (b"HTTP/1.1 200\r\n", "InvalidStatusLine at 8", "200 "),
        (b"HTTP/1.1\t200 OK\r\n", "InvalidStatusLine at 8", "200 OK"),
        (b"HTTP/1.1  200  OK\r\n", "InvalidStatusLine at 8", "200 OK"),
        (b"HTTP/1.1 200 OK\n", "BareLf at 15", "200 OK"),
        (b"\r\nHTTP/1.1 200 OK\r\n", "NotHttp { byte: 13 } at 0", "200 OK"),
        (b"HTTP/1.1 20 OK\r\n", "InvalidStatusLine at 8", "InvalidStatusLine at 8"),
        (b"HTTP/1.1 2000 OK\r\n", "InvalidStatusLine at 8", "InvalidStatusLine at 8"),
        (b"HTTP/1.1 2x0 OK\r\n", "InvalidStatusLine at 8", "InvalidStatusLine at 8"),
        (b"HTTP/1.1 099 OK\r\n", "InvalidStatus(99) at 9", "InvalidStatus(99) at 9"),
        (b"HTTP/1.1 200 O\0K\r\n", "InvalidFieldValue { byte: 0 } at 14", "InvalidFieldValue { byte: 0 } at 14"),
        (b"HTTP/1.1 200 O\rK\r\n", "BareCr at 14", "BareCr at 14"),
        (b"HTTP/1.x 200 OK\r\n", "InvalidVersion at 0", "InvalidVersion at 0"),
        (b"HTTP/1.10 200 OK\r\n", "InvalidVersion at 0", "InvalidVersion at 0"),
        (b"HTTP/2.0 200 OK\r\n", "UnsupportedVersion { major: 2 } at 5", "UnsupportedVersion { major: 2 } at 5"),
        (b"http/1.1 200 OK\r\n", "NotHttp { byte: 104 } at 0", "NotHttp { byte: 104 } at 0"),
        (b"ICY 200 OK\r\n", "NotHttp { byte: 73 } at 0", "NotHttp { byte: 73 } at 0"),
        (b" HTTP/1.1 200 OK\r\n", "NotHttp { byte: 32 } at 0", "NotHttp { byte: 32 } at 0"),
    ] {
        assert_eq!(status_line(line, Leniency::strict()), strict, "{}", line.escape_ascii());
        assert_eq!(status_line(line, Leniency::client()), client, "{}", line.escape_ascii());
    }
}
