//! Exchanges that somebody gave up half-way: cases that property tests found.

use super::*;

#[test]
fn a_request_given_up_with_part_of_it_on_the_wire_is_told_of_when_the_rest_is() {
    let mut rig = Rig::client(2);
    let first = rig.get("/a");
    rig.get("/b");
    rig.sent_up_to(5);
    rig.conn.cancel(first, rig.now);
    assert_eq!(rig.events(), ["read"], "five bytes went out, and the rest will: `PartlySent` would be untrue");
    rig.sent();
    assert_eq!(rig.events(), ["0 ended sent, no reply, aborted by the caller", "read"]);
    let replies = "HTTP/1.1 204 a\r\n\r\nHTTP/1.1 299 b\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(rig.feed(replies), ["1 299 Length(0)", "1 end", "read"]);
}

#[test]
fn a_request_given_up_with_part_of_it_on_the_wire_fails_as_partly_sent_if_the_rest_cannot_follow() {
    let mut rig = Rig::client(1);
    let id = rig.get("/");
    rig.sent_up_to(5);
    rig.conn.cancel(id, rig.now);
    rig.conn.handle_io_error(crate::Side::Write, rig.now);
    assert_eq!(rig.events()[0], "0 ended partly sent (5 bytes), aborted by the caller");
}

#[test]
fn an_upload_given_up_when_only_its_end_was_missing_was_sent() {
    let mut rig = Rig::client(1);
    let id = rig.request(Method::PUT, "/", BodyLen::Length(2)).expect("the gates are open");
    rig.conn.send_body(id, b"hi", rig.now).expect("content");
    rig.sent();
    rig.conn.cancel(id, rig.now);
    assert_eq!(rig.events(), ["0 ended sent, no reply, aborted by the caller", "read"]);
    assert!(!rig.conn.is_closing(), "the request is whole: its reply can be dropped");
}

#[test]
fn a_request_is_sent_once_its_last_byte_is_whether_or_not_its_end_was_announced() {
    let mut rig = Rig::client(1);
    let id = rig.request(Method::PUT, "/", BodyLen::Length(2)).expect("the gates are open");
    rig.conn.send_body(id, b"hi", rig.now).expect("content");
    rig.sent();
    rig.conn.handle_io_error(crate::Side::Read, rig.now);
    assert_eq!(rig.events()[0], "0 ended sent, no reply, reading failed", "the peer may have acted on it");
}

#[test]
fn a_whole_reply_is_no_failure_when_the_peer_closes_on_the_rest_of_the_upload() {
    let mut rig = Rig::client(1);
    rig.request(Method::PUT, "/", BodyLen::Length(2)).expect("the gates are open");
    rig.sent();
    assert_eq!(rig.feed("HTTP/1.1 204 early\r\n\r\n"), ["0 204 Empty", "0 end", "read"]);
    let events = rig.eof();
    assert_eq!(events, ["0 stopped", "closed: the peer closed before the message was complete", "pause"]);
    assert_eq!(rig.conn.completed(), 1);
}

#[test]
fn giving_up_the_upload_behind_a_whole_reply_ends_the_connection_and_not_the_exchange_again() {
    let mut rig = Rig::client(1);
    let id = rig.request(Method::PUT, "/", BodyLen::Length(2)).expect("the gates are open");
    rig.sent();
    rig.feed("HTTP/1.1 204 early\r\n\r\n");
    rig.conn.cancel(id, rig.now);
    assert_eq!(rig.events(), ["closed: a body could not be finished within its budget", "pause"]);
    assert_eq!(rig.conn.completed(), 1);
}

#[test]
fn no_continue_follows_the_end_of_the_exchange() {
    let mut rig = Rig::client(1);
    let host_and_expect = [field("Host", "h"), field("Expect", "100-continue")];
    let id = rig
        .conn
        .send_request(&Method::PUT, "/", host_and_expect, BodyLen::Length(2), rig.now)
        .expect("the gates are open");
    let bytes = rig.sent().len();
    rig.wait(secs(1));
    rig.conn.cancel(id, rig.now);
    let ended = alloc::format!("0 ended partly sent ({bytes} bytes), aborted by the caller");
    assert_eq!(rig.events(), [&ended, "closed: a body could not be finished within its budget", "pause"]);
}

#[test]
fn a_body_that_nobody_wants_has_no_window_past_its_budget() {
    let mut rig = Rig::client(1);
    let id = rig.get("/");
    rig.sent();
    rig.feed("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n");
    assert_eq!(rig.conn.body_window(), 9_000_000);
    rig.conn.cancel(id, rig.now);
    rig.events();
    assert_eq!(rig.conn.body_window(), 0, "it is dropped by `next`, which counts");
}
