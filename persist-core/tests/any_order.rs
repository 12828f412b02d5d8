//! No order of calls, sensible or not, and no bytes between them make a machine panic, go round in circles, or say a thing twice.

mod common;

use bytes::{Buf, Bytes};
use common::seeds::{Dice, check};
use common::seen::{Line, Log, Seen};
use common::wire::{damaged, request, response, stream};
use persist_core::{
    BodyLen, Client, Config, Conn, Event, ExchangeId, Field, FieldName, FieldValue, Gate, Instant, Limits, Method,
    Next, Overlap, Role, Room, Server, Side, StatusCode, Ticket,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

/// More events than any one call can cause by bytes of this length.
const EVENTS_MAX: usize = 20_000;

fn field(name: &'static str, value: &'static str) -> Field<'static> {
    Field { name: FieldName::from_static(name), value: FieldValue::from_static(value) }
}

fn shrunk(limits: &mut Limits) {
    limits.head_bytes_max = 300;
    limits.body_bytes_max = 2000;
    limits.outbox_bytes_max = 500;
    limits.parked_bytes_max = 500;
    limits.drain_bytes_max = 300;
    limits.interim_max = 3;
}

struct Abused<R: Role> {
    conn: Conn<R>,
    log: Log,
    now: Instant,
    ids: Vec<ExchangeId>,
    tickets: Vec<R::Ticket>,
    scratch: Room,
}

impl<R: Role> Abused<R>
where
    R::Inbound: Line,
{
    fn new(config: Config) -> Self {
        let now = Instant::ZERO;
        let conn = Conn::new(config, now);
        Self { conn, log: Log::default(), now, ids: Vec::new(), tickets: Vec::new(), scratch: Room::with_capacity(64) }
    }

    /// Some exchange, begun or not, over or not.
    fn id(&self, dice: &mut Dice) -> Option<ExchangeId> {
        (!self.ids.is_empty()).then(|| self.ids[dice.below(self.ids.len())])
    }

    fn next(&mut self, bytes: &[u8], calls: usize) {
        let mut input = bytes;
        for call in 0.. {
            assert!(call < EVENTS_MAX, "round in circles");
            if call == calls {
                break;
            }
            match self.conn.next(&mut input, self.now) {
                Ok(Next::Event(event)) => {
                    if let Event::Head { id, .. } = &event {
                        self.ids.push(*id);
                    }
                    self.tickets.extend(self.log.note(event).map(|(_, ticket)| ticket));
                }
                Ok(Next::NeedRead | Next::Paused) | Err(_) => break,
            }
        }
        let _ = self.conn.keep(input);
    }

    /// What both roles can be told, in no order at all.
    fn abuse(&mut self, dice: &mut Dice) {
        let Self { conn, now, .. } = self;
        match dice.below(18) {
            0 => conn.handle_eof(*now),
            1 => conn.handle_io_error(if dice.percent(50) { Side::Read } else { Side::Write }, *now),
            2 if dice.percent(20) => conn.close(*now),
            3 if dice.percent(10) => conn.abort(*now),
            4 => *now = *now + Duration::from_millis(dice.below(5000) as u64),
            5 => {
                if let Some(deadline) = conn.poll_timeout() {
                    *now = (*now).max(deadline);
                    conn.handle_timeout(*now);
                    assert!(conn.poll_timeout().is_none_or(|next| next > *now), "due again");
                }
            }
            6 => conn.handle_timeout(*now),
            7 => drop(conn.poll_shutdown()),
            8 => {
                let window = conn.body_window();
                conn.handle_body(window.min(dice.below(500) as u64), *now);
            }
            9 => conn.handle_body(dice.below(500) as u64, *now),
            10 => conn.lend(&mut self.scratch),
            11 => conn.reclaim(&mut self.scratch),
            12..=14 => {
                let mut transmit = conn.transmit(*now);
                let n = dice.below(transmit.remaining() + 1);
                transmit.advance(n);
            }
            _ => {
                let Some(id) = self.id(dice) else { return };
                let Self { conn, now, .. } = self;
                match dice.below(6) {
                    0 => drop(conn.send_body(id, &[b'x'; 700][..dice.below(700)], *now)),
                    1 => drop(conn.send_body_shared(id, &Bytes::from(vec![b'x'; dice.below(9000)]), *now)),
                    2 => drop(conn.finish_body(id, None, *now)),
                    3 => conn.handle_sent(id, dice.below(300) as u64, *now),
                    4 => drop(conn.send_window(id)),
                    _ => drop(conn.upload(id)),
                }
            }
        }
    }

    /// What holds at every moment; a machine's own errors are found by its debug assertions.
    fn check(&self) {
        let conn = &self.conn;
        assert!(conn.in_flight() >= conn.pending());
        assert!(!conn.is_closed() || conn.poll_timeout().is_none(), "a deadline after the close");
        assert!(!conn.is_closing() || conn.available() == 0);
        let closes = self.log.0.iter().filter(|seen| matches!(seen, Seen::Closed(_))).count();
        assert!(closes == 0 || closes == 1 && matches!(self.log.0.last(), Some(Seen::Closed(_))), "{:?}", self.log);
        for id in &self.ids {
            let ended = self.log.ends(id.number()).into_iter().flatten().count();
            assert!(ended <= 1, "told twice of the end of {id:?}: {:?}", self.log);
        }
        let _ = format!("{conn:?}");
    }
}

