//! The driver loop: bytes, events and time, in rounds until what was asked for is there or nothing moves.
//!
//! The machine's contract is *mutate → drain → wait*. One round of [`State::drive`] is: deadlines, events, bodies out, bytes out, bytes in.
//! Rounds go on until the attempt that was asked for succeeds, or until nothing moves; then the stream and the timer hold the connection's
//! waker, and the caller may sleep. It runs in the poll of whichever future waits (see `wakers.rs`), under the connection's lock, and calls
//! nothing there but the machine and the stream.

use std::mem;
use std::task::{Context, Waker};

use persist_core::{Event, ExchangeId, Fields, Next};
use tokio::io::ReadBuf;

use crate::clock;
use crate::link::{BUFFERED_MAX, Drive, State, Transport, Writable};
use crate::part::Part;
use crate::scratch;
use crate::stream::quick;
use crate::trace::tell;

mod moving;

/// A body reader's own buffer: content is put there directly where that is possible.
pub(crate) struct Direct<'a, 'b> {
    pub(crate) id: ExchangeId,
    buf: &'a mut ReadBuf<'b>,
    before: usize,
}

impl<'a, 'b> Direct<'a, 'b> {
    pub(crate) fn new(id: ExchangeId, buf: &'a mut ReadBuf<'b>) -> Self {
        let before = buf.filled().len();
        Self { id, buf, before }
    }

    fn has_content(&self) -> bool {
        self.buf.filled().len() > self.before
    }
}

/// Rounds before others get their turn, if a stream is always ready.
const ROUNDS_MAX: u32 = 64;

/// Where the machine's wish for input stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Appetite {
    Hungry,
    /// Callers, or the machine, must act before more is read.
    #[default]
    Sated,
}

