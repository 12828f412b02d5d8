//! The client's end.

use super::*;
use crate::config::Gate;
use crate::conn::Upload;
use crate::field::Fields;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_request_goes_out_and_its_response_comes_back() {
    let mut rig = Rig::client(1);
    rig.get("/");
    assert_eq!(rig.sent(), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(rig.feed(OK), ["0 200 Length(2)", "0 data ok", "0 end", "read"]);
    assert!(rig.conn.is_idle());
    assert_eq!(rig.conn.available(), 1);
}

#[test]
fn pipelined_responses_go_to_their_requests() {
    let mut rig = Rig::client(3);
    for target in ["/0", "/1", "/2"] {
        rig.get(target);
    }
    assert_eq!(rig.conn.may_send(), Err(SendError::Full { in_flight: 3 }));
    rig.sent();
    let seen = rig.feed([OK, "HTTP/1.1 204 No Content\r\n\r\n", OK].concat());
    let expected =
        ["0 200 Length(2)", "0 data ok", "0 end", "1 204 Empty", "1 end", "2 200 Length(2)", "2 data ok", "2 end"];
    assert_eq!(seen[..8], expected);
}

#[test]
fn interim_responses_are_events_and_never_the_response() {
    let mut rig = Rig::client(2);
    rig.get("/0");
    rig.get("/1");
    rig.sent();
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let seen = rig.feed([hints, hints, OK, OK].concat());
    assert_eq!(seen[..4], ["0 interim 103", "0 interim 103", "0 200 Length(2)", "0 data ok"]);
    assert_eq!(seen[5], "1 200 Length(2)");
}

#[test]
fn interim_responses_are_bounded_in_number_and_bytes() {
    let mut config = Config::client();
    config.limits.interim_max = 2;
    let mut rig = Rig::<Client>::with(config);
    rig.get("/");
    rig.sent();
    let seen = rig.feed("HTTP/1.1 102 Processing\r\n\r\n".repeat(3));
    assert!(seen[2].starts_with("0 ended sent, no reply, protocol error"), "{seen:?}");

    let mut config = Config::client();
    config.limits.head_bytes_max = 100;
    let mut rig = Rig::<Client>::with(config);
    rig.get("/");
    rig.sent();
    let seen = rig.feed("HTTP/1.1 102 Processing\r\nLink: <x>\r\n\r\n".repeat(3));
    assert!(seen.iter().any(|line| line.contains("protocol error")), "one budget spans them all: {seen:?}");
}

#[test]
fn nothing_is_sent_behind_a_non_idempotent_request_until_its_final_status() {
    let mut rig = Rig::client(4);
    rig.get("/0");
    rig.request(Method::POST, "/1", BodyLen::Empty).expect("a POST may stand behind a GET");
    assert_eq!(rig.request(Method::GET, "/2", BodyLen::Empty), Err(SendError::AnswerFirst));
    rig.sent();
    rig.feed([OK, "HTTP/1.1 103 Early Hints\r\n\r\n"].concat());
    assert_eq!(rig.conn.may_send(), Err(SendError::AnswerFirst), "an interim status is not final");
    rig.feed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(rig.conn.may_send(), Ok(()), "the status is known, the body need not be");
}

#[test]
fn each_gate_has_its_switch() {
    let mut config = Config::client();
    config.pipelining.depth = 4;
    config.pipelining.behind_non_idempotent = Gate::Open;
    let mut rig = Rig::<Client>::with(config.clone());
    rig.request(Method::POST, "/", BodyLen::Empty).expect("sent");
    assert_eq!(rig.conn.may_send(), Ok(()));

    let mut rig = Rig::<Client>::with(config.clone().replacement());
    rig.get("/");
    assert_eq!(rig.conn.may_send(), Err(SendError::AnswerFirst), "the first on a replacement stands alone");
    rig.sent();
    rig.feed(OK);
    rig.get("/");
    assert_eq!(rig.conn.may_send(), Ok(()));

    config.pipelining.to_this_peer = Gate::Closed;
    let mut rig = Rig::<Client>::with(config);
    rig.get("/");
    assert_eq!(rig.conn.may_send(), Err(SendError::AnswerFirst), "this peer mishandles it");
}

#[test]
fn nothing_is_sent_behind_connect_or_upgrade() {
    let mut rig = Rig::client(4);
    rig.request(Method::CONNECT, "h:1", BodyLen::Empty).expect("sent");
    assert_eq!(rig.conn.may_send(), Err(SendError::AnswerFirst));
    let mut rig = Rig::client(4);
    let fields = [field("Host", "h"), field("Connection", "upgrade"), field("Upgrade", "x")];
    rig.conn.send_request(&Method::GET, "/", fields, BodyLen::Empty, rig.now).expect("sent");
    assert_eq!(rig.conn.may_send(), Err(SendError::AnswerFirst));
}

#[test]
fn a_peer_that_answers_as_http10_is_not_pipelined_to() {
    let mut rig = Rig::client(4);
    rig.get("/");
    rig.sent();
    rig.feed("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n");
    assert!(rig.conn.peer_mishandles_pipelining());
    rig.get("/");
    assert_eq!(rig.conn.may_send(), Err(SendError::AnswerFirst));
}

#[test]
fn a_request_waits_for_the_body_before_it() {
    let mut rig = Rig::client(4);
    let id = rig.request(Method::PUT, "/", BodyLen::Length(2)).expect("sent");
    assert_eq!(rig.conn.may_send(), Err(SendError::BodyUnfinished));
    assert_eq!(rig.conn.send_body(id, b"hi", rig.now), Ok(2));
    rig.conn.finish_body(id, None, rig.now).expect("the end");
    rig.get("/next");
    let expected = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhiGET /next HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(rig.sent(), expected);
}

#[test]
fn a_chunked_upload_ends_with_its_trailers() {
    let mut rig = Rig::client(1);
    let id = rig.request(Method::PUT, "/", BodyLen::Chunked).expect("sent");
    assert_eq!(rig.conn.send_body(id, b"hello", rig.now), Ok(5));
    let mut trailers = Fields::new();
    trailers.push("X-Sum", "1").expect("a field");
    rig.conn.finish_body(id, Some(&trailers), rig.now).expect("the end");
    assert!(rig.sent().ends_with("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"));
}

#[test]
fn large_content_is_shared_and_stays_in_order() {
    let mut rig = Rig::client(1);
    let id = rig.request(Method::PUT, "/", BodyLen::Chunked).expect("sent");
    let large = bytes::Bytes::from("x".repeat(10_000));
    assert_eq!(rig.conn.send_body_shared(id, &large, rig.now), Ok(true));
    assert_eq!(rig.conn.send_body(id, b"tail", rig.now), Ok(4));
    rig.conn.finish_body(id, None, rig.now).expect("the end");
    let sent = rig.sent();
    let (_, body) = sent.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body, alloc::format!("2710\r\n{}\r\n4\r\ntail\r\n0\r\n\r\n", "x".repeat(10_000)));
}

