//! All that changes about a connection, behind its lock.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use persist_core::stats::Dispositions;
use persist_core::{CloseReason, Conn, Delivery, ExchangeId, Fields, Instant, Phase};
use socket2::SockRef;
use tokio::time::Sleep;

use crate::address;
use crate::clock;
use crate::entry::{Arrived, Entry, Traveller};
use crate::error::{self, Error};
use crate::facts;
use crate::inbox::Inbox;
use crate::part::Part;
use crate::pump::Outgoing;
use crate::trace::Span;
use crate::waiting::{Waiting, Wakes};
use crate::wakers::Slot;

/// All that changes.
pub(crate) struct State<R: Part, S> {
    pub(crate) conn: Conn<R>,
    /// Gone once the connection is closed or taken apart.
    pub(crate) stream: Option<S>,
    /// Exchanges that somebody still holds, or whose body is still to be sent; in the order of their numbers. A server's have their place here only
    /// while there is something to be kept of them: content, a failure, or somebody who waits.
    pub(crate) entries: VecDeque<Entry<R>>,
    /// A client's exchange that has no place there, as long as nobody else has the lock.
    pub(crate) traveller: Option<R::Traveller>,
    /// A server's next request, until it is taken.
    pub(crate) arrived: Option<Box<Arrived<R>>>,
    pub(crate) inbox: Inbox,
    /// Content in all entries together.
    pub(crate) buffered: usize,
    /// The exchange whose content comes in now.
    pub(crate) receiving: Option<ExchangeId>,
    pub(crate) read_side: Readable,
    pub(crate) write_side: Writable,
    pub(crate) io_error: Option<Arc<io::Error>>,
    pub(crate) closed: Option<Box<CloseReason>>,
    pub(crate) switched: bool,
    pub(crate) timer: Option<Pin<Box<Sleep>>>,
    /// When the timer fires: never after the machine's deadline, often before it.
    pub(crate) armed: Option<Instant>,
    /// Wakes the connection's task, once that has begun and until it is gone.
    pub(crate) task: Option<Waker>,
    /// The connection's task is in its poll, and will look at everything before it waits: nobody has to wake it.
    pub(crate) attended: bool,
    /// The reader of a body to be sent was polled in this poll of the task, and has nothing yet.
    pub(crate) reader_waits: bool,
    /// What the clock said when the lock was taken: close enough for deadlines, and much cheaper than asking for every call.
    time: Instant,
    /// Whoever waits for the connection, rather than for an exchange. The connections of a server with tasks have nobody, and no room for it.
    pub(crate) waiting: Option<Box<Waiting>>,
    pub(crate) last_read: Option<Instant>,
    pub(crate) last_write: Option<Instant>,
    /// The connection's, for those of its exchanges.
    pub(crate) span: Span,
    /// Bytes that the stream took.
    pub(crate) sent: u64,
    /// The exchanges that did not complete, if there were any.
    pub(crate) failed: Option<Box<Dispositions>>,
    /// What the stream's end is to be asked, by whoever closes: whether all has arrived.
    delivery: Option<Box<Delivery>>,
    /// How the last drive ended.
    pub(crate) drive: Drive,
    /// The place of whoever is polling, who needs no waking.
    pub(crate) polling: Option<Slot>,
    /// One of the following is to be seen to when the lock is released.
    pub(crate) after: bool,
    pub(crate) wakes: Wakes,
    /// Dropped after the lock is released: users' code may run in it.
    pub(super) trash: Option<Box<Trash<S>>>,
    /// A server's task is to see to it that no further request is taken.
    pub(crate) ending: bool,
    /// No deadline begins with an exchange, unless it is given one of its own.
    pub(crate) is_patient: bool,
    /// Whoever drove parked while the machine wanted input, and nobody has had the lock since: there is nothing to ask it before the next read.
    pub(crate) hungry: bool,
}

