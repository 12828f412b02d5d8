//! Response k goes to request k: at any depth, in whatever order handlers finish, whoever gives up in between.

mod common;

use common::seeds::check;
use common::seen::{Log, Moment, Seen, drain, flush};
use persist_core::{
    BodyLen, Client, CloseReason, Config, Conn, Disposition, Field, FieldName, FieldValue, Instant, Method, Overlap,
    Server, StatusCode,
};
use proptest::collection::vec;
use proptest::prelude::*;

const NOW: Instant = Instant::ZERO;

fn client(depth: usize) -> Conn<Client> {
    let mut config = Config::client();
    config.pipelining.depth = depth as u32;
    Conn::new(config, NOW)
}

fn get(conn: &mut Conn<Client>, number: usize) -> persist_core::ExchangeId {
    let host = Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("h") };
    conn.send_request(&Method::GET, &format!("/{number}"), [host], BodyLen::Empty, NOW).expect("the depth allows it")
}

/// A depth, and an order of so many things.
fn shuffled(max: usize) -> impl Strategy<Value = Vec<usize>> {
    (1..max).prop_flat_map(|n| Just((0..n).collect::<Vec<_>>()).prop_shuffle())
}

#[test]
fn answers_leave_in_the_order_of_their_requests_whatever_order_they_are_given_in() {
    check(300, (shuffled(60), vec(0..300usize, 60)), |(order, lengths)| {
        let n = order.len();
        let mut config = Config::server();
        config.pipelining.depth = n as u32;
        config.pipelining.overlap = Overlap::Any;
        let mut conn = Conn::<Server>::new(config, NOW);
        let input: String =
            (0..n).map(|k| format!("PUT /{k} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")).collect();
        let mut tickets = Vec::new();
        drain(&mut conn, &mut input.as_bytes(), NOW, &mut Log::default(), |_, moment| {
            if let Moment::Head(_, ticket) = moment {
                tickets.push(Some(ticket));
            }
        });
        assert_eq!((tickets.len(), conn.pending()), (n, n));
        let (mut output, mut answered) = (Vec::new(), vec![false; n]);
        for &k in &order {
            let ticket = tickets[k].take().expect("each is answered once");
            let content = format!("{k}:{}", "x".repeat(lengths[k]));
            let id = ticket.id();
            let length = BodyLen::Length(content.len() as u64);
            conn.send_response(ticket, StatusCode::OK, [], length, NOW).expect("a plain response");
            assert_eq!(conn.send_body(id, content.as_bytes(), NOW), Ok(content.len()));
            conn.finish_body(id, None, NOW).expect("all was sent");
            answered[k] = true;
            output.extend(flush(&mut conn, NOW));
            // Whatever was answered up to the first gap is out, and nothing behind it.
            let out = answered.iter().take_while(|answered| **answered).count();
            assert_eq!((conn.completed() as usize, conn.pending()), (out, n - out));
        }
        let expected: String = (0..n)
            .map(|k| {
                let content = format!("{k}:{}", "x".repeat(lengths[k]));
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len())
            })
            .collect();
        assert_eq!(String::from_utf8(output).expect("text"), expected);
    });
}

/// When somebody gives up: after so many bytes were written, or so many were read.
#[derive(Clone, Copy, Debug)]
struct GiveUp {
    who: usize,
    written: usize,
    read: usize,
}