#[test]
fn pieces_of_a_body_are_taken_together_or_not_at_all() {
    let (long, short) = (bytes::Bytes::from("x".repeat(10_000)), bytes::Bytes::from_static(b"ab"));
    let pieces = [long.clone(), short, bytes::Bytes::new()];
    let text = "x".repeat(10_000);
    for (len, body) in [
        (BodyLen::Length(20_004), alloc::format!("{text}ab{text}ab")),
        (BodyLen::Chunked, alloc::format!("2710\r\n{text}\r\n2\r\nab\r\n2710\r\n{text}\r\n2\r\nab\r\n0\r\n\r\n")),
    ] {
        let mut config = Config::client();
        config.limits.outbox_bytes_max = 5_000;
        let mut rig = Rig::<Client>::with(config);
        let id = rig.request(Method::PUT, "/", len).expect("sent");
        assert_eq!(rig.conn.send_body_pieces(id, &pieces, rig.now), Ok(true), "there is room, however little");
        assert_eq!(rig.conn.send_body_pieces(id, &pieces, rig.now), Ok(false), "there is none");
        let first = rig.sent();
        assert_eq!(rig.conn.send_body_pieces(id, &pieces, rig.now), Ok(true));
        if let BodyLen::Length(_) = len {
            let excess = rig.conn.send_body_pieces(id, &pieces[..2], rig.now);
            assert_eq!(excess, Err(SendError::TooLong { excess: 10_002 }));
        }
        rig.conn.finish_body(id, None, rig.now).expect("the end");
        let sent = first + &rig.sent();
        assert_eq!(sent.split_once("\r\n\r\n").expect("a head").1, body);
        assert_eq!(rig.conn.unsent_bytes(), 0);
    }
}

#[test]
fn a_full_outbox_takes_no_more_until_it_is_sent() {
    let mut config = Config::client();
    config.limits.outbox_bytes_max = 100;
    let mut rig = Rig::<Client>::with(config);
    let id = rig.request(Method::PUT, "/", BodyLen::Length(200)).expect("sent");
    let taken = rig.conn.send_body(id, &[b'x'; 200], rig.now).expect("some");
    assert!(taken < 100);
    assert_eq!(rig.conn.send_body(id, b"x", rig.now), Ok(0));
    assert_eq!(rig.conn.upload(id), Upload::Ready { room: 0 });
    rig.sent();
    assert_eq!(rig.conn.upload(id), Upload::Ready { room: 100 });
}

