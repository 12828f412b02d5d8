//! The client's end: sending requests through the gates, pairing responses with them, giving up.

use super::deadlines::{Nearest, Timer};
use super::encode;
use super::event::{ExchangeId, Slot};
use super::exchange::{Exchange, Expect, Last, Remaining};
use super::half::{Half, Phase, Step};
use super::receive::{Found, Receive};
use super::trace::tell;
use super::{Client, Conn, Event, Inbound};
use crate::close::{CloseReason, Deadline};
use crate::disposition::Disposition;
use crate::error::{Cause, ProtocolError, SendError};
use crate::head::{BodyLen, ResponseHead, Version};
use crate::keep_alive::KeepAlive;
use crate::lines::{HeadFields, Notes};
use crate::method::{Known, Method};
use crate::parse::fields::Section;
use crate::parse::status_line::StatusLine;
use crate::parse::{self, Asked, ResponseFacts, ResponseStart};
use crate::status::StatusCode;
use crate::time::Instant;

impl Conn<Client> {
    /// Sends a request's head, in its turn; the body follows with `send_body` and `finish_body` (not for `Empty` and `Length(0)`: those are complete).
    ///
    /// `Host` is the caller's to give, once. `Content-Length` and `Transfer-Encoding` are the machine's. `Connection: close` makes it the
    /// last request; `Expect: 100-continue` holds the body back ([`upload`](Self::upload)); `Upgrade` and CONNECT close the gate behind it.
    ///
    /// # Errors
    /// The gates: `Closed`, `Full`, `AnswerFirst`, `BodyUnfinished`; and invalid requests. Nothing was sent then.
    pub fn send_request(
        &mut self,
        method: &Method,
        target: &str,
        fields: impl HeadFields,
        body: BodyLen,
        now: Instant,
    ) -> Result<ExchangeId, SendError> {
        self.tick(now);
        self.may_send()?;
        self.push_request(method, target, fields, body)
    }

    /// [`send_request`](Self::send_request) in a reserved place.
    ///
    /// # Errors
    /// As there, but never `Full`. The slot is given back in every case.
    pub fn send_request_in(
        &mut self,
        slot: Slot,
        method: &Method,
        target: &str,
        fields: impl HeadFields,
        body: BodyLen,
        now: Instant,
    ) -> Result<ExchangeId, SendError> {
        self.tick(now);
        self.release(slot);
        self.gates()?;
        self.push_request(method, target, fields, body)
    }

    /// Gives up on an exchange: `Ended` comes with [`CloseReason::Aborted`], at once, or, if part of a complete request is on the wire,
    /// as soon as the rest of it is. One of which no byte was sent is taken back; the reply to any other is dropped within
    /// `Limits::drain_bytes_max`, or the connection closes. Others are never held up, nor does their pairing shift.
    pub fn cancel(&mut self, id: ExchangeId, now: Instant) {
        self.tick(now);
        if let Some(index) = self.queue.index_of(id)
            && self.queue.get(index).is_some_and(Exchange::lacks_only_its_end)
        {
            self.sent_whole(index);
        }
        let Some(index) = self.queue.index_of(id) else { return };
        let Some(exchange) = self.queue.get_mut(index).filter(|exchange| !exchange.unwanted) else { return };
        self.times.closing = self.times.now;
        exchange.unwanted = exchange.receiving != Half::Done;
        if !exchange.unwanted {
            // It has its reply: only an upload can be given up.
            if !exchange.sending.is_over() {
                self.cut_short(index, Last::Unfinished);
            }
        } else if exchange.sent == 0 && exchange.receiving == Half::Idle {
            self.end_exchange(index, CloseReason::Aborted);
            self.take_back(index);
        } else if !exchange.sending.is_over() {
            // Half a request is on the wire: nothing can follow it.
            self.end_exchange(index, CloseReason::Aborted);
            self.cut_short(index, Last::Unfinished);
        } else if exchange.is_sent() {
            self.end_exchange(index, CloseReason::Aborted);
        }
        self.settle();
    }

    /// Removes an exchange of which no byte was sent: it was reported as `NotSent`, and must stay so, whatever stands behind it.
    pub(super) fn take_back(&mut self, index: usize) {
        let before: u64 = self.queue.iter().take(index).map(|earlier| earlier.queued - earlier.sent).sum();
        let queued = self.queue.get(index).map_or(0, |exchange| exchange.queued);
        self.outbox.take_back((self.foreign + before) as usize, queued as usize);
        self.queue.remove(index);
        self.turn -= usize::from(index < self.turn);
        self.cursor -= usize::from(index < self.cursor);
        self.say_slots();
    }

