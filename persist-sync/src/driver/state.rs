//! What moves without waiting: events out of the machine, bytes into it and out of it, and time.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;

use bytes::Buf;
use persist_core::{Config, Conn, Delivery, ExchangeId, Instant, Next, Parts, Role, Side};

use super::Driver;
use super::parking::Place;
use crate::arrived::Arrived;
use crate::clock;
use crate::ready::Directions;
use crate::scratch;
use crate::stream::Stream;

/// Slices given to one write.
const SLICES_MAX: usize = 64;

/// While a burst of replies is being gathered, so many bytes go out at once anyway.
const BURST_BYTES_MAX: usize = 64 * 1024;

/// Whether content that is in memory anyway, and so is lent to the outbox rather than copied, counts against the outbox's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lending {
    /// It does, so that a server does not read requests whose replies the client leaves unread.
    Limited,
    /// It does not: a thread that sends many requests before it reads any reply must never wait for itself. The depth bounds it.
    Unlimited,
}

/// Whether the stream was read just now, or is to be before a deadline is held against the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    First,
    Done,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct State<R: Role> {
    machine: Conn<R>,
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
    peer_done: bool,
    /// The first failure of the stream.
    pub(super) fault: Option<Arc<io::Error>>,
    /// When bytes last came, and last left.
    pub(super) last_read: Option<Instant>,
    pub(super) last_write: Option<Instant>,
    /// Bytes that the stream took.
    pub(super) sent: u64,
    /// Our side was shut down: everything was written, and the peer has yet to close its own.
    half_closed: bool,
    /// Whether all had arrived when the stream was closed.
    pub(super) delivered: Delivery,
    /// Where bytes wait until a burst is complete.
    corked: bool,
    /// The machine writes into a buffer of some thread's.
    lent: bool,
    /// The machine goes on where another one was taken apart.
    continued: bool,
    /// Client: a thread is in the middle of a request's body, so that others wait for their turn.
    pub(crate) writing: Option<ExchangeId>,
    /// Reads may wait by themselves.
    pub(super) waits: bool,
    /// Several threads use the connection at the same time, so that whoever waits must be told of what the others want.
    pub(super) crowded: bool,
    /// Came in while the connection was taken apart.
    late: Vec<u8>,
    /// Who is waiting for the stream.
    pub(super) driver: Option<Driver>,
    /// The server's poller that waits for it, where one does.
    pub(super) place: Option<Place>,
    /// How many threads wait for news.
    pub(super) waiting: usize,
    /// How many threads wait for whatever changes, rather than for something of their own.
    pub(super) watchers: usize,
    /// When deadlines were last looked at.
    checked: Instant,
    /// The machine was changed, or the stream: there may be something to move along.
    unsettled: bool,
    /// Something happened that they have not been told.
    pub(super) news: bool,
    /// The machine told something that the thread that drives may wait for, and has not seen.
    pub(super) told: bool,
    /// Somebody had to leave something unsaid because it was not its turn yet. The machine says nothing when a turn comes, so he must hear of whatever others do.
    pub(super) turn_awaited: bool,
    /// More bytes than this in the outbox make a streamed body wait.
    pub(super) outbox_bytes_max: usize,
}

impl<R: Role> State<R> {
    /// A machine in charge of a stream that is attached already.
    pub(super) fn new(stream: Stream, mut config: Config, parts: Option<Parts>, lending: Lending) -> Self {
        let outbox_bytes_max = config.limits.outbox_bytes_max as usize;
        if lending == Lending::Unlimited {
            config.limits.outbox_bytes_max = u32::MAX;
        }
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
        scratch::lend(&mut self.machine);
        self.lent = true;
    }

    /// Takes the buffer back that was lent, once all in it was written: before anybody waits, or lets go of the lock.
    pub(super) fn reclaim(&mut self) {
        if self.lent && self.outbox_bytes() == 0 {
            scratch::reclaim(&mut self.machine);
            self.lent = false;
        }
    }

    /// Moves everything along that can move without reading: events out of the machine, bytes out of the outbox, time. Says whether anything did.
    pub(crate) fn advance(&mut self) -> bool {
        if !self.unsettled && self.inbox.is_empty() {
            return false;
        }
        self.advance_at(clock::now())
    }

    /// The same, for somebody who has looked at the clock already, and knows that there is something to move.
    pub(crate) fn advance_at(&mut self, now: Instant) -> bool {
        self.unsettled = false;
        let mut moved = self.pass_deadline(now, Look::First);
        loop {
            let wrote = self.flush(now);
            let left = self.outbox_bytes();
            let told = self.feed(now);
            let shut = self.shut_down();
            moved |= told || wrote || shut;
            // What was told, or not taken before, may have made more to write.
            if !told && !shut && self.outbox_bytes() == left {
                break;
            }
        }
        moved |= self.let_go();
        self.news |= moved;
        moved
    }

