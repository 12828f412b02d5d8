//! What a machine holds stays within its limits, whatever bytes come and however few go out. One test: the allocator is the process's.

mod common;

use std::alloc::System;

use bytes::Buf;
use common::seeds::{Dice, check};
use common::wire::{damaged, request, response, stream};
use persist_core::{
    BodyLen, Client, Config, Conn, Event, Field, FieldName, FieldValue, Instant, Limits, Method, Next, Overlap, Role,
    Server, StatusCode, Ticket,
};
use proptest::collection::vec;
use proptest::prelude::*;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NOW: Instant = Instant::ZERO;

/// Bytes that are allocated and not freed.
fn held() -> isize {
    let stats = HEAP.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// How much more is held after `call` than before, what it returned and dropped included.
fn growth(call: impl FnOnce()) -> isize {
    let before = held();
    call();
    held() - before
}

fn config(mut config: Config) -> Config {
    config.limits.head_bytes_max = 600;
    config.limits.fields_max = 20;
    config.limits.target_bytes_max = 100;
    config.limits.chunk_ext_bytes_max = 50;
    config.limits.trailer_bytes_max = 300;
    config.limits.outbox_bytes_max = 1000;
    config.limits.parked_bytes_max = 1000;
    config.limits.kept_bytes_max = 1000;
    config.limits.drain_bytes_max = 1000;
    config.pipelining.depth = 6;
    config.pipelining.overlap = Overlap::Any;
    config
}

/// The most that these limits allow. Buffers grow by doubling, so each counts twice.
fn bound(limits: &Limits, depth: u32) -> isize {
    /// Where a field stands in its head, and the bookkeeping of one exchange and its failure.
    const FIELD: u32 = 16;
    const EXCHANGE: u32 = 300;
    let head = limits.head_bytes_max + u32::from(limits.fields_max) * FIELD;
    let trailer = limits.trailer_bytes_max + u32::from(limits.fields_max) * FIELD;
    // One message's head may be written past the mark that stops the next, in the outbox and where responses are parked.
    let out = limits.outbox_bytes_max + limits.parked_bytes_max + 2 * limits.head_bytes_max;
    2 * (2 * head + trailer + out + limits.kept_bytes_max + depth * EXCHANGE) as isize
}

struct Watched<R: Role> {
    conn: Conn<R>,
    holds: isize,
    most: isize,
}

impl<R: Role> Watched<R> {
    fn new(config: Config) -> Self {
        let before = held();
        let conn = Conn::new(config, NOW);
        let holds = held() - before;
        Self { conn, holds, most: holds }
    }

    fn call(&mut self, call: impl FnOnce(&mut Conn<R>)) {
        let conn = &mut self.conn;
        self.holds += growth(|| call(conn));
        self.most = self.most.max(self.holds);
        let config = self.conn.config();
        let bound = bound(&config.limits, config.pipelining.depth);
        assert!(self.holds <= bound, "{} bytes held, and {bound} are the most", self.holds);
    }

    fn feed(&mut self, bytes: &[u8], mut ticket: impl FnMut(R::Ticket)) {
        self.call(|conn| {
            let kept = conn.take_kept();
            for mut input in [kept.as_slice(), bytes] {
                while let Ok(Next::Event(event)) = conn.next(&mut input, NOW) {
                    if let Event::Head { ticket: given, .. } = event {
                        ticket(given);
                    }
                }
                // What does not fit either is the adapter's to hold.
                let _ = conn.keep(input);
            }
        });
    }

    fn let_out(&mut self, max: usize) {
        self.call(|conn| {
            let mut transmit = conn.transmit(NOW);
            let n = transmit.remaining().min(max);
            transmit.advance(n);
        });
    }
}

/// Bytes of messages, well-formed, damaged, or endless.
fn hostile(messages: BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let endless = prop_oneof![
        Just("GET / HTTP/1.1\r\nHost: h\r\n"),
        Just("A: b\r\n"),
        Just("\r\n"),
        Just("0"),
        Just(";a=b"),
        Just("1\r\nx\r\n"),
        Just("HTTP/1.1 103 Early\r\n\r\n"),
        Just("GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        Just("0\r\n"),
        Just("X: y\r\n"),
        Just("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ];
    let piece = prop_oneof![
        2 => messages.clone(),
        2 => messages.prop_flat_map(damaged),
        2 => (endless, 1..400usize).prop_map(|(bytes, times)| bytes.repeat(times).into_bytes()),
        1 => vec(any::<u8>(), 0..3000),
    ];
    vec(piece, 1..8)
}

fn field(name: &'static str, value: &'static str) -> Field<'static> {
    Field { name: FieldName::from_static(name), value: FieldValue::from_static(value) }
}

/// A handler that answers with as much as it is let.
fn answer(conn: &mut Conn<Server>, ticket: Ticket, dice: &mut Dice) {
    let id = ticket.id();
    for _ in 0..dice.below(4) {
        let _ = conn.send_interim(&ticket, StatusCode::EARLY_HINTS, [field("Link", "</a>")], NOW);
    }
    let body = if dice.percent(50) { BodyLen::Length(100_000) } else { BodyLen::Chunked };
    match conn.send_response(ticket, StatusCode::OK, [field("X-Answer", "yes")], body, NOW) {
        Ok(()) => while conn.send_body(id, &[b'x'; 100], NOW).is_ok_and(|n| n > 0) {},
        Err(refused) => conn.abandon(refused.ticket.id(), NOW),
    }
}

fn a_server_holds_no_more_than_its_limits() -> isize {
    let most = std::cell::Cell::new(0);
    let messages = vec(request(2000), 1..6).prop_map(|messages| stream(&messages)).boxed();
    check(200, (hostile(messages), any::<u64>()), |(pieces, seed)| {
        let mut dice = Dice::new(seed);
        let mut server = Watched::<Server>::new(config(Config::server()));
        let mut tickets = Vec::with_capacity(100);
        let most_at_once = 1 + dice.below(2000);
        for piece in pieces.iter().flat_map(|piece| piece.chunks(most_at_once)) {
            server.feed(piece, |ticket| tickets.push(ticket));
            if dice.percent(60) && !tickets.is_empty() {
                let ticket = tickets.swap_remove(dice.below(tickets.len()));
                server.call(|conn| answer(conn, ticket, &mut dice));
            }
            if dice.percent(40) {
                server.let_out(1 + dice.below(2000));
            }
        }
        most.set(most.get().max(server.most));
        let holds = server.holds;
        let conn = server.conn;
        let freed = growth(|| drop(conn));
        assert_eq!(freed, -holds, "all that was held was the machine's");
    });
    most.get()
}

fn a_client_holds_no_more_than_its_limits() -> isize {
    let most = std::cell::Cell::new(0);
    let messages = vec(response(2000), 1..6).prop_map(|messages| stream(&messages)).boxed();
    check(200, (hostile(messages), any::<u64>()), |(pieces, seed)| {
        let mut dice = Dice::new(seed);
        let mut client = Watched::<Client>::new(config(Config::client()));
        let most_at_once = 1 + dice.below(2000);
        for piece in pieces.iter().flat_map(|piece| piece.chunks(most_at_once)) {
            for _ in 0..dice.below(4) {
                client.call(|conn| {
                    let body = if dice.percent(30) { BodyLen::Chunked } else { BodyLen::Empty };
                    let fields = [field("Host", "h"), field("X-Long", "long, long, long")];
                    let Ok(id) = conn.send_request(&Method::GET, "/", fields, body, NOW) else { return };
                    while conn.send_body(id, &[b'x'; 100], NOW).is_ok_and(|n| n > 0) {}
                    let _ = conn.finish_body(id, None, NOW);
                });
            }
            if dice.percent(80) {
                client.let_out(1 + dice.below(3000));
            }
            client.feed(piece, |()| {});
        }
        most.set(most.get().max(client.most));
    });
    most.get()
}

#[test]
fn what_is_held_stays_within_the_limits() {
    let (server, client) = (a_server_holds_no_more_than_its_limits(), a_client_holds_no_more_than_its_limits());
    println!("most held: server {server} bytes, client {client}");
    // A bound that nothing comes near would prove nothing.
    let config = config(Config::server());
    let bound = bound(&config.limits, config.pipelining.depth);
    assert!(server.min(client) > bound / 6, "server {server}, client {client} of {bound} bytes");
}
