//! A request and its reply in one future. Most exchanges take two polls of it: one looks at the stream and writes, one reads.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

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
    conn: &'a ClientConn<S>,
    request: Outline<'a>,
    body: &'a mut Option<Body>,
    place: &'a mut Option<CoreSlot>,
    /// Where the reply is put, rather than moved from future to future.
    reply: &'a mut Option<Reply>,
    looks: Looks,
    /// The time of the first poll, if that is known.
    at: Option<Instant>,
    slot: Option<Slot>,
    /// Once the machine has the request, until somebody else holds the exchange.
    begun: Cell<Option<ExchangeId>>,
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
    /// When that was, if the connection goes by its client's clock: one of HTTP/2 does not.
    pub(crate) at: Option<Instant>,
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
        Self { conn, request, body, place, reply, looks: Looks::No, at: None, slot: None, begun: Cell::new(None) }
    }

    /// After a look at the stream, if the connection has been used and is idle. If that has ended, the request is refused.
    pub(crate) fn looking_first(mut self) -> Self {
        self.looks = Looks::First;
        self
    }

    /// The same, but then it is [stale](Trip::Stale). `at` is the time, if that is known.
    pub(crate) fn unless_stale(mut self, at: Option<Instant>) -> Self {
        self.looks = Looks::FirstForPool;
        self.at = at;
        self
    }
}

impl Standing {
    pub(crate) fn of<S>(state: &State<Client, S>) -> Self {
        let is_over = state.stream.is_none() || !state.conn.may_go_on();
        Self { announced: state.conn.announced(), is_over, at: Some(state.now()) }
    }
}

impl<S: Transport> Future for RoundTrip<'_, S> {
    type Output = Result<Trip>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Trip>> {
        let Self { conn, request, body, place, reply, looks, at, slot, begun } = self.get_mut();
        let (conn, request, begun) = (*conn, *request, &*begun);
        let interest = Cell::new(begun.get().map_or(Interest::Turn, Interest::Exchange));
        let tried = conn.link.poll_at(at.take(), (slot, &interest, Hold::Firm), cx, |state, cx, slot| {
            let looks = std::mem::replace(looks, Looks::No);
            if looks != Looks::No {
                state.look_before_reuse(cx);
                if looks == Looks::FirstForPool && (state.stream.is_none() || state.conn.is_closing()) {
                    return Some(Ok(Step::Done(Trip::Stale)));
                }
            }
            scratch::lend(&mut state.conn);
            let waited = begun.get().is_some();
            if let Some(id) = begun.get()
                && conn.read_whole(state, cx, id, reply)
            {
                begun.set(None);
                scratch::reclaim(&mut state.conn);
                return Some(Ok(Step::Done(Trip::Replied(Standing::of(state)))));
            }
            let mut attempt = |state: &mut State<Client, S>| {
                if let Some(id) = begun.get() {
                    return conn.take_begun(state, (id, begun), reply).map(|taken| taken.map(Step::Done));
                }
                match state.start(slot, Start { request, body, place, gates: Gates::Wait })? {
                    Err(error) => Some(Err(error)),
                    Ok(id) => {
                        begun.set(Some(id));
                        if state.entries.front().is_some_and(|first| first.id != id) {
                            return Some(Ok(Step::Behind(id)));
                        }
                        interest.set(Interest::Exchange(id));
                        if let Some(slot) = slot {
                            state.forget(slot);
                        }
                        None // whatever comes of it comes later
                    }
                }
            };
            let mut result = attempt(state);
            let is_out = result.is_none() && !waited && begun.get().is_some() && state.set_out(cx);
            if result.is_none() && !is_out {
                result = state.rounds(cx, &mut None, &mut attempt);
            }
            if !state.attended {
                scratch::reclaim(&mut state.conn);
            }
            result
        });
        match ready!(tried)? {
            Step::Done(trip) => Poll::Ready(Ok(trip)),
            // Whoever reads the replies in front drives.
            Step::Behind(id) => {
                let take = |state: &mut _| conn.take_begun(state, (id, begun), reply);
                conn.link.poll_behind((slot, Interest::Exchange(id)), cx, take)
            }
        }
    }
}

/// What a poll came to.
enum Step {
    Done(Trip),
    /// The request stands behind others, whose replies come first.
    Behind(ExchangeId),
}

impl<S: Transport> ClientConn<S> {
    /// Reads once, where the reply to `id` is all that there is to be done. True if the whole of it came: the shortest way, and the most common, on which
    /// nothing is kept for it to be taken later.
    fn read_whole(
        &self,
        state: &mut State<Client, S>,
        cx: &mut Context<'_>,
        id: ExchangeId,
        reply: &mut Option<Reply>,
    ) -> bool {
        if !state.hungry || !state.is_plain() || state.conn.wants_write() || state.receiving.is_some() {
            return false;
        }
        state.drive = Drive::Stopped;
        let read = state.fill_scratch(cx, |state, input| {
            let now = state.now();
            match state.conn.next(input, now) {
                Ok(Next::Event(Event::Head { id: whose, head, body, .. })) if whose == id => {
                    match state.conn.take_whole(input) {
                        Some(content) => {
                            *reply = Some(self.whole_reply(state, id, (head, body), content));
                            state.wake_turn();
                        }
                        None => state.on_event(Event::Head { id, ticket: (), head, body }, input, &mut None),
                    }
                }
                Ok(Next::Event(event)) => state.on_event(event, input, &mut None),
                Ok(Next::NeedRead | Next::Paused) | Err(_) => {} // and says so again
            }
            // Mostly nothing stands behind a reply, and what follows from its end needs no input.
            while reply.is_some()
                && input.is_empty()
                && let Some(event) = state.conn.poll_event(now)
            {
                state.on_event(event, input, &mut None);
            }
            if reply.is_none() || !input.is_empty() {
                state.feed(input, &mut None);
            }
        });
        state.hungry = read.is_none();
        reply.is_some()
    }

    /// The reply to what was begun, if its head is here. From there on its body holds the exchange.
    fn take_begun(
        &self,
        state: &mut State<Client, S>,
        (id, begun): (ExchangeId, &Cell<Option<ExchangeId>>),
        reply: &mut Option<Reply>,
    ) -> Option<Result<Trip>> {
        let taken = self.take_reply_into(state, id, reply)?;
        Some(taken.map(|()| {
            begun.set(None);
            Trip::Replied(Standing::of(state))
        }))
    }

    /// A reply of which all is here. The connection forgets it.
    fn whole_reply(
        &self,
        state: &mut State<Client, S>,
        id: ExchangeId,
        (head, len): (ResponseHead, BodyLen),
        content: &[u8],
    ) -> Reply {
        let mut interim = Vec::new();
        if let Some(entry) = state.entry(id) {
            let span = entry.span.clone();
            let _entered = span.enter();
            tell!("received");
            interim = entry.take_interim();
            entry.inbound_held = false;
            state.tidy(id);
        }
        let body = Incoming::whole(len, Bytes::copy_from_slice(content));
        Reply { head, interim, body, connection: self.link.id, reused: id.number() > 0 }
    }
}

impl<S: Transport> Drop for RoundTrip<'_, S> {
    fn drop(&mut self) {
        Inlet::leave(&*self.conn.link, &mut self.slot);
        if let Some(id) = self.begun.take() {
            self.conn.link.release(id);
        }
    }
}