#[test]
fn whoever_gives_up_at_any_byte_shifts_nobodys_answer() {
    let give_up = (0..8usize, 0..40usize, 0..60usize).prop_map(|(who, written, read)| GiveUp { who, written, read });
    check(1500, (1..8usize, vec(give_up, 0..4), 1..50usize, 1..50usize), |(n, plan, write, read)| {
        let mut conn = client(n);
        let mut log = Log::default();
        let ids: Vec<_> = (0..n).map(|k| get(&mut conn, k)).collect();
        let mut wire = Vec::new();
        let mut given_up = vec![false; n];
        let step = |conn: &mut Conn<Client>, given_up: &mut Vec<bool>, due: &dyn Fn(&GiveUp) -> bool| {
            for plan in plan.iter().filter(|plan| plan.who < n && due(plan)) {
                conn.cancel(ids[plan.who], NOW);
                given_up[plan.who] = true;
            }
        };
        // Write in pieces, giving up on the way.
        for round in 0.. {
            step(&mut conn, &mut given_up, &|plan| plan.written == round);
            drain(&mut conn, &mut &b""[..], NOW, &mut log, |_, _| {});
            let mut transmit = conn.transmit(NOW);
            let chunk = bytes::Buf::chunk(&transmit);
            let taken = chunk.len().min(write);
            if taken == 0 && round > 40 {
                break;
            }
            wire.extend_from_slice(&chunk[..taken]);
            bytes::Buf::advance(&mut transmit, taken);
        }
        // The peer answers what it saw.
        let wire = String::from_utf8(wire).expect("text");
        let seen: Vec<&str> = wire.split("GET /").skip(1).map(|rest| &rest[..1]).collect();
        let answers: String = seen
            .iter()
            .map(|k| format!("HTTP/1.1 200 OK\r\nX-Answers: {k}\r\nContent-Length: 9\r\n\r\nanswer {k}."))
            .collect();
        for (round, piece) in answers.as_bytes().chunks(read).enumerate() {
            step(&mut conn, &mut given_up, &|plan| plan.read == round && plan.written >= 40);
            drain(&mut conn, &mut &piece[..], NOW, &mut log, |_, _| {});
        }
        for (k, gave_up) in given_up.iter().enumerate() {
            let ends = log.ends(k as u64);
            assert_eq!(ends.len(), 1, "exchange {k} ends once: {log:?}");
            let was_seen = seen.contains(&k.to_string().as_str());
            match ends[0] {
                None => assert_eq!(log.content(k as u64), format!("answer {k}.").into_bytes()),
                Some(failure) => {
                    assert!(gave_up, "{k} failed, and nobody gave it up: {failure}");
                    assert_eq!(failure.disposition == Disposition::NotSent, !was_seen, "{k}: {failure}");
                }
            }
            let heads = log.0.iter().filter_map(|seen| match seen {
                Seen::Head(id, line, _) if *id == k as u64 => Some(line),
                _ => None,
            });
            heads.for_each(|line| assert!(line.contains(&format!("X-Answers: {k}")), "{k} got {line}"));
        }
        assert!(!conn.is_closing() && conn.is_idle(), "it is as good as new: {conn:?}");
    });
}

#[test]
fn bytes_that_came_before_a_request_left_never_answer_it() {
    check(500, (1..6usize, 0..400usize, 1..60usize), |(n, advanced, read)| {
        let mut conn = client(n);
        let ids: Vec<_> = (0..n).map(|k| get(&mut conn, k)).collect();
        let each = conn.unsent_bytes() / n;
        let advanced = advanced.min(conn.unsent_bytes());
        bytes::Buf::advance(&mut conn.transmit(NOW), advanced);
        let begun = advanced.div_ceil(each);
        let mut log = Log::default();
        let answers = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".repeat(n);
        for mut piece in answers.as_bytes().chunks(read) {
            drain(&mut conn, &mut piece, NOW, &mut log, |_, _| {});
        }
        flush(&mut conn, NOW);
        let answered: Vec<_> = ids.iter().filter(|id| log.ends(id.number()) == [None]).collect();
        assert_eq!(answered, ids[..begun].iter().collect::<Vec<_>>(), "{advanced} bytes had left: {log:?}");
        for id in &ids[begun..] {
            let failure = log.ends(id.number())[0].expect("it failed");
            assert_eq!((failure.disposition, &failure.reason), (Disposition::NotSent, &CloseReason::Poisoned));
        }
        assert_eq!(log.closed(), (begun < n).then_some(&CloseReason::Poisoned));
    });
}
