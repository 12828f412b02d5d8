//! The server's end: reading requests as far as they may overlap, answering them in any order, sending the answers in theirs.

use alloc::boxed::Box;

use super::deadlines::{Nearest, Timer};
use super::encode;
use super::event::{ExchangeId, Ticket};
use super::exchange::{Exchange, Expect, Last};
use super::half::{Half, Phase, Step};
use super::receive::{Found, Receive};
use super::trace::tell;
use super::{Conn, Event, Inbound, Server};
use crate::close::{CloseReason, Deadline};
use crate::config::Overlap;
use crate::disposition::Disposition;
use crate::error::{Cause, ProtocolError};
use crate::head::{BodyLen, RequestHead, Version};
use crate::method::{Known, Method};
use crate::parse::fields::Section;
use crate::parse::request_line::RequestLine;
use crate::parse::{self, RequestFacts, RequestStart};
use crate::status::StatusCode;
use crate::time::Instant;

impl Conn<Server> {
    /// The body is wanted: sends `100 Continue` if the client waits for one. Call when a handler first reads.
    pub fn want_body(&mut self, id: ExchangeId, now: Instant) {
        self.tick(now);
        let Some(index) = self.queue.index_of(id) else { return };
        let Some(exchange) = self.queue.get_mut(index) else { return };
        // RFC 9110 §10.1.1: not once content has come, nor after the final response.
        if exchange.expect == Expect::Waiting && exchange.sending == Half::Idle && !exchange.ended {
            exchange.expect = Expect::Settled;
            self.write(index, |out| {
                encode::status_line(out, StatusCode::CONTINUE);
                out.extend_from_slice(b"\r\n");
            });
        }
    }

    /// The handler will not read the rest of the body: what comes of it is dropped, within `Limits::drain_bytes_max`, and no event tells of it. Call
    /// when a handler lets go of it, so that a response which begins later can say `close` where the rest is too long to be
    /// drained ([RFC 9112 §9.6](https://www.rfc-editor.org/rfc/rfc9112.html#section-9.6)).
    pub fn drop_body(&mut self, id: ExchangeId, now: Instant) {
        self.tick(now);
        let Some(index) = self.queue.index_of(id) else { return };
        self.read_for_nobody(index);
        self.settle();
    }

    /// Whether another request may come: `false` once closing, unless one that was read already waits for its turn.
    pub fn expects_request(&self) -> bool {
        self.phase == Phase::Open || self.held.is_some()
    }

    /// Requests whose answer is not complete.
    fn unanswered(&self) -> usize {
        self.queue.len() - self.turn
    }

    /// Whether another request may be read now.
    fn may_read(&self) -> bool {
        let limits = &self.config.limits;
        // Nothing can be parked, and nothing can be in the way but what is not written yet.
        if self.queue.is_empty() && self.outbox.is_empty() {
            return true;
        }
        let pipelining = &self.config.pipelining;
        if self.queue.len() >= pipelining.depth.max(1) as usize
            || self.parked.bytes() >= limits.parked_bytes_max as usize
            || self.outbox.len() > limits.outbox_bytes_max as usize
        {
            return false;
        }
        let Some(newest) = self.queue.back() else { return true };
        // What follows may be another protocol's.
        if newest.may_switch && (newest.switched || newest.sending == Half::Idle) {
            return false;
        }
        match pipelining.overlap {
            Overlap::Any => true,
            Overlap::None => self.unanswered() == 0,
            // RFC 9112 §9.3.2: safe methods only. An unsafe one is read alone, so the newest tells.
            Overlap::Safe => self.unanswered() == 0 || newest.method.is_safe(),
        }
    }

