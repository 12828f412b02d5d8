//! The server's end.

use super::*;
use crate::config::Overlap;

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn a_request_is_read_answered_and_the_connection_kept() {
    let mut rig = Rig::server();
    assert_eq!(rig.feed(GET), ["0 GET /a Empty", "0 end", "read"]);
    let ticket = rig.ticket();
    rig.reply(ticket, "hello");
    assert_eq!(rig.sent(), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    assert!(rig.conn.is_idle());
    assert_eq!(rig.feed("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"), ["1 GET /b Empty", "1 end", "read"]);
}

#[test]
fn a_whole_response_is_the_same_as_its_parts_and_has_no_content_where_none_may_be() {
    for (request, text) in [(GET, "hello"), ("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", "")] {
        let mut rig = Rig::server();
        rig.feed([request, GET].concat());
        let (zero, one) = (rig.ticket(), rig.ticket());
        rig.conn.send_whole_response(one, StatusCode::OK, [], b"", rig.now).expect("a response, parked");
        rig.conn.send_whole_response(zero, StatusCode::OK, [], b"hello", rig.now).expect("a response");
        let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(rig.sent(), format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{text}{empty}"));
        assert!(rig.conn.is_idle());
    }
}

#[test]
fn the_end_of_a_request_without_content_can_be_taken_with_its_head() {
    let post = "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";
    let mut rig = Rig::server();
    for (text, is_whole) in [(GET, true), (post, false)] {
        let mut input = text.as_bytes();
        assert!(!rig.conn.take_end(), "there is no head yet");
        let Ok(Next::Event(Event::Head { ticket, .. })) = rig.conn.next(&mut input, rig.now) else { panic!("a head") };
        assert_eq!(rig.conn.take_end(), is_whole);
        assert!(!rig.conn.take_end(), "once");
        if !is_whole {
            assert_eq!(rig.feed("hi"), ["1 data hi", "1 end", "pause"]);
        }
        rig.conn.send_whole_response(ticket, StatusCode::OK, [], b"", rig.now).expect("a response");
        rig.sent();
        assert!(rig.conn.is_idle() && rig.feed("") == ["read"], "nothing is told twice");
    }
}

#[test]
fn replies_given_out_of_order_leave_in_order() {
    let mut rig = Rig::server();
    let input =
        "GET /0 HTTP/1.1\r\nHost: h\r\n\r\nGET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n";
    rig.feed(input);
    let (zero, one, two) = (rig.ticket(), rig.ticket(), rig.ticket());
    rig.reply(two, "2");
    rig.reply(one, "1");
    assert_eq!(rig.sent(), "");
    rig.reply(zero, "0");
    let reply = |text| alloc::format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{text}");
    assert_eq!(rig.sent(), reply("0") + &reply("1") + &reply("2"));
    assert_eq!((rig.conn.pending(), rig.conn.completed()), (0, 3));
}

#[test]
fn an_unsafe_request_waits_for_its_predecessor() {
    let mut rig = Rig::server();
    let post = "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(rig.feed([GET, post].concat()), ["0 GET /a Empty", "0 end", "pause"]);
    let ticket = rig.ticket();
    rig.reply(ticket, "");
    assert_eq!(rig.feed("hi"), ["1 POST /b Length(2)", "1 data hi", "1 end", "pause"]);
    assert_eq!(rig.feed(GET), ["pause"], "nothing is read behind an unsafe request");
    let ticket = rig.ticket();
    rig.reply(ticket, "");
    assert_eq!(rig.feed(GET), ["2 GET /a Empty", "2 end", "read"]);
}

#[test]
fn any_may_overlap_when_the_caller_says_so() {
    let mut config = Config::server();
    config.pipelining.overlap = Overlap::Any;
    let mut rig = Rig::<Server>::with(config);
    let post = "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(rig.feed([post, post].concat()).last().map(String::as_str), Some("read"));
    assert_eq!(rig.tickets.len(), 2);
}

#[test]
fn continue_is_sent_when_the_body_is_first_wanted_and_only_then() {
    let mut rig = Rig::server();
    rig.feed("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(rig.sent(), "");
    let ticket = rig.ticket();
    rig.conn.want_body(ticket.id(), rig.now);
    rig.conn.want_body(ticket.id(), rig.now);
    assert_eq!(rig.sent(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(rig.feed("hi"), ["0 data hi", "0 end", "pause"]);
    rig.reply(ticket, "");
    assert_eq!(rig.sent(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn a_refused_expectation_closes_since_nobody_knows_what_follows() {
    let mut rig = Rig::server();
    rig.feed("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    let ticket = rig.ticket();
    rig.conn.send_response(ticket, StatusCode::CONTENT_TOO_LARGE, [], BodyLen::Empty, rig.now).expect("a response");
    assert_eq!(rig.sent(), "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert!(rig.conn.poll_shutdown());
    assert_eq!(rig.feed("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), ["read"], "what comes is not a request");
    assert_eq!(rig.eof(), ["closed: a body could not be finished within its budget", "pause"]);
}

#[test]
fn an_http10_client_gets_no_interim_and_no_chunks() {
    let mut rig = Rig::server();
    rig.feed("POST / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi");
    let ticket = rig.ticket();
    let id = ticket.id();
    rig.conn.want_body(id, rig.now);
    assert!(rig.conn.send_interim(&ticket, StatusCode::EARLY_HINTS, [], rig.now).is_err());
    rig.conn.send_response(ticket, StatusCode::OK, [], BodyLen::Chunked, rig.now).expect("a response");
    rig.conn.send_body(id, b"abc", rig.now).expect("content");
    rig.conn.finish_body(id, None, rig.now).expect("the end");
    assert_eq!(rig.sent(), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc");
    assert!(rig.conn.poll_shutdown());
}

#[test]
fn a_response_without_framing_that_breaks_off_has_no_orderly_end() {
    let begin = |body| {
        let mut rig = Rig::server();
        rig.feed("GET / HTTP/1.0\r\n\r\n");
        let ticket = rig.ticket();
        let id = ticket.id();
        rig.conn.send_response(ticket, StatusCode::OK, [], body, rig.now).expect("a response");
        rig.conn.send_body(id, b"abc", rig.now).expect("content");
        (rig, id)
    };
    let (mut rig, id) = begin(BodyLen::Chunked);
    rig.conn.abandon(id, rig.now);
    assert_eq!(rig.sent(), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc", "what was given leaves");
    assert!(!rig.conn.poll_shutdown() && rig.conn.must_reset());
    assert!(rig.feed("").last().is_some_and(|seen| seen == "pause") && rig.conn.is_closed());

    // Or at once, if some of it has left.
    for (left, must_reset) in [(true, true), (false, false)] {
        let (mut rig, _) = begin(BodyLen::Chunked);
        if left {
            rig.sent();
        }
        rig.conn.abort(rig.now);
        assert_eq!(rig.conn.must_reset(), must_reset);
    }

    // One that says its length, or comes to its end, tells the truth by itself.
    let (mut rig, id) = begin(BodyLen::Length(9));
    rig.conn.abandon(id, rig.now);
    rig.sent();
    assert!(rig.conn.poll_shutdown() && !rig.conn.must_reset());
    let (mut rig, id) = begin(BodyLen::Chunked);
    rig.conn.finish_body(id, None, rig.now).expect("the end");
    rig.sent();
    rig.conn.abort(rig.now);
    assert!(!rig.conn.must_reset());
}

#[test]
fn an_http10_client_that_asks_for_keep_alive_is_told_that_it_has_it() {
    let mut rig = Rig::server();
    rig.feed("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let ticket = rig.ticket();
    rig.reply(ticket, "");
    assert_eq!(rig.sent(), "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n");
    assert!(!rig.conn.is_closing());
}

#[test]
fn interim_responses_go_before_the_final_one() {
    let mut rig = Rig::server();
    rig.feed(GET);
    let ticket = rig.ticket();
    rig.conn.send_interim(&ticket, StatusCode::EARLY_HINTS, [field("Link", "</x>")], rig.now).expect("an interim");
    rig.reply(ticket, "");
    let expected = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(rig.sent(), expected);
}

#[test]
fn an_abandoned_ticket_answers_500_and_closes() {
    let mut rig = Rig::server();
    rig.feed([GET, GET].concat());
    let (zero, one) = (rig.ticket(), rig.ticket());
    rig.conn.abandon(one.id(), rig.now);
    rig.reply(zero, "ok");
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
                    HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(rig.sent(), expected);
    assert!(rig.conn.poll_shutdown());
}

#[test]
fn an_error_is_answered_behind_the_replies_already_earned() {
    let mut rig = Rig::server();
    let bad = "GET / HTTP/1.1\r\nX : y\r\n\r\n";
    let seen = rig.feed([GET, bad].concat());
    assert_eq!(seen[..2], ["0 GET /a Empty", "0 end"]);
    assert!(seen[2].starts_with("error: "), "{seen:?}");
    assert_eq!(rig.feed(GET), seen[2..], "errors are sticky");
    let ticket = rig.ticket();
    rig.reply(ticket, "ok");
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
                    HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(rig.sent(), expected);
    assert!(rig.conn.poll_shutdown());
    let closed = rig.eof();
    assert!(closed[0].starts_with("closed: protocol error"), "{closed:?}");
}

#[test]
fn a_body_that_breaks_ends_its_exchange_and_voids_its_ticket() {
    let mut rig = Rig::server();
    let seen = rig.feed("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n");
    assert_eq!(seen[..2], ["0 POST / Chunked", "0 data a"]);
    assert!(seen[2].starts_with("0 ended not sent, protocol error"), "{seen:?}");
    let ticket = rig.ticket();
    let refused = rig.conn.send_response(ticket, StatusCode::OK, [], BodyLen::Empty, rig.now).expect_err("void");
    assert_eq!(refused.error, SendError::NoSuchExchange);
    assert!(rig.sent().starts_with("HTTP/1.1 400 "));
}

#[test]
fn after_a_reply_with_close_later_requests_are_not_answered() {
    let mut rig = Rig::server();
    rig.feed([GET, GET].concat());
    let (zero, one) = (rig.ticket(), rig.ticket());
    rig.conn
        .send_response(zero, StatusCode::OK, [field("Connection", "close")], BodyLen::Empty, rig.now)
        .expect("a response");
    assert_eq!(rig.events(), ["1 ended not sent, we closed", "read"]);
    assert!(rig.conn.send_response(one, StatusCode::OK, [], BodyLen::Empty, rig.now).is_err());
    assert_eq!(rig.sent(), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn an_unread_body_is_drained_within_the_budget() {
    let mut rig = Rig::server();
    rig.feed("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab");
    let ticket = rig.ticket();
    rig.reply(ticket, "");
    assert_eq!(rig.sent(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(rig.conn.pending(), 1, "the body is not drained yet");
    assert_eq!(rig.feed(["cd", GET].concat()), ["1 GET /a Empty", "1 end", "read"]);
}

#[test]
fn a_body_longer_than_the_drain_budget_closes() {
    let mut rig = Rig::server();
    rig.feed("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 400000\r\n\r\n");
    let ticket = rig.ticket();
    rig.reply(ticket, "");
    assert_eq!(rig.sent(), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert!(rig.conn.poll_shutdown());
}

#[test]
fn a_chunked_body_is_dropped_until_the_budget_is_spent() {
    let mut config = Config::server();
    config.limits.drain_bytes_max = 8;
    let mut rig = Rig::<Server>::with(config);
    rig.feed("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    let ticket = rig.ticket();
    rig.reply(ticket, "");
    rig.sent();
    assert_eq!(rig.feed("1\r\na\r\n"), ["read"]);
    assert!(!rig.conn.is_closing());
    rig.feed("f\r\n0123456789abcde\r\n");
    assert!(rig.conn.is_closing() && rig.conn.poll_shutdown());
}

/// Answers with a body that is not at hand yet, and then with it.
fn answer_in_pieces(rig: &mut Rig<Server>, ticket: Ticket) -> String {
    let id = ticket.id();
    rig.conn.send_response(ticket, StatusCode::OK, [], BodyLen::Length(2), rig.now).expect("a response");
    let head = rig.sent();
    assert_eq!(rig.conn.send_body(id, b"ok", rig.now), Ok(2));
    rig.conn.finish_body(id, None, rig.now).expect("the end");
    assert_eq!(rig.sent(), "ok");
    head
}

#[test]
fn a_response_says_close_where_its_handler_dropped_a_long_body() {
    let mut rig = Rig::server();
    rig.feed("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 400000\r\n\r\nab");
    let ticket = rig.ticket();
    rig.conn.drop_body(ticket.id(), rig.now);
    assert_eq!(rig.feed("cd"), ["read"], "nobody hears of the rest");
    assert_eq!(answer_in_pieces(&mut rig, ticket), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n");
    assert!(rig.conn.poll_shutdown());
}

#[test]
fn a_short_body_that_was_dropped_costs_no_connection() {
    let mut rig = Rig::server();
    rig.feed("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab");
    let ticket = rig.ticket();
    rig.conn.drop_body(ticket.id(), rig.now);
    assert_eq!(answer_in_pieces(&mut rig, ticket), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(rig.feed(["cd", GET].concat()), ["1 GET /a Empty", "1 end", "read"]);
}

#[test]
fn a_dropped_body_beyond_the_budget_leaves_its_request_an_answer() {
    let mut config = Config::server();
    config.limits.drain_bytes_max = 8;
    let mut rig = Rig::<Server>::with(config);
    rig.feed("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    let ticket = rig.ticket();
    rig.conn.drop_body(ticket.id(), rig.now);
    rig.feed("f\r\n0123456789abcde\r\n");
    assert!(!rig.conn.poll_shutdown(), "an answer is due");
    assert_eq!(answer_in_pieces(&mut rig, ticket), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n");
    assert!(rig.conn.poll_shutdown());
}

#[test]
fn parked_replies_within_their_limit_stop_the_reading() {
    let mut config = Config::server();
    config.limits.parked_bytes_max = 64;
    let mut rig = Rig::<Server>::with(config);
    assert_eq!(rig.feed([GET, GET].concat()).last().map(String::as_str), Some("read"));
    let (zero, one) = (rig.ticket(), rig.ticket());
    let id = one.id();
    rig.conn.send_response(one, StatusCode::OK, [], BodyLen::Length(100), rig.now).expect("a response");
    assert_eq!(rig.conn.send_body(id, &[b'x'; 100], rig.now), Ok(64 - 40), "what the limit leaves beside the head");
    assert_eq!(rig.feed(GET), ["pause"]);
    rig.reply(zero, "");
    rig.sent();
    assert_eq!(rig.conn.send_body(id, &[b'x'; 76], rig.now), Ok(76), "its turn has come");
}

#[test]
fn upgrade_switches_and_what_follows_is_nobodys() {
    let mut rig = Rig::server();
    let seen = rig.feed("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nframes");
    assert_eq!(seen, ["0 GET /ws Empty", "0 end", "pause"]);
    let ticket = rig.ticket();
    rig.conn
        .send_response(ticket, StatusCode::SWITCHING_PROTOCOLS, [field("Upgrade", "x")], BodyLen::Empty, rig.now)
        .expect("a switch");
    assert_eq!(rig.sent(), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
    assert_eq!(rig.feed("frames"), ["0 switched", "pause"]);
    assert_eq!(rig.conn.keep(b"frames"), Ok(()));
    let parts = rig.conn.into_parts();
    assert_eq!((&parts.leftover[..], &parts.unsent[..], parts.failures.len()), (&b"frames"[..], &b""[..], 0));
}

#[test]
fn an_upgrade_outlives_what_would_have_ended_the_connection() {
    let mut config = Config::server();
    config.requests_max = Some(1);
    for told_to_end in [false, true] {
        let mut rig = Rig::<Server>::with(config.clone());
        rig.feed("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        if told_to_end {
            rig.conn.close(rig.now);
        }
        let ticket = rig.ticket();
        rig.conn
            .send_response(ticket, StatusCode::SWITCHING_PROTOCOLS, [field("Upgrade", "x")], BodyLen::Empty, rig.now)
            .expect("a switch");
        assert_eq!(rig.sent(), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
        assert_eq!(rig.feed("frames"), ["0 switched", "pause"], "told to end: {told_to_end}");
        assert!(!rig.conn.poll_shutdown(), "told to end: {told_to_end}");
    }
}

#[test]
fn a_refused_upgrade_goes_on_as_http() {
    let mut rig = Rig::server();
    rig.feed("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    let ticket = rig.ticket();
    rig.reply(ticket, "no");
    assert_eq!(rig.feed(GET), ["1 GET /a Empty", "1 end", "read"]);
}

#[test]
fn more_or_less_content_than_declared_is_the_callers_error() {
    let mut rig = Rig::server();
    rig.feed(GET);
    let ticket = rig.ticket();
    let id = ticket.id();
    rig.conn.send_response(ticket, StatusCode::OK, [], BodyLen::Length(3), rig.now).expect("a response");
    assert_eq!(rig.conn.send_body(id, b"four", rig.now), Err(SendError::TooLong { excess: 1 }));
    assert_eq!(rig.conn.finish_body(id, None, rig.now), Err(SendError::TooShort { missing: 3 }));
    assert_eq!(rig.conn.send_body(id, b"abc", rig.now), Ok(3));
    assert_eq!(rig.conn.finish_body(id, None, rig.now), Ok(()));
    assert_eq!(rig.sent(), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
}

#[test]
fn a_refused_response_gives_its_ticket_back() {
    let mut rig = Rig::server();
    rig.feed(GET);
    let ticket = rig.ticket();
    let framing = [field("Content-Length", "5")];
    let refused =
        rig.conn.send_response(ticket, StatusCode::OK, framing, BodyLen::Empty, rig.now).expect_err("framing");
    assert_eq!(refused.error, SendError::FramingField("content-length"));
    assert_eq!(rig.sent(), "", "nothing was written");
    rig.reply(refused.ticket, "");
    assert_eq!(rig.sent(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn chunks_and_trailers_are_written_as_the_rfc_has_them() {
    let mut rig = Rig::server();
    rig.feed(GET);
    let ticket = rig.ticket();
    let id = ticket.id();
    rig.conn.send_response(ticket, StatusCode::OK, [], BodyLen::Chunked, rig.now).expect("a response");
    rig.conn.send_body(id, b"hello", rig.now).expect("content");
    let mut trailers = crate::field::Fields::new();
    trailers.push("Digest", "x").expect("a field");
    rig.conn.finish_body(id, Some(&trailers), rig.now).expect("the end");
    let expected = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nDigest: x\r\n\r\n";
    assert_eq!(rig.sent(), expected);
}

#[test]
fn head_and_304_say_the_length_and_send_nothing() {
    let mut rig = Rig::server();
    rig.feed("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    let ticket = rig.ticket();
    let id = ticket.id();
    rig.conn.send_response(ticket, StatusCode::OK, [], BodyLen::Length(9), rig.now).expect("a response");
    assert_eq!(rig.conn.upload(id), super::super::Upload::Finished);
    assert_eq!(rig.sent(), "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    assert!(rig.conn.is_idle());
}

#[test]
fn interim_responses_before_their_turn_are_parked_within_the_same_limit() {
    let mut config = Config::server();
    config.limits.parked_bytes_max = 60;
    let mut rig = Rig::<Server>::with(config);
    rig.feed([GET, GET].concat());
    let (first, second) = (rig.ticket(), rig.ticket());
    let early = |rig: &mut Rig<Server>| rig.conn.send_interim(&second, StatusCode::EARLY_HINTS, [], rig.now);
    let taken = (0..100).take_while(|_| early(&mut rig).is_ok()).count();
    assert_eq!(taken, 3, "28 bytes each");
    assert_eq!(early(&mut rig), Err(SendError::ParkedFull { limit: 60 }));
    rig.reply(first, "");
    assert_eq!(early(&mut rig), Ok(()), "its turn has come");
}
