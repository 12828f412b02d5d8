//! A request and its reply in one future. Most exchanges take two polls of it: one looks at the stream and writes, one reads.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use persist_core::keep_alive::KeepAlive;
use persist_core::{BodyLen, Client, Event, ExchangeId, Instant, Next, Outline, ResponseHead, Slot as CoreSlot};

use crate::body::Body;
use crate::client_conn::ClientConn;
use crate::error::Result;
use crate::exchange::Reply;
use crate::incoming::{Incoming, Inlet};
use crate::link::{Drive, State, Transport};
use crate::scratch;
use crate::start::{Gates, Start};
use crate::trace::tell;
use crate::waiting::Interest;
use crate::wakers::{Hold, Slot};

/// Waits for its turn, writes a request, and reads its reply. Dropping it gives the exchange up.
pub(crate) struct RoundTrip<'a, S: Transport> {
    round: Round<'a, S>,
    /// The time of the first poll, if that is known.
    at: Option<Instant>,
    slot: Option<Slot>,
}

/// What it does under the connection's lock.
struct Round<'a, S: Transport> {
    conn: &'a ClientConn<S>,
    request: Outline<'a>,
    body: &'a mut Option<Body>,
    place: &'a mut Option<CoreSlot>,
    /// Where the reply is put, rather than moved from future to future.
    reply: &'a mut Option<Reply>,
    looks: Looks,
    /// Once the machine has the request, until somebody else holds the exchange.
    begun: Option<ExchangeId>,
}

/// Whether a connection that was used before is looked at first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    No,
    First,
    /// For a pool, which takes another connection if this one has ended.
    FirstForPool,
}

/// What came of it.
pub(crate) enum Trip {
    /// The reply is where it was to be put.
    Replied(Standing),
    /// The look found that the connection has ended. It was not given the request.
    Stale,
}

/// What a pool wants to know of a connection behind an exchange.
pub(crate) struct Standing {
    /// What the peer has announced.
    pub(crate) announced: Option<KeepAlive>,
    /// Whether no further exchange can begin.
    pub(crate) is_over: bool,
    /// When that was.
    pub(crate) at: Instant,
}

impl<'a, S: Transport> RoundTrip<'a, S> {
    /// Of a request whose body stays where it is unless the connection takes the request.
    pub(crate) fn new(
        conn: &'a ClientConn<S>,
        request: Outline<'a>,
        body: &'a mut Option<Body>,
        place: &'a mut Option<CoreSlot>,
        reply: &'a mut Option<Reply>,
    ) -> Self {
        let round = Round { conn, request, body, place, reply, looks: Looks::No, begun: None };
        Self { round, at: None, slot: None }
    }

    /// After a look at the stream, if the connection has been used and is idle. If that has ended, the request is refused.
    pub(crate) fn looking_first(mut self) -> Self {
        self.round.looks = Looks::First;
        self
    }

    /// The same, but then it is [stale](Trip::Stale). `at` is the time, if that is known.
    pub(crate) fn unless_stale(mut self, at: Option<Instant>) -> Self {
        self.round.looks = Looks::FirstForPool;
        self.at = at;
        self
    }
}

impl Standing {
    pub(crate) fn of<S>(state: &State<Client, S>) -> Self {
        let is_over = state.stream.is_none() || !state.conn.may_go_on();
        Self { announced: state.conn.announced(), is_over, at: state.now() }
    }
}

impl<S: Transport> Future for RoundTrip<'_, S> {
    type Output = Result<Trip>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Trip>> {
        let Self { round, at, slot } = self.get_mut();
        let waker = cx.waker();
        let link = &round.conn.link;
        let interest = Cell::new(round.begun.map_or(Interest::Turn, Interest::Exchange));
        let tried = link.poll_at(at.take(), (slot, &interest, Hold::Firm), cx, |state, cx, slot| {
            let came = round.poll(state, cx, slot, waker);
            if let Some(id) = round.begun {
                interest.set(Interest::Exchange(id));
            }
            came
        });
        match ready!(tried)? {
            Step::Done(trip) => Poll::Ready(Ok(trip)),
            // Whoever reads the replies in front drives.
            Step::Behind(id) => link.poll_behind((slot, Interest::Exchange(id)), cx, |state| round.take(state, id)),
        }
    }
}

/// What a poll came to.
enum Step {
    Done(Trip),
    /// The request stands behind others, whose replies come first.
    Behind(ExchangeId),
}