    fn push_request(
        &mut self,
        method: &Method,
        target: &str,
        fields: impl HeadFields,
        body: BodyLen,
    ) -> Result<ExchangeId, SendError> {
        let known = method.known();
        let limit = u64::from(self.config.limits.head_bytes_max);
        let mut said = Notes::default();
        if self.outbox.is_empty() {
            self.times.wrote = self.times.now;
        }
        let queued = self.outbox.append(|out| {
            let start = out.len();
            encode::request_line(out, method, target)?;
            said = fields.write(out).without_framing()?;
            match said.hosts() {
                1 => {}
                // RFC 9112 §3.2: exactly one.
                hosts => return Err(SendError::Hosts { hosts }),
            }
            encode::request_framing(out, known, body);
            out.extend_from_slice(b"\r\n");
            if (out.len() - start) as u64 > limit { Err(SendError::HeadTooLarge { limit }) } else { Ok(()) }
        })?;
        let total = self.completed + self.queue.len() as u64 + 1;
        let spent =
            self.config.requests_max.is_some_and(|max| total >= max) || self.queue.next_id() + 1 >= self.refused_from;
        let empty = matches!(body, BodyLen::Empty | BodyLen::Length(0));
        if self.queue.is_empty() {
            self.times.head = self.times.now;
        }
        let exchange = self.queue.push(known, self.times.now);
        exchange.queued = queued as u64;
        exchange.may_switch = said.say(Notes::UPGRADE) || known == Known::Connect;
        exchange.last = match (said.say(Notes::CLOSE), spent) {
            (true, _) => Some(Last::OurClose),
            (false, true) => Some(Last::MaxRequests),
            (false, false) => None,
        };
        if said.say(Notes::EXPECT_CONTINUE) && !empty {
            exchange.expect = Expect::Waiting;
        }
        exchange.remaining = match body {
            BodyLen::Empty => Remaining::Length(0),
            BodyLen::Length(length) => Remaining::Length(length),
            BodyLen::Chunked | BodyLen::UntilClose => Remaining::Chunked,
        };
        exchange.sending = Half::Body;
        let id = exchange.id;
        tell!(exchange = id.0, %method, ?body, "request");
        let index = self.queue.len() - 1;
        if empty {
            self.sent_whole(index);
        }
        Ok(id)
    }

    /// Stops our message of the exchange at `index`; what was not handed down is dropped, and the connection ends after it.
    pub(super) fn cut_short(&mut self, index: usize, last: Last) {
        let Some(exchange) = self.queue.get_mut(index) else { return };
        exchange.last = Some(last);
        let unsent = exchange.cut();
        self.outbox.take_back(self.outbox.len().saturating_sub(unsent as usize), unsent as usize);
        self.pass_turn();
    }

    /// The peer will answer nothing behind the front exchange.
    fn decline_rest(&mut self, reason: &CloseReason) {
        self.fail_behind(1, reason);
        self.outbox.clear();
        self.foreign = 0;
        if let Some(front) = self.queue.front_mut()
            && !front.is_sent()
        {
            front.cut();
        }
    }

