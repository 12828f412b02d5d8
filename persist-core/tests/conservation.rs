//! Consumed + leftover = input: a machine that is taken apart, in whatever state, gives back every byte that it was given and that
//! belongs to no message, and every byte that it was to send; and another one can go on from there.

mod common;

use bytes::Buf;
use common::seeds::check;
use common::seen::{Line, Log, Moment, Seen, Stop, drain, flush};
use common::wire::{Message, cuts, pieces, request, response, stream};
use persist_core::{
    BodyLen, Client, Config, Conn, Event, Field, FieldName, FieldValue, Instant, Method, Next, Overlap, Parts, Role,
    Server, StatusCode, Ticket,
};
use proptest::collection::vec;
use proptest::prelude::*;

const NOW: Instant = Instant::ZERO;

/// What the first `fed` bytes of the messages come to.
#[derive(Debug, Default)]
struct Account {
    /// The content of each message that has begun.
    contents: Vec<Vec<u8>>,
    /// Bytes of a head that is not complete.
    leftover: Vec<u8>,
}

fn account(messages: &[Message], fed: usize) -> Account {
    let mut account = Account::default();
    let mut fed = fed;
    for message in messages {
        if fed < message.head.len() {
            // Interim heads that are complete were delivered.
            let complete = message.head[..fed].windows(4).rposition(|end| end == b"\r\n\r\n").map_or(0, |at| at + 4);
            account.leftover = message.head[complete..fed].to_vec();
            return account;
        }
        fed -= message.head.len();
        account.contents.push(message.content_in(fed));
        fed = fed.saturating_sub(message.body.len());
        if account.contents.last() != Some(&message.content) || fed == 0 {
            return account;
        }
    }
    account
}

fn contents(log: &Log) -> Vec<Vec<u8>> {
    let heads = log.0.iter().filter_map(|seen| match seen {
        Seen::Head(id, ..) => Some(*id),
        _ => None,
    });
    heads.map(|id| log.content(id)).collect()
}

/// Feeds pieces; what the machine does not take yet is kept, by it as far as it can, else here.
fn feed<R: Role>(
    conn: &mut Conn<R>,
    pieces: &[&[u8]],
    log: &mut Log,
    mut act: impl FnMut(&mut Conn<R>, Moment<R>),
) -> Vec<u8>
where
    R::Inbound: Line,
{
    let mut rest = Vec::new();
    for piece in pieces {
        let mut input = conn.take_kept();
        input.append(&mut rest);
        input.extend_from_slice(piece);
        let mut input = input.as_slice();
        drain(conn, &mut input, NOW, log, &mut act);
        rest = match conn.keep(input) {
            Ok(()) => Vec::new(),
            Err(_) => input.to_vec(),
        };
    }
    rest
}

fn server() -> Conn<Server> {
    let mut config = Config::server();
    config.pipelining.overlap = Overlap::Any;
    Conn::new(config, NOW)
}

fn answer(conn: &mut Conn<Server>, ticket: Ticket) {
    conn.send_response(ticket, StatusCode::OK, [], BodyLen::Empty, NOW).expect("a plain response");
}

fn client(requests: usize) -> Conn<Client> {
    let mut config = Config::client();
    config.pipelining.depth = 64;
    let mut conn = Conn::new(config, NOW);
    for _ in 0..requests {
        ask(&mut conn, &Method::GET, "/", None);
    }
    flush(&mut conn, NOW);
    conn
}

fn ask(conn: &mut Conn<Client>, method: &Method, target: &str, upgrade: Option<&'static str>) {
    let host = Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("h:1") };
    let upgrade = upgrade
        .map(|protocol| Field { name: FieldName::from_static("Upgrade"), value: FieldValue::from_static(protocol) });
    conn.send_request(method, target, [host].into_iter().chain(upgrade), BodyLen::Empty, NOW)
        .expect("the gates are open");
}