impl<S: Transport> Round<'_, S> {
    fn poll(
        &mut self,
        state: &mut State<Client, S>,
        cx: &mut Context<'_>,
        slot: Option<Slot>,
        waker: &Waker,
    ) -> Option<Result<Step>> {
        if state.traveller.is_some() {
            if self.come_home(state, cx) {
                scratch::reclaim(&mut state.conn);
                return Some(Ok(Step::Done(Trip::Replied(Standing::of(state)))));
            }
            state.settle_down();
        }
        let looks = std::mem::replace(&mut self.looks, Looks::No);
        if looks != Looks::No {
            state.look_before_reuse(cx);
            if looks == Looks::FirstForPool && (state.stream.is_none() || state.conn.is_closing()) {
                return Some(Ok(Step::Done(Trip::Stale)));
            }
        }
        scratch::lend(&mut state.conn);
        let came = self.go_on(state, cx, slot, waker);
        scratch::reclaim(&mut state.conn);
        came
    }

    fn go_on(
        &mut self,
        state: &mut State<Client, S>,
        cx: &mut Context<'_>,
        slot: Option<Slot>,
        waker: &Waker,
    ) -> Option<Result<Step>> {
        let came = self.attempt(state, slot);
        if came.is_some() || state.traveller.is_some() && state.set_out(cx, waker) {
            return came;
        }
        state.settle_down();
        state.rounds(cx, &mut None, &mut |state| {
            let came = self.attempt(state, slot);
            state.settle_down();
            came
        })
    }

    fn attempt(&mut self, state: &mut State<Client, S>, slot: Option<Slot>) -> Option<Result<Step>> {
        if let Some(id) = self.begun {
            return self.take(state, id).map(|taken| taken.map(Step::Done));
        }
        let start = Start { request: &self.request, body: self.body, place: self.place, gates: Gates::Wait };
        match state.start(slot, start)? {
            Err(error) => Some(Err(error)),
            Ok(id) => {
                self.begun = Some(id);
                if state.entries.front().is_some_and(|first| first.id != id) {
                    return Some(Ok(Step::Behind(id)));
                }
                if let Some(slot) = slot {
                    state.forget(slot);
                }
                None // whatever comes of it comes later
            }
        }
    }

    /// The reply to what was begun, if its head is here. From there on its body holds the exchange.
    fn take(&mut self, state: &mut State<Client, S>, id: ExchangeId) -> Option<Result<Trip>> {
        let taken = self.conn.take_reply_into(state, id, self.reply)?;
        Some(taken.map(|()| {
            self.begun = None;
            Trip::Replied(Standing::of(state))
        }))
    }

    /// Reads once. True if the whole reply came: the shortest way, and the most common, on which nothing is kept for it to be taken later.
    fn come_home(&mut self, state: &mut State<Client, S>, cx: &mut Context<'_>) -> bool {
        if state.is_due() {
            return false;
        }
        state.drive = Drive::Stopped;
        let read = state.fill_scratch(cx, |state, input| self.take_reply(state, input));
        state.hungry = read.is_none();
        self.begun.is_none()
    }

    /// Takes the whole reply, if it came, or whatever did, which then goes where that of any other exchange does.
    fn take_reply(&mut self, state: &mut State<Client, S>, input: &mut &[u8]) {
        let now = state.now();
        match state.conn.next(input, now) {
            Ok(Next::Event(Event::Head { id, head, body, .. })) => match state.conn.take_whole(input) {
                Some(content) => self.bring_home(state, id, (head, body), content),
                None => {
                    state.settle_down();
                    state.on_event(Event::Head { id, ticket: (), head, body }, input, &mut None);
                }
            },
            Ok(Next::Event(event)) => {
                state.settle_down();
                state.on_event(event, input, &mut None);
            }
            Ok(Next::NeedRead | Next::Paused) | Err(_) => state.settle_down(), // and says so again
        }
        if self.begun.is_none() && input.is_empty() && !state.conn.has_event() {
            return; // as mostly
        }
        state.feed(input, &mut None);
    }

    /// The reply goes to whoever waits for it, and the connection forgets it.
    fn bring_home(
        &mut self,
        state: &mut State<Client, S>,
        id: ExchangeId,
        (head, len): (ResponseHead, BodyLen),
        content: &[u8],
    ) {
        {
            let traveller = state.traveller.take();
            let _entered = traveller.as_ref().map(|traveller| traveller.span.enter());
            tell!("received");
        }
        self.begun = None;
        let body = Incoming::whole(len, Bytes::copy_from_slice(content));
        *self.reply =
            Some(Reply { head, interim: Vec::new(), body, connection: self.conn.link.id, reused: id.number() > 0 });
        state.wake_turn();
    }
}

impl<S: Transport> Drop for RoundTrip<'_, S> {
    fn drop(&mut self) {
        let Round { conn, begun, .. } = &mut self.round;
        Inlet::leave(&*conn.link, &mut self.slot);
        if let Some(id) = begun.take() {
            conn.link.release(id);
        }
    }
}
