//! What comes for a burst, however it was cut.

use std::os::unix::net::UnixStream;

use persist_core::{Config, Gate, Request};

use crate::{Body, ClientConn, Exchange};

/// Three requests are written, of which `dropped` is given up, and then this comes, in these pieces, and the end: what each of the others hears.
fn hear(dropped: Option<usize>, pieces: &[&[u8]]) -> Vec<String> {
    let (near, far) = UnixStream::pair().expect("a pair");
    let mut config = Config::client();
    (config.pipelining.depth, config.pipelining.behind_first) = (4, Gate::Open);
    let conn = ClientConn::with_config(near, config).expect("a connection");
    let requests = [(); 3].map(|()| (Request::get("/").field("Host", "a").expect("a field"), Body::empty()));
    let mut exchanges: Vec<Option<Exchange>> =
        conn.write_all(requests).expect("there is room").into_iter().map(Some).collect();
    if let Some(index) = dropped {
        exchanges[index] = None;
    }
    for piece in pieces {
        conn.link.look().take_in(Ok(piece.len()), piece);
    }
    drop(far);
    let heard = exchanges.into_iter().flatten().map(|exchange| {
        let reply = conn.read(exchange).map_err(|error| format!("{:?}", error.disposition()))?;
        let (status, interim) = (reply.head.status().as_u16(), reply.interim.len());
        let mut body = reply.body;
        let mut content = Vec::new();
        while let Some(piece) = body.chunk().map_err(|error| format!("{status}, then {:?}", error.disposition()))? {
            content.extend_from_slice(&piece);
        }
        let sum: u64 = content.iter().map(|&byte| u64::from(byte)).sum();
        let trailers = body.trailers().map(|trailers| trailers.len());
        Ok(format!("{interim} interim, {status}, {} bytes ({sum}), trailers: {trailers:?}", content.len()))
    });
    heard.map(|heard| heard.unwrap_or_else(|broken: String| broken)).collect()
}

#[test]
fn replies_to_a_burst_are_the_same_whole_and_in_bits() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n";
    const NONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    const HUGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nok";
    const TWICE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok";
    for replies in [
        [OK, EMPTY, NONE].concat(),
        [OK, CHUNKED, OK].concat(),
        [OK, HINTS, OK, HINTS, HINTS, NONE].concat(),
        [OK, LAST, OK].concat(),
        [OK, "\0", OK].concat(),
        [OK, TWICE, OK].concat(),
        [OK, HUGE].concat(),
        [OK, OK, OK, OK].concat(),
        [OK, OK, "HTTP/1.1 200 OK\r\nContent-Le"].concat(),
    ] {
        for dropped in [None, Some(0), Some(1), Some(2)] {
            let replies = replies.as_bytes();
            let bits: Vec<&[u8]> = replies.chunks(1).collect();
            let expected = hear(dropped, &bits);
            assert_eq!(hear(dropped, &[replies]), expected, "whole: {}", replies.escape_ascii());
            for cut in 1..replies.len() {
                let (first, rest) = replies.split_at(cut);
                assert_eq!(hear(dropped, &[first, rest]), expected, "cut at {cut}: {}", replies.escape_ascii());
            }
        }
    }
}

#[test]
fn a_reply_larger_than_what_is_read_ahead_holds_up_those_behind_it_and_loses_nothing() {
    let large = |bytes: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes));
    let replies = [large(70_000), large(1), large(140_000)].concat();
    let expected =
        ["0 interim, 200, 70000 bytes (8400000), trailers: None", "0 interim, 200, 1 bytes (120), trailers: None"];
    for pieces in [1_000, 65_536, 70_100, replies.len()] {
        let heard = hear(None, &replies.as_bytes().chunks(pieces).collect::<Vec<_>>());
        assert_eq!(heard[..2], expected, "in pieces of {pieces}");
        assert_eq!(heard[2], "0 interim, 200, 140000 bytes (16800000), trailers: None", "in pieces of {pieces}");
    }
}
