//! Both machines back to back, with random operations: every byte arrives once, in its order, and every exchange ends once.
//!
//! The content of message *k* is a pattern that *k* decides, so that a lost, doubled or misdirected byte shows.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Buf;
use persist_core::{
    BodyLen, Cause, Client, Config, Conn, Disposition, Event, ExchangeId, Field, FieldName, FieldValue, Fields, Gate,
    Instant, Method, Next, Overlap, ProtocolError, Role, Server, Side, StatusCode, Ticket,
};

use super::Choices;

const HOST: [Field<'static>; 1] =
    [Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("example.com") }];
const CLOSE: [Field<'static>; 1] =
    [Field { name: FieldName::from_static("Connection"), value: FieldValue::from_static("close") }];

/// More operations than this only take longer.
const OPERATIONS_MAX: usize = 400;
/// More events than this from one piece of input are an endless loop.
const EVENTS_MAX: usize = 100_000;

/// Runs the input as a list of operations.
///
/// # Panics
/// If the machines disagree about anything that they should agree about.
pub fn pair(data: &[u8]) {
    let mut choices = Choices(data);
    let mut world = World::new(&mut choices);
    for _ in 0..OPERATIONS_MAX {
        if choices.is_empty() {
            break;
        }
        world.operate(&mut choices);
        world.check_sizes();
    }
    world.finish();
}

/// Bytes of content that a message will have, and how many its sender has handed over.
#[derive(Clone, Copy, Debug)]
struct Plan {
    declared: BodyLen,
    total: u64,
    given: u64,
    finished: bool,
}

/// What one end has seen of an exchange.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    head: bool,
    content: u64,
    end: bool,
    ended: Option<Disposition>,
}

/// One direction of the wire.
#[derive(Debug, Default)]
struct Wire {
    bytes: VecDeque<u8>,
    /// The sender closed: when all bytes are delivered, the receiver sees end-of-file.
    closed: bool,
    eof_delivered: bool,
    /// Nothing is delivered any more: the receiver closed, or the wire broke.
    cut: bool,
}

struct World {
    client: Conn<Client>,
    server: Conn<Server>,
    now: Instant,
    to_server: Wire,
    to_client: Wire,
    /// The client's exchanges by target, in their order.
    requests: Vec<(ExchangeId, Plan)>,
    at_client: HashMap<ExchangeId, Seen>,
    at_server: HashMap<ExchangeId, Seen>,
    /// The client's number of each exchange at the server.
    number_of: HashMap<ExchangeId, usize>,
    tickets: Vec<Ticket>,
    responses: Vec<(ExchangeId, Plan)>,
    client_closed: bool,
    server_closed: bool,
}

fn pattern(number: usize, salt: usize, at: u64) -> u8 {
    (number.wrapping_mul(31).wrapping_add(salt) as u64).wrapping_add(at.wrapping_mul(7)) as u8
}

fn piece(number: usize, salt: usize, from: u64, len: u64) -> Vec<u8> {
    (from..from + len).map(|at| pattern(number, salt, at)).collect()
}

fn body(choice: u8) -> (BodyLen, u64) {
    let len = u64::from(choice >> 2) * u64::from(choice >> 2) * 3;
    match choice % 4 {
        0 => (BodyLen::Empty, 0),
        1 => (BodyLen::Length(len), len),
        2 => (BodyLen::Chunked, len),
        _ => (BodyLen::Length(0), 0),
    }
}

impl World {
    fn new(choices: &mut Choices<'_>) -> Self {
        let (depth, gates, small) = (choices.byte(), choices.byte(), choices.byte());
        let gate = |bit: u8| if gates & bit == 0 { Gate::Closed } else { Gate::Open };
        let (mut client, mut server) = (Config::client(), Config::server());
        client.pipelining.depth = u32::from(depth % 8);
        client.pipelining.behind_non_idempotent = gate(1);
        client.pipelining.behind_first = gate(2);
        server.pipelining.depth = u32::from(depth / 16);
        server.pipelining.overlap = [Overlap::None, Overlap::Safe, Overlap::Any][usize::from(gates >> 2) % 3];
        if small & 1 != 0 {
            client.limits.outbox_bytes_max = 300;
            server.limits.outbox_bytes_max = 300;
            server.limits.parked_bytes_max = 500;
        }
        if small & 2 != 0 {
            client.limits.drain_bytes_max = 50;
            server.limits.drain_bytes_max = 50;
        }
        let now = Instant::ZERO;
        Self {
            client: Conn::new(client, now),
            server: Conn::new(server, now),
            now,
            to_server: Wire::default(),
            to_client: Wire::default(),
            requests: Vec::new(),
            at_client: HashMap::new(),
            at_server: HashMap::new(),
            number_of: HashMap::new(),
            tickets: Vec::new(),
            responses: Vec::new(),
            client_closed: false,
            server_closed: false,
        }
    }

