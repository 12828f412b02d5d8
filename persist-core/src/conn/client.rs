//! The client's end: sending requests through the gates, what follows for them from the connection's, giving up.

use super::deadlines::{Nearest, Timer};
use super::encode;
use super::event::{ExchangeId, Slot};
use super::exchange::{Exchange, Expect, Last, Remaining};
use super::half::{Half, Phase};
use super::receive::{Found, Receive};
use super::trace::tell;
use super::{Client, Conn, Inbound};
use crate::close::{CloseReason, Deadline};
use crate::disposition::Disposition;
use crate::error::{ProtocolError, SendError};
use crate::head::BodyLen;
use crate::keep_alive::KeepAlive;
use crate::lines::{HeadFields, Notes};
use crate::method::{Known, Method};
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
        self.outbox.take_back((self.foreign() + before) as usize, queued as usize);
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
        exchange.sending = if empty { Half::Done } else { Half::Body };
        let id = exchange.id;
        tell!(exchange = id.number(), %method, ?body, "request");
        if empty {
            debug_assert_eq!(self.turn, self.queue.len() - 1, "those before it are out, or the gates were closed");
            self.turn = self.queue.len();
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
    pub(super) fn decline_rest(&mut self, reason: &CloseReason) {
        self.fail_behind(1, reason);
        self.outbox.clear();
        self.forget_foreign();
        if let Some(front) = self.queue.front_mut()
            && !front.is_sent()
        {
            front.cut();
        }
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
