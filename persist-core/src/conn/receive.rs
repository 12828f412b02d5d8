//! Input: from bytes to events. What the two roles share; [`Receive`] is where they differ.

use super::{Conn, Due, Event, ExchangeId, Inbound, Next, Role};
use crate::chunked::Decoded;
use crate::close::CloseReason;
use crate::disposition::Failure;
use crate::error::{Cause, ProtocolError};
use crate::head::BodyLen;
use crate::time::Instant;

use super::exchange::Exchange;
use super::half::{Half, Phase, Step};
use super::trace::tell;

/// Whose content is.
enum Content {
    Of(ExchangeId),
    Nobodys,
    /// There is none: more must be read.
    Missing,
    TooMuch(ProtocolError),
}

/// What the reading of a head came to.
#[derive(Debug)]
pub enum Found<'i, R: Role> {
    Event(Event<'i, R>),
    /// The state changed, and there is no event for it.
    Nothing,
    NeedRead,
    Paused,
}

/// Where the roles differ. Sealed: the machine has two ends.
pub trait Receive: Sized {
    /// Whether this end sends the requests.
    const IS_CLIENT: bool;
    /// Reads the head of the next message.
    fn head<'i>(conn: &mut Conn<Self>, input: &mut &'i [u8]) -> Result<Found<'i, Self>, ProtocolError>
    where
        Self: Role;
    /// The exchange whose message is being read.
    fn reading(conn: &mut Conn<Self>) -> Option<&mut Exchange>
    where
        Self: Role;
    /// The message that was being read is complete.
    fn received(conn: &mut Conn<Self>)
    where
        Self: Role;
    /// The message that was being read cannot be completed.
    fn broken(conn: &mut Conn<Self>, error: ProtocolError)
    where
        Self: Role;
    /// The rest of an unwanted message is more than the connection is worth.
    fn drained_dry(conn: &mut Conn<Self>)
    where
        Self: Role;
    /// The peer closed its side.
    fn eof(conn: &mut Conn<Self>)
    where
        Self: Role;
    /// Writing failed.
    fn write_failed(conn: &mut Conn<Self>)
    where
        Self: Role;
    /// Whether the front exchange is over.
    fn is_over(conn: &Conn<Self>, exchange: &Exchange) -> bool
    where
        Self: Role;
    /// No exchange may begin any more: how the role goes on, now and whenever all pending ones are over.
    fn finish(conn: &mut Conn<Self>)
    where
        Self: Role;
    /// What became of an exchange.
    fn disposition(conn: &Conn<Self>, exchange: &Exchange) -> crate::disposition::Disposition
    where
        Self: Role;
    /// The role's own deadlines.
    fn deadlines(conn: &Conn<Self>, found: &mut super::deadlines::Nearest)
    where
        Self: Role;
    /// One of them passed.
    fn timed_out(conn: &mut Conn<Self>, what: super::deadlines::Timer)
    where
        Self: Role;
}