#[test]
fn expect_holds_the_body_back_until_continue() {
    let mut rig = Rig::client(1);
    let fields = [field("Host", "h"), field("Expect", "100-continue")];
    let id = rig.conn.send_request(&Method::PUT, "/", fields, BodyLen::Length(2), rig.now).expect("sent");
    rig.sent();
    assert_eq!(rig.conn.upload(id), Upload::AwaitContinue);
    assert_eq!(rig.feed("HTTP/1.1 100 Continue\r\n\r\n"), ["0 interim 100", "0 continue", "read"]);
    assert!(matches!(rig.conn.upload(id), Upload::Ready { .. }));
}

#[test]
fn expect_is_not_waited_for_beyond_its_deadline() {
    let mut rig = Rig::client(1);
    let fields = [field("Host", "h"), field("Expect", "100-continue")];
    let id = rig.conn.send_request(&Method::PUT, "/", fields, BodyLen::Length(2), rig.now).expect("sent");
    rig.sent();
    assert_eq!(rig.conn.poll_timeout(), Some(Instant::ZERO + secs(1)));
    rig.wait(secs(1));
    assert_eq!(rig.events(), ["0 continue", "read"]);
    assert!(matches!(rig.conn.upload(id), Upload::Ready { .. }));
    assert_eq!(rig.conn.poll_timeout(), None);
}

