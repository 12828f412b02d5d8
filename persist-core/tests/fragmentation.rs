//! However the input was cut, the machine says the same: every event, the final error, what is left over, and what is answered.

mod common;

use bytes::Bytes;
use common::seeds::check;
use common::seen::{Log, Moment, Seen, Stop, drain, flush};
use common::wire::{cuts, damaged, pieces, request, response, stream};
use persist_core::{
    BodyLen, Client, Config, Conn, Field, FieldName, FieldValue, Instant, Method, Next, Overlap, Server, StatusCode,
    Ticket,
};
use proptest::collection::vec;
use proptest::prelude::*;

const NOW: Instant = Instant::ZERO;

/// When the server's handler answers. Each point depends on events alone, not on how the bytes came.
#[derive(Clone, Copy, Debug)]
enum Answer {
    AtHead,
    AtEnd,
    Never,
}

/// All that can be observed.
#[derive(Debug, PartialEq)]
struct Outcome {
    log: Log,
    stop: Stop,
    output: Vec<u8>,
    leftover: Vec<u8>,
}

fn serve(config: &Config, answer: Answer, pieces: &[&[u8]], eof: bool) -> Outcome {
    let mut conn = Conn::<Server>::new(config.clone(), NOW);
    let (mut log, mut output, mut stop) = (Log::default(), Vec::new(), Stop::NeedRead);
    let mut tickets: Vec<Ticket> = Vec::new();
    let mut rest: Vec<u8> = Vec::new();
    let mut feed = |conn: &mut Conn<Server>, rest: &mut Vec<u8>| {
        let mut input = rest.as_slice();
        let stop = drain(conn, &mut input, NOW, &mut log, |conn, moment| {
            let ticket = match (moment, answer) {
                (Moment::Head(_, ticket), Answer::AtHead) => ticket,
                (Moment::Head(_, ticket), _) => return tickets.push(ticket),
                (Moment::End(id), Answer::AtEnd) => {
                    let Some(at) = tickets.iter().position(|ticket| ticket.id() == id) else { return };
                    tickets.remove(at)
                }
                (Moment::End(_), _) => return,
            };
            reply(conn, ticket);
            output.extend(flush(conn, NOW));
        });
        output.extend(flush(conn, NOW));
        *rest = input.to_vec();
        stop
    };
    for piece in pieces {
        rest.extend_from_slice(piece);
        stop = feed(&mut conn, &mut rest);
    }
    if eof && stop != Stop::Paused {
        conn.handle_eof(NOW);
        stop = feed(&mut conn, &mut rest);
    }
    let leftover = [conn.into_parts().leftover, rest].concat();
    Outcome { log, stop, output, leftover }
}

fn reply(conn: &mut Conn<Server>, ticket: Ticket) {
    let id = ticket.id();
    if conn.send_response(ticket, StatusCode::OK, [], BodyLen::Length(2), NOW).is_ok() {
        // Refused to HEAD, which takes none.
        if conn.send_body(id, b"ok", NOW).is_ok() {
            conn.finish_body(id, None, NOW).expect("all was sent");
        }
    }
}

/// How a client takes replies.
#[derive(Clone, Copy, Debug)]
enum Taking {
    /// By event.
    Bits,
    /// With content and end at once, where they are there.
    Wholes,
}

/// As [`drain`]; what is taken at once is noted as the events that it stands for.
fn drain_wholes(conn: &mut Conn<Client>, input: &mut &[u8], log: &mut Log) -> Stop {
    loop {
        match conn.next(input, NOW) {
            Ok(Next::Event(event)) => {
                let Some((id, ())) = log.note(event) else { continue };
                let Some(content) = conn.take_whole(input) else { continue };
                if !content.is_empty() {
                    log.data(id.number(), content);
                }
                log.0.push(Seen::End(id.number(), None));
            }
            Ok(Next::NeedRead) => return Stop::NeedRead,
            Ok(Next::Paused) => return Stop::Paused,
            Err(error) => return Stop::Error(error),
        }
    }
}

