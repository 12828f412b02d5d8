//! One request and its reply by one thread, with nobody else about: the short way, which most exchanges of most connections go.
//!
//! It leaves out the steps that have nothing to do then, and decides nothing: whatever is out of the ordinary ends the trip, and from there
//! on the exchange goes the way of any other. The lock is taken once to send and once for what came; there are three system calls, the look, the write and the read.

use std::io;
use std::sync::Arc;

use persist_core::{BodyLen, Client, Event, ExchangeId, Instant, KeepAlive, Next, Outline, SendError};

use super::{Driver, Link, State, is_no_news};
use crate::arrived::Whole;
use crate::at_hand::AtHand;
use crate::body::Body;
use crate::client_conn::Terms;
use crate::clock;
use crate::exchange::Reply;
use crate::incoming::Incoming;
use crate::outgoing::Outgoing;
use crate::ready::Directions;
use crate::scratch;
use crate::stream::{Stream, TICK};
use crate::trace::{Span, tell};

/// Whether to look at the socket before an idle connection is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    First,
    /// The same for a pool, which tells when it uses one again.
    Pooled,
    /// Somebody has just done it, or nobody asked for it.
    Not,
}

/// How a trip ended, if not with the whole reply.
pub(crate) enum Detour {
    /// The request was sent, perhaps without all of its body; its exchange goes on like any other.
    Sent(ExchangeId, Option<Box<Outgoing>>, Span),
    /// The look found that the connection is over. Nothing was sent.
    Stale,
    /// Nothing was sent, for this reason.
    Refused(SendError),
    /// Others use the connection, or something is left to be done on it: not begun.
    NotAlone,
}

/// What a pool wants to know of a connection that has answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct After {
    pub(crate) announced: Option<KeepAlive>,
    /// No further request can be written.
    pub(crate) is_over: bool,
    /// When that was so.
    pub(crate) at: Instant,
}

impl Link<Client> {
    /// Sends a request with a body that is in memory, and reads its reply, if nobody else uses the connection. The body stays where it is unless the
    /// request is sent; the reply goes `home`, where it need not be moved.
    pub(crate) fn round_trip(
        &self,
        request: Outline<'_>,
        body: &mut Option<Body>,
        terms: &Terms,
        home: &mut Option<Reply>,
    ) -> Result<After, Detour> {
        let (id, stream, deadline) = self.set_out(request, body, terms)?;
        let span = self.span.exchange(id.number(), request.method.as_str());
        {
            let _entered = span.enter();
            if let Some(after) = self.come_home(id, stream, deadline, home) {
                return Ok(after);
            }
        }
        Err(Detour::Sent(id, None, span))
    }

    #[inline]
    fn set_out(
        &self,
        request: Outline<'_>,
        body: &mut Option<Body>,
        terms: &Terms,
    ) -> Result<(ExchangeId, Arc<Stream>, Option<Instant>), Detour> {
        let _entered = self.span.enter();
        let mut state = self.look();
        if !state.is_alone() {
            return Err(Detour::NotAlone);
        }
        let &Terms { look, until, at } = terms;
        let now = at.unwrap_or_else(clock::now);
        if look != Look::Not {
            if state.look_before_use(now) && !state.is_alone() {
                let detour = if state.is_over() { Detour::Stale } else { Detour::NotAlone };
                self.leave(state);
                return Err(detour);
            }
            self.passed(look);
        }
        let len = body.as_ref().map_or(BodyLen::Empty, Body::len);
        state.lend();
        let id = match state.machine.send_request(request.method, request.target, request.fields, len, now) {
            Ok(id) => id,
            Err(refused) => {
                self.leave(state);
                return Err(Detour::Refused(refused));
            }
        };
        if until.is_some() {
            state.machine.set_deadline(id, until);
        }
        let mut outgoing = None;
        if let Some(body) = body.take()
            && !matches!(len, BodyLen::Empty | BodyLen::Length(0))
        {
            outgoing = Outgoing::new(id, body);
            if let Some(body) = &mut outgoing
                && body.offer_whole(&mut state)
            {
                outgoing = None;
            }
        }
        state.flush_at_once(now);
        let is_away = outgoing.is_none() && state.open.write && state.machine.unsent_bytes() == 0;
        let deadline = if state.is_patient && until.is_none() { None } else { state.machine.poll_timeout() };
        let has_time = deadline.is_none_or(|deadline| deadline - now >= 4 * TICK);
        // He was alone before, and holds the lock since.
        if let Some(stream) = state.stream.as_ref().filter(|_| is_away && has_time) {
            let (stream, wanted) = (stream.clone(), Directions { read: true, write: false });
            state.arrived.travels(id);
            state.driver = Some(Driver { waker: None, reads: true, wanted, deadline });
            (state.told, state.unsettled) = (false, false);
            self.spread(&mut state);
            return Ok((id, stream, deadline));
        }
        state.arrived.sent(id);
        state.writing = outgoing.as_ref().map(|_| id);
        state.unsettled = true;
        state.advance();
        self.leave(state);
        let span = self.span.exchange(id.number(), request.method.as_str());
        Err(Detour::Sent(id, outgoing.map(Box::new), span))
    }

