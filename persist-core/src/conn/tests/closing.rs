//! Ends: clean, early, broken, and by our own will.

use super::*;
use crate::close::{CloseReason, Side};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn eof_between_messages_is_clean_and_inside_one_is_not() {
    let mut rig = Rig::client(1);
    assert_eq!(rig.eof(), ["closed: the peer closed between messages", "pause"]);
    let mut rig = Rig::client(1);
    rig.get("/");
    rig.sent();
    rig.feed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
    let early = "the peer closed before the message was complete";
    assert_eq!(rig.eof()[..2], [format!("0 ended reply partial, {early}"), format!("closed: {early}")]);
}

#[test]
fn eof_before_any_reply_leaves_the_request_sent_without_one() {
    let mut rig = Rig::client(1);
    rig.get("/");
    rig.sent();
    assert!(rig.eof()[0].starts_with("0 ended sent, no reply, "));
}

#[test]
fn eof_in_the_head_of_a_reply_leaves_it_partial_unless_the_head_was_interim() {
    let mut rig = Rig::client(1);
    rig.get("/");
    rig.sent();
    rig.feed("HTTP/1.1 200 OK\r\nConte");
    assert!(rig.eof()[0].starts_with("0 ended reply partial, "));
    let mut rig = Rig::client(1);
    rig.get("/");
    rig.sent();
    rig.feed("HTTP/1.1 103 Early");
    assert!(rig.eof()[0].starts_with("0 ended sent, no reply, "));
}

#[test]
fn a_body_without_framing_ends_with_a_clean_close_only() {
    let reply = "HTTP/1.1 200 OK\r\n\r\nok";
    let mut rig = Rig::client(1);
    rig.get("/");
    rig.sent();
    assert_eq!(rig.feed(reply), ["0 200 UntilClose", "0 data ok", "read"]);
    assert_eq!(rig.eof(), ["0 end", "closed: the peer closed between messages", "pause"]);

    let mut rig = Rig::client(1);
    rig.get("/");
    rig.sent();
    rig.feed(reply);
    rig.conn.handle_io_error(Side::Read, rig.now);
    assert_eq!(rig.events()[..2], ["0 ended reply partial, reading failed", "closed: reading failed"]);
}

