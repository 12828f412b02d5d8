//! Requests that are gathered before any of them is written.

use persist_core::{BodyLen, Client, ExchangeId, Outline, SendError};

use super::Link;
use super::moving::BURST_BYTES_MAX;
use crate::body::Body;
use crate::clock;
use crate::exchange::must_wait;
use crate::outgoing::Outgoing;

/// A request in the outbox.
pub(crate) struct Gathered {
    pub(crate) id: ExchangeId,
    /// What the machine did not take of its body yet, so that others wait for their turn.
    pub(crate) outgoing: Option<Box<Outgoing>>,
}

impl Link<Client> {
    /// Puts a request with a body that is in memory behind what waits to be written, and leaves the writing to whoever next moves the connection, unless much waits already.
    /// `None` if it must wait for others; then nothing was done, and the body stays where it is.
    pub(crate) fn gather(&self, request: Outline<'_>, body: &mut Option<Body>) -> Option<Result<Gathered, SendError>> {
        let _entered = self.span.enter();
        let mut state = self.look();
        if must_wait(&state) {
            return None;
        }
        let now = clock::now();
        let len = body.as_ref().map_or(BodyLen::Empty, Body::len);
        state.lend();
        let id = match state.conn_mut().send_request(request.method, request.target, request.fields, len, now) {
            Ok(id) => id,
            Err(refused) => return Some(Err(refused)),
        };
        state.arrived.sent(id);
        let mut outgoing = body.take().and_then(|body| Outgoing::new(id, body));
        if let Some(body) = &mut outgoing
            && body.offer_whole(&mut state)
        {
            outgoing = None;
        }
        state.writing = outgoing.as_ref().map(|_| id);
        if state.outbox_bytes() >= BURST_BYTES_MAX {
            state.advance_at(now);
            self.leave(state);
        }
        Some(Ok(Gathered { id, outgoing: outgoing.map(Box::new) }))
    }
}