/// Sends the requests, then reads.
fn ask(config: &Config, methods: &[&str], pieces: &[&[u8]], eof: bool, taking: Taking) -> Outcome {
    let mut config = config.clone();
    // More than is asked for, so that behind each head there is word of room for another.
    config.pipelining.depth = methods.len() as u32 + 1;
    let mut conn = Conn::<Client>::new(config, NOW);
    let mut output = Vec::new();
    for method in methods {
        let (name, upgrade) = method.strip_suffix('+').map_or((*method, false), |name| (name, true));
        let method = Method::new(name).expect("a method");
        let host = Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("h") };
        let protocol = Field { name: FieldName::from_static("Upgrade"), value: FieldValue::from_static("p") };
        let fields = [host, protocol].into_iter().take(if upgrade { 2 } else { 1 });
        conn.send_request(&method, "/", fields, BodyLen::Empty, NOW).expect("the gates are open");
        output.extend(flush(&mut conn, NOW));
    }
    let (mut log, mut stop, mut rest) = (Log::default(), Stop::NeedRead, Vec::new());
    let mut feed = |conn: &mut Conn<Client>, input: &mut &[u8]| match taking {
        Taking::Bits => drain(conn, input, NOW, &mut log, |_, _| {}),
        Taking::Wholes => drain_wholes(conn, input, &mut log),
    };
    for piece in pieces {
        rest.extend_from_slice(piece);
        let mut input = rest.as_slice();
        stop = feed(&mut conn, &mut input);
        rest = input.to_vec();
    }
    if eof && stop != Stop::Paused {
        conn.handle_eof(NOW);
        stop = feed(&mut conn, &mut &rest[..]);
    }
    output.extend(flush(&mut conn, NOW));
    let leftover = [conn.into_parts().leftover, rest].concat();
    Outcome { log, stop, output, leftover }
}

/// Small enough that every limit can be met by a small input.
fn tight(mut config: Config) -> Config {
    config.limits.head_bytes_max = 120;
    config.limits.fields_max = 4;
    config.limits.target_bytes_max = 20;
    config.limits.chunk_ext_bytes_max = 8;
    config.limits.trailer_bytes_max = 24;
    config.limits.body_bytes_max = 9;
    config.limits.interim_max = 2;
    config.limits.drain_bytes_max = 4;
    config
}

fn server_configs() -> [Config; 3] {
    let mut any = Config::server();
    any.pipelining.overlap = Overlap::Any;
    [Config::server(), any, tight(Config::server())]
}

fn client_config() -> Config {
    let mut config = Config::client();
    config.pipelining.depth = 16;
    config
}

/// How many pieces at most.
#[derive(Clone, Copy)]
enum Pieces {
    Two,
    Three,
}

/// Calls `check` with every way to cut `len` bytes in two, or in three too, and with single bytes.
fn every_cut(len: usize, most: Pieces, mut check: impl FnMut(&[usize])) {
    for first in 0..=len {
        let last = match most {
            Pieces::Two => first,
            Pieces::Three => len,
        };
        for second in first..=last {
            check(&[first, second]);
        }
    }
    check(&(0..len).collect::<Vec<_>>());
}

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: h\r\n\r\nPUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n00\r\nT: u\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n6\r\nabcdef\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabX",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\nx",
    "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.0\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhiGET / HTTP/1.0\r\n\r\nmore",
    "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nbytes of x",
    "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\nbytes behind",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET  / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
    "GET /a-long-target-behind-the-limit HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n",
    "\u{16}\u{3}\u{1}\u{2}\u{0}",
    "GET / HTTP/1.1\r\nHo",
];