    fn read_head<'i>(&mut self, input: &mut &'i [u8]) -> Result<Found<'i, Client>, ProtocolError> {
        let answerable = self.queue.front().filter(|front| front.receiving == Half::Idle && front.sent > 0);
        let Some(front) = answerable else { return self.unsolicited(input) };
        if input.is_empty() {
            return Ok(Found::NeedRead);
        }
        let asked = Asked { method: front.method, upgrade: front.may_switch && front.method != Known::Connect };
        let offset = self.consumed - self.partial.len() as u64;
        let mut section = Section::new(0);
        let limits = &self.config.limits;
        let is_first = front.interim_bytes == 0;
        if is_first && let Some(found) = parse::plain::<StatusLine>(&self.partial, input, limits, asked, &mut section) {
            let parse::Found { line, facts, bytes } = found;
            if line.status.is_interim() && !facts.switches {
                let head = ResponseHead::new(bytes, &section, &line);
                return self.interim(head, bytes.len(), offset);
            }
            let (id, silent) = self.final_head(line.status, line.version, &facts, bytes.len());
            if silent {
                return Ok(Found::Nothing);
            }
            // Built where it goes, and last.
            let head = ResponseHead::new(bytes, &section, &line);
            return Ok(Found::Event(Event::Head { id, ticket: (), head, body: facts.declared }));
        }
        self.read_other_head(input, offset, asked)
    }

    /// The same for a head that is not [plain](parse::plain), or not all there, or not the first to its request.
    #[inline(never)]
    fn read_other_head<'i>(
        &mut self,
        input: &mut &'i [u8],
        offset: u64,
        asked: Asked,
    ) -> Result<Found<'i, Client>, ProtocolError> {
        let interim_bytes = self.queue.front().map_or(0, |front| front.interim_bytes);
        let mut limits = self.config.limits;
        // RFC 9110 §15.2: any number of interim responses may come; they share one budget.
        limits.head_bytes_max = limits.head_bytes_max.saturating_sub(interim_bytes);
        let found = match parse::response(&mut self.partial, input, offset, &limits, self.config.leniency, asked) {
            Ok(found) => found,
            Err(error) => {
                // Whether a reply began must not depend on how its bytes were cut: those before the wrong one count.
                self.partial.take();
                if let Some(front) = self.queue.front_mut() {
                    front.received += error.offset().saturating_sub(offset);
                }
                return Err(error);
            }
        };
        match found {
            None => Ok(Found::NeedRead),
            Some(start) if start.head.status().is_interim() && !start.facts.switches => {
                self.interim(start.head, start.wire_len, offset)
            }
            Some(ResponseStart { head, facts, wire_len }) => {
                Ok(match self.final_head(head.status(), head.version(), &facts, wire_len) {
                    (_, true) => Found::Nothing,
                    (id, false) => Found::Event(Event::Head { id, ticket: (), head, body: facts.declared }),
                })
            }
        }
    }

    fn interim<'i>(
        &mut self,
        head: ResponseHead,
        wire_len: usize,
        offset: u64,
    ) -> Result<Found<'i, Client>, ProtocolError> {
        let limit = self.config.limits.interim_max;
        let Some(front) = self.queue.front_mut() else { return Ok(Found::Nothing) };
        debug_assert_eq!(front.receiving.on(Step::Interim), Some(Half::Idle));
        front.interim += 1;
        front.interim_bytes = front.interim_bytes.saturating_add(wire_len as u32);
        if front.interim > limit {
            return Err(ProtocolError::new(Cause::TooManyInterim { limit: u64::from(limit) }, offset));
        }
        let (id, silent) = (front.id, front.unwanted);
        tell!(exchange = id.0, status = head.status().as_u16(), "interim response");
        if head.status() == StatusCode::CONTINUE && front.expect == Expect::Waiting {
            front.expect = Expect::Settled;
            self.say(|rare| rare.proceed = Some(id));
        }
        Ok(if silent { Found::Nothing } else { Found::Event(Event::Interim { id, head }) })
    }

    /// The final response to the oldest request begins: which that is, and whether nobody is to be told.
    #[inline(always)]
    fn final_head(
        &mut self,
        status: StatusCode,
        version: Version,
        start: &ResponseFacts,
        wire_len: usize,
    ) -> (ExchangeId, bool) {
        if let Some(timeout) = start.keep_alive.timeout {
            self.announced_idle = Some(u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX));
        }
        // A peer of that age may not know what to do with a second request (RFC 9112 §9.3.2).
        self.mishandled |= version == Version::Http10;
        let budget = self.config.limits.drain_bytes_max;
        let front = self.queue.front_mut().expect("a response is read only to a request: the caller saw it");
        front.receiving = front.receiving.on(Step::Head).unwrap_or(front.receiving);
        front.received += wire_len as u64;
        front.switched = start.switches;
        let (id, silent) = (front.id, front.unwanted);
        tell!(exchange = id.0, status = status.as_u16(), body = ?start.body, reused = self.completed > 0, "response");
        let close = !start.persist && !start.switches;
        let uploading = front.sending == Half::Body;
        // RFC 9112 §9.5: a response that refuses the request, or ends the connection, makes the rest of an upload pointless.
        // A short rest is cheaper sent than a connection is made.
        let short = matches!(front.remaining, Remaining::Length(left) if left <= budget);
        if uploading && front.expect == Expect::Waiting {
            // A final response in place of 100 Continue: the body was refused, and was never begun.
            front.expect = Expect::Settled;
        }
        if close {
            front.last = Some(Last::PeerSaidClose);
        }
        if uploading && (close || (status.is_error() && !short)) {
            self.cut_short(0, if close { Last::PeerSaidClose } else { Last::Unfinished });
            if !silent {
                self.say(|rare| rare.stopped = Some(id));
            }
        }
        if close {
            // RFC 9112 §9.6: no request behind this one is processed.
            self.decline_rest(&CloseReason::PeerSaidClose);
        } else if let Some(max) = start.keep_alive.max {
            self.refused_from = self.refused_from.min((id.0 + 1).saturating_add(max));
            if let Some(newest) = self.queue.back_mut()
                && newest.id.0 + 1 >= self.refused_from
            {
                newest.last.get_or_insert(Last::MaxRequests);
                self.say_slots();
            }
        }
        // The gate behind a request that is not idempotent opens.
        if self.queue.len() < self.config.pipelining.depth as usize {
            self.say_slots();
        }
        self.begin_body(start.body);
        (id, silent)
    }

    /// Bytes came although no request waits for an answer, or none of its bytes was sent yet.
    ///
    /// RFC 9112 §9.2: they are not a response. Stray empty lines are harmless; a 408 is how some servers say that they close an
    /// idle connection; anything else poisons the connection, since it might be taken for the answer to a later request.
    fn unsolicited<'i>(&mut self, input: &mut &'i [u8]) -> Result<Found<'i, Client>, ProtocolError> {
        const LATE: &[u8] = b"HTTP/1.x 408";
        let mut at = self.consumed;
        if self.partial.is_empty() {
            let blank = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            *input = &input[blank..];
            at += blank as u64;
        }
        if input.is_empty() {
            return Ok(Found::NeedRead);
        }
        at -= self.partial.len() as u64;
        if self.queue.is_empty() {
            self.partial.extend(input, LATE.len());
            let seen = self.partial.bytes();
            let is_late = seen.iter().zip(LATE).all(|(byte, late)| byte == late || *late == b'x');
            if is_late && seen.len() < LATE.len() {
                // It is too late for another request, whatever this becomes.
                self.enter(Phase::Finishing);
                self.times.closing = self.times.now;
                return Ok(Found::NeedRead);
            }
            if is_late {
                self.close_now(CloseReason::PeerClosed);
                return Ok(Found::Nothing);
            }
        }
        self.error = Some(ProtocolError::new(Cause::Unsolicited, at).into());
        self.close_now(CloseReason::Poisoned);
        Ok(Found::Nothing)
    }
}

