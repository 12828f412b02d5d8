//! Two machines back to back: a network of two pipes, a caller, handlers, and time that only deadlines move.

use std::time::Duration;

use persist_core::{
    BodyLen, Client, Conn, ExchangeId, Field, FieldName, FieldValue, Fields, Instant, SendError, Server, Slot,
    StatusCode, Ticket, Upload,
};

use super::end::{End, send_piece};
use super::link::{Fault, Pipe};
use super::plan::{Answer, Content, Plan, Trailers};
use super::seeds::Dice;
use super::seen::Seen;

/// More steps than any case needs: whoever takes them runs in circles.
const STEPS_MAX: usize = 400_000;

/// A request that was sent, and how far its caller is.
#[derive(Debug)]
pub struct Sent {
    pub id: ExchangeId,
    pub ask: usize,
    /// Where its first byte stands among all that the client sends.
    pub start: u64,
    pub cancelled: bool,
    content_sent: usize,
    done: bool,
}

/// A request that was received, and how far its handler is.
#[derive(Debug)]
pub struct Handler {
    pub id: ExchangeId,
    /// Which request this is, by its target.
    pub ask: usize,
    ticket: Option<Ticket>,
    interims: u8,
    wanted: bool,
    content_sent: usize,
    /// Nothing more to do.
    done: bool,
    /// Refused at this count of changes: not tried again before something changes.
    refused_at: Option<u64>,
}

pub struct World {
    pub plan: Plan,
    pub now: Instant,
    dice: Dice,
    pub client: End<Client>,
    pub server: End<Server>,
    pub up: Pipe,
    pub down: Pipe,
    pub sent: Vec<Sent>,
    pub handlers: Vec<Handler>,
    next_ask: usize,
    slot: Option<Slot>,
    changes: u64,
    /// Whether time may pass while something else could happen.
    pub impatient: bool,
}

/// Something that can happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask,
    Upload(usize),
    Cancel(usize),
    Handle(usize),
    ClientWrites,
    ServerWrites,
    ClientReads,
    ServerReads,
    ClientRetires,
    ServerRetires,
    TimePasses,
}

/// Byte `at` of the content of request or response `number`.
pub fn content_byte(number: usize, at: usize) -> u8 {
    b'a' + ((number * 7 + at * 11 + at / 26) % 26) as u8
}

pub fn content_of(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| content_byte(number, at)).collect()
}

fn field<'a>(name: &'static str, value: &'a str) -> Field<'a> {
    Field { name: FieldName::from_static(name), value: FieldValue::new(value.as_bytes()).expect("a value") }
}

fn framing(content: Content) -> BodyLen {
    match content {
        Content::None => BodyLen::Empty,
        Content::Length(n) => BodyLen::Length(n as u64),
        Content::Chunked(..) => BodyLen::Chunked,
        Content::UntilClose(_) => BodyLen::UntilClose,
    }
}

fn trailers(content: Content) -> Option<Fields> {
    let Content::Chunked(_, Trailers::With) = content else { return None };
    let mut fields = Fields::new();
    fields.push("X-Sum", "1").expect("a field");
    Some(fields)
}

impl World {
    pub fn new(plan: Plan, up: Option<Fault>, down: Option<Fault>) -> Self {
        let (client, server) = plan.configs();
        let now = Instant::ZERO;
        Self {
            dice: Dice::new(plan.dice),
            client: End::new(Conn::new(client, now)),
            server: End::new(Conn::new(server, now)),
            up: Pipe::new(plan.capacity, up, plan.downgrade_requests),
            down: Pipe::new(plan.capacity, down, plan.downgrade_responses),
            sent: Vec::new(),
            handlers: Vec::new(),
            next_ask: 0,
            slot: None,
            changes: 0,
            impatient: false,
            plan,
            now,
        }
    }

    /// Runs until nothing can happen and no deadline is pending.
    pub fn run(&mut self) {
        self.run_until(|_| false);
    }

    /// Runs until every request is over and both ends rest, before either finds the other idle for too long.
    pub fn run_until_rest(&mut self) {
        self.run_until(Self::is_at_rest);
    }

    fn run_until(&mut self, is_done: impl Fn(&Self) -> bool) {
        for _ in 0..STEPS_MAX {
            if is_done(self) {
                return;
            }
            let steps = self.possible();
            let step = match steps.len() {
                0 if !self.let_time_pass() => return,
                0 => continue,
                n => steps[self.dice.below(n)],
            };
            self.take(step);
            self.settle();
        }
        panic!("running in circles: {self:?}");
    }

