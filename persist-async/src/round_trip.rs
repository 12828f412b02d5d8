//! A request and its reply in one future. Most exchanges take two polls of it: one looks at the stream and writes, one reads.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use persist_core::{Client, ExchangeId, Outline, Slot as CoreSlot};

use crate::body::Body;
use crate::client_conn::ClientConn;
use crate::error::Result;
use crate::exchange::{Exchange, Reply};
use crate::incoming::Inlet;
use crate::link::{State, Transport};
use crate::start::{Gates, Start};
use crate::waiting::Interest;
use crate::wakers::{Hold, Slot};

/// Waits for its turn, writes a request, and reads its reply. Dropping it gives the exchange up.
pub(crate) struct RoundTrip<'a, S: Transport> {
    conn: &'a ClientConn<S>,
    request: Outline<'a>,
    body: &'a mut Option<Body>,
    place: &'a mut Option<CoreSlot>,
    /// Whether a connection that was used before is looked at first.
    looks: bool,
    slot: Option<Slot>,
    /// Once the machine has the request, until somebody else holds the exchange.
    begun: Option<ExchangeId>,
}

/// What came of it.
#[allow(clippy::large_enum_variant, reason = "nearly all are replies, and a box would be an allocation for each")]
pub(crate) enum Trip {
    Reply(Reply),
    /// The request stands behind others, whose replies come first: whoever reads those drives.
    Behind(Exchange),
}

impl<'a, S: Transport> RoundTrip<'a, S> {
    /// Of a request whose body stays where it is unless the connection takes the request.
    pub(crate) fn new(
        conn: &'a ClientConn<S>,
        request: Outline<'a>,
        body: &'a mut Option<Body>,
        place: &'a mut Option<CoreSlot>,
    ) -> Self {
        Self { conn, request, body, place, looks: false, slot: None, begun: None }
    }

    /// After a look at the stream, if the connection has been used and is idle.
    pub(crate) fn looking_first(mut self) -> Self {
        self.looks = true;
        self
    }
}

impl<S: Transport> Future for RoundTrip<'_, S> {
    type Output = Result<Trip>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Trip>> {
        let Self { conn, request, body, place, looks, slot, begun } = self.get_mut();
        let (conn, request) = (*conn, *request);
        let interest = Cell::new(begun.map_or(Interest::Turn, Interest::Exchange));
        let mut attempt = |state: &mut State<Client, S>, slot| {
            let id = match *begun {
                Some(id) => id,
                None => match state.start(slot, Start { request, body, place, gates: Gates::Wait })? {
                    Err(error) => return Some(Err(error)),
                    Ok(id) if state.entries.front().is_some_and(|first| first.id != id) => {
                        return Some(Ok(Trip::Behind(conn.hold(id))));
                    }
                    Ok(id) => {
                        *begun = Some(id);
                        interest.set(Interest::Exchange(id));
                        if let Some(slot) = slot {
                            state.forget(slot);
                        }
                        id
                    }
                },
            };
            let reply = conn.take_reply(state, id)?;
            if reply.is_ok() {
                *begun = None; // the body holds the exchange from here on
            }
            Some(reply.map(Trip::Reply))
        };
        conn.link.poll((slot, &interest, Hold::Firm), cx, |state, cx, slot| {
            if std::mem::take(looks) && state.conn.completed() > 0 && state.conn.pending() == 0 {
                state.look(cx);
            }
            state.drive(cx, &mut None, &mut |state| attempt(state, slot))
        })
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