impl Receive for Client {
    const IS_CLIENT: bool = true;

    fn head<'i>(conn: &mut Conn<Self>, input: &mut &'i [u8]) -> Result<Found<'i, Self>, ProtocolError> {
        conn.read_head(input)
    }

    fn reading(conn: &mut Conn<Self>) -> Option<&mut Exchange> {
        conn.queue.front_mut()
    }

    fn received(conn: &mut Conn<Self>) {
        if conn.queue.front().is_some_and(|front| front.switched) {
            conn.inbound = Inbound::Switched;
        }
    }

    fn broken(conn: &mut Conn<Self>, error: ProtocolError) {
        conn.error = Some(error.clone().into());
        conn.close_now(CloseReason::Protocol(error));
    }

    fn drained_dry(conn: &mut Conn<Self>) {
        conn.close_now(CloseReason::Unfinished);
    }

    fn eof(conn: &mut Conn<Self>) {
        // RFC 9112 §8: a body without framing ends where the connection is closed, if that was not a failure.
        if matches!(conn.inbound, Inbound::UntilClose) && !conn.write_failed {
            if let Some(front) = conn.queue.front_mut() {
                front.last = Some(Last::PeerClosed);
            }
            conn.inbound = Inbound::End;
        } else if matches!(conn.inbound, Inbound::End) {
            // Its `End` is still due; the end of file comes again after it.
            if let Some(front) = conn.queue.front_mut() {
                front.last = Some(Last::PeerClosed);
            }
        } else if conn.write_failed {
            conn.close_now(conn.reason.as_deref().cloned().unwrap_or(CloseReason::PeerClosedEarly));
        } else if conn.queue.is_empty() && conn.partial.is_empty() {
            conn.close_now(CloseReason::PeerClosed);
        } else {
            conn.close_now(CloseReason::PeerClosedEarly);
        }
    }

    fn write_failed(conn: &mut Conn<Self>) {
        // What the layer below never saw can be said at once; the rest may still be answered.
        let sent = conn.queue.iter().take_while(|exchange| exchange.sent > 0).count();
        let reason = conn.reason.as_deref().cloned().unwrap_or(CloseReason::PeerClosedEarly);
        conn.fail_behind(sent, &reason);
        conn.outbox.clear();
        if conn.queue.is_empty() {
            conn.closed();
            return;
        }
        for index in 0..conn.queue.len() {
            if let Some(exchange) = conn.queue.get_mut(index)
                && (!exchange.sending.is_over() || !exchange.is_sent())
            {
                exchange.cut();
            }
        }
        conn.pass_turn();
        conn.enter(Phase::Finishing);
        conn.say_slots();
    }

    fn is_over(_conn: &Conn<Self>, exchange: &Exchange) -> bool {
        // A truncated request gets no reply that anybody wants.
        exchange.is_complete() || exchange.unwanted && exchange.sending == Half::Failed
    }

    fn finish(conn: &mut Conn<Self>) {
        // Without a reason yet, what is half-read may be the 408 that tells it.
        let late = conn.reason.is_none() && !conn.partial.is_empty();
        if !conn.queue.is_empty() || conn.phase != Phase::Finishing || late {
            return;
        }
        match conn.reason.as_deref() {
            // The caller asked for an orderly end: let the peer confirm that all arrived.
            Some(CloseReason::OurClose) => conn.shut_down(),
            _ => conn.closed(),
        }
    }

    fn disposition(conn: &Conn<Self>, exchange: &Exchange) -> Disposition {
        if conn.reply_bytes(exchange) > 0 {
            Disposition::ReplyPartial
        } else if exchange.sent == 0 {
            Disposition::NotSent
        } else if conn.peer_said_close() {
            Disposition::Declined
        } else if exchange.sent == exchange.queued && exchange.is_whole() {
            Disposition::SentNoReply
        } else {
            Disposition::PartlySent { bytes: exchange.sent }
        }
    }

    fn deadlines(conn: &Conn<Self>, found: &mut Nearest) {
        let timeouts = &conn.config.timeouts;
        conn.dues(found);
        if conn.write_failed || conn.queue.is_empty() && !conn.partial.is_empty() {
            found.offer(conn.times.closing, timeouts.drain, Timer::Late(Deadline::Drain));
        }
        let Some(front) = conn.queue.front() else { return };
        if front.receiving == Half::Idle {
            if front.is_sent() {
                found.offer(conn.times.head, timeouts.header, Timer::Late(Deadline::Header));
            }
            if front.unwanted {
                found.offer(conn.times.closing, timeouts.drain, Timer::Late(Deadline::Drain));
            }
        }
        if let Some(newest) = conn.queue.back().filter(|newest| newest.expect == Expect::Waiting) {
            found.offer(newest.started, timeouts.expect_continue, Timer::Expect);
        }
    }

    fn timed_out(conn: &mut Conn<Self>, what: Timer) {
        match what {
            // RFC 9110 §10.1.1: do not wait for ever; send the content.
            Timer::Expect => {
                if let Some(newest) = conn.queue.back_mut() {
                    newest.expect = Expect::Settled;
                    let id = newest.id;
                    conn.say(|rare| rare.proceed = Some(id));
                }
            }
            Timer::Due => conn.expire(),
            Timer::Late(deadline) => conn.close_now(CloseReason::Timeout(deadline)),
            Timer::Idle | Timer::MaxAge => {}
        }
    }
}

impl Conn<Client> {
    /// How many more requests the peer said it would take (`Keep-Alive: max=`).
    pub fn announced_requests(&self) -> Option<u64> {
        (self.refused_from != u64::MAX).then(|| self.refused_from.saturating_sub(self.queue.next_id()))
    }

    /// What the peer has announced so far, and what is left of it: how long it keeps an idle connection, and how many more requests it would take.
    pub fn announced(&self) -> Option<KeepAlive> {
        let (timeout, max) = (self.announced_idle(), self.announced_requests());
        (timeout.is_some() || max.is_some()).then_some(KeepAlive { timeout, max })
    }

    /// Whether the peer gave reason to believe that it cannot take pipelined requests: it answered as HTTP/1.0, or broke the
    /// protocol or closed early with several in flight. A pool then sets [`Pipelining::to_this_peer`](crate::Pipelining) for its next connections.
    pub fn peer_mishandles_pipelining(&self) -> bool {
        self.mishandled
    }

    fn peer_said_close(&self) -> bool {
        self.queue.front().is_some_and(|front| front.last == Some(Last::PeerSaidClose) && front.receiving != Half::Idle)
    }
}