    fn read_head<'i>(&mut self, input: &mut &'i [u8]) -> Result<Found<'i, Server>, ProtocolError> {
        if !self.may_read() {
            return Ok(Found::Paused);
        }
        if self.held.is_some() {
            return self.take_held();
        }
        if input.is_empty() {
            return Ok(Found::NeedRead);
        }
        let offset = self.consumed - self.partial.len() as u64;
        if self.partial.is_empty() {
            self.times.head = self.times.now;
        }
        let limits = &self.config.limits;
        let mut section = Section::new(0);
        let Some(found) = parse::plain::<RequestLine>(&self.partial, input, limits, (), &mut section) else {
            return self.read_other_head(input, offset);
        };
        let parse::Found { line, facts, bytes } = found;
        if self.must_wait(line.method.known()) {
            let head = RequestHead::new(bytes, &section, line, facts.authority);
            self.held = Some(Box::new(RequestStart { head, facts, wire_len: bytes.len() }));
            return Ok(Found::Paused);
        }
        let end = offset + bytes.len() as u64;
        let id = self.begin_request(&line.method, line.version, &facts, bytes.len(), end)?;
        // Built where it goes, and last.
        let head = RequestHead::new(bytes, &section, line, facts.authority);
        Ok(Found::Event(Event::Head { id, ticket: Ticket { id }, head, body: facts.body }))
    }

    /// The same for a head that is not [plain](parse::plain), or not all there.
    #[inline(never)]
    fn read_other_head<'i>(&mut self, input: &mut &'i [u8], offset: u64) -> Result<Found<'i, Server>, ProtocolError> {
        match parse::request(&mut self.partial, input, offset, &self.config.limits, self.config.leniency)? {
            None => Ok(Found::NeedRead),
            Some(start) if self.must_wait(start.head.method().known()) => {
                self.held = Some(Box::new(start));
                Ok(Found::Paused)
            }
            Some(start) => {
                let body_at = offset + start.wire_len as u64;
                self.begin_read(start, body_at)
            }
        }
    }

    #[cold]
    fn take_held<'i>(&mut self) -> Result<Found<'i, Server>, ProtocolError> {
        match self.held.take() {
            Some(start) if !self.must_wait(start.head.method().known()) => self.begin_read(*start, self.consumed),
            held => {
                self.held = held;
                Ok(Found::Paused)
            }
        }
    }

    /// Whether this request may not overlap with those that are being answered.
    fn must_wait(&self, method: Known) -> bool {
        !method.is_safe() && self.unanswered() > 0 && self.config.pipelining.overlap == Overlap::Safe
    }

    /// A request whose head was copied begins.
    fn begin_read<'i>(&mut self, start: RequestStart, body_at: u64) -> Result<Found<'i, Server>, ProtocolError> {
        let RequestStart { head, facts, wire_len } = start;
        let id = self.begin_request(head.method(), head.version(), &facts, wire_len, body_at)?;
        Ok(Found::Event(Event::Head { id, ticket: Ticket { id }, head, body: facts.body }))
    }

    #[inline(always)]
    fn begin_request(
        &mut self,
        method: &Method,
        version: Version,
        start: &RequestFacts,
        wire_len: usize,
        body_at: u64,
    ) -> Result<ExchangeId, ProtocolError> {
        let known = method.known();
        let limit = self.config.limits.body_bytes_max;
        if let BodyLen::Length(length) = start.body
            && length > limit
        {
            return Err(ProtocolError::new(Cause::BodyTooLarge { limit }, body_at));
        }
        let total = self.completed + self.queue.len() as u64 + 1;
        let closing = self.phase != Phase::Open;
        let exchange = self.queue.push(known, self.times.now);
        exchange.receiving = exchange.receiving.on(Step::Head).unwrap_or(exchange.receiving);
        exchange.received = wire_len as u64;
        exchange.http10 = version == Version::Http10;
        exchange.asks_keep_alive = start.asks_keep_alive;
        exchange.may_switch = start.upgrade || known == Known::Connect;
        if start.expects_continue && !matches!(start.body, BodyLen::Empty | BodyLen::Length(0)) {
            exchange.expect = Expect::Waiting;
        }
        exchange.last = if !start.persist {
            Some(Last::PeerSaidClose)
        } else if closing {
            Some(Last::OurClose)
        } else if self.config.requests_max.is_some_and(|max| total >= max) {
            Some(Last::MaxRequests)
        } else {
            None
        };
        let id = exchange.id;
        tell!(exchange = id.number(), %method, body = ?start.body, reused = self.completed > 0, "request");
        self.begin_body(start.body);
        Ok(id)
    }

    /// The request that was being read, or about to be, cannot be answered by a handler: the machine answers, behind what was earned before.
    fn reject(&mut self, status: StatusCode, reason: CloseReason) {
        self.because(reason.clone());
        let in_message =
            matches!(self.inbound, Inbound::Length(_) | Inbound::Chunked(_) | Inbound::UntilClose | Inbound::End);
        self.held = None;
        self.partial.take();
        self.inbound = Inbound::Dropped;
        self.enter(Phase::Finishing);
        if in_message && !self.queue.is_empty() {
            let index = self.queue.len() - 1;
            if let Some(exchange) = self.queue.get_mut(index) {
                exchange.receiving = exchange.receiving.on(Step::Fail).unwrap_or(exchange.receiving);
            }
            match self.queue.get(index).map(|exchange| exchange.sending) {
                Some(Half::Idle) => {
                    self.end_exchange(index, reason);
                    self.answer_in_place(index, status);
                }
                Some(Half::Body) => {
                    self.end_exchange(index, reason);
                    self.cut_short(index);
                }
                _ => {}
            }
        } else if self.queue.back().is_none_or(|newest| newest.last.is_none()) {
            let exchange = self.queue.push(Known::Other, self.times.now);
            // Nobody was told of it, so nobody is told of its end.
            exchange.ended = true;
            exchange.receiving = Half::Failed;
            let index = self.queue.len() - 1;
            self.answer_in_place(index, status);
        }
        self.settle();
    }
}

