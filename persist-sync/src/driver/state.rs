//! What the lock of a connection guards: the machine, the stream, what has arrived, and who waits.

use std::io;
use std::sync::Arc;

use persist_core::{Config, Conn, Delivery, ExchangeId, Instant, Parts};

use super::Driver;
use super::parking::Place;
use crate::arrived::Arrived;
use crate::clock;
use crate::part::Part;
use crate::ready::Directions;
use crate::scratch;
use crate::stream::Stream;

/// Whether content that is in memory anyway, and so is lent to the outbox rather than copied, counts against the outbox's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lending {
    /// It does, so that a server does not read requests whose replies the client leaves unread.
    Limited,
    /// It does not: a thread that sends many requests before it reads any reply must never wait for itself. The depth bounds it.
    Unlimited,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct State<R: Part> {
    pub(super) machine: Conn<R>,
    pub(crate) arrived: Arrived<R>,
    /// `None` once the connection is closed or was taken apart.
    pub(super) stream: Option<Arc<Stream>>,
    /// Read, and not yet taken by the machine: it paused, or content waits for its reader.
    pub(super) inbox: Vec<u8>,
    /// The machine wants no input until somebody acts.
    pub(super) paused: bool,
    /// Whether the stream may give or take bytes right now; false once it said that it would block.
    pub(super) ready: Directions,
    /// Whether the stream gives or takes bytes at all any more.
    pub(super) open: Directions,
    /// The system has said, and will not say again, that the end of the peer's data is there.
    pub(super) peer_done: bool,
    /// The first failure of the stream.
    pub(super) fault: Option<Arc<io::Error>>,
    /// When bytes last came, and last left.
    pub(super) last_read: Option<Instant>,
    pub(super) last_write: Option<Instant>,
    /// Bytes that the stream took.
    pub(super) sent: u64,
    /// Our side was shut down: everything was written, and the peer has yet to close its own.
    pub(super) half_closed: bool,
    /// Whether all had arrived when the stream was closed.
    pub(super) delivered: Delivery,
    /// Where bytes wait until a burst is complete.
    pub(super) corked: bool,
    /// The machine writes into a buffer of some thread's.
    lent: bool,
    /// The machine goes on where another one was taken apart.
    pub(super) continued: bool,
    /// Client: a thread is in the middle of a request's body, so that others wait for their turn.
    pub(crate) writing: Option<ExchangeId>,
    /// Reads may wait by themselves.
    pub(super) waits: bool,
    /// Several threads use the connection at the same time, so that whoever waits must be told of what the others want.
    pub(super) crowded: bool,
    /// Came in while the connection was taken apart.
    pub(super) late: Vec<u8>,
    /// Who is waiting for the stream.
    pub(super) driver: Option<Driver>,
    /// The server's poller that waits for it, where one does.
    pub(super) place: Option<Place>,
    /// How many threads wait for news.
    pub(super) waiting: usize,
    /// How many threads wait for whatever changes, rather than for something of their own.
    pub(super) watchers: usize,
    /// When deadlines were last looked at.
    pub(super) checked: Instant,
    /// The machine was changed, or the stream: there may be something to move along.
    pub(super) unsettled: bool,
    /// Something happened that they have not been told.
    pub(super) news: bool,
    /// The machine told something that the thread that drives may wait for, and has not seen.
    pub(super) told: bool,
    /// Somebody had to leave something unsaid because it was not its turn yet. The machine says nothing when a turn comes, so he must hear of whatever others do.
    pub(super) turn_awaited: bool,
    /// No deadline begins with an exchange, unless it is given one of its own.
    pub(super) is_patient: bool,
    /// More bytes than this in the outbox make a streamed body wait.
    pub(super) outbox_bytes_max: usize,
}

impl<R: Part> State<R> {
    /// A machine in charge of a stream that is attached already.
    pub(super) fn new(stream: Stream, mut config: Arc<Config>, parts: Option<Parts>, lending: Lending) -> Self {
        let outbox_bytes_max = config.limits.outbox_bytes_max as usize;
        if lending == Lending::Unlimited {
            Arc::make_mut(&mut config).limits.outbox_bytes_max = u32::MAX;
        }
        let is_patient = config.timeouts.are_patient();
        let now = clock::now();
        let continued = parts.is_some();
        let mut conn = match parts {
            None => Conn::new(config, now),
            Some(parts) => Conn::from_parts(config, parts, now),
        };
        let inbox = conn.take_kept();
        Self {
            machine: conn,
            arrived: Arrived::default(),
            ready: Directions { read: stream.holds_input(), write: true },
            stream: Some(Arc::new(stream)),
            inbox,
            paused: false,
            open: Directions { read: true, write: true },
            peer_done: false,
            fault: None,
            last_read: None,
            last_write: None,
            sent: 0,
            half_closed: false,
            delivered: Delivery::Unknown,
            corked: false,
            lent: false,
            writing: None,
            continued,
            waits: false,
            crowded: false,
            late: Vec::new(),
            driver: None,
            place: None,
            waiting: 0,
            watchers: 0,
            checked: now,
            unsettled: true,
            news: false,
            told: false,
            turn_awaited: false,
            is_patient,
            outbox_bytes_max,
        }
    }

