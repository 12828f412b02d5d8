//! One connection of the network: what flies, what has arrived, and how each end stands.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::time::Instant;

use crate::dice::Dice;
use crate::network::{Style, flight};
use crate::tap::Tap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialler,
    Acceptor,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    /// A client and a server.
    pub(crate) between: (usize, usize),
    dialler: End,
    acceptor: End,
    is_cut: bool,
    /// Something other than its ends has interfered with it.
    pub(crate) harmed: bool,
    /// It was taken over for something else than HTTP.
    pub(crate) upgraded: bool,
    latency: (usize, usize),
    pub(crate) window: usize,
    short_reads: usize,
    pub(crate) vectored: bool,
    /// Whether what arrived before a reset can be read still: systems differ.
    keeps: bool,
    pub(crate) dice: Dice,
}

#[derive(Debug)]
pub(crate) struct End {
    /// On its way here.
    flying: VecDeque<Flying>,
    flying_bytes: usize,
    arrived: BytesMut,
    eof: bool,
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Our side was shut down.
    shut: bool,
    /// There is a process that has it; if not, whatever comes is answered by a reset.
    open: bool,
    /// Not even that.
    dark: bool,
    /// The stream exists.
    pub(crate) held: bool,
    pub(crate) written: u64,
    pub(crate) read: u64,
    /// What it wrote, as somebody who listens on the wire understands it.
    pub(crate) tap: Tap,
}

#[derive(Debug)]
struct Flying {
    due: Instant,
    what: What,
}

#[derive(Debug)]
enum What {
    Bytes(Vec<u8>),
    Eof,
    Reset,
}

/// What a read gave.
pub(crate) enum Read {
    Bytes(usize),
    Failed(io::ErrorKind),
    /// Nothing yet; perhaps then.
    Wait(Option<Instant>),
}

impl End {
    fn new() -> Self {
        Self {
            flying: VecDeque::new(),
            flying_bytes: 0,
            arrived: BytesMut::new(),
            eof: false,
            reset: false,
            reader: None,
            writer: None,
            shut: false,
            open: true,
            dark: false,
            held: true,
            written: 0,
            read: 0,
            tap: Tap::default(),
        }
    }

    fn wake(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.reader.take());
        wakers.extend(self.writer.take());
    }
}

impl Link {
    pub(crate) fn new(between: (usize, usize), style: &Style, mut dice: Dice) -> Self {
        Self {
            between,
            dialler: End::new(),
            acceptor: End::new(),
            is_cut: false,
            harmed: false,
            upgraded: false,
            latency: style.latency,
            window: style.window,
            short_reads: style.short_reads,
            vectored: dice.percent(50),
            keeps: dice.percent(50),
            dice,
        }
    }

    pub(crate) fn end(&self, side: Side) -> &End {
        match side {
            Side::Dialler => &self.dialler,
            Side::Acceptor => &self.acceptor,
        }
    }

