//! One request and its reply by one thread, with nobody else about: the short way, which most exchanges of most connections go.
//!
//! It leaves out the steps that have nothing to do then, and decides nothing: whatever is out of the ordinary ends the trip, and from there
//! on the exchange goes the way of any other. The lock is taken once to send and once for what came; there are three system calls, the look, the write and the read.

use std::io;
use std::sync::Arc;

use persist_core::{
    BodyLen, Client, Event, ExchangeId, Fields, Instant, KeepAlive, Next, Outline, ResponseHead, SendError,
};

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

/// What came for an exchange first.
#[derive(Default)]
struct Came<'i> {
    head: Option<(ResponseHead, BodyLen)>,
    /// Its content so far.
    whole: Whole,
    is_complete: bool,
    /// What is no part of a reply.
    odd: Option<Event<'i, Client>>,
}

impl Link<Client> {
    /// Sends a request with a body that is in memory, and reads its reply, if nobody else uses the connection. The body stays where it is unless the
    /// request is sent; the reply goes `home`, where it need not be moved. Gives what `after` says of the connection when the reply is here.
    pub(crate) fn round_trip<A>(
        &self,
        request: Outline<'_>,
        body: &mut Option<Body>,
        terms: &Terms,
        home: &mut Option<Reply>,
        after: impl FnOnce(&State<Client>, Instant) -> A,
    ) -> Result<A, Detour> {
        let (id, stream, deadline) = self.set_out(request, body, terms)?;
        let span = self.span.exchange(id.number(), request.method.as_str());
        {
            let _entered = span.enter();
            if let Some(after) = self.come_home(id, stream, deadline, home, after) {
                return Ok(after);
            }
        }
        Err(Detour::Sent(id, None, span))
    }

    #[inline(always)]
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
            if state.look_while_idle(now) && !state.is_alone() {
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
    #[inline(always)]
    fn come_home<A>(
        &self,
        id: ExchangeId,
        stream: Arc<Stream>,
        deadline: Option<Instant>,
        home: &mut Option<Reply>,
        after: impl FnOnce(&State<Client>, Instant) -> A,
    ) -> Option<A> {
        let mut said = None;
        scratch::with_input(|input| {
            let result = stream.read_waiting(input);
            drop(stream);
            let mut state = self.look();
            state.driver = None;
            if is_no_news(&result) {
                state.look_around();
            } else if state.arrived.is_travelling(id) && state.stream.is_some() {
                said = state.take_reply((id, self.id), result, input, deadline, home).map(|now| after(&state, now));
                if said.is_some() && !(state.unsettled || state.is_attended()) {
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
        said
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

    /// What a pool wants to know.
    pub(crate) fn after(&self, now: Instant) -> After {
        After { announced: self.machine.announced(), is_over: self.is_over(), at: now }
    }

    /// What came first for the only exchange: its whole reply, or whatever it is, which then goes where that of any other does. Says when, if it was the reply.
    #[inline(always)]
    fn take_reply(
        &mut self,
        ids: (ExchangeId, u64),
        result: io::Result<usize>,
        input: &[u8],
        deadline: Option<Instant>,
        home: &mut Option<Reply>,
    ) -> Option<Instant> {
        let now = clock::now();
        let Some(n) = self.after_read(result, input.len(), now) else {
            self.conclude(now);
            return None;
        };
        let mut input = &input[..n];
        let mut came = Came::default();
        match self.machine.next(&mut input, now) {
            Ok(Next::Event(Event::Head { head, body, .. })) => {
                let content = self.machine.take_whole(&mut input);
                if let Some(content) = content
                    && input.is_empty()
                    && !self.machine.has_event()
                {
                    // As nearly all come.
                    self.bring_home(ids, (head, body), (AtHand::copy_of(content), None), (deadline, now), home);
                    return Some(now);
                }
                came.head = Some((head, body));
                came.is_complete = content.is_some();
                came.whole.content.extend_from_slice(content.unwrap_or_default());
            }
            Ok(Next::Event(odd)) => came.odd = Some(odd),
            Ok(Next::NeedRead | Next::Paused) | Err(_) => {} // and says so again
        }
        self.take_bits(&mut came, &mut input, now);
        if came.is_complete
            && came.odd.is_none()
            && input.is_empty()
            && self.machine.is_idle()
            && let Some(head) = came.head.take()
        {
            let Whole { content, trailers } = came.whole;
            self.bring_home(ids, head, (content.into(), trailers), (deadline, now), home);
            return Some(now);
        }
        self.news = true;
        self.arrived.put(ids.0, came.head.map(|(head, len)| (head, len, ())), came.whole, came.is_complete);
        if let Some(odd) = came.odd {
            self.arrived.take_in(odd, None);
        }
        self.told = true;
        self.digest(&mut input, now);
        if !input.is_empty() {
            self.inbox.extend_from_slice(input);
        }
        self.conclude(now);
        None
    }

    /// What else came, up to the end of the reply or the first thing that belongs to none.
    #[inline(never)]
    fn take_bits<'i>(&mut self, came: &mut Came<'i>, input: &mut &'i [u8], now: Instant) {
        while came.odd.is_none() {
            // Behind the end comes nothing, as a rule, and what follows from it needs no input.
            let next = if came.is_complete && input.is_empty() {
                self.machine.poll_event(now).map(Next::Event).ok_or(())
            } else {
                self.machine.next(input, now).map_err(drop)
            };
            match next {
                Ok(Next::Event(Event::Head { head, body, .. })) => came.head = Some((head, body)),
                Ok(Next::Event(Event::Data { data, .. })) => came.whole.content.extend_from_slice(data),
                Ok(Next::Event(Event::End { trailers, .. })) => {
                    (came.is_complete, came.whole.trailers) = (true, trailers);
                }
                Ok(Next::Event(Event::Slots)) => {}
                Ok(Next::Event(odd)) => came.odd = Some(odd),
                // Said again to whoever asks again.
                Ok(Next::NeedRead | Next::Paused) | Err(()) => return,
            }
        }
    }

    /// The reply goes to the thread that waits for it, and the connection forgets it.
    #[inline(always)]
    fn bring_home(
        &mut self,
        (id, connection): (ExchangeId, u64),
        (head, len): (ResponseHead, BodyLen),
        (content, trailers): (AtHand, Option<Fields>),
        (deadline, now): (Option<Instant>, Instant),
        home: &mut Option<Reply>,
    ) {
        // No deadline is nearer than the one before, so that most often none has to be looked for.
        if deadline.is_some_and(|deadline| deadline <= now) || self.machine.is_closing() {
            self.conclude(now);
        }
        self.news = true;
        self.arrived.arrive();
        let reused = id.number() > 0 || self.is_continued();
        let body = Incoming::at_hand(content, trailers, len);
        *home = Some(Reply { head, interim: Vec::new(), body, connection, reused });
    }
}