#[test]
fn a_server_taken_apart_anywhere_accounts_for_every_byte() {
    let case = vec(request(300), 1..6).prop_flat_map(|messages| {
        let len = stream(&messages).len();
        (Just(messages), 0..=len, cuts(len))
    });
    check(500, case, |(messages, fed, cuts)| {
        let input = stream(&messages);
        let (mut conn, mut log) = (server(), Log::default());
        let rest = feed(&mut conn, &pieces(&input[..fed], &cuts), &mut log, |_, _| {});
        let expected = account(&messages, fed);
        assert_eq!(contents(&log), expected.contents);
        assert_eq!([conn.into_parts().leftover, rest].concat(), expected.leftover);
    });
}

#[test]
fn a_client_taken_apart_anywhere_accounts_for_every_byte() {
    let case = vec(response(300), 1..6).prop_flat_map(|messages| {
        let len = stream(&messages).len();
        (Just(messages), 0..=len, cuts(len))
    });
    check(500, case, |(messages, fed, cuts)| {
        let input = stream(&messages);
        let (mut conn, mut log) = (client(messages.len()), Log::default());
        let rest = feed(&mut conn, &pieces(&input[..fed], &cuts), &mut log, |_, _| {});
        let expected = account(&messages, fed);
        assert_eq!(contents(&log), expected.contents);
        assert_eq!([conn.into_parts().leftover, rest].concat(), expected.leftover);
    });
}

/// A server that is replaced by another one, made from its parts, whenever it is between two requests.
#[test]
fn a_server_made_from_the_parts_of_another_goes_on_where_that_stopped() {
    let case = vec(request(300), 1..6).prop_flat_map(|messages| {
        let len = stream(&messages).len();
        (Just(messages), cuts(len), any::<bool>(), 0..60usize)
    });
    check(500, case, |(messages, cuts, overlap, taken)| {
        let config = || {
            let mut config = Config::server();
            config.pipelining.overlap = if overlap { Overlap::Any } else { Overlap::Safe };
            config
        };
        let input = stream(&messages);
        let (mut conn, mut log) = (Conn::<Server>::new(config(), NOW), Log::default());
        let (mut found, mut output, mut tickets) = (Vec::new(), Vec::new(), Vec::new());
        // Behind the input, once more for each request that waits for an answer before it.
        let pieces = pieces(&input, &cuts).into_iter().chain(messages.iter().map(|_| &b""[..]));
        for piece in pieces {
            let rest = feed(&mut conn, &[piece], &mut log, |_, moment| {
                if let Moment::Head(_, ticket) = moment {
                    tickets.push(ticket);
                }
            });
            assert_eq!(rest, b"", "what is kept is within its limit");
            let whole = log.0.iter().filter(|seen| matches!(seen, Seen::End(..))).count();
            if tickets.len() > whole {
                continue;
            }
            found.extend(contents(&std::mem::take(&mut log)));
            tickets.drain(..).for_each(|ticket| answer(&mut conn, ticket));
            // Some of the answers go out; the rest is the next machine's to send.
            let mut transmit = conn.transmit(NOW);
            let n = transmit.chunk().len().min(taken);
            output.extend_from_slice(&transmit.chunk()[..n]);
            transmit.advance(n);
            let parts = conn.into_parts();
            assert_eq!(parts.failures, [], "all was answered");
            conn = Conn::from_parts(config(), Parts::new(parts.leftover, parts.unsent), NOW);
        }
        output.extend(flush(&mut conn, NOW));
        assert_eq!(found, messages.iter().map(|message| message.content.clone()).collect::<Vec<_>>());
        let heads = output.windows(9).filter(|window| window == b"HTTP/1.1 ").count();
        assert_eq!(heads, messages.len(), "each is answered once: {}", output.escape_ascii());
        assert!(conn.is_idle());
    });
}

const BEHIND: &str = "\r\nGET / these are another protocol's\r\n\r\n";

