//! How a request gets into the machine of a client's connection, in its turn.

use persist_core::{BodyLen, Client, ExchangeId, Method, Outline, Phase, SendError, Slot as CoreSlot};

use crate::body::Body;
use crate::entry::{Entry, Traveller};
use crate::error::{self, Error, Result};
use crate::link::{State, Transport};
use crate::wakers::Slot;

/// What to do while a gate of the pipeline is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gates {
    /// Wait until it opens: the reply in front is awaited elsewhere, or by this very future.
    Wait,
    /// Tell the caller, who might be the one that must read first.
    Tell,
}

/// A request that is to be begun. What is not used up is left where it is.
pub(crate) struct Start<'a> {
    pub(crate) request: &'a Outline<'a>,
    pub(crate) body: &'a mut Option<Body>,
    pub(crate) place: &'a mut Option<CoreSlot>,
    pub(crate) gates: Gates,
}

impl<S: Transport> State<Client, S> {
    /// Whether it is this waiter's turn to send.
    pub(crate) fn may_try(&self, slot: Option<Slot>) -> bool {
        self.first_turn().is_none_or(|first| Some(first) == slot)
    }

    /// Gives the request to the machine; `None` while it must wait for its turn. Its exchange travels from here on, if it is the only one: let it
    /// [settle down](Self::settle_down) before anything comes for it.
    pub(crate) fn start(&mut self, slot: Option<Slot>, start: Start<'_>) -> Option<Result<ExchangeId>> {
        let Start { request, body, place, gates } = start;
        if let Some(error) = self.ended(Phase::Prepare) {
            return Some(Err(error));
        }
        // Whoever has a place does not queue behind those who wait for one: it might be this one.
        if gates == Gates::Wait && place.is_none() && !self.may_try(slot) {
            return None;
        }
        let body_len = body.as_ref().map_or(BodyLen::Empty, Body::len);
        match self.begin(request, body_len, place) {
            Ok(id) => {
                self.carry(id, request.method, body);
                Some(Ok(id))
            }
            Err(error) if waits(&error, gates) => None,
            Err(error) => Some(Err(self.refused(error))),
        }
    }

    fn begin(
        &mut self,
        request: &Outline<'_>,
        body: BodyLen,
        place: &mut Option<CoreSlot>,
    ) -> Result<ExchangeId, SendError> {
        let now = self.now();
        let Outline { method, target, fields } = *request;
        // A place is given back by the machine if the request is refused, so only a request that may be sent uses it up.
        if place.is_some() && matches!(self.conn.may_send(), Err(SendError::BodyUnfinished)) {
            return Err(SendError::BodyUnfinished);
        }
        match place.take() {
            Some(slot) => self.conn.send_request_in(slot, method, target, fields, body, now),
            None => self.conn.send_request(method, target, fields, body, now),
        }
    }

    fn carry(&mut self, id: ExchangeId, method: &Method, body: &mut Option<Body>) {
        let span = self.span.exchange(id.number(), method.as_str());
        let _entered = span.enter();
        if self.entries.is_empty() && self.conn.pending() == 1 {
            self.traveller = Some(Traveller { id, waiter: None, span: span.clone() });
        } else {
            self.enter(Entry { span: span.clone(), ..Entry::new(id) });
        }
        // An empty one is never used up.
        if let Some(body) = body.take_if(|body| !body.is_empty()) {
            self.begin_body(id, body);
        }
    }

    pub(crate) fn refused(&mut self, error: SendError) -> Error {
        match error {
            SendError::Closed => error::ended(Phase::Prepare, self.conn.close_reason().cloned(), self.io_error.clone())
                .hinting("it was not sent; open a fresh connection"),
            error => error::refused(error),
        }
    }
}

pub(crate) fn waits(error: &SendError, gates: Gates) -> bool {
    match error {
        SendError::BodyUnfinished => true,
        SendError::Full { .. } | SendError::AnswerFirst => gates == Gates::Wait,
        _ => false,
    }
}