    /// Whether every request was sent and is over, and both ends rest.
    pub fn is_at_rest(&self) -> bool {
        self.next_ask == self.plan.asks.len() && self.client.conn.is_idle() && self.server.conn.is_idle()
    }

    /// The client asks for an orderly end.
    pub fn close(&mut self) {
        self.client.conn.close(self.now);
        self.settle();
    }

    fn possible(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut offer = |possible: bool, step: Step| {
            if possible {
                steps.push(step);
            }
        };
        let (client, server) = (&self.client, &self.server);
        if !client.closed {
            let can_ask = client.conn.may_send().is_ok() || self.slot.is_some() && !client.conn.is_closing();
            offer(can_ask && self.next_ask < self.plan.asks.len() && self.may_ask(), Step::Ask);
            for (index, sent) in self.sent.iter().enumerate().filter(|(_, sent)| !sent.done) {
                offer(self.may_upload(sent), Step::Upload(index));
            }
            for (index, sent) in self.sent.iter().enumerate().filter(|(_, sent)| !sent.cancelled) {
                let chance = self.plan.asks[sent.ask].cancel;
                offer(chance > 0 && self.dice.percent(chance), Step::Cancel(index));
            }
            offer(client.conn.wants_write() && self.up.may_write(), Step::ClientWrites);
            offer(!client.paused && !client.told_eof && self.down.may_read(), Step::ClientReads);
        }
        if !server.closed {
            for (index, handler) in self.handlers.iter().enumerate().filter(|(_, handler)| !handler.done) {
                offer(self.may_handle(handler), Step::Handle(index));
            }
            offer(server.conn.wants_write() && self.down.may_write(), Step::ServerWrites);
            offer(!server.paused && !server.told_eof && self.up.may_read(), Step::ServerReads);
        }
        let (client, server) = self.plan.retire;
        if !self.client.conn.is_closing() && self.dice.percent(client) {
            steps.push(Step::ClientRetires);
        }
        if !self.server.conn.is_closing() && self.dice.percent(server) {
            steps.push(Step::ServerRetires);
        }
        if self.impatient && !steps.is_empty() && self.dice.percent(3) {
            steps.push(Step::TimePasses);
        }
        steps
    }

    /// With a place reserved, the gates may still be closed: trying costs the place.
    fn may_ask(&self) -> bool {
        !matches!(self.client.conn.may_send(), Err(error) if error != SendError::Full { in_flight: self.client.conn.in_flight() })
    }

    fn may_upload(&self, sent: &Sent) -> bool {
        match self.client.conn.upload(sent.id) {
            Upload::Ready { room } => room > 0 || sent.content_sent == self.plan.asks[sent.ask].content.len(),
            Upload::AwaitContinue => false,
            Upload::Stopped | Upload::Finished => true,
        }
    }

    fn may_handle(&self, handler: &Handler) -> bool {
        if handler.refused_at == Some(self.changes) {
            return false;
        }
        if handler.ticket.is_some() {
            let answer = &self.plan.answers[handler.ask];
            return !handler.wanted || handler.interims > 0 || answer.early || self.is_received(handler.id);
        }
        match self.server.conn.upload(handler.id) {
            Upload::Ready { room } => room > 0 || handler.content_sent == self.plan.answers[handler.ask].content.len(),
            _ => true,
        }
    }

    /// Whether the request is complete, or will never be.
    fn is_received(&self, id: ExchangeId) -> bool {
        !self.server.log.ends(id.number()).is_empty()
    }

    fn take(&mut self, step: Step) {
        let max = if self.dice.percent(50) { usize::MAX } else { 1 + self.dice.below(100) };
        match step {
            Step::Ask => self.ask(),
            Step::Upload(index) => self.upload(index, max),
            Step::Cancel(index) => self.cancel(index),
            Step::Handle(index) => self.handle(index, max),
            Step::ClientWrites => self.client.write(&mut self.up, max, self.now),
            Step::ServerWrites => self.server.write(&mut self.down, max, self.now),
            Step::ClientReads => match self.client.straight() {
                Some((id, window)) if self.dice.percent(30) => {
                    self.client.read_straight(id, &mut self.down, max.min(window), self.now);
                }
                _ => self.client.read(&mut self.down, max, self.now),
            },
            Step::ServerReads => match self.server.straight() {
                Some((id, window)) if self.dice.percent(30) => {
                    self.server.read_straight(id, &mut self.up, max.min(window), self.now);
                }
                _ => self.server.read(&mut self.up, max, self.now),
            },
            Step::ClientRetires => self.client.conn.close(self.now),
            Step::ServerRetires => self.server.conn.close(self.now),
            Step::TimePasses => self.advance(self.now + Duration::from_millis(300)),
        }
    }