#[test]
fn bytes_behind_a_switch_are_the_other_protocols_all_of_them() {
    let requests = [
        "GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: p\r\nConnection: upgrade\r\n\r\n",
        "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
    ];
    for request in requests {
        let input = [request, BEHIND].concat();
        for cut in 0..=input.len() {
            let (mut conn, mut log) = (server(), Log::default());
            let mut ticket = None;
            let rest = feed(&mut conn, &pieces(input.as_bytes(), &[cut]), &mut log, |_, moment| {
                if let Moment::Head(_, given) = moment {
                    ticket = Some(given);
                }
            });
            let ticket = ticket.expect("a request");
            let upgrade = Field { name: FieldName::from_static("Upgrade"), value: FieldValue::from_static("p") };
            let (status, fields) = match request.starts_with("CONNECT") {
                true => (StatusCode::OK, None),
                false => (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)),
            };
            conn.send_response(ticket, status, fields, BodyLen::Empty, NOW).expect("a switch");
            flush(&mut conn, NOW);
            assert_eq!(drain(&mut conn, &mut &b""[..], NOW, &mut log, |_, _| {}), Stop::Paused);
            assert!(log.0.contains(&Seen::Switched(0)), "{log:?}");
            let parts = conn.into_parts();
            assert_eq!([parts.leftover, rest].concat(), BEHIND.as_bytes(), "cut at {cut}");
            assert!(parts.failures.is_empty());
        }
    }
}

#[test]
fn bytes_behind_a_switch_reach_the_client_all_of_them() {
    let responses = [
        (Method::GET, Some("p"), "HTTP/1.1 101 Switching\r\nUpgrade: p\r\nConnection: upgrade\r\n\r\n"),
        (Method::CONNECT, None, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
    ];
    for (method, upgrade, response) in responses {
        let input = [response, BEHIND].concat();
        for cut in 0..=input.len() {
            let (mut conn, mut log) = (client(0), Log::default());
            ask(&mut conn, &method, if method == Method::CONNECT { "h:1" } else { "/" }, upgrade);
            flush(&mut conn, NOW);
            let rest = feed(&mut conn, &pieces(input.as_bytes(), &[cut]), &mut log, |_, _| {});
            assert!(log.0.contains(&Seen::Switched(0)), "cut at {cut}: {log:?}");
            assert_eq!([conn.into_parts().leftover, rest].concat(), BEHIND.as_bytes(), "cut at {cut}");
        }
    }
}

/// A body may be read straight from the stream: what is accounted by number and what comes as data are the whole.
#[test]
fn content_read_past_the_machine_is_content_all_the_same() {
    let case = (vec(response(2000), 1..4), 1..700usize, 0..700usize);
    check(300, case, |(messages, piece, straight)| {
        let input = stream(&messages);
        let mut conn = client(messages.len());
        let (mut at, mut found) = (0, vec![Vec::new(); messages.len()]);
        let mut reading = None;
        while at < input.len() {
            let window = usize::try_from(conn.body_window()).unwrap_or(usize::MAX).min(straight).min(input.len() - at);
            if let (Some(id), 1..) = (reading, window) {
                let content: &mut Vec<u8> = &mut found[id];
                content.extend_from_slice(&input[at..at + window]);
                conn.handle_body(window as u64, NOW);
                at += window;
            }
            let end = (at + piece).min(input.len());
            let mut rest = &input[at..end];
            while let Next::Event(event) = conn.next(&mut rest, NOW).expect("well-formed") {
                match event {
                    Event::Head { id, .. } => reading = Some(id.number() as usize),
                    Event::Data { id, data } => found[id.number() as usize].extend_from_slice(data),
                    Event::End { .. } => reading = None,
                    _ => {}
                }
            }
            assert!(rest.is_empty());
            at = end;
        }
        assert_eq!(found, messages.iter().map(|message| message.content.clone()).collect::<Vec<_>>());
        assert!(conn.is_idle());
    });
}
