//! The seven known faults of Go's `net/http/httputil/persist.go`: one test each, which that file would not pass.

mod common;

use common::seen::{Log, Moment, Seen, Stop, drain, flush};
use persist_core::{
    BodyLen, Client, CloseReason, Config, Conn, Deadline, Disposition, ExchangeId, Field, FieldName, FieldValue,
    Instant, Method, Server, StatusCode,
};
use std::time::Duration;

const NOW: Instant = Instant::ZERO;
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A client's machine by hand, and all it said.
struct Rig {
    conn: Conn<Client>,
    log: Log,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let mut config = Config::client();
        config.pipelining.depth = 8;
        Self { conn: Conn::new(config, NOW), log: Log::default(), now: NOW }
    }

    fn send(&mut self, target: &str) -> ExchangeId {
        let host = Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("h") };
        self.conn.send_request(&Method::GET, target, [host], BodyLen::Empty, self.now).expect("the gates are open")
    }

    fn read(&mut self, bytes: &str) -> Stop {
        drain(&mut self.conn, &mut bytes.as_bytes(), self.now, &mut self.log, |_, _| {})
    }

    /// The status that an exchange was answered with, and its content.
    fn answer(&self, id: ExchangeId) -> Option<(&str, Vec<u8>)> {
        let status = self.log.0.iter().find_map(|seen| match seen {
            Seen::Head(whose, line, _) if *whose == id.number() => line.split(' ').next(),
            _ => None,
        })?;
        Some((status, self.log.content(id.number())))
    }

    fn disposition(&self, id: ExchangeId) -> Option<Disposition> {
        self.log.ends(id.number()).first()?.map(|failure| failure.disposition)
    }
}

