//! What the machine has told of each exchange and nobody has taken yet.

use std::collections::VecDeque;

use persist_core::stats::Dispositions;
use persist_core::{BodyLen, CloseReason, Event, ExchangeId, Failure, Fields, Role};

/// Content that is read ahead of whoever will take it, before reading pauses: one read's worth.
pub(crate) const READ_AHEAD_MAX: usize = 64 * 1024;

/// Failures kept for a hijack or for nobody: the newest so many.
const FAILURES_MAX: usize = 64;

/// One exchange, as far as it has come in.
#[derive(Debug)]
pub(crate) struct Exchange<R: Role> {
    id: ExchangeId,
    /// Its handle is gone: nothing more of it is kept.
    unwanted: bool,
    pub(crate) interim: Vec<R::Inbound>,
    pub(crate) head: Option<(R::Inbound, BodyLen, R::Ticket)>,
    data: Vec<u8>,
    taken: usize,
    /// The inbound message is complete; its trailers, until they are taken.
    pub(crate) complete: bool,
    pub(crate) trailers: Option<Fields>,
    /// The exchange did not complete.
    pub(crate) failure: Option<Box<Failure>>,
    /// Who still holds a handle: one for a client; a body and a responder for a server.
    handles: u8,
}

/// What follows a head, where it is complete.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub(crate) content: Vec<u8>,
    pub(crate) trailers: Option<Fields>,
}

/// A whole reply.
pub(crate) struct Replied<R: Role> {
    pub(crate) head: R::Inbound,
    pub(crate) len: BodyLen,
    pub(crate) interim: Vec<R::Inbound>,
    pub(crate) whole: Whole,
}

/// Everything that has arrived on one connection.
#[derive(Debug)]
pub(crate) struct Arrived<R: Role> {
    exchanges: VecDeque<Exchange<R>>,
    /// A client's exchange of which nothing is kept yet, since the one thread that uses the connection is away with it.
    travelling: Option<ExchangeId>,
    /// Server: requests whose heads nobody has taken, in order.
    fresh: VecDeque<ExchangeId>,
    /// Bytes of content waiting in all exchanges together.
    buffered: usize,
    /// The exchange whose content comes next from the stream.
    current: Option<ExchangeId>,
    failures: VecDeque<(ExchangeId, Failure)>,
    /// How many there were, by what became of them.
    failed: Option<Box<Dispositions>>,
    pub(crate) closed: Option<CloseReason>,
}

impl<R: Role> Default for Arrived<R> {
    fn default() -> Self {
        Self {
            exchanges: VecDeque::new(),
            travelling: None,
            fresh: VecDeque::new(),
            buffered: 0,
            current: None,
            failures: VecDeque::new(),
            failed: None,
            closed: None,
        }
    }
}

impl<R: Role> Arrived<R> {
    /// Makes room for a client's exchange, which one handle stands for.
    pub(crate) fn sent(&mut self, id: ExchangeId) {
        self.expect(id).0.handles = 1;
    }

    /// A client's exchange begins whose reply one thread waits for, with nobody else about.
    pub(crate) fn travels(&mut self, id: ExchangeId) {
        self.travelling = Some(id);
    }

    pub(crate) fn is_travelling(&self, id: ExchangeId) -> bool {
        self.travelling == Some(id)
    }

    /// Its whole reply is in the hands of that thread.
    pub(crate) fn arrive(&mut self) {
        self.travelling = None;
    }

    /// It is one like any other from here on.
    pub(crate) fn settle_down(&mut self) {
        if let Some(id) = self.travelling.take() {
            self.sent(id);
        }
    }

    /// The same, with what came for it first.
    pub(crate) fn put(
        &mut self,
        id: ExchangeId,
        head: Option<(R::Inbound, BodyLen, R::Ticket)>,
        whole: Whole,
        complete: bool,
    ) {
        self.travelling = None;
        self.current = head.as_ref().filter(|_| !complete).map(|_| id);
        self.buffered += whole.content.len();
        let (exchange, _) = self.expect(id);
        (exchange.handles, exchange.head, exchange.complete) = (1, head, complete);
        (exchange.data, exchange.trailers) = (whole.content, whole.trailers);
    }

    /// Whether there is nothing of any exchange, and the connection is not over.
    pub(crate) fn is_empty(&self) -> bool {
        self.exchanges.is_empty() && self.travelling.is_none() && self.closed.is_none()
    }

    /// The place of an exchange, and whether it is a new one.
    fn expect(&mut self, id: ExchangeId) -> (&mut Exchange<R>, bool) {
        let place = self.place(id);
        let at = match place {
            Ok(at) => at,
            Err(at) if at == self.exchanges.len() => {
                self.exchanges.push_back(Exchange::new(id));
                at
            }
            Err(at) => {
                self.exchanges.insert(at, Exchange::new(id));
                at
            }
        };
        (&mut self.exchanges[at], place.is_err())
    }