    pub(crate) fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Dialler => &mut self.dialler,
            Side::Acceptor => &mut self.acceptor,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.dialler.open && self.acceptor.open
    }

    /// Lets arrive what is due.
    fn settle(&mut self, now: Instant) {
        if self.is_cut {
            return;
        }
        for side in [Side::Dialler, Side::Acceptor, Side::Dialler] {
            while self.end(side).flying.front().is_some_and(|flying| flying.due <= now) {
                if let Some(flying) = self.end_mut(side).flying.pop_front() {
                    self.arrives(side, flying);
                }
            }
        }
    }

    fn arrives(&mut self, side: Side, flying: Flying) {
        let keeps = self.keeps;
        let end = self.end_mut(side);
        match flying.what {
            What::Bytes(bytes) => {
                end.flying_bytes -= bytes.len();
                if end.open && !end.reset {
                    end.arrived.extend_from_slice(&bytes);
                } else if !end.dark {
                    let due = flying.due + self.flight();
                    self.launch(side.other(), due, What::Reset);
                }
            }
            What::Eof => end.eof = true,
            What::Reset => {
                end.reset = true;
                if !keeps {
                    end.arrived.clear();
                }
            }
        }
    }

    fn flight(&mut self) -> Duration {
        flight(self.latency, &mut self.dice)
    }

    /// Nothing overtakes what was sent before.
    fn launch(&mut self, to: Side, due: Instant, what: What) {
        let end = self.end_mut(to);
        let due = end.flying.back().map_or(due, |last| last.due.max(due));
        if let What::Bytes(bytes) = &what {
            end.flying_bytes += bytes.len();
        }
        end.flying.push_back(Flying { due, what });
    }

    pub(crate) fn read(
        &mut self,
        side: Side,
        now: Instant,
        buf: &mut [u8],
        waker: &Waker,
        wakers: &mut Vec<Waker>,
    ) -> Read {
        self.settle(now);
        let is_short = self.dice.percent(self.short_reads);
        let limit = 1 + self.dice.below(200);
        let end = self.end_mut(side);
        if !end.open {
            return Read::Failed(io::ErrorKind::ConnectionAborted);
        }
        if !end.arrived.is_empty() {
            let mut n = end.arrived.len().min(buf.len());
            if is_short {
                n = n.min(limit);
            }
            buf[..n].copy_from_slice(&end.arrived[..n]);
            end.arrived.advance(n);
            end.read += n as u64;
            let writer = self.end_mut(side.other()).writer.take();
            wakers.extend(writer);
            return Read::Bytes(n);
        }
        if end.reset {
            return Read::Failed(io::ErrorKind::ConnectionReset);
        }
        if end.eof {
            return Read::Bytes(0);
        }
        end.reader = Some(waker.clone());
        Read::Wait(self.next(side))
    }

    /// When something may happen at this end, if nobody does anything.
    fn next(&self, side: Side) -> Option<Instant> {
        if self.is_cut {
            return None;
        }
        let here = self.end(side).flying.front().map(|flying| flying.due);
        // What arrives at an end that is gone comes back as a reset.
        let there = self.end(side.other());
        let there = there.flying.front().filter(|_| !there.open).map(|flying| flying.due);
        here.into_iter().chain(there).min()
    }

    /// How much may be written now; 0 if it must wait, perhaps until then.
    pub(crate) fn room(
        &mut self,
        side: Side,
        now: Instant,
        waker: &Waker,
    ) -> Result<usize, Result<Option<Instant>, io::ErrorKind>> {
        self.settle(now);
        let window = self.window;
        let there = self.end(side.other());
        let under_way = if there.open { there.flying_bytes + there.arrived.len() } else { 0 };
        let end = self.end_mut(side);
        if !end.open {
            return Err(Err(io::ErrorKind::ConnectionAborted));
        }
        if end.reset || end.shut {
            return Err(Err(if end.shut { io::ErrorKind::BrokenPipe } else { io::ErrorKind::ConnectionReset }));
        }
        if under_way >= window {
            end.writer = Some(waker.clone());
            return Err(Ok(self.next(side)));
        }
        Ok(window - under_way)
    }

    /// Takes bytes on their way, in up to three pieces that arrive one after the other.
    pub(crate) fn send(&mut self, side: Side, now: Instant, bytes: &[u8], wakers: &mut Vec<Waker>) {
        self.end_mut(side).tap.hear(bytes);
        let pieces = if self.dice.percent(20) { 1 + self.dice.below(3) } else { 1 };
        let mut rest = bytes;
        for piece in 0..pieces {
            let n = if piece + 1 == pieces { rest.len() } else { self.dice.below(rest.len() + 1) };
            let (first, others) = rest.split_at(n);
            rest = others;
            if !first.is_empty() {
                let due = now + self.flight();
                self.launch(side.other(), due, What::Bytes(first.to_vec()));
            }
        }
        self.tell(side.other(), wakers);
    }

    /// Whoever waits there learns when something arrives; and whoever wrote to nobody, when that comes back.
    fn tell(&mut self, side: Side, wakers: &mut Vec<Waker>) {
        wakers.extend(self.end_mut(side).reader.take());
        if self.end(side).flying.iter().any(|flying| matches!(flying.what, What::Reset)) {
            wakers.extend(self.end_mut(side).writer.take());
        }
        if !self.end(side).open {
            self.end_mut(side.other()).wake(wakers);
        }
    }

    pub(crate) fn shutdown(&mut self, side: Side, now: Instant, wakers: &mut Vec<Waker>) -> io::Result<()> {
        self.settle(now);
        let end = self.end_mut(side);
        if !end.open || end.reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !std::mem::replace(&mut end.shut, true) {
            let due = now + self.flight();
            self.launch(side.other(), due, What::Eof);
            self.tell(side.other(), wakers);
        }
        Ok(())
    }

    /// The stream is dropped: an end of file for the peer, or a reset if something was not read.
    pub(crate) fn close(&mut self, side: Side, now: Instant, wakers: &mut Vec<Waker>) {
        self.settle(now);
        let end = self.end_mut(side);
        end.held = false;
        if !end.open {
            return;
        }
        end.open = false;
        let unread = std::mem::take(&mut end.arrived).len();
        let (reset, shut) = (end.reset, end.shut);
        if !reset {
            let due = now + self.flight();
            if unread > 0 {
                self.launch(side.other(), due, What::Reset);
            } else if !shut {
                self.launch(side.other(), due, What::Eof);
            }
        }
        self.end_mut(side.other()).wake(wakers);
    }

    /// The process at this end is gone; its system says so, unless that is gone, too.
    pub(crate) fn dies(&mut self, side: Side, dark: bool, now: Instant, wakers: &mut Vec<Waker>) {
        self.settle(now);
        let end = self.end_mut(side);
        if !end.open {
            return;
        }
        self.harmed = true;
        let end = self.end_mut(side);
        (end.open, end.dark) = (false, dark);
        end.arrived.clear();
        end.wake(wakers);
        if !dark {
            let due = now + self.flight();
            self.launch(side.other(), due, What::Reset);
        }
        self.end_mut(side.other()).wake(wakers);
    }

    /// The host at this end answers again, and knows nothing of the connection.
    pub(crate) fn lights_up(&mut self, side: Side) {
        self.end_mut(side).dark = false;
    }

    pub(crate) fn cut(&mut self, now: Instant) {
        self.settle(now);
        if self.is_open() {
            self.harmed = true;
        }
        self.is_cut = true;
    }

    pub(crate) fn heal(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        self.is_cut = false;
        for side in [Side::Dialler, Side::Acceptor] {
            let first = now + self.flight();
            let end = self.end_mut(side);
            end.flying.iter_mut().for_each(|flying| flying.due = flying.due.max(first));
            end.wake(wakers);
        }
    }

    /// Both ends find it reset.
    pub(crate) fn breaks(&mut self, wakers: &mut Vec<Waker>) {
        self.harmed = true;
        for end in [&mut self.dialler, &mut self.acceptor] {
            end.flying.clear();
            end.flying_bytes = 0;
            end.arrived.clear();
            end.reset = true;
            end.wake(wakers);
        }
    }
}