    fn operate(&mut self, choices: &mut Choices<'_>) {
        let (operation, argument) = (choices.byte(), choices.byte());
        let some = usize::from(argument) * usize::from(argument) / 8 + 1;
        match operation % 24 {
            0..=3 => self.send_request(argument, choices.byte()),
            4 | 5 => self.send_request_body(argument),
            6 | 7 => self.transmit_to_server(some),
            8 | 9 => self.transmit_to_client(some),
            10 | 11 => self.deliver_to_server(some),
            12 | 13 => self.deliver_to_client(some),
            14 | 15 => self.respond(argument, choices.byte()),
            16 | 17 => self.send_response_body(argument),
            18 => self.pass_time(argument),
            19 => self.interim(argument),
            20 => self.cancel(argument),
            21 => match argument % 8 {
                0 => self.client.close(self.now),
                1 => self.server.close(self.now),
                2 => self.abandon(argument),
                _ => {}
            },
            22 => match argument % 16 {
                0 => self.break_wire(),
                1 => self.client.abort(self.now),
                2 => self.server.abort(self.now),
                _ => {}
            },
            _ => self.settle(),
        }
        self.after();
    }

    fn send_request(&mut self, choice: u8, framing: u8) {
        let number = self.requests.len();
        let methods = [Method::GET, Method::POST, Method::HEAD, Method::PUT, Method::DELETE];
        let method = &methods[usize::from(choice) % methods.len()];
        let (declared, total) = body(framing);
        let fields = HOST.iter().chain(if choice > 250 { &CLOSE[..] } else { &[] }).copied();
        let target = format!("/{number}");
        if let Ok(id) = self.client.send_request(method, &target, fields, declared, self.now) {
            assert!(self.at_client.insert(id, Seen::default()).is_none(), "exchange numbers are used once");
            let finished = matches!(declared, BodyLen::Empty | BodyLen::Length(0));
            self.requests.push((id, Plan { declared, total, given: 0, finished }));
        }
    }

    fn send_request_body(&mut self, choice: u8) {
        let Some(number) = self.requests.iter().position(|(_, plan)| !plan.finished) else { return };
        let (id, plan) = &mut self.requests[number];
        advance_body(&mut self.client, *id, plan, (number, 0), choice, self.now);
    }