    /// Where the exchange stands, or would.
    fn place(&self, id: ExchangeId) -> Result<usize, usize> {
        match self.exchanges.front() {
            // Most connections have one at a time.
            Some(front) if front.id == id => Ok(0),
            Some(front) => {
                // Where none has gone before its turn, numbers and places go together.
                let at = usize::try_from(id.number().wrapping_sub(front.id.number())).unwrap_or(usize::MAX);
                match self.exchanges.get(at) {
                    Some(exchange) if exchange.id == id => Ok(at),
                    _ => self.exchanges.binary_search_by_key(&id, |exchange| exchange.id),
                }
            }
            None => Err(0),
        }
    }

    /// Takes in one event; with a head all of the content behind it, if that was taken at once.
    pub(crate) fn take_in(&mut self, event: Event<'_, R>, content: Option<&[u8]>) {
        self.settle_down();
        match event {
            Event::Interim { id, head } => {
                if let Some(exchange) = self.get_mut(id) {
                    exchange.interim.push(head);
                }
            }
            Event::Head { id, ticket, head, body } => {
                let (exchange, is_new) = self.expect(id);
                exchange.head = Some((head, body, ticket));
                match content {
                    None => self.current = Some(id),
                    Some(content) => {
                        exchange.complete = true;
                        self.buffered += exchange.keep(content);
                    }
                }
                // A client expects its exchanges; one that nobody expected is a server's.
                if is_new {
                    self.fresh.push_back(id);
                }
            }
            Event::Data { id, data } => {
                self.current = Some(id);
                if let Some(exchange) = self.get_mut(id) {
                    self.buffered += exchange.keep(data);
                }
            }
            Event::End { id, trailers } => {
                self.leave_current(id);
                if let Some(exchange) = self.get_mut(id) {
                    exchange.complete = true;
                    exchange.trailers = trailers;
                }
            }
            Event::Ended { id, failure } => {
                self.leave_current(id);
                self.failed.get_or_insert_default().count(failure.disposition);
                if self.failures.len() == FAILURES_MAX {
                    self.failures.pop_front();
                }
                self.failures.push_back((id, (*failure).clone()));
                if let Some(at) = self.fresh.iter().position(|fresh| *fresh == id) {
                    // A request that nobody has taken, and that nobody can answer any more: no handler is begun for it.
                    self.fresh.remove(at);
                    self.release(id);
                    self.release(id);
                }
                if let Some(exchange) = self.get_mut(id) {
                    exchange.failure = Some(failure);
                }
            }
            Event::Closed(reason) => self.closed = Some(reason),
            // What else happens shows in the machine's own state, which every waiting thread looks at.
            _ => {}
        }
    }

    fn leave_current(&mut self, id: ExchangeId) {
        if self.current == Some(id) {
            self.current = None;
        }
    }

    /// The exchange, until it is forgotten.
    pub(crate) fn get_mut(&mut self, id: ExchangeId) -> Option<&mut Exchange<R>> {
        let at = self.place(id).ok()?;
        self.exchanges.get_mut(at)
    }

    /// Moves waiting content into `buf`; 0 if none waits.
    pub(crate) fn read(&mut self, id: ExchangeId, buf: &mut [u8]) -> usize {
        let Some(exchange) = self.get_mut(id) else { return 0 };
        let n = exchange.take(buf);
        self.buffered -= n;
        n
    }

    /// Moves at most `most` bytes of waiting content out, without copying where that is all.
    pub(crate) fn read_some(&mut self, id: ExchangeId, most: usize) -> Vec<u8> {
        let waiting = self.get_mut(id).map_or(0, |exchange| exchange.waiting());
        if waiting <= most {
            return self.read_all(id);
        }
        let mut data = vec![0; most];
        self.read(id, &mut data);
        data
    }

    /// Moves all waiting content out, without copying where nothing of it was read yet; empty if none waits.
    pub(crate) fn read_all(&mut self, id: ExchangeId) -> Vec<u8> {
        let Some(exchange) = self.get_mut(id) else { return Vec::new() };
        let data = exchange.take_all();
        self.buffered -= data.len();
        data
    }

    /// An idle connection keeps no places for exchanges.
    pub(crate) fn shrink(&mut self) {
        if self.exchanges.is_empty() {
            (self.exchanges, self.fresh) = (VecDeque::new(), VecDeque::new());
        }
    }

    /// How many exchanges somebody holds that are not over yet.
    pub(crate) fn held(&self) -> usize {
        let kept = self.exchanges.iter().filter(|exchange| !exchange.complete && exchange.failure.is_none()).count();
        kept + usize::from(self.travelling.is_some())
    }

    /// The next request that nobody has taken.
    pub(crate) fn next_fresh(&mut self) -> Option<ExchangeId> {
        self.fresh.pop_front()
    }

    /// Whether a request waits to be taken.
    pub(crate) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Whether reading must pause until somebody takes what is there.
    pub(crate) fn is_full(&self) -> bool {
        self.buffered >= READ_AHEAD_MAX
    }

    /// Whether content of this exchange comes next from the stream, with nothing of it waiting here.
    pub(crate) fn is_next_from_stream(&mut self, id: ExchangeId) -> bool {
        self.current == Some(id) && self.get_mut(id).is_some_and(|exchange| exchange.waiting() == 0)
    }