    /// Both ends' drivers run, and a reset spreads.
    fn settle(&mut self) {
        self.changes += 1;
        if self.up.must_reset() || self.down.must_reset() {
            self.up.kill();
            self.down.kill();
        }
        self.client.pump(&mut self.up, &mut self.down, self.now);
        for (id, ticket) in self.server.pump(&mut self.down, &mut self.up, self.now) {
            let ask = self.asked(id);
            self.handlers.push(Handler {
                id,
                ask,
                ticket: Some(ticket),
                interims: self.plan.answers[ask].interims,
                wanted: false,
                content_sent: 0,
                done: false,
                refused_at: None,
            });
        }
        self.check();
    }

    /// Which request this is.
    fn asked(&self, id: ExchangeId) -> usize {
        let line = self.server.log.0.iter().find_map(|seen| match seen {
            Seen::Head(whose, line, _) if *whose == id.number() => line.split(' ').nth(1),
            _ => None,
        });
        line.and_then(|target| target.strip_prefix('/')).and_then(|number| number.parse().ok()).expect("our target")
    }

    /// What holds at every moment.
    fn check(&self) {
        let conn = &self.client.conn;
        let ended = self.client.log.0.iter().filter(|seen| matches!(seen, Seen::Ended(..))).count();
        let unfinished = self.sent.len() - conn.completed() as usize - ended;
        let cancelled = self.sent.iter().filter(|sent| sent.cancelled).count();
        assert!(
            (unfinished..=unfinished + cancelled).contains(&conn.pending()),
            "pending = sent - completed: {} pending, {unfinished} unfinished, {cancelled} cancelled",
            conn.pending()
        );
        assert!(conn.in_flight() <= self.plan.depth as usize, "more in flight than the depth allows");
        assert_eq!(conn.in_flight(), conn.pending() + usize::from(self.slot.is_some()));
        for (deadline, closed) in
            [(conn.poll_timeout(), self.client.closed), (self.server.conn.poll_timeout(), self.server.closed)]
        {
            assert!(!closed || deadline.is_none(), "a deadline after the close");
        }
    }

    /// Goes to the next deadline; false if there is none.
    fn let_time_pass(&mut self) -> bool {
        let deadlines = [self.client.conn.poll_timeout(), self.server.conn.poll_timeout()];
        let Some(next) = deadlines.into_iter().flatten().min() else { return false };
        self.advance(next.max(self.now));
        self.settle();
        true
    }

    fn advance(&mut self, now: Instant) {
        self.now = now;
        self.client.conn.handle_timeout(now);
        self.server.conn.handle_timeout(now);
        for deadline in [self.client.conn.poll_timeout(), self.server.conn.poll_timeout()] {
            assert!(deadline.is_none_or(|at| at > now), "a deadline that passed is due again");
        }
    }

    fn ask(&mut self) {
        let ask = &self.plan.asks[self.next_ask];
        if ask.reserve && self.slot.is_none() {
            self.slot = self.client.conn.reserve().ok();
            if self.slot.is_some() && self.dice.percent(20) {
                self.client.conn.release(self.slot.take().expect("just reserved"));
            } else {
                return;
            }
        }
        let target = format!("/{}", self.next_ask);
        let mut fields = vec![field("Host", "h")];
        if ask.expect {
            fields.push(field("Expect", "100-continue"));
        }
        if ask.close {
            fields.push(field("Connection", "close"));
        } else if ask.keep_alive {
            fields.push(field("Connection", "keep-alive"));
        }
        let start = self.up.accepted + self.client.conn.unsent_bytes() as u64;
        let body = framing(ask.content);
        let (conn, now) = (&mut self.client.conn, self.now);
        let id = match self.slot.take() {
            Some(slot) => conn.send_request_in(slot, &ask.method, &target, fields, body, now),
            None => conn.send_request(&ask.method, &target, fields, body, now),
        };
        let id = id.expect("the gates said yes");
        let done = matches!(body, BodyLen::Empty | BodyLen::Length(0));
        self.sent.push(Sent { id, ask: self.next_ask, start, cancelled: false, content_sent: 0, done });
        self.next_ask += 1;
    }