    /// What follows from what was read: the same, once the machine has taken it.
    fn conclude(&mut self, now: Instant) {
        if self.pass_deadline(now, Look::Done) || self.shut_down() || self.outbox_bytes() > 0 || !self.inbox.is_empty()
        {
            self.unsettled = true;
        }
        self.let_go();
    }

    fn pass_deadline(&mut self, now: Instant, look: Look) -> bool {
        // One that is due at once is met by whoever is about to wait for it.
        if std::mem::replace(&mut self.checked, now) == now || !self.is_due(now) {
            return false;
        }
        if look == Look::First {
            self.look_first();
        }
        // What came may have been what the deadline was for.
        if self.is_due(now) {
            self.machine.handle_timeout(now);
        }
        true
    }

    fn is_due(&self, now: Instant) -> bool {
        self.machine.poll_timeout().is_some_and(|deadline| deadline <= now)
    }

    /// Reads once, before the machine is told that a deadline has passed, or that no further request is taken: a connection on which a request waits is
    /// not idle.
    #[cold]
    pub(super) fn look_first(&mut self) {
        self.ready.read = true;
        self.fill();
    }

    /// Ends our side of the stream, once all is written and nothing more will be.
    fn shut_down(&mut self) -> bool {
        let shut = self.machine.poll_shutdown();
        if shut {
            self.half_closed = true;
            self.open.write = false;
            if let Some(stream) = &self.stream {
                // Fails on a dead socket only, which reading will tell.
                let _ = stream.shutdown(Shutdown::Write);
            }
        }
        shut
    }

    /// Closes the stream, once the machine is done with it.
    fn let_go(&mut self) -> bool {
        let over = self.arrived.closed.is_some() && self.stream.is_some();
        if over {
            if self.half_closed {
                self.delivered = self.delivery();
            }
            if let Some(stream) = self.stream.take().filter(|_| self.is_read_elsewhere()) {
                // Or else whoever reads would not hear of it at once.
                let _ = stream.shutdown(Shutdown::Both);
            }
            self.inbox = Vec::new();
            self.news = true;
        }
        over
    }

    /// [`advance`](Self::advance), and reads as long as bytes are known to be there.
    pub(super) fn settle(&mut self) {
        self.advance();
        while self.fill() {
            self.advance();
        }
    }

    /// Gives the machine what the inbox holds, and takes its events.
    fn feed(&mut self, now: Instant) -> bool {
        if self.inbox.is_empty() {
            return self.digest(&mut &[][..], now);
        }
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut input = &inbox[..];
        let told = self.digest(&mut input, now);
        let consumed = inbox.len() - input.len();
        if consumed < inbox.len() {
            inbox.drain(..consumed);
            self.inbox = inbox;
        }
        told
    }

    /// Lets the machine take from `input` until it wants no more, or content waits for its reader. Says whether it had anything to tell.
    fn digest(&mut self, input: &mut &[u8], now: Instant) -> bool {
        let mut told = false;
        loop {
            // While content waits for its reader, the machine gets nothing to read, but what else happened must come out.
            let held = self.arrived.is_full() && !input.is_empty();
            let mut nothing: &[u8] = &[];
            match self.machine.next(if held { &mut nothing } else { input }, now) {
                Ok(Next::Event(event)) => {
                    self.arrived.take_in(event);
                    self.told = true;
                    told = true;
                }
                Ok(Next::NeedRead) => {
                    self.paused = false;
                    if held || input.is_empty() {
                        return told;
                    }
                }
                Ok(Next::Paused) => {
                    self.paused = true;
                    return told;
                }
                Err(error) => {
                    // Nothing behind a violation can be trusted; reading goes on only so that the peer sees our last words.
                    self.arrived.protocol_error.get_or_insert(error);
                    *input = &[];
                    return told;
                }
            }
        }
    }

    /// Reads once, if bytes are known to be there and somebody can take them; says whether it did.
    pub(super) fn fill(&mut self) -> bool {
        if !self.ready.read || !self.wanted_in() {
            return false;
        }
        let Some(stream) = self.stream.clone() else { return false };
        scratch::with_input(|input| {
            let result = stream.try_read(input);
            drop(stream);
            self.take_in(result, input)
        })
    }