    /// Nobody will ask for this exchange's content: what waits is dropped, and what comes.
    pub(crate) fn disclaim(&mut self, id: ExchangeId) {
        drop(self.read_all(id));
        if let Some(exchange) = self.get_mut(id) {
            exchange.unwanted = true;
        }
    }

    /// One handle of the exchange is gone; with the last one, all record of it goes.
    pub(crate) fn release(&mut self, id: ExchangeId) {
        let Ok(at) = self.place(id) else { return };
        let exchange = &mut self.exchanges[at];
        exchange.handles = exchange.handles.saturating_sub(1);
        if exchange.handles == 0 {
            self.buffered -= exchange.waiting();
            if at == 0 { drop(self.exchanges.pop_front()) } else { drop(self.exchanges.remove(at)) }
        }
    }

    /// The content and the trailers of an exchange whose message is complete, in place of its handle; `None` if it is not.
    pub(crate) fn take_whole(&mut self, id: ExchangeId) -> Option<Whole> {
        let exchange = self.get_mut(id).filter(|exchange| exchange.complete)?;
        let whole = Whole { content: exchange.take_all(), trailers: exchange.trailers.take() };
        self.buffered -= whole.content.len();
        self.release(id);
        Some(whole)
    }

    /// A client's reply that is complete, interim responses and all, in place of its handle; `None` if it is not.
    pub(crate) fn take_reply(&mut self, id: ExchangeId) -> Option<Replied<R>> {
        let at = self.place(id).ok()?;
        let exchange = self.exchanges.get_mut(at).filter(|exchange| exchange.complete)?;
        let (head, len, _) = exchange.head.take()?;
        let interim = std::mem::take(&mut exchange.interim);
        let whole = Whole { content: exchange.take_all(), trailers: exchange.trailers.take() };
        self.buffered -= whole.content.len();
        if at == 0 {
            drop(self.exchanges.pop_front())
        } else {
            drop(self.exchanges.remove(at))
        }
        Some(Replied { head, len, interim, whole })
    }

    /// How many exchanges did not complete.
    pub(crate) fn failed(&self) -> Dispositions {
        self.failed.as_deref().copied().unwrap_or_default()
    }

    /// The failures since the last call, newest [`FAILURES_MAX`].
    pub(crate) fn take_failures(&mut self) -> Vec<(ExchangeId, Failure)> {
        std::mem::take(&mut self.failures).into()
    }
}

impl<R: Role> Exchange<R> {
    fn new(id: ExchangeId) -> Self {
        Self {
            id,
            unwanted: false,
            interim: Vec::new(),
            head: None,
            data: Vec::new(),
            taken: 0,
            complete: false,
            trailers: None,
            failure: None,
            handles: 2,
        }
    }

    /// Keeps content, if anybody wants it; says how much that is.
    fn keep(&mut self, data: &[u8]) -> usize {
        if self.unwanted {
            return 0;
        }
        // What was taken makes room, however long the reader stays behind; each byte is moved at most once for that.
        if self.taken >= self.waiting() {
            self.data.drain(..std::mem::take(&mut self.taken));
        }
        self.data.extend_from_slice(data);
        data.len()
    }

    fn take(&mut self, buf: &mut [u8]) -> usize {
        let n = self.waiting().min(buf.len());
        buf[..n].copy_from_slice(&self.data[self.taken..self.taken + n]);
        self.taken += n;
        if self.waiting() == 0 {
            // An exchange that waits for more holds no buffer.
            self.data = Vec::new();
            self.taken = 0;
        }
        n
    }

    fn take_all(&mut self) -> Vec<u8> {
        let mut data = std::mem::take(&mut self.data);
        if self.taken > 0 {
            data.drain(..std::mem::take(&mut self.taken));
        }
        data
    }

    /// Bytes of content that nobody has taken.
    pub(crate) fn waiting(&self) -> usize {
        self.data.len() - self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist_core::{Client, Config, Conn, Field, FieldName, FieldValue, Instant, Method};

    #[test]
    fn a_reader_that_is_always_behind_does_not_make_the_buffer_grow() {
        let mut conn = Conn::<Client>::new(Config::client(), Instant::ZERO);
        let host = Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("localhost") };
        let id = conn.send_request(&Method::GET, "/", [host], BodyLen::Empty, Instant::ZERO).expect("sent");
        let mut exchange = Exchange::<Client>::new(id);
        exchange.keep(&[0; 1000]);
        for round in 0..10_000_u32 {
            exchange.keep(&round.to_le_bytes());
            let mut piece = [0; 4];
            assert_eq!(exchange.take(&mut piece), 4);
            assert!(exchange.data.len() < 3000, "{} bytes are kept for {}", exchange.data.len(), exchange.waiting());
        }
        assert_eq!(exchange.waiting(), 1000);
        let rest = exchange.take_all();
        assert_eq!(rest[996..], 9_999_u32.to_le_bytes());
    }
}