    fn respond(&mut self, choice: u8, framing: u8) {
        if self.tickets.is_empty() {
            return;
        }
        let ticket = self.tickets.remove(usize::from(choice) % self.tickets.len());
        let id = ticket.id();
        let statuses = [200, 204, 304, 404, 500, 201];
        let status = StatusCode::new(statuses[usize::from(choice / 8) % statuses.len()]).expect("a status code");
        let (declared, total) = body(framing);
        let fields: &[Field<'_>] = if choice > 240 { &CLOSE } else { &[] };
        match self.server.send_response(ticket, status, fields.iter().copied(), declared, self.now) {
            Ok(()) => {
                let finished = matches!(declared, BodyLen::Empty | BodyLen::Length(0));
                self.responses.push((id, Plan { declared, total, given: 0, finished }));
            }
            Err(refused) => self.tickets.push(refused.ticket),
        }
    }

    fn send_response_body(&mut self, choice: u8) {
        let unfinished = |(_, plan): &&mut (ExchangeId, Plan)| !plan.finished;
        let all: Vec<_> = self.responses.iter_mut().filter(unfinished).collect();
        if all.is_empty() {
            return;
        }
        let which = usize::from(choice >> 6) % all.len();
        let Some((id, plan)) = all.into_iter().nth(which) else { return };
        let number = self.number_of[id];
        advance_body(&mut self.server, *id, plan, (number, 1), choice, self.now);
    }

    fn interim(&mut self, choice: u8) {
        if let Some(ticket) = self.tickets.first() {
            let status = if choice.is_multiple_of(2) { StatusCode::EARLY_HINTS } else { StatusCode::PROCESSING };
            // Refused once the limit of what waits is reached, or the exchange ended.
            let _ = self.server.send_interim(ticket, status, [], self.now);
            self.server.want_body(ticket.id(), self.now);
        }
    }

    fn cancel(&mut self, choice: u8) {
        if !self.requests.is_empty() {
            let number = usize::from(choice) % self.requests.len();
            let (id, plan) = &mut self.requests[number];
            plan.finished = true;
            self.client.cancel(*id, self.now);
        }
    }

    fn abandon(&mut self, choice: u8) {
        if !self.tickets.is_empty() {
            let ticket = self.tickets.remove(usize::from(choice) % self.tickets.len());
            self.server.abandon(ticket.id(), self.now);
        }
    }

    fn pass_time(&mut self, choice: u8) {
        self.now = self.now + Duration::from_millis(u64::from(choice) * u64::from(choice) * 4);
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
    }

    fn break_wire(&mut self) {
        for wire in [&mut self.to_server, &mut self.to_client] {
            (wire.cut, wire.closed) = (true, true);
            wire.bytes.clear();
        }
        self.client.handle_io_error(Side::Write, self.now);
        self.server.handle_io_error(Side::Read, self.now);
    }

    fn transmit_to_server(&mut self, max: usize) {
        transmit(&mut self.client, &mut self.to_server, max, self.now);
    }

    fn transmit_to_client(&mut self, max: usize) {
        transmit(&mut self.server, &mut self.to_client, max, self.now);
    }

    /// What an adapter does after every call: take events that need no input, and shut down what must be.
    fn after(&mut self) {
        self.deliver_to_server(0);
        self.deliver_to_client(0);
        if self.client.poll_shutdown() {
            self.to_server.closed = true;
        }
        if self.server.poll_shutdown() {
            self.to_client.closed = true;
        }
    }

    fn deliver_to_server(&mut self, max: usize) {
        let taken = take(&mut self.to_server, max);
        let mut input = taken.as_slice();
        for turn in 0.. {
            assert!(turn < EVENTS_MAX, "the server's machine makes no progress");
            match self.server.next(&mut input, self.now) {
                Ok(Next::Event(event)) => see_at_server(
                    event,
                    &mut self.at_server,
                    &mut self.number_of,
                    &mut self.tickets,
                    &mut self.server_closed,
                    &self.requests,
                ),
                Ok(Next::NeedRead) => {
                    assert!(input.is_empty(), "NeedRead means that all input is consumed");
                    break;
                }
                Ok(Next::Paused) => break,
                Err(error) => {
                    excuse(&error);
                    break;
                }
            }
        }
        give_back(&mut self.to_server, input);
        if self.server_closed {
            // The stream is closed both ways.
            (self.to_server.cut, self.to_client.closed) = (true, true);
        } else if self.to_server.closed && self.to_server.bytes.is_empty() && !self.to_server.eof_delivered && max > 0 {
            self.to_server.eof_delivered = true;
            self.server.handle_eof(self.now);
        }
    }

    fn deliver_to_client(&mut self, max: usize) {
        let taken = take(&mut self.to_client, max);
        let mut input = taken.as_slice();
        for turn in 0.. {
            assert!(turn < EVENTS_MAX, "the client's machine makes no progress");
            match self.client.next(&mut input, self.now) {
                Ok(Next::Event(event)) => {
                    see_at_client(event, &mut self.at_client, &self.requests, &mut self.client_closed);
                }
                Ok(Next::NeedRead) => {
                    assert!(input.is_empty(), "NeedRead means that all input is consumed");
                    break;
                }
                Ok(Next::Paused) => break,
                Err(error) => {
                    excuse(&error);
                    break;
                }
            }
        }
        give_back(&mut self.to_client, input);
        if self.client_closed {
            (self.to_client.cut, self.to_server.closed) = (true, true);
        } else if self.to_client.closed && self.to_client.bytes.is_empty() && !self.to_client.eof_delivered && max > 0 {
            self.to_client.eof_delivered = true;
            self.client.handle_eof(self.now);
        }
    }

    fn check_sizes(&self) {
        let head = 64 * 1024;
        for (unsent, limits) in [
            (self.client.unsent_bytes(), self.client.config().limits),
            (self.server.unsent_bytes(), self.server.config().limits),
        ] {
            let limit = (limits.outbox_bytes_max + limits.parked_bytes_max) as usize + head;
            assert!(unsent <= limit, "{unsent} bytes wait to be sent");
        }
    }

    /// Moves everything that can move, until nothing does.
    fn settle(&mut self) {
        for _ in 0..64 {
            let before = (self.client.unsent_bytes(), self.server.unsent_bytes());
            self.transmit_to_server(usize::MAX);
            self.transmit_to_client(usize::MAX);
            let moved = before != (0, 0) || !self.to_server.bytes.is_empty() || !self.to_client.bytes.is_empty();
            self.deliver_to_server(usize::MAX);
            self.deliver_to_client(usize::MAX);
            self.after();
            if !moved {
                break;
            }
        }
    }

    /// Answers and completes what is open, then closes; in the end every exchange must have ended at both ends.
    fn finish(mut self) {
        let mut before = self.progress();
        for _ in 0..200 {
            self.settle();
            self.respond(0, 0);
            self.send_request_body(0x3f);
            for _ in 0..8 {
                self.send_response_body(0x3f);
            }
            let after = self.progress();
            if after == before {
                break;
            }
            before = after;
        }
        self.client.close(self.now);
        self.settle();
        // Whatever still holds on is cut.
        self.client.abort(self.now);
        self.server.abort(self.now);
        self.after();
        self.settle();
        assert!(self.client.is_closed() && self.server.is_closed(), "aborted machines are closed");
        self.check_ends();
    }

    /// Changes with anything that moves.
    fn progress(&self) -> [u64; 6] {
        let given = |plans: &[(ExchangeId, Plan)]| -> u64 {
            plans.iter().map(|(_, plan)| plan.given + u64::from(plan.finished)).sum()
        };
        let pending = (self.client.pending() + self.server.pending()) as u64;
        let unsent = (self.client.unsent_bytes() + self.server.unsent_bytes()) as u64;
        let flying = (self.to_server.bytes.len() + self.to_client.bytes.len()) as u64;
        [given(&self.requests), given(&self.responses), self.tickets.len() as u64, pending, unsent, flying]
    }

    fn check_ends(&self) {
        let sent: HashMap<_, _> = self.requests.iter().enumerate().map(|(number, (id, _))| (*id, number)).collect();
        for (id, seen) in &self.at_client {
            // Both, when the response was complete before the request was.
            assert!(seen.end || seen.ended.is_some(), "client's exchange {} never ended: {seen:?}", sent[id]);
            if seen.ended == Some(Disposition::NotSent) {
                let number = sent[id];
                assert!(
                    !self.number_of.values().any(|other| *other == number),
                    "request {number} was not sent, and arrived"
                );
            }
        }
        for (id, seen) in &self.at_server {
            assert!(seen.head, "the server's exchange {:?} began", self.number_of.get(id));
        }
    }
}

/// Our machines break no protocol; only a wire that ended early makes it look so, or a handler that has more to say than the client will hear.
fn excuse(error: &ProtocolError) {
    let excused = matches!(error.cause(), Cause::Truncated | Cause::TooManyInterim { .. });
    assert!(excused, "one machine rejects what the other sent: {error}");
}

/// Hands over some of a body, or all of it and its end.
fn advance_body<R: Role>(
    conn: &mut Conn<R>,
    id: ExchangeId,
    plan: &mut Plan,
    (number, salt): (usize, usize),
    choice: u8,
    now: Instant,
) {
    let left = plan.total - plan.given;
    if left == 0 {
        let mut trailers = Fields::new();
        trailers.push("X-Number", number.to_string()).expect("a field");
        let trailers = (plan.declared == BodyLen::Chunked && choice.is_multiple_of(2)).then_some(&trailers);
        // An error here means that the exchange is over already.
        let _ = conn.finish_body(id, trailers, now);
        plan.finished = true;
        return;
    }
    let some = u64::from(choice & 0x3f) * u64::from(choice & 0x3f) + 1;
    let data = piece(number, salt, plan.given, left.min(some));
    match conn.send_body(id, &data, now) {
        Ok(taken) => {
            assert!(taken <= data.len());
            plan.given += taken as u64;
        }
        // The upload was stopped, or the exchange has ended.
        Err(_) => plan.finished = true,
    }
}

fn transmit<R: Role>(conn: &mut Conn<R>, wire: &mut Wire, max: usize, now: Instant) {
    let mut left = max;
    while left > 0 {
        let mut transmit = conn.transmit(now);
        let chunk = transmit.chunk();
        let n = chunk.len().min(left);
        if n == 0 {
            return;
        }
        if !wire.cut {
            wire.bytes.extend(&chunk[..n]);
        }
        transmit.advance(n);
        left -= n;
    }
}

fn take(wire: &mut Wire, max: usize) -> Vec<u8> {
    if wire.cut {
        wire.bytes.clear();
    }
    let n = wire.bytes.len().min(max);
    wire.bytes.drain(..n).collect()
}

fn give_back(wire: &mut Wire, rest: &[u8]) {
    for &byte in rest.iter().rev() {
        wire.bytes.push_front(byte);
    }
}

fn see_at_server(
    event: Event<'_, Server>,
    at_server: &mut HashMap<ExchangeId, Seen>,
    number_of: &mut HashMap<ExchangeId, usize>,
    tickets: &mut Vec<Ticket>,
    closed: &mut bool,
    requests: &[(ExchangeId, Plan)],
) {
    assert!(!*closed, "Closed is the last event: {event:?}");
    match event {
        Event::Head { id, ticket, head, .. } => {
            let number: usize = head.target()[1..].parse().expect("our targets are numbers");
            let latest = number_of.values().max();
            assert!(latest.is_none_or(|latest| *latest < number), "requests arrive in their order, once");
            number_of.insert(id, number);
            let seen = at_server.entry(id).or_default();
            assert!(!seen.head);
            seen.head = true;
            assert_eq!(ticket.id(), id);
            tickets.push(ticket);
        }
        Event::Data { id, data } => receive(at_server.entry(id).or_default(), data, (number_of[&id], 0)),
        Event::End { id, trailers } => {
            let (seen, number) = (at_server.entry(id).or_default(), number_of[&id]);
            complete(seen, Some(requests[number].1.total), trailers.as_ref(), number);
        }
        Event::Ended { id, failure } => {
            let seen = at_server.entry(id).or_default();
            assert!(seen.ended.replace(failure.disposition).is_none(), "Ended comes once");
        }
        Event::Closed(_) => *closed = true,
        _ => {}
    }
}

fn see_at_client(
    event: Event<'_, Client>,
    at_client: &mut HashMap<ExchangeId, Seen>,
    requests: &[(ExchangeId, Plan)],
    closed: &mut bool,
) {
    assert!(!*closed, "Closed is the last event: {event:?}");
    let number = |id: ExchangeId| {
        requests.iter().position(|(other, _)| *other == id).expect("events name exchanges that were sent")
    };
    match event {
        Event::Interim { id, .. } => assert!(!at_client[&id].head, "an interim response precedes the final one"),
        Event::Head { id, .. } => {
            let seen = at_client.get_mut(&id).expect("events name exchanges that were sent");
            assert!(!seen.head && !seen.end && seen.ended.is_none());
            seen.head = true;
        }
        Event::Data { id, data } => receive(at_client.entry(id).or_default(), data, (number(id), 1)),
        Event::End { id, trailers } => complete(at_client.entry(id).or_default(), None, trailers.as_ref(), number(id)),
        Event::Ended { id, failure } => {
            let seen = at_client.entry(id).or_default();
            assert!(seen.ended.replace(failure.disposition).is_none(), "Ended comes once");
        }
        Event::Closed(_) => *closed = true,
        _ => {}
    }
}

fn receive(seen: &mut Seen, data: &[u8], (number, salt): (usize, usize)) {
    assert!(seen.head && !seen.end && seen.ended.is_none(), "content stands between Head and End");
    assert!(!data.is_empty());
    for &byte in data {
        assert_eq!(byte, pattern(number, salt, seen.content), "byte {} of message {number}", seen.content);
        seen.content += 1;
    }
}

fn complete(seen: &mut Seen, total: Option<u64>, trailers: Option<&Fields>, number: usize) {
    assert!(seen.head && !seen.end && seen.ended.is_none());
    seen.end = true;
    if let Some(total) = total {
        assert_eq!(seen.content, total, "all content of message {number}");
    }
    if let Some(trailers) = trailers {
        let value = trailers.get("x-number").and_then(|value| value.to_str().map(str::to_owned));
        assert_eq!(value, Some(number.to_string()), "the trailers of message {number}");
    }
}