impl<R: Role> Conn<R> {
    /// The next thing that the input holds. `input` is lent for the call; what is consumed is cut off its front.
    ///
    /// Call after every read, after `handle_*`, `send_*`, `cancel`, `close` and `abort`, until it says `NeedRead` or `Paused`.
    ///
    /// # Errors
    /// The peer broke the protocol. Sticky: from then on `next` returns what events remain, and the error instead of `NeedRead`
    /// and `Paused`. Go on driving until [`Event::Closed`]: a server still sends earlier replies and the suggested status, and lingers.
    pub fn next<'i>(&mut self, input: &mut &'i [u8], now: Instant) -> Result<Next<'i, R>, ProtocolError> {
        self.tick(now);
        // Each arm ends with the event it found, or goes round: an event that passed through others' hands would be copied by each.
        loop {
            if self.due.any
                && let Some(event) = self.due_event()
            {
                return self.tell(event);
            }
            match &mut self.inbound {
                Inbound::Between => {
                    let before = input.len();
                    let found = R::head(self, input);
                    self.took(before - input.len());
                    match found {
                        Ok(Found::Event(event)) => return self.tell(event),
                        Ok(Found::Nothing) => {}
                        Ok(Found::NeedRead) => return self.need_read(),
                        Ok(Found::Paused) => return self.pause(),
                        Err(error) => R::broken(self, error),
                    }
                }
                Inbound::End => {
                    if let Some(id) = self.end() {
                        return self.tell(Event::End { id, trailers: None });
                    }
                }
                Inbound::Length(_) | Inbound::UntilClose => {
                    let data = self.take_content(input);
                    match self.content(data.len(), data.len(), input) {
                        Content::Of(id) => return self.tell(Event::Data { id, data }),
                        Content::Nobodys => {}
                        Content::Missing => return self.need_read(),
                        Content::TooMuch(error) => R::broken(self, error),
                    }
                }
                Inbound::Chunked(decoder) => {
                    let given = *input;
                    let decoded = decoder.decode(input, self.consumed, &self.config.limits);
                    let mut taken = given.len() - input.len();
                    match decoded {
                        Ok(Decoded::Data(mut data)) => {
                            if self.config.limits.body_bytes_max != u64::MAX {
                                taken -= self.put_back(&mut data);
                                *input = &given[taken..];
                            }
                            self.took(taken);
                            match self.content(data.len(), taken, input) {
                                Content::Of(id) => return self.tell(Event::Data { id, data }),
                                Content::Nobodys => {}
                                Content::Missing => return self.need_read(),
                                Content::TooMuch(error) => R::broken(self, error),
                            }
                        }
                        decoded => {
                            self.took(taken);
                            self.count(taken, 0);
                            match decoded {
                                Ok(Decoded::End(trailers)) => {
                                    if let Some(id) = self.end() {
                                        return self.tell(Event::End { id, trailers });
                                    }
                                }
                                Ok(_) => return self.need_read(),
                                Err(error) => R::broken(self, error),
                            }
                        }
                    }
                }
                Inbound::Dropped => {
                    self.drop_input(input);
                    if !self.due.any {
                        return if self.phase == Phase::Closed || self.eof { self.pause() } else { self.need_read() };
                    }
                }
                Inbound::Switched => return self.pause(),
            }
        }
    }

    /// Right after a head without content: takes the end of its message, which [`Event::End`] would tell else. False if that is yet to come.
    ///
    /// ```
    /// use persist_core::{Config, Conn, Event, Instant, Next, Server};
    ///
    /// let mut conn = Conn::<Server>::new(Config::server(), Instant::ZERO);
    /// let mut input: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    /// let Next::Event(Event::Head { ticket, .. }) = conn.next(&mut input, Instant::ZERO)? else { panic!("a head") };
    /// assert!(conn.take_end() && !conn.take_end()); // and no event tells it any more
    /// # let _ = ticket;
    /// # Ok::<(), persist_core::ProtocolError>(())
    /// ```
    #[inline]
    pub fn take_end(&mut self) -> bool {
        !self.due.any && matches!(self.inbound, Inbound::End) && self.end().is_some()
    }

    #[inline(always)]
    fn tell<'i>(&mut self, event: Event<'i, R>) -> Result<Next<'i, R>, ProtocolError> {
        self.times.waiting = None;
        Ok(Next::Event(event))
    }

    #[inline(always)]
    fn need_read<'i>(&mut self) -> Result<Next<'i, R>, ProtocolError> {
        self.times.waiting.get_or_insert(self.times.now);
        if self.error.is_some() { Err(self.broken_by()) } else { Ok(Next::NeedRead) }
    }

    fn pause<'i>(&mut self) -> Result<Next<'i, R>, ProtocolError> {
        self.times.waiting = None;
        if self.error.is_some() { Err(self.broken_by()) } else { Ok(Next::Paused) }
    }

    #[cold]
    fn broken_by(&self) -> ProtocolError {
        self.error.as_deref().expect("the caller saw it").clone()
    }

    /// An event that needs no input. Call instead of [`next`](Self::next) while callers are too slow to be given more of the peer's messages:
    /// ends and closes are then still told, and the peer is not blamed for the pause.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event<'static, R>> {
        self.tick(now);
        self.times.waiting = None;
        if self.due.any { self.due_event() } else { None }
    }

    /// Whether [`poll_event`](Self::poll_event) may have something: false means that it has nothing.
    pub fn has_event(&self) -> bool {
        self.due.any
    }

    /// Content of a declared length, or until the end of the connection, as much as the limit allows.
    #[inline(always)]
    fn take_content<'i>(&mut self, input: &mut &'i [u8]) -> &'i [u8] {
        let room = self.content_room();
        let left = match &self.inbound {
            Inbound::Length(left) => (*left).min(room),
            _ => room,
        };
        let data = take(input, usize::try_from(left).unwrap_or(usize::MAX).min(input.len()));
        if let Inbound::Length(left) = &mut self.inbound {
            *left -= data.len() as u64;
            if *left == 0 {
                self.inbound = Inbound::End;
            }
        }
        self.took(data.len());
        data
    }

    /// Puts back what a chunk holds beyond the limit of a body; returns how much that is.
    #[cold]
    fn put_back(&mut self, data: &mut &[u8]) -> usize {
        let room = usize::try_from(self.content_room()).unwrap_or(usize::MAX);
        let excess = data.len().saturating_sub(room);
        if let Inbound::Chunked(decoder) = &mut self.inbound
            && excess > 0
        {
            decoder.put_back(excess as u64);
        }
        *data = &data[..data.len() - excess];
        excess
    }

    /// `n` bytes of input were consumed.
    pub(super) fn took(&mut self, n: usize) {
        if n > 0 {
            self.consumed += n as u64;
            self.times.waiting = None;
        }
    }

    /// Counts `wire` bytes of the message that is being read, `data` of them content.
    fn count(&mut self, wire: usize, data: usize) -> bool {
        let Some(exchange) = R::reading(self) else { return false };
        exchange.received += wire as u64;
        exchange.content += data as u64;
        exchange.dropped += if exchange.unwanted { wire as u64 } else { 0 };
        true
    }

    /// `data` bytes of content came in with `wire` bytes, as much as the limit allows. RFC 9110 §6.4: they belong to the message whose head
    /// was read last.
    #[inline(always)]
    fn content(&mut self, data: usize, wire: usize, rest: &[u8]) -> Content {
        self.count(wire, data);
        if data == 0 {
            if rest.is_empty() {
                return Content::Missing;
            }
            let limit = self.config.limits.body_bytes_max;
            return Content::TooMuch(ProtocolError::new(Cause::BodyTooLarge { limit }, self.consumed));
        }
        let Some(exchange) = R::reading(self) else { return Content::Nobodys };
        exchange.expect = super::exchange::Expect::Settled;
        debug_assert_eq!(exchange.receiving.on(Step::Data), Some(Half::Body));
        if exchange.unwanted {
            if exchange.dropped > self.config.limits.drain_bytes_max {
                R::drained_dry(self);
            }
            return Content::Nobodys;
        }
        Content::Of(exchange.id)
    }

    /// How many bytes of content the limit still allows in the message that is being read.
    pub(super) fn content_room(&self) -> u64 {
        let limit = self.config.limits.body_bytes_max;
        if limit == u64::MAX {
            return limit;
        }
        match self.queue.iter().find(|exchange| exchange.receiving == Half::Body) {
            // What nobody wants has a budget of its own.
            Some(exchange) if !exchange.unwanted => limit.saturating_sub(exchange.content),
            _ => u64::MAX,
        }
    }

    /// The message that is being read is complete: that of this exchange, unless nobody is to be told.
    #[inline(always)]
    pub(super) fn end(&mut self) -> Option<ExchangeId> {
        self.inbound = Inbound::Between;
        let exchange = R::reading(self)?;
        if let Some(done) = exchange.receiving.on(Step::End) {
            exchange.receiving = done;
        }
        let (id, silent) = (exchange.id, exchange.unwanted || exchange.ended);
        R::received(self);
        self.settle();
        if silent { None } else { Some(id) }
    }

    /// The content that follows a head.
    pub(super) fn begin_body(&mut self, body: BodyLen) {
        self.times.body = self.times.now;
        self.inbound = match body {
            BodyLen::Empty | BodyLen::Length(0) => Inbound::End,
            BodyLen::Length(length) => Inbound::Length(length),
            BodyLen::Chunked => Inbound::Chunked(crate::chunked::Decoder::default()),
            BodyLen::UntilClose => Inbound::UntilClose,
        };
    }

    fn drop_input(&mut self, input: &mut &[u8]) {
        let n = input.len() as u64;
        *input = &[];
        self.consumed += n;
        if self.phase == Phase::Lingering {
            let lingered = &mut self.uncommon.get_or_insert_default().lingered;
            *lingered += n;
            if *lingered > self.config.limits.drain_bytes_max {
                self.closed();
            }
        }
    }

    fn due_event<'i>(&mut self) -> Option<Event<'i, R>> {
        // The last message's `End` comes before what follows from it.
        let end_is_due = matches!(self.inbound, Inbound::End) && !self.due.closed;
        if let Some(rare) = &mut self.due.rare {
            if let Some((id, failure)) = rare.ended.pop_front() {
                return Some(Event::Ended { id, failure });
            }
            if let Some(id) = rare.proceed.take() {
                return Some(Event::Continue { id });
            }
            if let Some(id) = rare.stopped.take() {
                return Some(Event::UploadStopped { id });
            }
            if end_is_due {
                return None;
            }
            if let Some(id) = rare.switched.take() {
                return Some(Event::Switched { id });
            }
            self.due.rare = None;
        }
        if end_is_due {
            return None;
        }
        let Due { any, slots, closed, .. } = &mut self.due;
        if core::mem::take(slots) {
            *any = *closed;
            return Some(Event::Slots);
        }
        *any = false;
        if core::mem::take(closed) {
            let reason = self.reason.as_deref().cloned().unwrap_or(CloseReason::OurClose);
            return Some(Event::Closed(reason));
        }
        None
    }

    /// The bytes of the current body that may be read straight from the stream into the caller's buffer; 0 when there is framing to be read first, or
    /// nobody wants them.
    ///
    /// Call after [`next`](Self::next) said `NeedRead`.
    pub fn body_window(&self) -> u64 {
        // What nobody wants is dropped within a budget, which `next` keeps.
        let reading = if R::IS_CLIENT { self.queue.front() } else { self.queue.back() };
        if self.due.any || reading.is_some_and(|exchange| exchange.unwanted) {
            return 0;
        }
        let window = match &self.inbound {
            Inbound::Length(left) => *left,
            Inbound::Chunked(decoder) => decoder.window(),
            Inbound::UntilClose => u64::MAX,
            _ => return 0,
        };
        window.min(self.content_room())
    }

    /// `n` bytes of the body were read straight from the stream, at most [`body_window`](Self::body_window). No `Data` event comes for them.
    pub fn handle_body(&mut self, n: u64, now: Instant) {
        self.tick(now);
        let n = n.min(self.body_window());
        match &mut self.inbound {
            Inbound::Length(left) => {
                *left -= n;
                if *left == 0 {
                    self.inbound = Inbound::End;
                }
            }
            Inbound::Chunked(decoder) => decoder.skip(n),
            _ => {}
        }
        self.took(n as usize);
        self.count(n as usize, n as usize);
    }

    /// When `Paused`: takes what was read but cannot be used yet. Give it back to `next`, ahead of anything new, with [`take_kept`](Self::take_kept).
    ///
    /// # Errors
    /// How many bytes did not fit into [`Limits::kept_bytes_max`](crate::Limits::kept_bytes_max); nothing was taken.
    pub fn keep(&mut self, rest: &[u8]) -> Result<(), usize> {
        if rest.is_empty() {
            return Ok(());
        }
        let kept = &mut self.uncommon.get_or_insert_default().kept;
        let total = kept.len() + rest.len();
        match total.checked_sub(self.config.limits.kept_bytes_max as usize) {
            None | Some(0) => {
                kept.extend_from_slice(rest);
                Ok(())
            }
            Some(excess) => Err(excess),
        }
    }

    /// What [`keep`](Self::keep) took, or [`from_parts`](Self::from_parts) brought. Feed it to `next` before new input.
    pub fn take_kept(&mut self) -> alloc::vec::Vec<u8> {
        self.uncommon.as_mut().map(|uncommon| core::mem::take(&mut uncommon.kept)).unwrap_or_default()
    }

    /// Notes that `exchange` ended without completing.
    pub(super) fn failure(&self, exchange: &Exchange, reason: CloseReason) -> alloc::boxed::Box<Failure> {
        let disposition = R::disposition(self, exchange);
        tell!(exchange = exchange.id.number(), %disposition, %reason, sent = exchange.sent, "exchange did not complete");
        alloc::boxed::Box::new(Failure {
            disposition,
            reason,
            sent: exchange.sent,
            received: self.reply_bytes(exchange),
            idempotent: exchange.method.is_idempotent(),
            reused: exchange.id.number() > 0 && self.completed > 0,
            age: self.times.now - self.times.created,
            served: !R::IS_CLIENT,
        })
    }

    /// Bytes of the peer's final message: those of a client's that has begun, however far its head came.
    pub(super) fn reply_bytes(&self, exchange: &Exchange) -> u64 {
        let is_oldest = self.queue.front().is_none_or(|front| front.id >= exchange.id);
        let begun = R::IS_CLIENT && is_oldest && exchange.receiving == Half::Idle && self.partial.is_final_response();
        exchange.received + if begun { self.partial.len() as u64 } else { 0 }
    }
}

/// Cuts `n` bytes off the front of the input.
pub(super) fn take<'i>(input: &mut &'i [u8], n: usize) -> &'i [u8] {
    let (front, rest) = input.split_at(n);
    *input = rest;
    front
}