#[test]
fn fault_1_an_interim_response_is_never_taken_for_the_response() {
    let mut rig = Rig::new();
    let (first, second) = (rig.send("/1"), rig.send("/2"));
    flush(&mut rig.conn, NOW);
    rig.read("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(rig.answer(first), None, "1xx is not the answer");
    rig.read("HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\n1");
    rig.read("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
    assert_eq!(rig.answer(first), Some(("404", b"1".to_vec())));
    assert_eq!(rig.answer(second), Some(("200", b"2".to_vec())), "no pairing is off by one");
    assert_eq!(rig.log.0.iter().filter(|seen| matches!(seen, Seen::Interim(..))).count(), 3);
}

#[test]
fn fault_2_a_caller_who_never_takes_its_turn_blocks_nobody_and_can_give_up() {
    // Writing: the caller of the second request gives up before its turn; the third goes out all the same.
    let mut rig = Rig::new();
    let ids = [rig.send("/1"), rig.send("/2"), rig.send("/3")];
    rig.conn.cancel(ids[1], NOW);
    let wire = String::from_utf8(flush(&mut rig.conn, NOW)).expect("text");
    assert!(wire.contains("GET /1 ") && !wire.contains("GET /2 ") && wire.contains("GET /3 "), "{wire}");
    // Reading: the caller of the first gives up before reading; the third still gets its own.
    rig.conn.cancel(ids[0], NOW);
    rig.read("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3");
    assert_eq!(rig.answer(ids[2]), Some(("200", b"3".to_vec())));
    assert_eq!((rig.answer(ids[0]), rig.answer(ids[1])), (None, None));
    assert_eq!(rig.disposition(ids[0]), Some(Disposition::SentNoReply));
    assert_eq!(rig.disposition(ids[1]), Some(Disposition::NotSent));

    // Serving: a handler that never answers blocks others only until it is given up for.
    let mut config = Config::server();
    config.timeouts.total = Some(Duration::from_secs(9));
    let mut conn = Conn::<Server>::new(config, NOW);
    drain(&mut conn, &mut &b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..], NOW, &mut Log::default(), |_, _| {});
    conn.handle_timeout(conn.poll_timeout().expect("the whole exchange has a deadline"));
    assert!(flush(&mut conn, NOW).starts_with(b"HTTP/1.1 503 "));
}

#[test]
fn fault_3_an_exchange_is_pending_until_its_body_is_read() {
    let mut rig = Rig::new();
    let id = rig.send("/");
    flush(&mut rig.conn, NOW);
    assert_eq!(rig.conn.pending(), 1);
    rig.read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
    assert_eq!((rig.answer(id), rig.conn.pending()), (Some(("200", b"o".to_vec())), 1), "the body is not over");
    assert!(!rig.conn.is_idle());
    rig.read("k");
    assert_eq!((rig.conn.pending(), rig.conn.completed()), (0, 1));

    let mut conn = Conn::<Server>::new(Config::server(), NOW);
    let mut ticket = None;
    let upload = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\no";
    drain(&mut conn, &mut upload.as_bytes(), NOW, &mut Log::default(), |_, moment| {
        if let Moment::Head(_, given) = moment {
            ticket = Some(given);
        }
    });
    conn.send_response(ticket.expect("a request"), StatusCode::OK, [], BodyLen::Empty, NOW).expect("a response");
    flush(&mut conn, NOW);
    assert_eq!(conn.pending(), 1, "answered, and its body still comes");
    drain(&mut conn, &mut &b"k"[..], NOW, &mut Log::default(), |_, _| {});
    assert_eq!(conn.pending(), 0);
}

#[test]
fn fault_4_the_rest_of_an_unwanted_body_is_read_within_a_budget_of_bytes_and_of_time() {
    let unwanted = || {
        let mut rig = Rig::new();
        let id = rig.send("/");
        flush(&mut rig.conn, NOW);
        rig.read("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n");
        rig.conn.cancel(id, NOW);
        rig
    };
    let budget = Config::client().limits.drain_bytes_max as usize;
    let mut rig = unwanted();
    rig.read(&"x".repeat(budget));
    assert!(!rig.conn.is_closed(), "within the budget");
    rig.read("x");
    assert_eq!(rig.log.closed(), Some(&CloseReason::Unfinished), "past it");

    let mut rig = unwanted();
    rig.read("x");
    rig.now = rig.conn.poll_timeout().expect("draining has a deadline");
    rig.conn.handle_timeout(rig.now);
    rig.read("");
    assert_eq!(rig.log.closed(), Some(&CloseReason::Timeout(Deadline::Drain)));
}

#[test]
fn fault_5_after_a_response_that_says_close_each_request_left_has_its_own_disposition() {
    let mut rig = Rig::new();
    let ids = [rig.send("/1"), rig.send("/2"), rig.send("/3"), rig.send("/4")];
    // The second went out whole, half of the third, and nothing of the fourth.
    let one = rig.conn.unsent_bytes() / 4;
    let mut transmit = rig.conn.transmit(NOW);
    bytes::Buf::advance(&mut transmit, 2 * one + 7);
    rig.read(&OK.replace("Content", "Connection: close\r\nContent"));
    assert_eq!(rig.answer(ids[0]), Some(("200", b"ok".to_vec())), "a valid response comes with the end");
    let rest = [1, 2, 3].map(|k| rig.disposition(ids[k]));
    assert_eq!(rest, [Some(Disposition::Declined), Some(Disposition::Declined), Some(Disposition::NotSent)]);
    let sent = [1, 2, 3].map(|k| rig.log.ends(ids[k].number())[0].expect("it failed").sent);
    assert_eq!(sent, [one as u64, 7, 0]);
    assert_eq!(rig.log.closed(), Some(&CloseReason::PeerSaidClose));
}

#[test]
fn fault_6_a_hijack_takes_the_machine_so_that_nothing_can_race_with_it_and_no_byte_is_lost() {
    // `into_parts` consumes the machine: a read or write after it does not compile.
    let mut rig = Rig::new();
    let (first, second) = (rig.send("/1"), rig.send("/2"));
    let one = rig.conn.unsent_bytes() / 2;
    bytes::Buf::advance(&mut rig.conn.transmit(NOW), one + 3);
    rig.read(&format!("{OK}HTTP/1.1 200 O"));
    let parts = rig.conn.into_parts();
    assert_eq!(parts.leftover, b"HTTP/1.1 200 O", "read, and not used");
    assert_eq!(parts.unsent, b" /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(rig.log.ends(first.number()), [None]);
    let failures: Vec<_> = parts.failures.iter().map(|(id, failure)| (*id, failure.disposition)).collect();
    assert_eq!(failures, [(second, Disposition::ReplyPartial)]);
}

#[test]
fn fault_7_an_end_in_the_middle_is_never_graceful_and_a_clean_one_is_never_an_error() {
    let end_after = |bytes: &str| {
        let mut rig = Rig::new();
        rig.send("/");
        flush(&mut rig.conn, NOW);
        rig.read(bytes);
        rig.conn.handle_eof(NOW);
        let stop = rig.read("");
        (rig.log.closed().cloned().expect("closed"), stop)
    };
    let (clean, stop) = end_after(OK);
    assert_eq!((clean.is_graceful(), stop), (true, Stop::Paused));
    assert_eq!(clean, CloseReason::PeerClosed);
    for middle in ["", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", "HTTP/1.1 103 Early\r\n\r\n"] {
        assert_eq!(end_after(middle).0, CloseReason::PeerClosedEarly, "{middle:?}");
    }
    let (garbage, stop) = end_after("garbage");
    assert!(matches!(garbage, CloseReason::Protocol(_)) && !garbage.is_graceful(), "{garbage:?}");
    assert!(matches!(stop, Stop::Error(_)), "{stop:?}");
}