    /// The look has found nothing.
    pub(crate) fn passed(&self, look: Look) {
        if look == Look::Pooled {
            tell!(connection = self.id, "reused");
        }
    }

    /// Waits for what comes first, outside the lock.
    #[inline]
    fn come_home(
        &self,
        id: ExchangeId,
        stream: Arc<Stream>,
        deadline: Option<Instant>,
        home: &mut Option<Reply>,
    ) -> Option<After> {
        let mut after = None;
        scratch::with_input(|input| {
            let result = stream.read_waiting(input);
            drop(stream);
            let mut state = self.look();
            state.driver = None;
            if is_no_news(&result) {
                state.look_around();
            } else if state.arrived.is_travelling(id) && state.stream.is_some() {
                after = state.take_reply((id, self.id), result, input, deadline, home);
                if after.is_some() && !(state.unsettled || state.is_attended()) {
                    // There is nobody to be told, and nothing to move.
                    return;
                }
            } else {
                state.take_in(result, input);
            }
            state.arrived.settle_down();
            state.advance();
            self.leave(state);
        });
        after
    }
}

impl State<Client> {
    /// Whether nobody else uses the connection, and nothing on it waits for anybody.
    fn is_alone(&self) -> bool {
        self.waits
            && !self.crowded
            && self.driver.is_none()
            && self.waiting + self.watchers == 0
            && !(self.unsettled || self.paused || self.corked)
            && self.inbox.is_empty()
            && self.arrived.is_empty()
            && self.stream.is_some()
            && self.open == (Directions { read: true, write: true })
            && self.machine.is_idle()
            && !self.machine.is_closing()
    }

    /// Whether others wait here, or have something left to do when it is their turn.
    fn is_attended(&self) -> bool {
        self.waiting + self.watchers > 0 || self.turn_awaited
    }

    /// Whether no further exchange can begin.
    pub(super) fn is_over(&self) -> bool {
        self.stream.is_none() || !self.machine.may_go_on()
    }

    /// What the machine has to tell without input, but that there is room for another request.
    fn odd_event(&mut self, now: Instant) -> Option<Event<'static, Client>> {
        loop {
            match self.machine.poll_event(now) {
                Some(Event::Slots) => {}
                other => return other,
            }
        }
    }

    /// What came first for the only exchange: its whole reply, or whatever it is, which then goes where that of any other does.
    fn take_reply(
        &mut self,
        (id, connection): (ExchangeId, u64),
        result: io::Result<usize>,
        input: &[u8],
        deadline: Option<Instant>,
        home: &mut Option<Reply>,
    ) -> Option<After> {
        let now = clock::now();
        let Some(n) = self.after_read(result, input.len(), now) else {
            self.conclude(now);
            return None;
        };
        let mut input = &input[..n];
        let (mut found, mut at_hand, mut whole, mut is_complete) = (None, AtHand::NONE, Whole::default(), false);
        let odd = loop {
            match self.machine.next(&mut input, now) {
                Ok(Next::Event(Event::Head { head, body, .. })) => {
                    found = Some((head, body));
                    if let Some(content) = self.machine.take_whole(&mut input) {
                        (is_complete, at_hand) = (true, AtHand::copy_of(content));
                    }
                }
                Ok(Next::Event(Event::Data { data, .. })) => whole.content.extend_from_slice(data),
                Ok(Next::Event(Event::End { trailers, .. })) => (is_complete, whole.trailers) = (true, trailers),
                Ok(Next::Event(Event::Slots)) => {}
                Ok(Next::Event(odd)) => break Some(odd),
                // Said again to whoever asks again.
                Ok(Next::NeedRead | Next::Paused) | Err(_) => break None,
            }
            if is_complete && input.is_empty() {
                break self.odd_event(now);
            }
        };
        if is_complete
            && odd.is_none()
            && input.is_empty()
            && self.machine.is_idle()
            && let Some((head, len)) = found
        {
            // No deadline is nearer than the one before, so that most often none has to be looked for.
            if deadline.is_some_and(|deadline| deadline <= now) || self.machine.is_closing() {
                self.conclude(now);
            }
            self.news = true;
            self.arrived.arrive();
            let after = After { announced: self.machine.announced(), is_over: self.is_over(), at: now };
            let reused = id.number() > 0 || self.is_continued();
            if !whole.content.is_empty() {
                at_hand = whole.content.into();
            }
            let body = Incoming::at_hand(at_hand, whole.trailers, len);
            *home = Some(Reply { head, interim: Vec::new(), body, connection, reused });
            return Some(after);
        }
        if !at_hand.is_empty() {
            whole.content = at_hand.take_bytes(usize::MAX).into();
        }
        self.news = true;
        self.arrived.put(id, found.map(|(head, len)| (head, len, ())), whole, is_complete);
        if let Some(odd) = odd {
            self.arrived.take_in(odd);
        }
        self.told = true;
        self.digest(&mut input, now);
        if !input.is_empty() {
            self.inbox.extend_from_slice(input);
        }
        self.conclude(now);
        None
    }
}
