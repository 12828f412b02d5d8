//! The server's end: reading requests as far as they may overlap, answering them in any order, sending the answers in theirs.

use alloc::boxed::Box;

use super::deadlines::{Nearest, Timer};
use super::encode;
use super::event::{ExchangeId, Ticket};
use super::exchange::{Exchange, Expect, Last, Remaining};
use super::half::{Half, Phase, Step};
use super::receive::{Found, Receive};
use super::trace::tell;
use super::{Conn, Event, Inbound, Server};
use crate::close::{CloseReason, Deadline};
use crate::config::Overlap;
use crate::disposition::Disposition;
use crate::error::{Cause, ProtocolError, Refused, SendError};
use crate::head::BodyLen;
use crate::lines::{HeadFields, Notes};
use crate::method::Known;
use crate::parse::{self, RequestStart};
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

    /// Sends an interim response (100, 102, 103) before the final one.
    ///
    /// # Errors
    /// `Unsupported` to an HTTP/1.0 client, `InvalidStatus` unless 1xx but 101, `NoSuchExchange` once it has ended, and `ParkedFull` as
    /// for [`send_response`](Self::send_response).
    pub fn send_interim(
        &mut self,
        ticket: &Ticket,
        status: StatusCode,
        fields: impl HeadFields,
        now: Instant,
    ) -> Result<(), SendError> {
        self.tick(now);
        let (index, exchange) = self.answerable(ticket.id)?;
        if !status.is_interim() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(SendError::InvalidStatus(status));
        }
        // RFC 9110 §15.2: HTTP/1.0 has no interim responses.
        if exchange.http10 {
            return Err(SendError::Unsupported("an HTTP/1.0 client takes no interim response"));
        }
        debug_assert_eq!(exchange.sending.on(Step::Interim), Some(Half::Idle));
        self.room_to_park(index)?;
        self.try_write(index, |out| {
            encode::status_line(out, status);
            fields.write(out).without_framing()?;
            out.extend_from_slice(b"\r\n");
            Ok(())
        })?;
        if status == StatusCode::CONTINUE
            && let Some(exchange) = self.queue.get_mut(index)
        {
            exchange.expect = Expect::Settled;
        }
        Ok(())
    }

    /// Answers. May come in any order; leaves in request order. The body follows with `send_body` and `finish_body`, unless the
    /// message is complete already: [`upload`](Self::upload) then says `Finished` (`Empty`, `Length(0)`, to HEAD, 204, 304, 2xx to CONNECT).
    ///
    /// `Connection: close` among the fields ends the connection after this response; later requests are not answered.
    /// `Date` and `Server` are the caller's to give.
    ///
    /// # Errors
    /// [`Refused`] gives the ticket back: fields of the machine's own, an impossible status, parked limits, an exchange that has ended.
    pub fn send_response(
        &mut self,
        ticket: Ticket,
        status: StatusCode,
        fields: impl HeadFields,
        body: BodyLen,
        now: Instant,
    ) -> Result<(), Refused> {
        self.tick(now);
        self.respond(ticket.id, status, fields, body, &[]).map_err(|error| Refused { ticket, error })
    }

    /// Answers with content at hand, all at once: [`send_response`](Self::send_response), `send_body` and `finish_body` in one call, whatever room the
    /// outbox has. For content of some kilobytes at most: it is copied.
    ///
    /// # Errors
    /// As [`send_response`](Self::send_response).
    pub fn send_whole_response(
        &mut self,
        ticket: Ticket,
        status: StatusCode,
        fields: impl HeadFields,
        content: &[u8],
        now: Instant,
    ) -> Result<(), Refused> {
        self.tick(now);
        let body = BodyLen::Length(content.len() as u64);
        self.respond(ticket.id, status, fields, body, content).map_err(|error| Refused { ticket, error })
    }

    /// The handler is gone: answers 500 and closes, so that nobody waits for ever. With its response begun, the connection is cut
    /// short instead, so that the client sees it incomplete.
    pub fn abandon(&mut self, id: ExchangeId, now: Instant) {
        self.tick(now);
        let Some(index) = self.queue.index_of(id) else { return };
        let Some(exchange) = self.queue.get(index).filter(|exchange| !exchange.ended) else { return };
        match exchange.sending {
            Half::Idle => {
                self.end_exchange(index, CloseReason::Aborted);
                self.answer_in_place(index, StatusCode::INTERNAL_SERVER_ERROR);
            }
            Half::Body => {
                self.end_exchange(index, CloseReason::Aborted);
                self.cut_short(index);
            }
            Half::Done | Half::Failed => {}
        }
        self.settle();
    }

    /// Whether another request may come: `false` once closing, unless one that was read already waits for its turn.
    pub fn expects_request(&self) -> bool {
        self.phase == Phase::Open || self.held.is_some()
    }

    /// Whether bytes of this exchange may be taken, be it before its turn.
    fn room_to_park(&self, index: usize) -> Result<(), SendError> {
        let limit = u64::from(self.config.limits.parked_bytes_max);
        if index != self.turn && self.parked_bytes as u64 >= limit {
            return Err(SendError::ParkedFull { limit });
        }
        Ok(())
    }

    fn answerable(&self, id: ExchangeId) -> Result<(usize, &Exchange), SendError> {
        let index = self.queue.index_of(id).ok_or(SendError::NoSuchExchange)?;
        match self.queue.get(index) {
            Some(exchange) if exchange.sending == Half::Idle && !exchange.ended => Ok((index, exchange)),
            _ => Err(SendError::NoSuchExchange),
        }
    }

    fn respond(
        &mut self,
        id: ExchangeId,
        status: StatusCode,
        fields: impl HeadFields,
        body: BodyLen,
        content: &[u8],
    ) -> Result<(), SendError> {
        let (index, exchange) = self.answerable(id)?;
        let switches = status == StatusCode::SWITCHING_PROTOCOLS;
        let tunnel = exchange.method == Known::Connect && status.is_success();
        if switches && (!exchange.may_switch || exchange.method == Known::Connect) || status.is_interim() && !switches {
            return Err(SendError::InvalidStatus(status));
        }
        self.room_to_park(index)?;
        let head = exchange.method == Known::Head;
        let bare = status.is_without_content() || tunnel;
        // RFC 9112 §6.1: no chunked coding to HTTP/1.0.
        let body = if exchange.http10 && body == BodyLen::Chunked { BodyLen::UntilClose } else { body };
        let bodiless = head || bare || matches!(body, BodyLen::Empty | BodyLen::Length(0));
        let content = if bodiless { &[] } else { content };
        let complete = bodiless || !content.is_empty();
        let mut last = exchange.last.or(self.last_for(exchange, complete));
        if body == BodyLen::UntilClose && !bodiless {
            last = last.or(Some(Last::OurClose));
        }
        let keep_alive_asked = exchange.asks_keep_alive;
        let announce = self.config.timeouts.idle.filter(|_| self.config.announce_keep_alive);
        let head_max = u64::from(self.config.limits.head_bytes_max);
        self.try_write(index, |out| {
            let start = out.len();
            encode::status_line(out, status);
            let said = fields.write(out).without_framing()?;
            if said.say(Notes::CLOSE) {
                last = last.or(Some(Last::OurClose));
            }
            if switches {
                if !said.say(Notes::UPGRADE) {
                    return Err(SendError::Unsupported("a 101 response names the protocol in an Upgrade field"));
                }
                if !said.say(Notes::CONNECTION_UPGRADE) {
                    out.extend_from_slice(b"Connection: upgrade\r\n");
                }
            } else if last.is_some() && !tunnel {
                if !said.say(Notes::CLOSE) {
                    out.extend_from_slice(b"Connection: close\r\n");
                }
            } else if keep_alive_asked && !said.say(Notes::KEEP_ALIVE) && !tunnel {
                out.extend_from_slice(b"Connection: keep-alive\r\n");
                if let Some(idle) = announce {
                    out.extend_from_slice(b"Keep-Alive: timeout=");
                    encode::decimal(out, idle.as_secs());
                    out.extend_from_slice(b"\r\n");
                }
            }
            // RFC 9110 §8.6: no Content-Length in 1xx, 204 and 2xx to CONNECT; to HEAD and in 304 only what GET would have had.
            let framed = match body {
                BodyLen::Empty => !bare && !head,
                _ => !bare || status == StatusCode::NOT_MODIFIED && matches!(body, BodyLen::Length(_)),
            };
            if framed {
                encode::response_framing(out, body);
            }
            out.extend_from_slice(b"\r\n");
            if (out.len() - start) as u64 > head_max {
                return Err(SendError::HeadTooLarge { limit: head_max });
            }
            out.extend_from_slice(content);
            Ok(())
        })?;
        tell!(exchange = id.0, status = status.as_u16(), ?body, close = last.is_some(), "response");
        let Some(exchange) = self.queue.get_mut(index) else { return Err(SendError::NoSuchExchange) };
        exchange.sending = exchange.sending.on(Step::Head).unwrap_or(exchange.sending);
        exchange.switched = switches || tunnel;
        exchange.remaining = match body {
            BodyLen::Empty => Remaining::Length(0),
            BodyLen::Length(length) => Remaining::Length(length),
            BodyLen::Chunked => Remaining::Chunked,
            BodyLen::UntilClose => Remaining::UntilClose,
        };
        if exchange.switched {
            // What follows the request is the other protocol's, whatever its fields said.
            exchange.last = None;
        } else if last.is_some() {
            exchange.last = last;
            self.nothing_behind(index);
        }
        if complete {
            self.sent_whole(index);
        }
        Ok(())
    }

    /// Whether a response that is complete at once must end the connection, because the rest of the request is too long to be drained.
    fn last_for(&self, exchange: &Exchange, complete: bool) -> Option<Last> {
        if exchange.receiving == Half::Done {
            return None;
        }
        // RFC 9110 §10.1.1: refused without 100 Continue, the client may or may not send its content: nobody can tell what comes next.
        let refused = exchange.expect == Expect::Waiting;
        let long = match &self.inbound {
            Inbound::Length(left) => *left > self.config.limits.drain_bytes_max,
            _ => false,
        };
        (refused || complete && long).then_some(Last::Unfinished)
    }

    /// A response in the machine's own name, after which the connection ends.
    fn answer_in_place(&mut self, index: usize, status: StatusCode) {
        tell!(status = status.as_u16(), "response of the machine's own");
        self.write(index, |out| {
            encode::status_line(out, status);
            out.extend_from_slice(b"Connection: close\r\nContent-Length: 0\r\n\r\n");
        });
        if let Some(exchange) = self.queue.get_mut(index) {
            exchange.sending = Half::Body;
            exchange.remaining = Remaining::Length(0);
            exchange.last.get_or_insert(Last::OurClose);
        }
        self.nothing_behind(index);
        self.sent_whole(index);
    }

    /// A response stays incomplete: nothing can follow it.
    fn cut_short(&mut self, index: usize) {
        if let Some(exchange) = self.queue.get_mut(index) {
            exchange.sending = exchange.sending.on(Step::Fail).unwrap_or(exchange.sending);
            exchange.last = Some(Last::Unfinished);
        }
        self.nothing_behind(index);
        self.pass_turn();
    }

    /// The response at `index` is the last: later requests are not answered, and no more are read.
    fn nothing_behind(&mut self, index: usize) {
        let reading_behind = self.queue.len() > index + 1;
        self.fail_behind(index + 1, &CloseReason::OurClose);
        self.held = None;
        self.partial.take();
        if reading_behind || matches!(self.inbound, Inbound::Between) {
            self.inbound = Inbound::Dropped;
        }
        if self.phase == Phase::Open {
            let reason = self.queue.get(index).and_then(|exchange| exchange.last).unwrap_or(Last::OurClose);
            self.because(reason.into());
            self.enter(Phase::Finishing);
        }
    }

    /// Requests whose answer is not complete.
    fn unanswered(&self) -> usize {
        self.queue.len() - self.turn
    }

    /// Whether another request may be read now.
    fn may_read(&self) -> bool {
        let limits = &self.config.limits;
        let pipelining = &self.config.pipelining;
        if self.queue.len() >= pipelining.depth.max(1) as usize
            || self.parked_bytes >= limits.parked_bytes_max as usize
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
        match parse::request(&mut self.partial, input, offset, &self.config.limits, self.config.leniency)? {
            None => Ok(Found::NeedRead),
            Some(start) if self.must_wait(&start) => {
                self.held = Some(Box::new(start));
                Ok(Found::Paused)
            }
            Some(start) => {
                let body_at = offset + start.wire_len as u64;
                self.begin_request(start, body_at)
            }
        }
    }

    #[cold]
    fn take_held<'i>(&mut self) -> Result<Found<'i, Server>, ProtocolError> {
        match self.held.take() {
            Some(start) if !self.must_wait(&start) => self.begin_request(*start, self.consumed),
            held => {
                self.held = held;
                Ok(Found::Paused)
            }
        }
    }

    /// Whether this request may not overlap with those that are being answered.
    fn must_wait(&self, start: &RequestStart) -> bool {
        self.unanswered() > 0 && self.config.pipelining.overlap == Overlap::Safe && !start.head.method().is_safe()
    }

    #[inline(always)]
    fn begin_request<'i>(&mut self, start: RequestStart, body_at: u64) -> Result<Found<'i, Server>, ProtocolError> {
        let known = start.head.method().known();
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
        exchange.received = start.wire_len as u64;
        exchange.http10 = start.head.version() == crate::head::Version::Http10;
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
        tell!(exchange = id.0, method = %start.head.method(), body = ?start.body, reused = self.completed > 0, "request");
        self.begin_body(start.body);
        Ok(Found::Event(Event::Head { id, ticket: Ticket { id }, head: start.head, body: start.body }))
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
            Timer::Expect | Timer::Idle | Timer::MaxAge => {}
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
