//! The responses that a client reads: which request each answers, and what its head says of the connection.

use super::event::ExchangeId;
use super::exchange::{Expect, Last, Remaining};
use super::half::{Half, Phase, Step};
use super::receive::{Found, take};
use super::trace::tell;
use super::{Client, Conn, Event, Inbound};
use crate::close::CloseReason;
use crate::error::{Cause, ProtocolError};
use crate::head::{ResponseHead, Version};
use crate::method::Known;
use crate::parse::fields::Section;
use crate::parse::status_line::StatusLine;
use crate::parse::{self, Asked, ResponseFacts, ResponseStart};
use crate::status::StatusCode;

impl Conn<Client> {
    pub(super) fn read_head<'i>(&mut self, input: &mut &'i [u8]) -> Result<Found<'i, Client>, ProtocolError> {
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

    /// Right after the head of a reply: takes its content and its end at once, which [`Event::Data`] and [`Event::End`] would tell else, if all of it is at the
    /// front of the input. `None` if it is not, or something else is to be told first: then nothing was taken, and [`next`](Self::next) goes on.
    ///
    /// That there is room for another request then goes without saying: no [`Event::Slots`] tells it.
    ///
    /// ```
    /// use persist_core::{BodyLen, Client, Config, Conn, Event, FieldLines, Instant, Method, Next};
    /// use bytes::Buf;
    ///
    /// let now = Instant::ZERO;
    /// let mut conn = Conn::<Client>::new(Config::client(), now);
    /// const HOST: FieldLines<'static> = FieldLines::from_static("Host: h\r\n");
    /// conn.send_request(&Method::GET, "/", HOST, BodyLen::Empty, now)?;
    /// let mut out = conn.transmit(now);
    /// out.advance(out.remaining());
    /// let mut input: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    /// let Next::Event(Event::Head { .. }) = conn.next(&mut input, now)? else { panic!("a head") };
    /// assert_eq!(conn.take_whole(&mut input), Some(&b"hello"[..]));
    /// assert!(conn.is_idle());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn take_whole<'i>(&mut self, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        let len = match self.inbound {
            Inbound::Length(left) if left <= self.content_room() => usize::try_from(left).ok()?,
            Inbound::End => 0,
            _ => return None,
        };
        let front = self.queue.front_mut().filter(|front| !front.unwanted && !front.ended)?;
        if self.due.is_pressing() || len > input.len() {
            return None;
        }
        front.received += len as u64;
        front.content += len as u64;
        front.expect = Expect::Settled;
        let content = take(input, len);
        self.took(len);
        self.end();
        if !self.due.is_pressing() {
            (self.due.slots, self.due.any) = (false, false);
        }
        Some(content)
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
        tell!(exchange = id.number(), status = head.status().as_u16(), "interim response");
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
        tell!(exchange = id.number(), status = status.as_u16(), body = ?start.body, reused = self.completed > 0, "response");
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
            self.refused_from = self.refused_from.min((id.number() + 1).saturating_add(max));
            if let Some(newest) = self.queue.back_mut()
                && newest.id.number() + 1 >= self.refused_from
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
