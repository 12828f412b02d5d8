//! One exchange, as far as the adapter keeps it: what came and was not taken, what is still to be sent, and who waits.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use persist_core::{BodyLen, ExchangeId, Failure, Fields, Role};

use crate::part::Part;
use crate::pump::Outgoing;
use crate::trace::Span;
use crate::wakers::Slot;

/// One exchange, as far as the adapter keeps it.
pub(crate) struct Entry<R: Role> {
    pub(crate) id: ExchangeId,
    pub(crate) interim: VecDeque<R::Inbound>,
    /// A client's: the reply's head, until it is taken.
    pub(crate) head: Option<(R::Inbound, R::Ticket, BodyLen)>,
    pub(crate) content: BytesMut,
    /// The peer's message is complete; its trailers until they are taken.
    pub(crate) end: Option<Option<Fields>>,
    pub(crate) failure: Option<Box<Failure>>,
    pub(crate) outgoing: Option<Box<Outgoing>>,
    pub(crate) outgoing_error: Option<Arc<io::Error>>,
    pub(crate) waiter: Option<Slot>,
    /// Somebody holds the receiving end: an `Exchange` or an `Incoming`.
    pub(crate) inbound_held: bool,
    /// Somebody holds the right to answer.
    pub(crate) outbound_held: bool,
    /// Entered while anything of it is worked on.
    #[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "there is nothing to enter"))]
    pub(crate) span: Span,
    /// Content that came after the receiving end was dropped.
    pub(crate) discarded: u64,
}

/// A request whose head is here, for whoever takes it.
pub(crate) struct Arrived<R: Role> {
    pub(crate) id: ExchangeId,
    pub(crate) head: R::Inbound,
    pub(crate) ticket: R::Ticket,
    pub(crate) len: BodyLen,
}

impl<R: Role> Entry<R> {
    pub(crate) fn new(id: ExchangeId) -> Self {
        Self {
            id,
            interim: VecDeque::new(),
            head: None,
            content: BytesMut::new(),
            end: None,
            failure: None,
            outgoing: None,
            outgoing_error: None,
            waiter: None,
            inbound_held: true,
            outbound_held: false,
            span: Span::default(),
            discarded: 0,
        }
    }
}

impl<R: Part> Entry<R> {
    /// Whether the reader of the peer's message may be told of its end.
    pub(crate) fn is_told_complete(&self) -> bool {
        self.end.is_some() && !(R::END_AWAITS_UPLOAD && self.outgoing.is_some())
    }
}
