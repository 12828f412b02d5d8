//! What moves without waiting: events out of the machine, bytes into it and out of it, and time.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use persist_core::{Event, ExchangeId, Instant, Next, Side};
use socket2::SockRef;

use super::{State, is_no_news};
use crate::clock;
use crate::part::Part;
use crate::scratch;
use crate::stream::Stream;

/// Slices given to one write.
const SLICES_MAX: usize = 64;

/// While a burst of requests or replies is being gathered, so many bytes go out at once anyway.
pub(super) const BURST_BYTES_MAX: usize = 64 * 1024;

/// Whether the stream was read just now, or is to be before a deadline is held against the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    First,
    Done,
}

impl<R: Part> State<R> {
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
    pub(super) fn conclude(&mut self, now: Instant) {
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
            let must_reset = self.machine.must_reset();
            if must_reset && let Some(socket) = self.stream.as_deref().and_then(Stream::tcp_below) {
                // Where it fails, the peer is gone.
                let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
            }
            if let Some(stream) = self.stream.take().filter(|_| self.is_read_elsewhere()) {
                // Or else whoever reads would not hear of it at once.
                let _ = stream.shutdown(if must_reset { Shutdown::Read } else { Shutdown::Both });
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
    pub(super) fn digest(&mut self, input: &mut &[u8], now: Instant) -> bool {
        let mut told = false;
        loop {
            // While content waits for its reader, the machine gets nothing to read, but what else happened must come out.
            let held = self.arrived.is_full() && !input.is_empty();
            let mut nothing: &[u8] = &[];
            match self.machine.next(if held { &mut nothing } else { input }, now) {
                Ok(Next::Event(event)) => {
                    let begins = matches!(event, Event::Head { .. });
                    let content = if begins { R::take_whole(&mut self.machine, input) } else { None };
                    self.arrived.take_in(event, content);
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
                Err(_) => {
                    // Nothing behind a violation can be trusted; reading goes on only so that the peer sees our last words.
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
        scratch::with_input(|input| {
            let Some(stream) = self.stream.as_deref() else { return false };
            let result = stream.try_read(input);
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
        let window = if self.ready.read { self.window(id, buf.len()) } else { 0 };
        let stream = self.stream.clone().filter(|_| window > 0)?;
        let result = stream.try_read(&mut buf[..window]);
        self.took_straight(result, window)
    }

    /// How much of `room` may be filled straight from the stream with content of this exchange.
    pub(super) fn window(&mut self, id: ExchangeId, room: usize) -> usize {
        if !self.inbox.is_empty() || !self.arrived.is_next_from_stream(id) || !self.wanted_in() {
            return 0;
        }
        usize::try_from(self.machine.body_window()).unwrap_or(usize::MAX).min(room)
    }

    /// What came while the lock was let go of, and straight into the buffer of whoever wanted it. What others have done meanwhile may make it something else.
    pub(super) fn take_straight(&mut self, id: ExchangeId, result: io::Result<usize>, buf: &[u8]) -> Option<usize> {
        if is_no_news(&result) {
            self.look_around();
        } else if self.stream.is_some() && self.window(id, buf.len()) == buf.len() {
            return self.took_straight(result, buf.len());
        } else {
            self.take_in(result, buf);
        }
        None
    }

    fn took_straight(&mut self, result: io::Result<usize>, window: usize) -> Option<usize> {
        let now = clock::now();
        let n = self.after_read(result, window, now)?;
        self.machine.handle_body(n as u64, now);
        self.news |= self.feed(now);
        self.unsettled = true;
        Some(n)
    }

    /// What reading into a buffer of `capacity` bytes gave; `Some` if that was bytes.
    #[inline]
    pub(super) fn after_read(&mut self, result: io::Result<usize>, capacity: usize, now: Instant) -> Option<usize> {
        match result {
            Ok(n) if n > 0 => {
                self.last_read = Some(now);
                // A short read has emptied the socket: asking again would only cost a call.
                self.ready.read = n == capacity || self.peer_done || self.holds_input();
                Some(n)
            }
            other => {
                self.after_failed_read(other, now);
                None
            }
        }
    }

    /// The same where that was none.
    #[cold]
    fn after_failed_read(&mut self, result: io::Result<usize>, now: Instant) {
        match result {
            Ok(_) => {
                self.open.read = false;
                self.machine.handle_eof(now);
                self.unsettled = true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready.read = false,
            // Between messages nothing is lost by an end without TLS's goodbye, and many say none. Anywhere else it may be an attacker's (RFC 9112 §9.8).
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && self.machine.is_idle() => {
                self.open.read = false;
                self.machine.handle_eof(now);
                self.unsettled = true;
            }
            Err(error) => self.failed(Side::Read, error),
        }
    }

    /// Whether there is input that the socket does not tell of.
    fn holds_input(&self) -> bool {
        self.stream.as_deref().is_some_and(Stream::holds_input)
    }

    /// Whether a layer above the socket still has bytes for it.
    pub(super) fn has_unsent(&self) -> bool {
        self.stream.as_deref().is_some_and(Stream::has_unsent)
    }

    /// The same as [`flush`](Self::flush) for a bare stream that is ready, and one piece in the outbox, as a request without a body is.
    #[inline(always)]
    pub(super) fn flush_at_once(&mut self, now: Instant) {
        let waiting = self.machine.unsent_bytes();
        if let Some(stream) = self.stream.as_deref()
            && self.ready.write
            && waiting > 0
        {
            let mut outbox = self.machine.transmit(now);
            let piece = outbox.chunk();
            if piece.len() == waiting {
                match stream.try_write(&[IoSlice::new(piece)]) {
                    Ok(n) => {
                        outbox.advance(n);
                        self.sent += n as u64;
                        self.last_write = Some(now);
                        self.ready.write = n == waiting;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready.write = false,
                    Err(error) => self.failed(Side::Write, error),
                }
                return;
            }
        }
        self.flush(now);
    }

    /// Writes what the outbox holds, as far as the stream takes it; says whether anything happened.
    pub(super) fn flush(&mut self, now: Instant) -> bool {
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
            let (given, result) = if outbox.chunk().len() == waiting {
                (waiting, stream.try_write(&[IoSlice::new(outbox.chunk())]))
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let filled =
                    slices.iter_mut().zip(outbox.chunks()).map(|(slice, piece)| *slice = IoSlice::new(piece)).count();
                let slices = &slices[..filled];
                (slices.iter().map(|slice| slice.len()).sum(), stream.try_write(slices))
            };
            match result {
                Ok(n) => {
                    outbox.advance(n);
                    self.sent += n as u64;
                    self.last_write = Some(now);
                    // A socket that took less is full: asking again would only cost a call.
                    self.ready.write = n == given || !stream.is_bare();
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

    /// Looks once whether bytes or the end came unasked, before an idle connection is used again. Says whether there was anything.
    pub(crate) fn look_before_use(&mut self, now: Instant) -> bool {
        self.machine.is_idle() && self.look_while_idle(now)
    }

    /// The same where it is known to be idle.
    #[inline(always)]
    pub(super) fn look_while_idle(&mut self, now: Instant) -> bool {
        if self.machine.completed() == 0 && !self.continued {
            return false;
        }
        self.unsettled |= self.pass_deadline(now, Look::Done);
        self.ready.read = true;
        if !self.unsettled {
            // Usually nothing came, and that is all.
            match self.stream.as_deref().map_or(Ok(false), Stream::is_silent) {
                Ok(true) => self.ready.read = false,
                Ok(false) => self.unsettled |= self.fill(),
                Err(error) => self.failed(Side::Read, error),
            }
        }
        let came = self.unsettled;
        if came {
            self.settle();
        }
        came
    }
}
