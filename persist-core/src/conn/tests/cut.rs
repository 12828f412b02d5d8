//! Where the input's cuts once showed: cases that property tests found.

use super::*;
use crate::disposition::Failure;

/// How the only exchange failed when its response came in these pieces, and what `next` said last.
fn failure_of(pieces: &[&str]) -> (Failure, Option<ProtocolError>) {
    let mut rig = Rig::client(1);
    rig.conn.config = alloc::sync::Arc::new({
        let mut config = Config::client();
        config.limits.body_bytes_max = 4;
        config
    });
    rig.get("/");
    rig.sent();
    let mut found = None;
    for piece in pieces {
        let mut input = piece.as_bytes();
        while let Ok(Next::Event(event)) = rig.conn.next(&mut input, rig.now) {
            if let Event::Ended { failure, .. } = event {
                found = Some(*failure);
            }
        }
    }
    (found.expect("the exchange failed"), rig.conn.error().cloned())
}

#[test]
fn a_broken_reply_head_has_begun_however_it_was_cut() {
    let whole = failure_of(&["HTTP/1.1 200 OK\r\0\r\n\r\n"]);
    assert_eq!(failure_of(&["HTTP/1.1 2", "00 OK\r\0\r\n\r\n"]), whole);
    assert_eq!(whole.0.disposition, crate::Disposition::ReplyPartial);
    assert_eq!(whole.0.received, 15, "up to the byte that is wrong");
}

#[test]
fn bytes_of_broken_chunk_framing_are_counted_however_they_were_cut() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let whole = failure_of(&[&[head, "1\r\na\r\nz"].concat()]);
    assert_eq!(failure_of(&[head, "1\r\na\r", "\nz"]), whole);
    assert_eq!(whole.0.received, head.len() as u64 + 6);
}

#[test]
fn content_up_to_its_limit_is_delivered_and_the_error_names_the_byte_behind_it() {
    for framing in
        ["Transfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n", "Content-Length: 6\r\n\r\nabcdef", "\r\nabcdef"]
    {
        let response = alloc::format!("HTTP/1.1 200 OK\r\n{framing}");
        let limit = response.rfind("ef").expect("the fifth byte of content");
        let whole = failure_of(&[&response]);
        assert_eq!(whole.1.as_ref().map(ProtocolError::offset), Some(limit as u64), "{response}");
        assert_eq!(failure_of(&[&response[..limit], &response[limit..]]), whole, "{response}");
    }
}

#[test]
fn a_late_408_in_pieces_is_as_orderly_an_end_as_in_one() {
    let mut rig = Rig::client(1);
    assert_eq!(rig.feed("HTTP/1.1 4"), ["read"]);
    assert!(rig.conn.is_closing(), "no request may follow: its answer could be mistaken");
    assert_eq!(rig.feed("08 Request Timeout\r\n\r\n"), ["closed: the peer closed between messages", "pause"]);
}

#[test]
fn half_a_408_and_no_more_is_not_waited_for_for_ever() {
    let mut rig = Rig::client(1);
    assert_eq!(rig.feed("HTTP/1.1 4"), ["read"]);
    rig.wait(secs(2));
    assert_eq!(rig.events(), ["closed: drain deadline passed", "pause"]);
}

#[test]
fn a_request_too_long_for_its_limit_is_rejected_where_its_content_would_begin() {
    let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n";
    for cut in [1, head.len() / 2, head.len()] {
        let mut config = Config::server();
        config.limits.body_bytes_max = 4;
        let mut rig = Rig::<Server>::with(config);
        rig.feed(&head[..cut]);
        rig.feed(&head[cut..]);
        assert_eq!(rig.conn.error().map(ProtocolError::offset), Some(head.len() as u64));
    }
}