fn abuse_server(server: &mut Abused<Server>, dice: &mut Dice) {
    let now = server.now;
    if let Some(id) = server.id(dice) {
        match dice.below(6) {
            0 => server.conn.want_body(id, now),
            1 => server.conn.abandon(id, now),
            2 => server.conn.drop_body(id, now),
            _ => {}
        }
    }
    if server.tickets.is_empty() || dice.percent(60) {
        return;
    }
    let ticket: Ticket = server.tickets.swap_remove(dice.below(server.tickets.len()));
    if dice.percent(30) {
        let _ = server.conn.send_interim(&ticket, StatusCode::EARLY_HINTS, [], now);
    }
    let status =
        [StatusCode::OK, StatusCode::NO_CONTENT, StatusCode::SWITCHING_PROTOCOLS, StatusCode::NOT_FOUND][dice.below(4)];
    let body = [BodyLen::Empty, BodyLen::Length(40), BodyLen::Chunked, BodyLen::UntilClose][dice.below(4)];
    let fields = [field("Upgrade", "p"), field("Connection", "close")].into_iter().take(dice.below(3));
    if let Err(refused) = server.conn.send_response(ticket, status, fields, body, now) {
        server.tickets.push(refused.ticket);
    }
}

fn abuse_client(client: &mut Abused<Client>, dice: &mut Dice) {
    let now = client.now;
    match dice.below(4) {
        0 => {
            if let Some(id) = client.id(dice) {
                client.conn.cancel(id, now);
            }
        }
        1 | 2 => {
            let method = [Method::GET, Method::HEAD, Method::POST, Method::CONNECT][dice.below(4)].clone();
            let body = [BodyLen::Empty, BodyLen::Length(40), BodyLen::Chunked][dice.below(3)];
            let fields = [field("Host", "h:1"), field("Expect", "100-continue"), field("Upgrade", "p")];
            let fields = fields.into_iter().take(1 + dice.below(3));
            let sent = match client.conn.reserve() {
                Ok(slot) if dice.percent(50) => client.conn.send_request_in(slot, &method, "/", fields, body, now),
                Ok(slot) => {
                    client.conn.release(slot);
                    client.conn.send_request(&method, "/", fields, body, now)
                }
                Err(error) => Err(error),
            };
            client.ids.extend(sent);
        }
        _ => {}
    }
}

/// Bytes of messages, some of them damaged.
fn pieces(messages: BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(prop_oneof![3 => messages.clone(), 1 => messages.prop_flat_map(damaged)], 1..4)
}

#[test]
fn nothing_that_a_server_is_told_in_any_order_breaks_it() {
    let messages = vec(request(300), 1..4).prop_map(|messages| stream(&messages)).boxed();
    check(500, (pieces(messages), any::<u64>()), |(pieces, seed)| {
        let mut dice = Dice::new(seed);
        let mut config = Config::server();
        config.pipelining.overlap = [Overlap::None, Overlap::Safe, Overlap::Any][dice.below(3)];
        config.pipelining.depth = 1 + dice.below(5) as u32;
        shrunk(&mut config.limits);
        let mut server = Abused::<Server>::new(config);
        let at_once = 1 + dice.below(200);
        for piece in pieces.iter().flat_map(|piece| piece.chunks(at_once)) {
            let bytes = [server.conn.take_kept(), piece.to_vec()].concat();
            let calls = if dice.percent(50) { usize::MAX } else { dice.below(3) };
            server.next(&bytes, calls);
            for _ in 0..dice.below(4) {
                server.abuse(&mut dice);
                server.check();
                abuse_server(&mut server, &mut dice);
                server.check();
            }
        }
        server.next(b"", usize::MAX);
        server.check();
        let _ = server.conn.into_parts();
    });
}

#[test]
fn nothing_that_a_client_is_told_in_any_order_breaks_it() {
    let messages = vec(response(300), 1..4).prop_map(|messages| stream(&messages)).boxed();
    check(500, (pieces(messages), any::<u64>()), |(pieces, seed)| {
        let mut dice = Dice::new(seed);
        let mut config = Config::client();
        config.pipelining.depth = 1 + dice.below(5) as u32;
        config.pipelining.behind_non_idempotent = if dice.percent(50) { Gate::Open } else { Gate::Closed };
        shrunk(&mut config.limits);
        let mut client = Abused::<Client>::new(config);
        let at_once = 1 + dice.below(200);
        for piece in pieces.iter().flat_map(|piece| piece.chunks(at_once)) {
            for _ in 0..dice.below(5) {
                abuse_client(&mut client, &mut dice);
                client.check();
                client.abuse(&mut dice);
                client.check();
            }
            let bytes = [client.conn.take_kept(), piece.to_vec()].concat();
            let calls = if dice.percent(50) { usize::MAX } else { dice.below(3) };
            client.next(&bytes, calls);
        }
        client.next(b"", usize::MAX);
        client.check();
        let _ = client.conn.into_parts();
    });
}