const RESPONSES: &[(&[&str], &str)] = &[
    (&["GET"], "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    (&["GET"], "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world"),
    (&["GET"], "HTTP/1.1 200 OK\r\n\r\nuntil the close"),
    (&["GET"], "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\nKeep-Alive: timeout=3\r\n\r\nhi"),
    (&["GET"], "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n"),
    (&["GET"], "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz"),
    (&["GET"], "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nzipped"),
    (&["GET"], "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 204 No\r\n\r\n"),
    (&["GET"], "HTTP/1.1 100 A\r\n\r\nHTTP/1.1 100 B\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 204 No\r\n\r\n"),
    (&["HEAD"], "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    (&["HEAD"], "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    (&["GET", "GET"], "HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    (&["GET", "GET"], "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n"),
    (&["GET"], "HTTP/1.1 204 No Content\r\n\r\n\r\n\r\nHTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"),
    (&["GET"], "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n"),
    (&[], "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"),
    (&[], "HTTP/1.1 4"),
    (&[], "\r\n\n\rx"),
    (&["GET+"], "HTTP/1.1 101 Switching Protocols\r\nUpgrade: p\r\nConnection: upgrade\r\n\r\nits bytes"),
    (&["GET"], "HTTP/1.1 101 Switching Protocols\r\nUpgrade: p\r\nConnection: upgrade\r\n\r\nits bytes"),
    (&["GET+"], "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
    (&["GET"], "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    (&["GET"], "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n c\r\n\r\nok"),
    (&["GET"], "HTTP/1.1  200\r\nContent-Length: 2\r\n\r\nok"),
    (&["GET"], "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    (&["GET"], "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    (&["GET"], "ICY 200 OK\r\n\r\n"),
    (&["GET"], "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"),
    (&["GET", "GET"], "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx\r\nHTTP/1.1 200 O"),
];

#[test]
fn a_request_cut_in_two_or_three_anywhere_says_the_same() {
    for config in server_configs() {
        for answer in [Answer::AtHead, Answer::AtEnd, Answer::Never] {
            for input in REQUESTS {
                let input = input.as_bytes();
                for eof in [false, true] {
                    let whole = serve(&config, answer, &[input], eof);
                    // Two cuts at all events where they can matter most; elsewhere one.
                    let most = if eof && matches!(answer, Answer::AtEnd) { Pieces::Three } else { Pieces::Two };
                    every_cut(input.len(), most, |cuts| {
                        let cut = serve(&config, answer, &pieces(input, cuts), eof);
                        assert_eq!(cut, whole, "{answer:?}, cut at {cuts:?}: {}", input.escape_ascii());
                    });
                }
            }
        }
    }
}

#[test]
fn a_response_cut_in_two_or_three_anywhere_says_the_same() {
    for config in [client_config(), tight(client_config())] {
        for (methods, input) in RESPONSES {
            let input = input.as_bytes();
            for eof in [false, true] {
                let whole = ask(&config, methods, &[input], eof, Taking::Bits);
                let most = if eof { Pieces::Three } else { Pieces::Two };
                every_cut(input.len(), most, |cuts| {
                    for taking in [Taking::Bits, Taking::Wholes] {
                        let cut = ask(&config, methods, &pieces(input, cuts), eof, taking);
                        assert_eq!(cut, whole, "{taking:?}, cut at {cuts:?}: {}", input.escape_ascii());
                    }
                });
            }
        }
    }
}

/// Bytes, damaged or not, and where to cut them.
fn with_cuts(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = (Bytes, Vec<usize>)> {
    bytes.prop_flat_map(|bytes| {
        let whole = Bytes::from(bytes.clone());
        let damaged = prop_oneof![Just(bytes.clone()), damaged(bytes)].prop_map(Bytes::from);
        (damaged, cuts(whole.len()))
    })
}

#[test]
fn long_streams_of_requests_say_the_same_however_they_were_cut() {
    let streams = vec(request(3000), 1..8).prop_map(|messages| stream(&messages));
    let answer = prop_oneof![Just(Answer::AtHead), Just(Answer::AtEnd), Just(Answer::Never)];
    check(600, (with_cuts(streams), answer, 0..3usize, any::<bool>()), |((input, cuts), answer, config, eof)| {
        let config = &server_configs()[config];
        let whole = serve(config, answer, &[&input], eof);
        assert_eq!(serve(config, answer, &pieces(&input, &cuts), eof), whole);
    });
}

#[test]
fn long_streams_of_responses_say_the_same_however_they_were_cut() {
    let streams = vec(response(3000), 1..8).prop_map(|messages| stream(&messages));
    check(600, (with_cuts(streams), 0..9usize, any::<bool>(), any::<bool>()), |((input, cuts), asked, small, eof)| {
        let config = if small { tight(client_config()) } else { client_config() };
        let methods = vec!["GET"; asked];
        let whole = ask(&config, &methods, &[&input], eof, Taking::Bits);
        for taking in [Taking::Bits, Taking::Wholes] {
            assert_eq!(ask(&config, &methods, &pieces(&input, &cuts), eof, taking), whole, "{taking:?}");
        }
        assert_eq!(ask(&config, &methods, &[&input], eof, Taking::Wholes), whole, "in one piece");
    });
}