    /// The machine, to ask it.
    pub(crate) fn conn(&self) -> &Conn<R> {
        &self.machine
    }

    /// The machine, to change it.
    pub(crate) fn conn_mut(&mut self) -> &mut Conn<R> {
        self.unsettled = true;
        &mut self.machine
    }

    /// Gives the machine this thread's buffer to write into, until it is [taken back](Self::reclaim).
    pub(crate) fn lend(&mut self) {
        if !self.lent {
            scratch::lend(&mut self.machine);
            self.lent = true;
        }
    }

    /// Takes the buffer back that was lent, once all in it was written: before anybody waits, or lets go of the lock.
    pub(super) fn reclaim(&mut self) {
        if self.lent && self.outbox_bytes() == 0 {
            scratch::reclaim(&mut self.machine);
            self.lent = false;
        }
    }

    /// What there is to wait for.
    pub(super) fn wanted(&self) -> Directions {
        Directions { read: self.wanted_in(), write: (self.open.write && self.outbox_bytes() > 0) || self.has_unsent() }
    }

    pub(super) fn wanted_in(&self) -> bool {
        self.open.read && !self.paused && self.inbox.is_empty() && !self.arrived.is_full() && !self.is_read_elsewhere()
    }

    /// Whether a thread is inside of a read: what it gets comes before what others would.
    pub(super) fn is_read_elsewhere(&self) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.reads)
    }

    /// Bytes that wait to be written.
    pub(crate) fn outbox_bytes(&self) -> usize {
        self.machine.unsent_bytes()
    }

    /// Whether a streamed body must wait for the outbox.
    pub(crate) fn outbox_is_full(&self) -> bool {
        self.outbox_bytes() >= self.outbox_bytes_max
    }

    /// Whether everything was written that can be, or writing waits for somebody to take what has arrived.
    pub(crate) fn is_flushed_or_stuck(&self) -> bool {
        !self.open.write
            || (self.outbox_bytes() == 0 && !self.has_unsent())
            || (!self.ready.write && self.arrived.is_full())
    }

    /// Holds back small writes until [`Link::park`](super::Link::park) or until somebody waits, so that a burst of replies leaves at once.
    pub(crate) fn cork(&mut self) {
        self.corked = true;
    }

    /// Lets go what was held back; says whether that was the case.
    pub(crate) fn uncork(&mut self) -> bool {
        self.unsettled |= self.corked;
        std::mem::take(&mut self.corked)
    }

    /// What the system said of the stream.
    pub(super) fn stream_is(&mut self, ready: Directions, closed: bool) {
        self.ready.read |= ready.read;
        self.ready.write |= ready.write;
        self.peer_done |= closed;
        // Reading looks at the deadlines by itself. If nothing can be read, one of them may have passed meanwhile.
        let writes = ready.write && (self.outbox_bytes() > 0 || self.has_unsent());
        self.unsettled |= writes || !self.ready.read || !self.wanted_in();
    }

    /// Nothing came for a while: a deadline may have passed.
    pub(super) fn look_around(&mut self) {
        self.unsettled = true;
    }

    /// Whether the peer has yet to answer our orderly end with its own.
    pub(crate) fn is_lingering(&self) -> bool {
        self.half_closed && self.stream.is_some()
    }

    /// Whether somebody else will see to it that what was held back leaves. If nothing is there that a further reply could come of, it leaves now.
    pub(crate) fn is_in_burst(&mut self) -> bool {
        if self.arrived.has_fresh() || !self.inbox.is_empty() { self.corked } else { self.uncork() }
    }

    /// Threads that wait for their turn must hear of a change that is not the machine's.
    pub(crate) fn tell(&mut self) {
        self.news = true;
        self.told = true;
    }

    /// There was no room before the turn of this exchange: whoever found that looks again when others have moved on.
    pub(crate) fn await_turn(&mut self, id: ExchangeId) {
        self.turn_awaited |= !self.machine.is_turn(id);
    }

    /// Whether the stream had a life before this connection.
    pub(crate) fn is_continued(&self) -> bool {
        self.continued
    }

    /// The first failure of the stream.
    pub(crate) fn fault(&self) -> Option<Arc<io::Error>> {
        self.fault.clone()
    }

    pub(crate) fn stream(&self) -> Option<&Stream> {
        self.stream.as_deref()
    }

    /// Replaces the machine by an empty one and gives its parts, with what was read but not taken.
    pub(super) fn dismantle(&mut self) -> Parts {
        let config = self.machine.config().clone();
        let machine = std::mem::replace(&mut self.machine, Conn::new(config, clock::now()));
        let mut parts = machine.into_parts();
        parts.leftover.append(&mut self.inbox);
        parts.leftover.append(&mut self.late);
        parts.failures.extend(self.arrived.take_failures());
        parts
    }
}