    /// Takes in what reading into `input` gave; says whether it was anything.
    pub(super) fn take_in(&mut self, result: io::Result<usize>, input: &[u8]) -> bool {
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.ready.read = false;
            return false;
        }
        let now = clock::now();
        if let Some(n) = self.after_read(result, input.len(), now) {
            let mut input = &input[..n];
            if self.stream.is_none() {
                // Taken apart meanwhile, and so no longer the machine's.
                self.late.extend_from_slice(input);
                return true;
            }
            self.news |= self.digest(&mut input, now);
            if !input.is_empty() {
                self.inbox.extend_from_slice(input);
            }
        }
        self.conclude(now);
        true
    }

    /// Content of this exchange straight from the stream into the caller's buffer, where no framing is in between; `None` if there is none now.
    pub(crate) fn read_straight(&mut self, id: ExchangeId, buf: &mut [u8]) -> Option<usize> {
        if !self.ready.read || !self.inbox.is_empty() || !self.arrived.is_next_from_stream(id) || !self.wanted_in() {
            return None;
        }
        let window = usize::try_from(self.machine.body_window()).unwrap_or(usize::MAX).min(buf.len());
        let stream = self.stream.clone().filter(|_| window > 0)?;
        let result = stream.try_read(&mut buf[..window]);
        let now = clock::now();
        let n = self.after_read(result, window, now)?;
        self.machine.handle_body(n as u64, now);
        self.news |= self.feed(now);
        self.unsettled = true;
        Some(n)
    }

    /// What reading into a buffer of `capacity` bytes gave; `Some` if that was bytes.
    fn after_read(&mut self, result: io::Result<usize>, capacity: usize, now: Instant) -> Option<usize> {
        match result {
            Ok(0) => {
                self.open.read = false;
                self.machine.handle_eof(now);
                self.unsettled = true;
                None
            }
            Ok(n) => {
                self.last_read = Some(now);
                // A short read has emptied the socket: asking again would only cost a call.
                self.ready.read = n == capacity || self.peer_done || self.holds_input();
                Some(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.ready.read = false;
                None
            }
            // Between messages nothing is lost by an end without TLS's goodbye, and many say none. Anywhere else it may be an attacker's (RFC 9112 §9.8).
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && self.machine.is_idle() => {
                self.open.read = false;
                self.machine.handle_eof(now);
                self.unsettled = true;
                None
            }
            Err(error) => {
                self.failed(Side::Read, error);
                None
            }
        }
    }

    /// Whether there is input that the socket does not tell of.
    fn holds_input(&self) -> bool {
        self.stream.as_deref().is_some_and(Stream::holds_input)
    }

    /// Whether a layer above the socket still has bytes for it.
    fn has_unsent(&self) -> bool {
        self.stream.as_deref().is_some_and(Stream::has_unsent)
    }

    /// Writes what the outbox holds, as far as the stream takes it; says whether anything happened.
    fn flush(&mut self, now: Instant) -> bool {
        let Some(stream) = self.stream.as_deref() else { return false };
        let (mut wrote, mut failed) = (false, None);
        if self.ready.write && stream.has_unsent() {
            match stream.try_flush() {
                Ok(()) => wrote = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready.write = false,
                Err(error) => failed = Some(error),
            }
        }
        while failed.is_none() && self.ready.write && self.open.write {
            let waiting = self.machine.unsent_bytes();
            if waiting == 0 || (self.corked && waiting < BURST_BYTES_MAX) {
                break;
            }
            let mut outbox = self.machine.transmit(now);
            let result = if outbox.chunk().len() == waiting {
                stream.try_write(&[IoSlice::new(outbox.chunk())])
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let filled =
                    slices.iter_mut().zip(outbox.chunks()).map(|(slice, piece)| *slice = IoSlice::new(piece)).count();
                stream.try_write(&slices[..filled])
            };
            match result {
                Ok(n) => {
                    outbox.advance(n);
                    self.sent += n as u64;
                    self.last_write = Some(now);
                    wrote = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready.write = false,
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            self.failed(Side::Write, error);
            wrote = true;
        }
        wrote
    }

    /// The stream failed in one direction. Reading goes on after a failed write: the peer may have answered already.
    pub(super) fn failed(&mut self, side: Side, error: io::Error) {
        match side {
            Side::Read => self.open.read = false,
            Side::Write => self.open.write = false,
        }
        self.fault.get_or_insert_with(|| Arc::new(error));
        self.machine.handle_io_error(side, clock::now());
        self.unsettled = true;
    }

    /// What there is to wait for.
    pub(super) fn wanted(&self) -> Directions {
        Directions { read: self.wanted_in(), write: (self.open.write && self.outbox_bytes() > 0) || self.has_unsent() }
    }

    fn wanted_in(&self) -> bool {
        self.open.read && !self.paused && self.inbox.is_empty() && !self.arrived.is_full() && !self.is_read_elsewhere()
    }

    /// Whether a thread is inside of a read: what it gets comes before what others would.
    fn is_read_elsewhere(&self) -> bool {
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

    /// Looks once whether bytes or the end came unasked, before an idle connection is used again.
    pub(crate) fn look_before_use(&mut self, now: Instant) {
        let used = self.machine.completed() > 0 || self.continued;
        if !used || !self.machine.is_idle() {
            return;
        }
        self.ready.read = true;
        self.unsettled |= self.pass_deadline(now, Look::Done);
        // Usually nothing came, and that is all.
        if self.unsettled || self.fill() {
            self.settle();
        }
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
