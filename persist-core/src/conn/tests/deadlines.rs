//! Time, simulated.

use super::*;
use crate::timeouts::Timeouts;

fn server(set: impl FnOnce(&mut Timeouts)) -> Rig<Server> {
    let mut config = Config::server();
    config.timeouts = Timeouts::none();
    set(&mut config.timeouts);
    Rig::with(config)
}

fn client(set: impl FnOnce(&mut Timeouts)) -> Rig<Client> {
    let mut config = Config::client();
    config.timeouts = Timeouts::none();
    set(&mut config.timeouts);
    Rig::with(config)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn without_deadlines_there_is_none() {
    let mut rig = server(|_| ());
    rig.feed("GET ");
    assert_eq!(rig.conn.poll_timeout(), None);
}

#[test]
fn who_is_patient_has_no_deadline_between_a_request_and_its_reply() {
    let soon = Some(secs(1));
    let sets: [fn(&mut Timeouts, Option<Duration>); 10] = [
        |timeouts, soon| timeouts.idle = soon,
        |timeouts, soon| timeouts.header = soon,
        |timeouts, soon| timeouts.body_idle = soon,
        |timeouts, _| timeouts.body_bytes_per_second_min = Some(1),
        |timeouts, soon| timeouts.total = soon,
        |timeouts, soon| timeouts.write_stall = soon,
        |timeouts, soon| timeouts.drain = soon,
        |timeouts, soon| timeouts.linger = soon,
        |timeouts, soon| timeouts.expect_continue = soon,
        |timeouts, soon| timeouts.max_age = soon,
    ];
    for set in sets {
        let mut rig = client(|timeouts| set(timeouts, soon));
        rig.get("/");
        let unsent = rig.conn.poll_timeout();
        rig.sent();
        let sent = rig.conn.poll_timeout();
        let timeouts = &rig.conn.config().timeouts;
        assert_eq!(timeouts.are_patient(), unsent.is_none() && sent.is_none(), "{timeouts:?}");
    }
    assert!(Timeouts::client().are_patient() && !Timeouts::server().are_patient());
}

#[test]
fn idle_and_header_are_different_deadlines() {
    let mut rig = server(|timeouts| {
        timeouts.idle = Some(secs(10));
        timeouts.header = Some(secs(3));
    });
    assert_eq!(rig.conn.poll_timeout(), Some(Instant::ZERO + secs(10)));
    rig.wait(secs(4));
    rig.feed("G");
    assert_eq!(rig.conn.poll_timeout(), Some(Instant::ZERO + secs(7)));
    rig.wait(secs(2));
    rig.feed("ET ");
    assert_eq!(rig.conn.poll_timeout(), Some(Instant::ZERO + secs(7)), "dripping does not extend it");
    rig.wait(secs(1));
    assert_eq!(rig.sent(), "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert!(rig.conn.poll_shutdown());
    assert_eq!(rig.eof(), ["closed: header deadline passed", "pause"]);
}

#[test]
fn an_idle_server_shuts_down_and_lingers() {
    let mut rig = server(|timeouts| {
        timeouts.idle = Some(secs(10));
        timeouts.linger = Some(secs(2));
    });
    rig.wait(secs(10));
    assert!(rig.conn.poll_shutdown());
    assert_eq!(rig.conn.poll_timeout(), Some(Instant::ZERO + secs(12)));
    rig.wait(secs(2));
    assert_eq!(rig.events(), ["closed: idle for too long", "pause"]);
}

#[test]
fn a_client_closes_before_the_peer_does() {
    let mut rig = client(|timeouts| {
        timeouts.idle = Some(secs(90));
        timeouts.keep_alive_margin = secs(1);
    });
    rig.get("/");
    rig.sent();
    rig.feed("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(rig.conn.poll_timeout(), Some(Instant::ZERO + secs(4)));
    rig.wait(secs(4));
    assert_eq!(rig.events(), ["closed: idle for too long", "pause"]);
}

#[test]
fn a_client_sends_no_more_requests_than_the_peer_announced() {
    let mut config = Config::client();
    config.pipelining.depth = 8;
    let mut rig = Rig::<Client>::with(config);
    rig.get("/0");
    rig.sent();
    rig.feed("HTTP/1.1 200 OK\r\nKeep-Alive: max=2\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(rig.conn.announced_requests(), Some(2));
    rig.get("/1");
    assert_eq!(rig.conn.available(), 7);
    rig.get("/2");
    assert_eq!((rig.conn.available(), rig.conn.announced_requests()), (0, Some(0)));
    rig.sent();
    let seen = rig.feed([OK, OK].concat());
    assert_eq!(seen[4..], ["closed: maximum number of requests reached", "pause"]);
}

#[test]
fn a_body_that_stalls_is_given_up_but_only_while_we_read() {
    let mut rig = server(|timeouts| timeouts.body_idle = Some(secs(5)));
    let mut input: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab";
    assert!(matches!(rig.conn.next(&mut input, rig.now), Ok(Next::Event(Event::Head { .. }))));
    assert!(matches!(rig.conn.next(&mut input, rig.now), Ok(Next::Event(Event::Data { .. }))));
    assert_eq!(rig.conn.poll_timeout(), None, "the caller holds the data: not the peer's fault");
    rig.wait(secs(60));
    assert_eq!(rig.events(), ["read"]);
    assert_eq!(rig.conn.poll_timeout(), Some(Instant::ZERO + secs(65)));
    rig.wait(secs(5));
    assert!(rig.events()[0].starts_with("0 ended not sent, body-idle deadline passed"));
    assert!(rig.sent().starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_body_slower_than_the_minimum_rate_is_given_up() {
    let mut rig = server(|timeouts| timeouts.body_bytes_per_second_min = Some(10));
    rig.feed("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n");
    for _ in 0..12 {
        rig.wait(secs(1));
        rig.feed("x".repeat(20));
    }
    assert!(!rig.conn.is_closing(), "240 bytes cover 24 seconds");
    rig.wait(secs(11));
    rig.feed("x");
    assert!(!rig.conn.is_closing());
    rig.wait(secs(2));
    assert!(rig.events()[0].contains("body-rate deadline passed"));
}

#[test]
fn a_handler_that_never_answers_is_cut_off_by_the_total() {
    let mut rig = server(|timeouts| timeouts.total = Some(secs(30)));
    rig.feed(GET);
    rig.wait(secs(30));
    assert_eq!(rig.events()[0], "0 ended not sent, total deadline passed");
    assert!(rig.sent().starts_with("HTTP/1.1 503 "));
    assert_eq!(rig.conn.poll_timeout(), None);
}

#[test]
fn a_client_waits_for_a_head_no_longer_than_told() {
    let mut rig = client(|timeouts| timeouts.header = Some(secs(7)));
    rig.get("/");
    assert_eq!(rig.conn.poll_timeout(), None, "not sent yet");
    rig.wait(secs(2));
    rig.sent();
    assert_eq!(rig.conn.poll_timeout(), Some(Instant::ZERO + secs(9)));
    rig.wait(secs(7));
    assert_eq!(rig.events()[0], "0 ended sent, no reply, header deadline passed");
}

#[test]
fn a_layer_below_that_takes_nothing_is_given_up() {
    let mut rig = client(|timeouts| timeouts.write_stall = Some(secs(5)));
    rig.get("/");
    rig.sent_up_to(1);
    rig.wait(secs(4));
    rig.sent_up_to(1);
    rig.wait(secs(4));
    assert_eq!(rig.events(), ["read"], "every byte counts as progress");
    rig.wait(secs(1));
    assert_eq!(rig.events()[0], "0 ended partly sent (2 bytes), write-stall deadline passed");
}

#[test]
fn an_old_connection_takes_no_further_exchange() {
    let mut rig = client(|timeouts| timeouts.max_age = Some(secs(60)));
    rig.get("/");
    rig.sent();
    rig.wait(secs(60));
    assert_eq!(rig.conn.may_send(), Err(SendError::Closed));
    assert_eq!(rig.feed(OK), ["0 200 Length(0)", "0 end", "closed: maximum age reached", "pause"]);
}

#[test]
fn a_connection_carries_its_maximum_of_requests_and_says_so() {
    let mut config = Config::server();
    config.requests_max = Some(2);
    let mut rig = Rig::<Server>::with(config);
    rig.feed([GET, GET, GET].concat());
    assert_eq!(rig.tickets.len(), 2);
    let (zero, one) = (rig.ticket(), rig.ticket());
    rig.reply(zero, "");
    rig.reply(one, "");
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\
                    HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(rig.sent(), expected);
}

#[test]
fn a_drain_ends_with_its_deadline() {
    let mut rig = server(|timeouts| timeouts.drain = Some(secs(3)));
    rig.feed("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab");
    let ticket = rig.ticket();
    rig.reply(ticket, "");
    rig.sent();
    rig.events();
    assert_eq!(rig.conn.poll_timeout(), Some(Instant::ZERO + secs(3)));
    rig.wait(secs(3));
    assert!(rig.conn.poll_shutdown());
}

#[test]
fn spurious_timeouts_do_nothing() {
    let mut rig = server(|timeouts| timeouts.idle = Some(secs(10)));
    for _ in 0..9 {
        rig.wait(secs(1));
    }
    assert_eq!(rig.events(), ["read"]);
    assert!(!rig.conn.is_closing());
}

fn timed(depth: u32) -> Rig<Client> {
    let mut config = Config::client();
    config.timeouts = Timeouts::none();
    config.pipelining.depth = depth;
    config.pipelining.behind_first = crate::Gate::Open;
    Rig::with(config)
}

fn within(rig: &mut Rig<Client>, id: ExchangeId, seconds: u64) {
    rig.conn.set_deadline(id, Some(rig.now + secs(seconds)));
}

#[test]
fn an_exchange_past_its_own_deadline_ends_and_closes_a_connection_that_it_has_for_itself() {
    let mut rig = timed(1);
    let id = rig.get("/");
    within(&mut rig, id, 3);
    rig.sent();
    assert_eq!(rig.conn.poll_timeout(), Some(Instant::ZERO + secs(3)));
    rig.feed("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    rig.wait(secs(3));
    let events = rig.events();
    assert!(events[0].starts_with("0 ended reply partial, total deadline passed"), "{events:?}");
    assert_eq!(events[1], "closed: total deadline passed");
}

#[test]
fn an_exchange_in_a_pipeline_expires_and_its_neighbours_get_their_replies() {
    let mut rig = timed(3);
    let ids = [rig.get("/1"), rig.get("/2"), rig.get("/3")];
    within(&mut rig, ids[1], 3);
    rig.sent();
    rig.wait(secs(3));
    let events = rig.events();
    assert!(events[0].starts_with("1 ended sent, no reply, total deadline passed"), "{events:?}");
    let events = rig.feed([OK, OK, OK].concat());
    assert!(!events.iter().any(|event| event.contains("closed")), "{events:?}");
    assert_eq!(rig.conn.completed(), 2);
    assert!(rig.conn.is_idle());
}

#[test]
fn an_expired_request_of_which_no_byte_left_is_taken_back() {
    let mut rig = timed(2);
    let first = rig.get("/1");
    rig.sent();
    let second = rig.get("/2");
    within(&mut rig, second, 1);
    rig.wait(secs(1));
    let events = rig.events();
    assert!(events.iter().any(|event| event.starts_with("1 ended not sent, total deadline passed")), "{events:?}");
    assert_eq!(rig.sent(), "");
    rig.feed(OK);
    assert!(rig.conn.is_idle() && rig.conn.poll_timeout().is_none());
    rig.conn.set_deadline(first, Some(rig.now));
    assert_eq!(rig.conn.poll_timeout(), None, "what is over has no deadline");
}

#[test]
fn an_upload_that_outlives_its_deadline_behind_others_closes_the_connection_without_blaming_them() {
    let mut rig = timed(2);
    rig.get("/1");
    let second = rig.request(Method::PUT, "/2", BodyLen::Length(10)).expect("the gates are open");
    within(&mut rig, second, 1);
    rig.sent();
    rig.wait(secs(1));
    let events = rig.events();
    assert!(
        events.iter().any(|event| event.starts_with("1 ended partly sent (") && event.contains("total deadline")),
        "{events:?}"
    );
    assert!(
        events.iter().any(|event| event.starts_with("0 ended sent, no reply, ") && !event.contains("deadline")),
        "{events:?}"
    );
}

#[test]
fn a_deadline_can_be_taken_back_and_a_complete_exchange_has_none() {
    let mut rig = timed(1);
    let id = rig.get("/");
    within(&mut rig, id, 3);
    rig.sent();
    rig.conn.set_deadline(id, None);
    assert_eq!(rig.conn.poll_timeout(), None);
    within(&mut rig, id, 4);
    rig.feed(OK);
    rig.wait(secs(9));
    assert!(rig.conn.is_idle() && !rig.conn.is_closing());
}
