//! One exchange, as far as the adapter keeps it: what came and was not taken, what is still to be sent, and who waits.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};
use persist_core::{BodyLen, ExchangeId, Failure, Fields, Role};

use crate::link::Transport;
use crate::part::Part;
use crate::pump::Outgoing;
use crate::scratch::{READ_BYTES, READ_BYTES_BEHIND};
use crate::stream::quick;
use crate::trace::Span;
use crate::wakers::Slot;

/// One exchange, as far as the adapter keeps it.
pub(crate) struct Entry<R: Role> {
    pub(crate) id: ExchangeId,
    /// Interim responses that were not taken. Few have any: an entry is made and dropped with each exchange, and kept small.
    #[expect(clippy::box_collection, reason = "rare, and each exchange has the place")]
    pub(crate) interim: Option<Box<VecDeque<R::Inbound>>>,
    /// A client's: the reply's head, until it is taken.
    pub(crate) head: Option<(R::Inbound, R::Ticket, BodyLen)>,
    pub(crate) content: BytesMut,
    /// The peer's message is complete; its trailers until they are taken.
    pub(crate) end: Option<Option<Box<Fields>>>,
    pub(crate) failure: Option<Box<Failure>>,
    pub(crate) outgoing: Option<Box<Outgoing>>,
    pub(crate) outgoing_error: Option<Arc<io::Error>>,
    pub(crate) waiter: Option<Slot>,
    /// Somebody holds the receiving end: an `Exchange` or an `Incoming`.
    pub(crate) inbound_held: bool,
    /// Somebody holds the right to answer.
    pub(crate) outbound_held: bool,
    /// Entered while anything of it is worked on.
    #[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "nothing is told"))]
    pub(crate) span: Span,
    /// Content that came after the receiving end was dropped.
    pub(crate) discarded: u64,
}

/// A client's only exchange, of which nothing is kept yet: as a rule all of its reply comes with one read.
pub(crate) struct Traveller {
    pub(crate) id: ExchangeId,
    pub(crate) waiter: Option<Slot>,
    pub(crate) span: Span,
}

/// A request whose head is here, for whoever takes it.
pub(crate) struct Arrived<R: Role> {
    pub(crate) id: ExchangeId,
    pub(crate) head: R::Inbound,
    pub(crate) ticket: R::Ticket,
    pub(crate) len: BodyLen,
}

impl AsMut<Traveller> for Traveller {
    fn as_mut(&mut self) -> &mut Traveller {
        self
    }
}

impl AsMut<Traveller> for Infallible {
    fn as_mut(&mut self) -> &mut Traveller {
        match *self {}
    }
}

impl<R: Role> Entry<R> {
    pub(crate) fn new(id: ExchangeId) -> Self {
        Self {
            id,
            interim: None,
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

    /// The interim responses that are left.
    pub(crate) fn take_interim(&mut self) -> Vec<R::Inbound> {
        self.interim.take().map_or_else(Vec::new, |interim| (*interim).into())
    }
}

/// Less room than that at the end of a buffer is not worth a read.
const SPARE_MIN: usize = 16 * 1024;

impl<R: Part> Entry<R> {
    /// Reads at most `size` bytes into the buffer behind what is there; 0 at the stream's end. A buffer whose pieces were all let go of is used again.
    pub(crate) fn read_content<S: Transport>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        size: usize,
    ) -> Poll<io::Result<usize>> {
        let spare = self.content.capacity() - self.content.len();
        // Pieces that somebody keeps hold their buffer: what is left of it is used up before another is allocated.
        if spare < size && !self.content.try_reclaim(size) && spare < size.min(SPARE_MIN) {
            self.content.reserve(size);
        }
        quick::read_buf(stream, cx, &mut (&mut self.content).limit(size))
    }

    /// Keeps content that came with what is in front of it; the first of it where there is room for what can be read `behind` it, too.
    pub(crate) fn keep_content(&mut self, data: &[u8], behind: u64) {
        if self.content.capacity() > 0 {
            self.content.extend_from_slice(data);
        } else if behind == 0 {
            self.content = BytesMut::from(data); // as mostly
        } else {
            let behind = usize::try_from(behind).unwrap_or(usize::MAX).min(READ_BYTES);
            self.content.reserve(data.len() + behind + READ_BYTES_BEHIND);
            self.content.extend_from_slice(data);
        }
    }

    /// Whether the reader of the peer's message may be told of its end.
    pub(crate) fn is_told_complete(&self) -> bool {
        self.end.is_some() && !(R::END_AWAITS_UPLOAD && self.outgoing.is_some())
    }
}
