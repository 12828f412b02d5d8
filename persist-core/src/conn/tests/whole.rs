//! Replies that are taken as a whole.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_reply_that_is_all_there_is_taken_at_once_and_any_other_told_as_ever() {
    let reply = |rig: &mut Rig<Client>, bytes: &str| {
        rig.get("/");
        rig.sent();
        let mut input = bytes.as_bytes();
        while !matches!(rig.conn.next(&mut input, rig.now).expect("a valid reply"), Next::Event(Event::Head { .. })) {}
        let whole = rig.conn.take_whole(&mut input).map(<[u8]>::to_vec);
        (whole, String::from_utf8_lossy(input).into_owned())
    };
    let mut rig = Rig::client(1);
    assert_eq!(reply(&mut rig, OK), (Some(b"ok".to_vec()), String::new()));
    assert_eq!((rig.conn.is_idle(), rig.conn.completed()), (true, 1));
    assert!(rig.conn.take_whole(&mut &b"more"[..]).is_none(), "once");
    assert_eq!(reply(&mut rig, "HTTP/1.1 204 No Content\r\n\r\n"), (Some(Vec::new()), String::new()));
    assert!(!rig.conn.has_event(), "that there is room again goes without saying");
    assert_eq!(reply(&mut rig, &[OK, "!"].concat()), (Some(b"ok".to_vec()), "!".into()));

    let mut rig = Rig::client(1);
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no";
    assert_eq!(reply(&mut rig, half), (None, "o".into()), "one byte is missing");
    assert_eq!(rig.feed("ok"), ["0 data ok", "0 end", "read"]);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(reply(&mut rig, &[chunked, "0\r\n\r\n"].concat()).0, None);

    let mut config = Config::client();
    config.limits.body_bytes_max = 1;
    assert_eq!(reply(&mut Rig::<Client>::with(config), OK).0, None, "the limit is for `next` to hold");

    let mut rig = Rig::client(1);
    let id = rig.request(Method::PUT, "/", BodyLen::Length(u64::MAX)).expect("sent");
    rig.sent();
    let mut early = &b"HTTP/1.1 500 Too Much\r\nContent-Length: 2\r\n\r\nok"[..];
    assert!(matches!(rig.conn.next(&mut early, rig.now), Ok(Next::Event(Event::Head { .. }))));
    assert_eq!(rig.conn.take_whole(&mut early), None, "that the upload is stopped comes first");
    rig.conn.cancel(id, rig.now);
    assert_eq!(rig.conn.take_whole(&mut early), None, "nobody wants it");
}

#[test]
fn replies_to_a_burst_are_taken_whole_though_there_is_room_for_more() {
    let mut rig = Rig::client(4);
    let ids = [rig.get("/"), rig.get("/"), rig.get("/")];
    rig.sent();
    let replies = OK.repeat(3);
    let mut input = replies.as_bytes();
    for id in ids {
        match rig.conn.next(&mut input, rig.now).expect("a valid reply") {
            Next::Event(Event::Head { id: whose, .. }) => assert_eq!(whose, id),
            other => panic!("{other:?}"),
        }
        assert_eq!(rig.conn.take_whole(&mut input), Some(&b"ok"[..]));
    }
    assert_eq!((rig.conn.completed(), rig.conn.is_idle(), rig.conn.has_event()), (3, true, false));
}

#[test]
fn nothing_is_taken_for_somebody_who_has_given_up() {
    let mut rig = Rig::client(1);
    let id = rig.get("/");
    rig.sent();
    let mut input = OK.as_bytes();
    assert!(matches!(rig.conn.next(&mut input, rig.now), Ok(Next::Event(Event::Head { .. }))));
    rig.conn.cancel(id, rig.now);
    rig.events();
    assert_eq!((rig.conn.take_whole(&mut input), input), (None, &b"ok"[..]));
    assert_eq!(rig.feed(input), ["read"], "it is read and dropped");
    assert!(rig.conn.is_idle());
}

#[test]
fn a_reply_that_is_taken_while_its_request_is_being_sent_leaves_the_exchange_as_events_do() {
    let begun = || {
        let mut rig = Rig::client(1);
        let id = rig.request(Method::PUT, "/", BodyLen::Length(10)).expect("sent");
        rig.sent();
        (rig, id)
    };
    for said in
        [OK, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"]
    {
        let ((mut bits, _), (mut whole, id)) = (begun(), begun());
        let told = bits.feed(said);
        let mut input = said.as_bytes();
        assert!(matches!(whole.conn.next(&mut input, whole.now), Ok(Next::Event(Event::Head { .. }))));
        let mut came = whole.events();
        match whole.conn.take_whole(&mut input) {
            Some(content) => assert!(said.ends_with(core::str::from_utf8(content).expect("text"))),
            None => came = whole.feed(input),
        }
        came.extend(whole.events());
        assert_eq!(told.last(), came.last(), "{said}");
        assert_eq!(bits.conn.upload(id), whole.conn.upload(id), "{said}");
        assert_eq!((bits.conn.pending(), bits.conn.is_closing()), (whole.conn.pending(), whole.conn.is_closing()));
        assert_eq!(bits.eof(), whole.eof(), "{said}");
    }
}
