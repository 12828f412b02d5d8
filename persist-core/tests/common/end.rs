//! One end of a simulated connection: a machine, and the driver that keeps its contract.

use bytes::{Buf, Bytes};
use persist_core::{Conn, ExchangeId, Instant, Role, Side};

use super::link::{Pipe, Read};
use super::seeds::Dice;
use super::seen::{Line, Log, Moment, Seen, Stop, drain};

/// One end of the connection, and its driver.
pub struct End<R: Role> {
    pub conn: Conn<R>,
    pub log: Log,
    /// Read from the stream, and not taken by the machine yet.
    pub rest: Vec<u8>,
    /// `next` said to stop reading, and nothing has changed since.
    pub paused: bool,
    pub told_eof: bool,
    pub closed: bool,
}

impl<R: Role> End<R>
where
    R::Inbound: Line,
{
    pub fn new(conn: Conn<R>) -> Self {
        Self { conn, log: Log::default(), rest: Vec::new(), paused: false, told_eof: false, closed: false }
    }

    /// Drains the machine after it was changed, as every driver must; returns the requests that began.
    pub fn pump(&mut self, out: &mut Pipe, inward: &mut Pipe, now: Instant) -> Vec<(ExchangeId, R::Ticket)> {
        let mut begun = Vec::new();
        if self.closed {
            return begun;
        }
        let mut rest = self.conn.take_kept();
        rest.append(&mut self.rest);
        let mut input = rest.as_slice();
        let stop = drain(&mut self.conn, &mut input, now, &mut self.log, |_, moment| {
            if let Moment::Head(id, ticket) = moment {
                begun.push((id, ticket));
            }
        });
        match stop {
            Stop::NeedRead => assert!(input.is_empty(), "asks for more with input left"),
            // Half of it with the machine, half with the driver: both are allowed.
            Stop::Paused | Stop::Error(_) => {
                let half = input.len() / 2;
                let kept = if self.conn.keep(&input[..half]).is_ok() { half } else { 0 };
                self.rest = input[kept..].to_vec();
            }
        }
        self.paused = stop == Stop::Paused;
        if self.conn.poll_shutdown() {
            assert!(!self.conn.wants_write(), "shut down with bytes to write");
            out.shut = true;
        }
        if self.log.closed().is_some() {
            self.close(out, inward);
        }
        begun
    }

    /// Closes the stream as a kernel would: with bytes unread, the peer's reads fail and what is under way to it is lost.
    pub fn close(&mut self, out: &mut Pipe, inward: &mut Pipe) {
        self.closed = true;
        inward.deaf = true;
        if inward.under_way() > 0 {
            out.kill();
        } else {
            out.shut = true;
        }
    }

    pub fn write(&mut self, out: &mut Pipe, max: usize, now: Instant) {
        let mut transmit = self.conn.transmit(now);
        let chunk = transmit.chunk();
        match out.write(&chunk[..chunk.len().min(max)]) {
            Some(n) => transmit.advance(n),
            None => self.conn.handle_io_error(Side::Write, now),
        }
    }

    pub fn read(&mut self, inward: &mut Pipe, max: usize, now: Instant) {
        match inward.read(max) {
            Read::Bytes(bytes) => self.rest.extend(bytes),
            Read::Eof => {
                self.told_eof = true;
                self.conn.handle_eof(now);
            }
            Read::Failed => {
                self.told_eof = true;
                self.conn.handle_io_error(Side::Read, now);
            }
        }
    }

    /// The exchange whose content may be read past the machine, and how much of it.
    pub fn straight(&self) -> Option<(u64, usize)> {
        let last = self.log.0.iter().rev().find_map(|seen| match seen {
            Seen::Head(id, ..) => Some(*id),
            _ => None,
        })?;
        let is_open = self.rest.is_empty() && self.log.ends(last).is_empty();
        let window = usize::try_from(self.conn.body_window()).unwrap_or(usize::MAX);
        (is_open && window > 0).then_some((last, window))
    }

    /// Reads content past the machine, as an adapter reads into its caller's buffer.
    pub fn read_straight(&mut self, id: u64, inward: &mut Pipe, max: usize, now: Instant) {
        if inward.has_bytes()
            && let Read::Bytes(bytes) = inward.read(max)
        {
            self.conn.handle_body(bytes.len() as u64, now);
            self.log.data(id, &bytes);
        }
    }

    /// Sends content past the machine, as sendfile does; returns how much of it was taken.
    pub fn send_straight(&mut self, id: ExchangeId, content: &[u8], out: &mut Pipe, now: Instant) -> usize {
        match out.write(content) {
            Some(n) => {
                self.conn.handle_sent(id, n as u64, now);
                n
            }
            None => {
                self.conn.handle_io_error(Side::Write, now);
                0
            }
        }
    }
}

/// How a piece of content is handed over.
pub fn send_piece<R: Role>(
    end: &mut End<R>,
    id: ExchangeId,
    piece: &[u8],
    out: &mut Pipe,
    dice: &mut Dice,
    now: Instant,
) -> usize
where
    R::Inbound: Line,
{
    let window = usize::try_from(end.conn.send_window(id)).unwrap_or(usize::MAX).min(piece.len());
    match dice.below(3) {
        0 if window > 0 => end.send_straight(id, &piece[..window], out, now),
        1 => {
            let shared = Bytes::copy_from_slice(piece);
            let taken = end.conn.send_body_shared(id, &shared, now).expect("the machine said there is room");
            if taken { piece.len() } else { 0 }
        }
        _ => end.conn.send_body(id, piece, now).expect("the machine said there is room"),
    }
}