#[test]
fn an_early_error_stops_a_long_upload_and_the_connection_ends_after_it() {
    let mut rig = Rig::client(1);
    let id = rig.request(Method::POST, "/", BodyLen::Length(10_000_000)).expect("sent");
    rig.conn.send_body(id, &[b'x'; 1000], rig.now).expect("content");
    rig.sent();
    let seen = rig.feed("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
    let closed = "closed: a body could not be finished within its budget";
    assert_eq!(seen, ["0 413 Length(2)", "0 stopped", "0 data no", "0 end", closed, "pause"]);
    assert_eq!(rig.conn.send_body(id, b"x", rig.now), Err(SendError::NoSuchExchange));
}

#[test]
fn an_early_error_lets_a_short_upload_finish() {
    let mut rig = Rig::client(1);
    let id = rig.request(Method::POST, "/", BodyLen::Length(4)).expect("sent");
    rig.conn.send_body(id, b"xx", rig.now).expect("content");
    rig.sent();
    assert_eq!(rig.feed("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), ["0 400 Length(0)", "0 end", "read"]);
    assert_eq!((rig.conn.pending(), rig.conn.available()), (1, 0));
    assert_eq!(rig.conn.send_body(id, b"xx", rig.now), Ok(2));
    rig.conn.finish_body(id, None, rig.now).expect("the end");
    rig.sent();
    assert!(rig.conn.is_idle() && !rig.conn.is_closing());
}

#[test]
fn an_early_success_lets_the_upload_go_on() {
    let mut rig = Rig::client(1);
    let id = rig.request(Method::POST, "/", BodyLen::Chunked).expect("sent");
    rig.conn.send_body(id, b"xx", rig.now).expect("content");
    rig.sent();
    assert_eq!(rig.feed(OK), ["0 200 Length(2)", "0 data ok", "0 end", "read"]);
    assert_eq!(rig.conn.send_body(id, b"yy", rig.now), Ok(2));
    rig.conn.finish_body(id, None, rig.now).expect("the end");
    rig.sent();
    assert!(rig.conn.is_idle());
}

#[test]
fn an_early_close_stops_an_upload_whatever_its_status() {
    let mut rig = Rig::client(1);
    rig.request(Method::POST, "/", BodyLen::Length(4)).expect("sent");
    rig.sent();
    let seen = rig.feed("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(seen, ["0 200 Length(0)", "0 stopped", "0 end", "closed: the peer said close", "pause"]);
}

#[test]
fn a_response_before_the_first_byte_of_its_request_poisons() {
    let mut rig = Rig::client(1);
    rig.get("/");
    let seen = rig.feed(OK);
    assert_eq!(
        seen[..2],
        ["0 ended not sent, bytes came that answer no request", "closed: bytes came that answer no request"]
    );
    assert!(seen[2].starts_with("error: "), "{seen:?}");
}

#[test]
fn bytes_on_an_idle_connection_poison_it_but_empty_lines_do_not() {
    let mut rig = Rig::client(1);
    assert_eq!(rig.feed("\r\n\r\n"), ["read"]);
    assert!(rig.conn.is_idle() && !rig.conn.is_closing());
    assert_eq!(rig.feed("\r\nX")[0], "closed: bytes came that answer no request");
}

#[test]
fn a_408_on_an_idle_connection_is_how_a_server_closes() {
    let mut rig = Rig::client(1);
    let seen = rig.feed("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n");
    assert_eq!(seen, ["closed: the peer closed between messages", "pause"]);
}

#[test]
fn behind_a_close_what_was_sent_is_declined_and_the_rest_not_sent() {
    let mut rig = Rig::client(4);
    for target in ["/0", "/1", "/2"] {
        rig.get(target);
    }
    rig.sent_up_to(40);
    let seen = rig.feed("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    let expected = [
        "0 200 Length(2)",
        "1 ended declined, the peer said close",
        "2 ended not sent, the peer said close",
        "0 data ok",
        "0 end",
        "closed: the peer said close",
        "pause",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn the_disposition_counts_every_byte() {
    let mut rig = Rig::client(2);
    rig.get("/0");
    rig.get("/1");
    rig.sent_up_to(30);
    rig.conn.abort(rig.now);
    let seen = rig.events();
    assert_eq!(seen[0], "0 ended sent, no reply, aborted by the caller");
    assert_eq!(seen[1], "1 ended partly sent (2 bytes), aborted by the caller");
}

#[test]
fn a_cancelled_exchange_does_not_shift_the_pairing() {
    let mut rig = Rig::client(3);
    rig.get("/0");
    let one = rig.get("/1");
    rig.get("/2");
    rig.sent();
    rig.conn.cancel(one, rig.now);
    assert_eq!(rig.events(), ["1 ended sent, no reply, aborted by the caller", "read"]);
    let seen = rig.feed([OK, OK, OK].concat());
    let expected = ["0 200 Length(2)", "0 data ok", "0 end", "2 200 Length(2)", "2 data ok", "2 end", "read"];
    assert_eq!(seen, expected);
}

#[test]
fn a_cancelled_request_that_was_not_sent_is_taken_back() {
    let mut rig = Rig::client(3);
    rig.get("/0");
    let one = rig.get("/1");
    rig.conn.cancel(one, rig.now);
    assert_eq!(rig.events(), ["1 ended not sent, aborted by the caller", "read"]);
    assert_eq!(rig.sent(), "GET /0 HTTP/1.1\r\nHost: h\r\n\r\n");
    let two = rig.get("/2");
    assert_ne!(one, two);
    rig.conn.cancel(one, rig.now);
    assert_eq!(rig.conn.pending(), 2, "a stale id cancels nothing");
}

#[test]
fn a_cancelled_reply_longer_than_the_budget_closes() {
    let mut config = Config::client();
    config.limits.drain_bytes_max = 8;
    let mut rig = Rig::<Client>::with(config);
    let id = rig.get("/");
    rig.sent();
    rig.feed("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    rig.conn.cancel(id, rig.now);
    assert_eq!(rig.events(), ["0 ended reply partial, aborted by the caller", "read"]);
    assert_eq!(rig.feed("0123456"), ["read"]);
    assert_eq!(rig.feed("78"), ["closed: a body could not be finished within its budget", "pause"]);
}

#[test]
fn half_a_cancelled_request_ends_the_connection_after_the_replies_before_it() {
    let mut rig = Rig::client(2);
    rig.get("/0");
    let one = rig.request(Method::PUT, "/1", BodyLen::Length(4)).expect("sent");
    rig.sent();
    rig.conn.cancel(one, rig.now);
    assert!(rig.events()[0].starts_with("1 ended partly sent"));
    assert_eq!(rig.conn.may_send(), Err(SendError::Closed));
    let seen = rig.feed(OK);
    assert_eq!(seen[..3], ["0 200 Length(2)", "0 data ok", "0 end"]);
    assert!(seen[3].starts_with("closed: "), "{seen:?}");
}

#[test]
fn a_reserved_place_counts_until_used_or_released() {
    let mut rig = Rig::client(2);
    let one = rig.conn.reserve().expect("a place");
    let two = rig.conn.reserve().expect("a place");
    assert_eq!(rig.conn.reserve(), Err(SendError::Full { in_flight: 2 }));
    assert_eq!((rig.conn.in_flight(), rig.conn.available(), rig.conn.pending()), (2, 0, 0));
    rig.conn.release(one);
    rig.conn
        .send_request_in(two, &Method::GET, "/", [field("Host", "h")], BodyLen::Empty, rig.now)
        .expect("its place was kept");
    assert_eq!((rig.conn.in_flight(), rig.conn.available(), rig.conn.pending()), (1, 1, 1));
}

#[test]
fn a_request_that_fails_validation_gives_its_place_back_and_writes_nothing() {
    let mut rig = Rig::client(1);
    let slot = rig.conn.reserve().expect("a place");
    let invalid = rig.conn.send_request_in(slot, &Method::GET, "/a b", [field("Host", "h")], BodyLen::Empty, rig.now);
    assert_eq!(invalid, Err(SendError::InvalidTarget));
    assert_eq!(rig.conn.available(), 1);
    let hosts = [field("Host", "h"), field("host", "h")];
    assert_eq!(
        rig.conn.send_request(&Method::GET, "/", hosts, BodyLen::Empty, rig.now),
        Err(SendError::Hosts { hosts: 2 })
    );
    let framing = [field("Host", "h"), field("transfer-encoding", "chunked")];
    assert_eq!(
        rig.conn.send_request(&Method::GET, "/", framing, BodyLen::Empty, rig.now),
        Err(SendError::FramingField("transfer-encoding"))
    );
    assert_eq!(rig.sent(), "");
}

#[test]
fn our_own_close_makes_a_request_the_last() {
    let mut rig = Rig::client(4);
    let fields = [field("Host", "h"), field("Connection", "close")];
    assert!(rig.conn.may_go_on());
    rig.conn.send_request(&Method::GET, "/", fields, BodyLen::Empty, rig.now).expect("sent");
    assert_eq!(rig.conn.may_send(), Err(SendError::Closed));
    assert!(!rig.conn.may_go_on() && !rig.conn.is_closing());
    rig.sent();
    assert_eq!(rig.feed(OK)[..3], ["0 200 Length(2)", "0 data ok", "0 end"]);
    assert!(rig.conn.poll_shutdown());
    assert_eq!(rig.eof(), ["closed: we closed", "pause"]);
}

#[test]
fn a_switch_that_was_asked_for_leaves_the_rest_to_the_caller() {
    let mut rig = Rig::client(1);
    let fields = [field("Host", "h"), field("Connection", "upgrade"), field("Upgrade", "x")];
    rig.conn.send_request(&Method::GET, "/", fields, BodyLen::Empty, rig.now).expect("sent");
    rig.sent();
    let mut input: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nframes";
    let mut switched = false;
    while let Ok(Next::Event(event)) = rig.conn.next(&mut input, rig.now) {
        switched |= matches!(event, Event::Switched { .. });
    }
    assert!(switched);
    assert_eq!(input, b"frames", "not one byte of it was taken");
    assert!(rig.conn.into_parts().failures.is_empty());
}

#[test]
fn a_tunnel_begins_behind_a_2xx_to_connect() {
    let mut rig = Rig::client(1);
    rig.request(Method::CONNECT, "h:443", BodyLen::Empty).expect("sent");
    rig.sent();
    let seen = rig.feed("HTTP/1.1 200 Connection established\r\n\r\n");
    assert_eq!(seen, ["0 200 Empty", "0 end", "0 switched", "pause"]);
}

#[test]
fn what_the_peer_has_announced_is_kept_and_counted_down() {
    let mut rig = Rig::<Client>::with(Config::client());
    assert_eq!(rig.conn.announced(), None);
    let announced =
        |rig: &Rig<Client>| rig.conn.announced().map(|said| (said.timeout.map(|time| time.as_secs()), said.max));
    for (field, expected) in [
        ("Keep-Alive: max=9", Some((None, Some(9)))),
        ("Keep-Alive: timeout=7", Some((Some(7), Some(8)))),
        ("X: 1", Some((Some(7), Some(7)))),
    ] {
        rig.get("/");
        rig.sent();
        rig.feed(format!("HTTP/1.1 204 No Content\r\n{field}\r\n\r\n"));
        assert_eq!(announced(&rig), expected, "after {field}");
    }
}

#[test]
fn straight_reads_are_accounted_like_events() {
    let mut rig = Rig::client(1);
    rig.get("/");
    rig.sent();
    assert_eq!(rig.feed("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab"), ["0 200 Length(10)", "0 data ab", "read"]);
    assert_eq!(rig.conn.body_window(), 8);
    rig.conn.handle_body(8, rig.now);
    assert_eq!(rig.events(), ["0 end", "read"]);
    assert!(rig.conn.is_idle());
}