impl<R: Part, S: Transport> State<R, S> {
    /// Drives until `attempt` succeeds (its result), until something is in the direct buffer, or until the stream and the timer must be waited for.
    ///
    /// What `attempt` makes the machine write is written into the thread's own buffer.
    pub(crate) fn drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        direct: &mut Option<Direct<'_, '_>>,
        attempt: &mut dyn FnMut(&mut Self) -> Option<T>,
    ) -> Option<T> {
        // A task that attends to the connection has lent it room already.
        if self.attended {
            return attempt(self).or_else(|| self.rounds(cx, direct, attempt));
        }
        scratch::lend(&mut self.conn);
        let result = attempt(self).or_else(|| self.rounds(cx, direct, attempt));
        scratch::reclaim(&mut self.conn);
        result
    }

    /// Writes the request of whoever travels, and reads once. True if nothing came and nothing is left to be done: from here on the stream and the
    /// timer are waited for. A socket wakes the `traveller` itself, who looks after it in any case: a trip that is given up kicks the others.
    pub(crate) fn set_out(&mut self, cx: &mut Context<'_>, traveller: &Waker) -> bool {
        // What is read here may be the reply: whoever goes on must look for it before it reads more.
        self.hungry = false;
        if !self.is_plain() {
            return false;
        }
        self.flush(cx);
        if !self.is_plain() || self.conn.wants_write() {
            return false;
        }
        // As mostly: the reply has yet to come.
        let mut own = Context::from_waker(traveller);
        let is_dry = self.stream.as_ref().is_some_and(|stream| quick::is_dry(stream, &mut own));
        if !is_dry && (self.fill_scratch(cx, Self::settle_and_feed).is_some() || !self.is_plain()) {
            return false;
        }
        if !self.is_patient && self.arm(cx) {
            return false;
        }
        self.drive = Drive::Parked;
        self.hungry = true;
        true
    }

    fn settle_and_feed(&mut self, input: &mut &[u8]) {
        self.settle_down();
        self.feed(input, &mut None);
    }

    /// Whether there is nothing to be done but to write and to read.
    pub(crate) fn is_plain(&self) -> bool {
        self.write_side == Writable::Open
            && self.inbox.is_empty()
            && !self.conn.has_event()
            && !self.is_due()
            && self.first_outgoing().is_none()
    }

    pub(crate) fn rounds<T>(
        &mut self,
        cx: &mut Context<'_>,
        direct: &mut Option<Direct<'_, '_>>,
        attempt: &mut dyn FnMut(&mut Self) -> Option<T>,
    ) -> Option<T> {
        self.drive = Drive::Stopped;
        let mut hungry = mem::take(&mut self.hungry);
        for round in 0..ROUNDS_MAX {
            if round % 8 == 7 {
                self.tick();
            }
            if self.is_due() {
                hungry = false;
                self.look_first(cx, direct);
                self.conn.handle_timeout(self.now());
            }
            let reads_first = mem::take(&mut hungry) && !self.conn.has_event() && self.inbox.is_empty();
            let appetite = if reads_first {
                Appetite::Hungry // and this round has nothing to tell before it reads
            } else {
                let appetite = self.feed_inbox(direct);
                // Content first: an attempt could take the end away that comes after it.
                if direct.as_ref().is_some_and(Direct::has_content) {
                    return None;
                }
                if let Some(result) = attempt(self) {
                    return Some(result);
                }
                appetite
            };
            let pumped = self.pump();
            let wrote = self.flush(cx);
            let read = if appetite == Appetite::Hungry { self.fill(cx, direct) } else { None };
            if let Some(appetite) = read {
                if direct.as_ref().is_some_and(Direct::has_content) {
                    self.is_left(appetite);
                    return None;
                }
                if let Some(result) = attempt(self) {
                    self.is_left(appetite);
                    return Some(result);
                }
            }
            // Where content was expected and none came, the machine is asked before it is waited for: that is when the peer's time begins.
            if pumped || read.is_some() || (reads_first && self.receiving.is_some()) {
                continue;
            }
            if wrote {
                if let Some(result) = attempt(self) {
                    return Some(result);
                }
                if appetite == Appetite::Sated || self.conn.has_event() || self.conn.wants_write() {
                    continue;
                }
            }
            if !self.arm(cx) {
                self.drive = Drive::Parked;
                self.is_left(appetite);
                return None;
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    /// Notes for whoever drives next what there is to be asked first.
    pub(crate) fn is_left(&mut self, appetite: Appetite) {
        let is_told = self.inbox.is_empty() && self.arrived.is_none() && !self.conn.has_event();
        self.hungry = appetite == Appetite::Hungry && is_told && self.buffered < BUFFERED_MAX;
    }

    /// Writes what waits without waiting for more, and gives the buffer back.
    pub(crate) fn write_through(&mut self, cx: &mut Context<'_>) {
        scratch::lend(&mut self.conn);
        self.flush(cx);
        scratch::reclaim(&mut self.conn);
    }

    /// Hands out the events that a change caused.
    pub(crate) fn settle(&mut self) {
        self.feed_inbox(&mut None);
    }

    /// Tells the machine the time if a deadline may have passed.
    pub(crate) fn pass_deadline(&mut self) {
        if self.is_due() {
            self.conn.handle_timeout(self.now());
        }
    }

    /// Reads once, before the machine is told that a deadline may have passed, or that no further request is taken: a connection on which a request
    /// waits is not idle.
    #[cold]
    pub(crate) fn look_first(&mut self, cx: &mut Context<'_>, direct: &mut Option<Direct<'_, '_>>) {
        if self.feed_inbox(direct) == Appetite::Hungry {
            self.fill(cx, direct);
        }
    }

    /// Sets the timer for the next deadline. True if that has passed. A timer that is set too early is left alone, since deadlines mostly
    /// move away: it fires in vain, and is set anew then.
    pub(crate) fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        let now = self.now();
        let Some(deadline) = self.conn.poll_timeout().filter(|_| self.stream.is_some()) else { return false };
        if self.armed.is_some_and(|armed| now < armed && armed <= deadline) {
            return false;
        }
        if now < deadline {
            let due = clock::at(deadline);
            self.armed = Some(deadline);
            let timer = match &mut self.timer {
                Some(timer) => {
                    timer.as_mut().reset(due);
                    timer
                }
                None => self.timer.insert(Box::pin(tokio::time::sleep_until(due))),
            };
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.tick();
        }
        self.armed = None;
        self.conn.handle_timeout(self.now());
        true
    }

    /// Feeds what was kept, or nothing, so that the machine's events come out in any case.
    pub(crate) fn feed_inbox(&mut self, direct: &mut Option<Direct<'_, '_>>) -> Appetite {
        let mut inbox = mem::take(&mut self.inbox);
        let mut input = inbox.rest();
        let appetite = self.feed(&mut input, direct);
        let left = input.len();
        if left > 0 && self.stream.is_some() {
            inbox.keep_last(left);
            self.inbox = inbox;
        }
        if self.inbox.is_empty() { appetite } else { Appetite::Sated }
    }

    /// Feeds `input` until it is consumed or a caller must act, and hands out the events.
    pub(crate) fn feed(&mut self, input: &mut &[u8], direct: &mut Option<Direct<'_, '_>>) -> Appetite {
        loop {
            if self.closed.is_some() {
                return Appetite::Sated;
            }
            let now = self.now();
            if R::is_blocked(self) {
                // Events that need no input come out even while callers are slow.
                match self.conn.poll_event(now) {
                    Some(event) => self.on_event(event, &mut &[][..], direct),
                    None => return Appetite::Sated,
                }
                continue;
            }
            match self.conn.next(input, now) {
                Ok(Next::Event(event)) => self.on_event(event, input, direct),
                Ok(Next::NeedRead) => return Appetite::Hungry,
                Ok(Next::Paused) => return Appetite::Sated,
                Err(_) => {
                    // The reason comes with the events. What remains of the input means nothing, but reading goes on, so that the
                    // peer can finish and close.
                    *input = &[];
                    return Appetite::Hungry;
                }
            }
        }
    }

    /// Hands out an event; `input` is what came behind it.
    pub(crate) fn on_event(&mut self, event: Event<'_, R>, input: &mut &[u8], direct: &mut Option<Direct<'_, '_>>) {
        #[cfg(feature = "tracing")]
        let span = exchange_of(&event).and_then(|id| Some(self.entry(id)?.span.clone())).unwrap_or_default();
        #[cfg(feature = "tracing")]
        let _entered = span.enter();
        match event {
            Event::Interim { id, head } => {
                let waiter = self.entry(id).and_then(|entry| {
                    entry.interim.get_or_insert_default().push_back(head);
                    entry.waiter.take()
                });
                self.wake_slot(waiter);
            }
            Event::Head { id, ticket, head, body } => {
                self.receiving = Some(id);
                R::on_head(self, id, (head, ticket, body), input);
            }
            Event::Data { id, data } => self.on_data(id, data, direct),
            Event::End { id, trailers } => self.on_end(id, trailers),
            Event::Ended { id, failure } => {
                tell!(disposition = %failure.disposition, reason = %failure.reason, "failed");
                self.failed.get_or_insert_default().count(failure.disposition);
                R::on_ended(self, id);
                let gone = self.entry(id).and_then(|entry| {
                    entry.failure = Some(failure);
                    entry.outgoing.take()
                });
                self.discard(gone);
                self.wake_exchange(id);
                self.wake_turn();
                self.tidy(id);
            }
            Event::UploadStopped { id } => {
                let gone = self.entry(id).and_then(|entry| entry.outgoing.take());
                self.discard(gone);
                self.wake_exchange(id);
                self.wake_turn();
                self.tidy(id);
            }
            Event::Slots => self.wake_turn(),
            Event::Switched { .. } => {
                self.switched = true;
                self.wake_everybody();
            }
            Event::Closed(reason) => {
                self.closed = Some(Box::new(reason));
                // What was not sent never will be, and a reply that is complete does not wait for it.
                let unsent: Vec<_> =
                    self.entries.iter().filter(|entry| entry.outgoing.is_some()).map(|entry| entry.id).collect();
                unsent.into_iter().for_each(|id| self.end_body(id));
                self.discard_stream();
                self.wake_everybody();
            }
            // The upload is asked for its state in every round.
            _ => {}
        }
    }

    /// The message is complete.
    pub(crate) fn on_end(&mut self, id: ExchangeId, trailers: Option<Fields>) {
        self.end_at(self.place_of(id), trailers);
    }

    /// That of the exchange in this place; of a request without content nothing is kept.
    pub(crate) fn end_at(&mut self, at: Option<usize>, trailers: Option<Fields>) {
        tell!("received");
        self.receiving = None;
        if let Some(at) = at {
            let entry = &mut self.entries[at];
            entry.end = Some(trailers.map(Box::new));
            let (waiter, is_held) = (entry.waiter.take(), entry.inbound_held);
            self.wake_slot(waiter);
            if !is_held {
                self.tidy_at(at);
            }
        }
    }

    fn on_data(&mut self, id: ExchangeId, mut data: &[u8], direct: &mut Option<Direct<'_, '_>>) {
        let behind = self.conn.body_window();
        let Some(entry) = self.entry(id) else { return };
        if !entry.inbound_held {
            entry.discarded += data.len() as u64;
            return;
        }
        if let Some(direct) = direct.as_mut().filter(|direct| direct.id == id && entry.content.is_empty()) {
            let n = data.len().min(direct.buf.remaining());
            direct.buf.put_slice(&data[..n]);
            data = &data[n..];
        }
        if !data.is_empty() {
            entry.keep_content(data, behind);
            let waiter = entry.waiter.take();
            self.buffered += data.len();
            self.wake_slot(waiter);
        }
    }
}

/// Whose event it is.
#[cfg(feature = "tracing")]
fn exchange_of<R: Part>(event: &Event<'_, R>) -> Option<ExchangeId> {
    match event {
        Event::Interim { id, .. }
        | Event::Head { id, .. }
        | Event::Data { id, .. }
        | Event::End { id, .. }
        | Event::Ended { id, .. }
        | Event::UploadStopped { id }
        | Event::Switched { id } => Some(*id),
        _ => None,
    }
}