    fn upload(&mut self, index: usize, max: usize) {
        let sent = &mut self.sent[index];
        let content = self.plan.asks[sent.ask].content;
        let conn = &mut self.client.conn;
        if matches!(conn.upload(sent.id), Upload::Stopped | Upload::Finished) {
            sent.done = true;
        } else if sent.content_sent < content.len() {
            let n = (content.len() - sent.content_sent).min(max);
            let piece: Vec<u8> =
                (sent.content_sent..sent.content_sent + n).map(|at| content_byte(sent.ask, at)).collect();
            sent.content_sent += send_piece(&mut self.client, sent.id, &piece, &mut self.up, &mut self.dice, self.now);
        } else {
            conn.finish_body(sent.id, trailers(content).as_ref(), self.now).expect("all was sent");
            sent.done = true;
        }
    }

    fn cancel(&mut self, index: usize) {
        let before = self.client.conn.unsent_bytes() as u64;
        self.client.conn.cancel(self.sent[index].id, self.now);
        self.sent[index].cancelled = true;
        let removed = before - self.client.conn.unsent_bytes() as u64;
        // What stood behind bytes that were taken back moves up.
        for later in &mut self.sent[index + 1..] {
            later.start -= removed;
        }
    }

    fn handle(&mut self, index: usize, max: usize) {
        let handler = &mut self.handlers[index];
        let answer = &self.plan.answers[handler.ask];
        let (conn, now) = (&mut self.server.conn, self.now);
        let Some(ticket) = handler.ticket.take() else { return self.continue_answer(index, max) };
        if answer.abandon {
            conn.abandon(handler.id, now);
            handler.done = true;
            return;
        }
        if !handler.wanted {
            handler.wanted = true;
            if answer.early {
                conn.drop_body(handler.id, now);
            } else {
                conn.want_body(handler.id, now);
            }
            handler.ticket = Some(ticket);
            return;
        }
        if handler.interims > 0 {
            handler.interims -= 1;
            match conn.send_interim(&ticket, StatusCode::EARLY_HINTS, [field("Link", "</x>")], now) {
                Ok(()) | Err(SendError::Unsupported(_) | SendError::NoSuchExchange) => {}
                Err(SendError::ParkedFull { .. }) => handler.refused_at = Some(self.changes),
                Err(error) => panic!("{error}"),
            }
            handler.ticket = Some(ticket);
            return;
        }
        let number = handler.ask.to_string();
        let mut fields = vec![field("X-Answers", &number)];
        if answer.close {
            fields.push(field("Connection", "close"));
        }
        let status = StatusCode::new(answer.status).expect("a status");
        match conn.send_response(ticket, status, fields, framing(answer.content), now) {
            Ok(()) => {}
            Err(refused) => match refused.error {
                SendError::NoSuchExchange => handler.done = true,
                SendError::ParkedFull { .. } => {
                    handler.refused_at = Some(self.changes + 1);
                    handler.ticket = Some(refused.ticket);
                }
                error => panic!("{error}"),
            },
        }
    }

    fn continue_answer(&mut self, index: usize, max: usize) {
        let handler = &mut self.handlers[index];
        let Answer { content, .. } = self.plan.answers[handler.ask];
        let (conn, now) = (&mut self.server.conn, self.now);
        match conn.upload(handler.id) {
            Upload::Ready { .. } if handler.content_sent < content.len() => {
                let n = (content.len() - handler.content_sent).min(max);
                let piece: Vec<u8> =
                    (handler.content_sent..handler.content_sent + n).map(|at| content_byte(handler.ask, at)).collect();
                handler.content_sent +=
                    conn.send_body(handler.id, &piece, now).expect("the machine said there is room");
            }
            Upload::Ready { .. } => {
                conn.finish_body(handler.id, trailers(content).as_ref(), now).expect("all was sent");
                handler.done = true;
            }
            _ => handler.done = true,
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("client", &self.client.conn)
            .field("client_said", &self.client.log)
            .field("server", &self.server.conn)
            .field("server_said", &self.server.log)
            .field("up", &self.up)
            .field("down", &self.down)
            .field("sent", &self.sent)
            .field("handlers", &self.handlers)
            .finish_non_exhaustive()
    }
}