/// What is over.
pub(crate) struct Trash<S> {
    #[expect(clippy::vec_box, reason = "they come boxed, and unboxing them would only move them")]
    bodies: Vec<Box<Outgoing>>,
    stream: Option<S>,
}

/// Whether the stream may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readable {
    Open,
    Ended,
}

/// How far the stream is for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writable {
    Open,
    /// Bytes were written that the stream may hold back.
    Unflushed,
    /// The machine asked for a shutdown that has not happened yet.
    ShuttingDown,
    Ended,
}

/// How a drive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drive {
    /// Before it began: what was wanted was there.
    NotNeeded,
    /// Early: somebody else must go on.
    Stopped,
    /// The stream and the timer are waited for.
    Parked,
}

impl<R: Part, S> State<R, S> {
    pub(super) fn new(conn: Conn<R>, stream: S, inbox: Inbox, span: Span) -> Self {
        let is_patient = conn.config().timeouts.are_patient();
        Self {
            span,
            conn,
            stream: Some(stream),
            entries: VecDeque::new(),
            traveller: None,
            inbox,
            buffered: 0,
            arrived: None,
            receiving: None,
            read_side: Readable::Open,
            write_side: Writable::Open,
            io_error: None,
            closed: None,
            switched: false,
            timer: None,
            armed: None,
            task: None,
            attended: false,
            reader_waits: false,
            time: clock::now(),
            waiting: None,
            last_read: None,
            last_write: None,
            sent: 0,
            failed: None,
            delivery: None,
            drive: Drive::NotNeeded,
            polling: None,
            after: false,
            wakes: Wakes::Nobody,
            trash: None,
            ending: false,
            is_patient,
            hungry: false,
        }
    }

    #[inline]
    pub(crate) fn entry(&mut self, id: ExchangeId) -> Option<&mut Entry<R>> {
        let at = self.place_of(id)?;
        self.entries.get_mut(at)
    }

    /// Mostly it is the first.
    #[inline]
    pub(crate) fn place_of(&self, id: ExchangeId) -> Option<usize> {
        let first = self.entries.front()?.id;
        if first == id { Some(0) } else { self.place_behind(first, id) }
    }

    /// Mostly none was forgotten between the first one and this.
    #[inline(never)]
    fn place_behind(&self, first: ExchangeId, id: ExchangeId) -> Option<usize> {
        let at = id.number().checked_sub(first.number())? as usize;
        if self.entries.get(at).is_some_and(|entry| entry.id == id) {
            return Some(at);
        }
        self.entries.binary_search_by_key(&id, |entry| entry.id).ok()
    }

    /// What came of a message of which all is here, with its trailers. Its reader needs no more of the connection.
    pub(crate) fn take_whole(&mut self, id: ExchangeId) -> Option<(Bytes, Option<Box<Fields>>)> {
        let at = self.place_of(id)?;
        let entry = self.entries.get_mut(at).filter(|entry| entry.is_told_complete())?;
        entry.inbound_held = false;
        let (content, trailers) = (mem::take(&mut entry.content).freeze(), entry.end.take().flatten());
        self.buffered -= content.len();
        self.tidy_at(at);
        Some((content, trailers))
    }

    /// Forgets an exchange that nobody holds and whose body is sent. Call after either changed.
    #[inline]
    pub(crate) fn tidy(&mut self, id: ExchangeId) {
        if let Some(at) = self.place_of(id) {
            self.tidy_at(at);
        }
    }

    pub(crate) fn tidy_at(&mut self, at: usize) {
        let entry = &self.entries[at];
        if entry.inbound_held || entry.outbound_held || entry.outgoing.is_some() {
            return;
        }
        self.buffered -= entry.content.len();
        match (at, self.entries.len()) {
            (0, 1) => self.entries.clear(), // where it stands
            (0, _) => drop(self.entries.pop_front()),
            _ => drop(self.entries.remove(at)),
        }
        if self.entries.is_empty() && self.entries.capacity() > 2 {
            self.entries = VecDeque::new();
        }
    }