#[test]
fn the_reply_that_is_there_after_a_failed_write_reaches_the_caller() {
    let mut rig = Rig::client(1);
    let id = rig.request(Method::POST, "/", BodyLen::Length(1_000_000)).expect("sent");
    rig.conn.send_body(id, &[b'x'; 1000], rig.now).expect("content");
    rig.sent_up_to(500);
    rig.conn.handle_io_error(Side::Write, rig.now);
    assert_eq!(rig.events(), ["read"], "still reading");
    let seen = rig.feed("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!(seen, ["0 413 Length(2)", "0 data no", "0 end", "closed: writing failed", "pause"]);
}

#[test]
fn after_a_failed_write_end_of_file_is_never_clean() {
    let mut rig = Rig::client(1);
    let id = rig.request(Method::POST, "/", BodyLen::Length(1_000_000)).expect("sent");
    rig.conn.send_body(id, &[b'x'; 1000], rig.now).expect("content");
    rig.sent_up_to(500);
    rig.conn.handle_io_error(Side::Write, rig.now);
    rig.feed("HTTP/1.1 413 Content Too Large\r\n\r\nno");
    let seen = rig.eof();
    assert_eq!(seen[..2], ["0 ended reply partial, writing failed", "closed: writing failed"]);
}

#[test]
fn a_failed_write_says_at_once_what_was_not_sent() {
    let mut rig = Rig::client(3);
    rig.get("/0");
    rig.get("/1");
    rig.sent_up_to(28);
    rig.conn.handle_io_error(Side::Write, rig.now);
    assert_eq!(rig.events()[0], "1 ended not sent, writing failed");
    assert_eq!(rig.feed(OK)[..3], ["0 200 Length(2)", "0 data ok", "0 end"]);
}

#[test]
fn close_finishes_what_is_pending_and_waits_for_the_peer() {
    let mut rig = Rig::client(2);
    rig.get("/");
    rig.conn.close(rig.now);
    assert_eq!(rig.conn.may_send(), Err(SendError::Closed));
    rig.sent();
    assert!(!rig.conn.poll_shutdown());
    assert_eq!(rig.feed(OK), ["0 200 Length(2)", "0 data ok", "0 end", "read"]);
    assert!(rig.conn.poll_shutdown());
    assert!(!rig.conn.poll_shutdown(), "once");
    assert_eq!(rig.eof(), ["closed: we closed", "pause"]);
}

#[test]
fn close_and_abort_are_idempotent() {
    let mut rig = Rig::client(1);
    rig.get("/");
    rig.conn.abort(rig.now);
    rig.conn.abort(rig.now);
    rig.conn.close(rig.now);
    assert_eq!(rig.events(), ["0 ended not sent, aborted by the caller", "closed: aborted by the caller", "pause"]);
    assert_eq!(rig.events(), ["pause"]);
    assert_eq!(rig.conn.poll_timeout(), None);
}

#[test]
fn a_servers_close_says_so_in_the_last_reply() {
    let mut rig = Rig::server();
    let get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    rig.feed([get, get].concat());
    rig.conn.close(rig.now);
    assert_eq!(rig.feed(get), ["read"], "new requests are refused");
    let (zero, one) = (rig.ticket(), rig.ticket());
    rig.reply(zero, "");
    rig.reply(one, "");
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\
                    HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(rig.sent(), expected);
    assert!(rig.conn.poll_shutdown());
    assert_eq!(rig.eof(), ["closed: we closed", "pause"]);
}

#[test]
fn an_idle_server_that_closes_shuts_down_at_once() {
    let mut rig = Rig::server();
    rig.conn.close(rig.now);
    assert!(rig.conn.poll_shutdown());
}

#[test]
fn a_half_close_does_not_end_the_requests_before_it() {
    let mut rig = Rig::server();
    rig.feed("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(rig.eof(), ["pause"]);
    let ticket = rig.ticket();
    rig.reply(ticket, "ok");
    assert_eq!(rig.sent(), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(rig.events(), ["closed: the peer closed between messages", "pause"]);
}

#[test]
fn eof_inside_a_request_is_answered_400() {
    for partial in ["GET / HT", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab"] {
        let mut rig = Rig::server();
        rig.feed(partial);
        let seen = rig.eof();
        assert!(seen.last().is_some_and(|last| last.starts_with("error: the input ends inside")), "{seen:?}");
        assert!(rig.sent().starts_with("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"));
        assert!(rig.events()[0].starts_with("closed: protocol error"));
    }
}

#[test]
fn lingering_drops_what_comes_within_its_budget() {
    let mut config = Config::server();
    config.limits.drain_bytes_max = 10;
    let mut rig = Rig::<Server>::with(config);
    rig.feed("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let ticket = rig.ticket();
    rig.reply(ticket, "");
    rig.sent();
    assert!(rig.conn.poll_shutdown());
    assert_eq!(rig.feed("0123456789"), ["read"]);
    assert_eq!(rig.feed("a"), ["closed: the peer said close", "pause"]);
}

#[test]
fn hijack_loses_no_byte_at_any_state() {
    let mut rig = Rig::server();
    rig.feed("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /partial HT");
    let ticket = rig.ticket();
    rig.reply(ticket, "hello");
    rig.sent_up_to(10);
    let parts = rig.conn.into_parts();
    assert_eq!(parts.leftover, b"GET /partial HT");
    assert_eq!(parts.unsent, b"00 OK\r\nContent-Length: 5\r\n\r\nhello");
    assert!(parts.failures.is_empty(), "its last bytes are the caller's to send");

    let mut again = Rig::<Server>::with(Config::server());
    again.conn = Conn::from_parts(Config::server(), parts, again.now);
    let kept = again.conn.take_kept();
    assert_eq!(again.feed(&kept), ["read"]);
    assert_eq!(again.feed("TP/1.1\r\nHost: h\r\n\r\n"), ["0 GET /partial Empty", "0 end", "read"]);
    assert!(again.sent().ends_with("hello"));
}

#[test]
fn a_held_request_is_leftover_when_the_connection_is_taken() {
    let mut rig = Rig::server();
    let post = "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n";
    rig.feed(["GET /a HTTP/1.1\r\nHost: h\r\n\r\n", post].concat());
    assert_eq!(rig.conn.into_parts().leftover, post.as_bytes());
}

#[test]
fn graceful_reasons_are_not_errors_and_the_others_are() {
    assert!(CloseReason::PeerClosed.is_graceful() && CloseReason::Idle.is_graceful());
    assert!(!CloseReason::PeerClosedEarly.is_graceful() && !CloseReason::Poisoned.is_graceful());
}
