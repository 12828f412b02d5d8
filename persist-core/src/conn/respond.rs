//! The server's answers: which are possible, what their heads say of the connection, and what follows from the last one.

use super::encode;
use super::event::{ExchangeId, Ticket};
use super::exchange::{Exchange, Expect, Last, Remaining};
use super::half::{Half, Phase, Step};
use super::outbox::append;
use super::trace::tell;
use super::{Conn, Inbound, Server};
use crate::close::CloseReason;
use crate::error::{Refused, SendError};
use crate::head::BodyLen;
use crate::limits::Limits;
use crate::lines::{HeadFields, Notes};
use crate::method::Known;
use crate::status::StatusCode;
use crate::time::Instant;

impl Conn<Server> {
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

    /// Whether bytes of this exchange may be taken, be it before its turn.
    fn room_to_park(&self, index: usize) -> Result<(), SendError> {
        if index == self.turn { Ok(()) } else { self.parked.room(&self.config.limits) }
    }

    fn answerable(&self, id: ExchangeId) -> Result<(usize, &Exchange), SendError> {
        let index = self.queue.index_of(id).ok_or(SendError::NoSuchExchange)?;
        match self.queue.get(index) {
            Some(exchange) if exchange.sending == Half::Idle && !exchange.ended => Ok((index, exchange)),
            _ => Err(SendError::NoSuchExchange),
        }
    }

    /// One look-up of the exchange for all of it.
    fn respond(
        &mut self,
        id: ExchangeId,
        status: StatusCode,
        fields: impl HeadFields,
        body: BodyLen,
        content: &[u8],
    ) -> Result<(), SendError> {
        let index = self.queue.index_of(id).ok_or(SendError::NoSuchExchange)?;
        let Self { config, queue, outbox, parked, times, inbound, .. } = self;
        let answerable = queue.get_mut(index).filter(|exchange| exchange.sending == Half::Idle && !exchange.ended);
        let exchange = answerable.ok_or(SendError::NoSuchExchange)?;
        let switches = status == StatusCode::SWITCHING_PROTOCOLS;
        let tunnel = exchange.method == Known::Connect && status.is_success();
        if switches && (!exchange.may_switch || exchange.method == Known::Connect) || status.is_interim() && !switches {
            return Err(SendError::InvalidStatus(status));
        }
        let head = exchange.method == Known::Head;
        let bare = status.is_without_content() || tunnel;
        // RFC 9112 §6.1: no chunked coding to HTTP/1.0.
        let body = if exchange.http10 && body == BodyLen::Chunked { BodyLen::UntilClose } else { body };
        let bodiless = head || bare || matches!(body, BodyLen::Empty | BodyLen::Length(0));
        let content = if bodiless { &[] } else { content };
        let complete = bodiless || !content.is_empty();
        let mut last = exchange.last.or_else(|| last_for(exchange, inbound, &config.limits, complete));
        if body == BodyLen::UntilClose && !bodiless {
            last = last.or(Some(Last::OurClose));
        }
        let in_turn = index == self.turn;
        let out = if in_turn {
            if outbox.is_empty() {
                times.wrote = times.now;
            }
            outbox.end()
        } else {
            parked.end(id, &config.limits)?
        };
        let head_max = u64::from(config.limits.head_bytes_max);
        let added = append(out, |out| {
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
            } else if exchange.asks_keep_alive && !said.say(Notes::KEEP_ALIVE) && !tunnel {
                encode::keep_alive(out, config.timeouts.idle.filter(|_| config.announce_keep_alive));
            }
            // RFC 9110 §8.6: no Content-Length in 1xx, 204 and 2xx to CONNECT; to HEAD and in 304 only what GET would have had.
            let framed = match body {
                BodyLen::Empty => !bare && !head,
                _ => !bare || status == StatusCode::NOT_MODIFIED && matches!(body, BodyLen::Length(_)),
            };
            encode::response_end(out, if framed { body } else { BodyLen::UntilClose });
            if (out.len() - start) as u64 > head_max {
                return Err(SendError::HeadTooLarge { limit: head_max });
            }
            out.extend_from_slice(content);
            Ok(())
        });
        let added = match added {
            Ok(added) => added,
            Err(error) => {
                parked.tidy(id);
                return Err(error);
            }
        };
        if in_turn {
            outbox.grew(added);
            exchange.queued += added as u64;
        } else {
            parked.grew(added);
        }
        tell!(exchange = id.number(), status = status.as_u16(), ?body, close = last.is_some(), "response");
        debug_assert_eq!(exchange.sending.on(Step::Head), Some(Half::Body));
        exchange.sending = Half::Body;
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

    /// A response in the machine's own name, after which the connection ends.
    pub(super) fn answer_in_place(&mut self, index: usize, status: StatusCode) {
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
    pub(super) fn cut_short(&mut self, index: usize) {
        if let Some(exchange) = self.queue.get_mut(index) {
            self.cut_off |= matches!(exchange.remaining, Remaining::UntilClose);
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
}

/// Whether a response must end the connection, because nobody will read the rest of the request, and it is too long to be drained.
#[inline]
fn last_for(exchange: &Exchange, inbound: &Inbound, limits: &Limits, complete: bool) -> Option<Last> {
    if exchange.receiving == Half::Done {
        return None;
    }
    // RFC 9110 §10.1.1: refused without 100 Continue, the client may or may not send its content: nobody can tell what comes next.
    let refused = exchange.expect == Expect::Waiting;
    let long = matches!(inbound, Inbound::Length(left) if *left > limits.drain_bytes_max);
    let unread = complete || exchange.unwanted;
    (refused || unread && long).then_some(Last::Unfinished)
}