    /// Keeps an exchange. Most connections have one at a time, and pay for no more.
    pub(crate) fn enter(&mut self, entry: Entry<R>) {
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(1);
        }
        self.entries.push_back(entry);
    }

    /// Whoever travels has a place from here on: there is something to be kept of that exchange.
    #[inline]
    pub(crate) fn settle_down(&mut self) {
        if let Some(traveller) = self.traveller.take() {
            self.take_up(traveller);
        }
    }

    #[inline(never)]
    fn take_up(&mut self, mut traveller: R::Traveller) {
        let Traveller { id, waiter, span } = traveller.as_mut();
        self.enter(Entry { waiter: *waiter, span: span.clone(), ..Entry::new(*id) });
    }

    /// The place of an exchange that may have none: there was nothing to be kept of it before.
    pub(crate) fn entry_or_new(&mut self, id: ExchangeId) -> &mut Entry<R> {
        let at = match self.entries.binary_search_by_key(&id, |entry| entry.id) {
            Ok(at) => at,
            Err(at) => {
                let mut entry = Entry::new(id);
                entry.inbound_held = false;
                self.entries.insert(at, entry);
                at
            }
        };
        &mut self.entries[at]
    }

    pub(crate) fn now(&self) -> Instant {
        self.time
    }

    /// Whether a deadline may have passed since the timer was set.
    pub(crate) fn is_due(&self) -> bool {
        self.armed.is_some_and(|armed| armed <= self.time)
    }

    /// Looks at the clock. Call when time may have passed.
    pub(crate) fn tick(&mut self) {
        self.time = clock::now();
    }

    /// It was looked at just now.
    pub(crate) fn tick_to(&mut self, now: Instant) {
        self.time = now;
    }

    /// Drops a body once the lock is released.
    pub(crate) fn discard(&mut self, outgoing: Option<Box<Outgoing>>) {
        if let Some(outgoing) = outgoing {
            self.trash().bodies.push(outgoing);
        }
    }

    fn trash(&mut self) -> &mut Trash<S> {
        self.after = true;
        self.trash.get_or_insert_with(|| Box::new(Trash { bodies: Vec::new(), stream: None }))
    }

    /// The stream is closed once the lock is released.
    pub(crate) fn discard_stream(&mut self)
    where
        S: 'static,
    {
        if let (Some(delivery), Some(stream)) = (&mut self.delivery, &self.stream) {
            **delivery = facts::delivery(stream);
        }
        let stream = self.stream.take();
        if self.conn.must_reset()
            && let Some(socket) = stream.as_ref().and_then(address::tcp)
        {
            // Where it fails, the peer is gone.
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
        self.trash().stream = stream;
        self.timer = None;
        self.armed = None;
    }

    /// From here on the stream's end is asked whether all has arrived.
    pub(crate) fn ask_delivery(&mut self) {
        self.delivery.get_or_insert_with(|| Box::new(Delivery::Unknown));
    }

    /// What it said.
    pub(crate) fn delivery(&self) -> Delivery {
        self.delivery.as_deref().copied().unwrap_or(Delivery::Unknown)
    }

    /// Why the connection has ended, if it has: for whoever asks something of it in `phase`.
    pub(crate) fn ended(&self, phase: Phase) -> Option<Error> {
        match &self.closed {
            Some(reason) => Some(error::ended(phase, Some((**reason).clone()), self.io_error.clone())),
            None if self.stream.is_none() => Some(error::ended(phase, None, None)),
            None => None,
        }
    }

    /// Why the exchange did not complete, if it is known to have failed.
    pub(crate) fn failure(&mut self, id: ExchangeId) -> Option<Error> {
        let entry = self.entry(id)?;
        let failure = entry.failure.clone()?;
        Some(match &entry.outgoing_error {
            Some(cause) => error::broken_off(failure, cause),
            None => error::failed(failure, self.io_error.clone()),
        })
    }
}