impl Receive for Server {
    const IS_CLIENT: bool = false;

    fn head<'i>(conn: &mut Conn<Self>, input: &mut &'i [u8]) -> Result<Found<'i, Self>, ProtocolError> {
        conn.read_head(input)
    }

    fn reading(conn: &mut Conn<Self>) -> Option<&mut Exchange> {
        conn.queue.back_mut()
    }

    fn received(conn: &mut Conn<Self>) {
        if conn.queue.back().is_some_and(|newest| newest.last.is_some()) || conn.phase != Phase::Open {
            // RFC 9112 §9.6: nothing behind a message that says close is processed.
            conn.inbound = Inbound::Dropped;
        }
    }

    fn broken(conn: &mut Conn<Self>, error: ProtocolError) {
        conn.error = Some(error.clone().into());
        conn.reject(error.suggested_status(), CloseReason::Protocol(error));
    }

    fn drained_dry(conn: &mut Conn<Self>) {
        conn.inbound = Inbound::Dropped;
        if let Some(newest) = conn.queue.back_mut() {
            newest.last.get_or_insert(Last::Unfinished);
            newest.receiving = Half::Failed;
        }
        conn.settle();
    }

    fn eof(conn: &mut Conn<Self>) {
        let in_message = matches!(conn.inbound, Inbound::Length(_) | Inbound::Chunked(_) | Inbound::UntilClose);
        let in_head = matches!(conn.inbound, Inbound::Between) && !conn.partial.is_empty();
        if in_message || in_head {
            let error = ProtocolError::new(Cause::Truncated, conn.consumed);
            Self::broken(conn, error);
        }
        // RFC 9112 §9.6: a half-close does not mean that the peer no longer wants its answers.
        conn.finish(CloseReason::PeerClosed);
    }

    fn write_failed(conn: &mut Conn<Self>) {
        // No answer can reach the client any more.
        conn.close_now(CloseReason::Io(crate::close::Side::Write));
    }

    fn is_over(conn: &Conn<Self>, exchange: &Exchange) -> bool {
        exchange.is_sent() && (exchange.receiving.is_over() || exchange.last.is_some() || conn.phase != Phase::Open)
    }

    fn finish(conn: &mut Conn<Self>) {
        if !conn.queue.is_empty() {
            // Its predecessor's response says close.
            conn.held = None;
        }
        // A request that is still being read keeps its right to an answer; one of which nothing was read has none.
        if matches!(conn.inbound, Inbound::Between) && conn.held.is_none() {
            conn.partial.take();
            conn.inbound = Inbound::Dropped;
        }
        if conn.queue.is_empty() && conn.held.is_none() && conn.phase == Phase::Finishing {
            conn.shut_down();
        }
    }

    fn disposition(_conn: &Conn<Self>, exchange: &Exchange) -> Disposition {
        if exchange.sent == 0 { Disposition::NotSent } else { Disposition::PartlySent { bytes: exchange.sent } }
    }

    fn deadlines(conn: &Conn<Self>, found: &mut Nearest) {
        if !conn.partial.is_empty() {
            found.offer(conn.times.head, conn.config.timeouts.header, Timer::Late(Deadline::Header));
        }
    }

    fn timed_out(conn: &mut Conn<Self>, what: Timer) {
        match what {
            Timer::Late(Deadline::Drain) => Self::drained_dry(conn),
            // The handler is late, not the client.
            Timer::Late(late @ Deadline::Total) => conn.overdue(CloseReason::Timeout(late)),
            Timer::Late(late) => conn.reject(StatusCode::REQUEST_TIMEOUT, CloseReason::Timeout(late)),
            Timer::Expect | Timer::Due | Timer::Idle | Timer::MaxAge => {}
        }
    }
}

impl Conn<Server> {
    /// The oldest exchange took too long as a whole.
    fn overdue(&mut self, reason: CloseReason) {
        self.because(reason.clone());
        self.enter(Phase::Finishing);
        match self.queue.front().map(|front| (front.sending, front.ended)) {
            Some((Half::Idle, false)) => {
                self.end_exchange(0, reason);
                self.answer_in_place(0, StatusCode::SERVICE_UNAVAILABLE);
            }
            _ => self.close_now(reason),
        }
    }
}
