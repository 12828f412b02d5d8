//! Sends bodies: gives their content to the machine as fast as it takes it. Readers are polled without the connection's lock.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use persist_core::{BodyLen, ExchangeId, Fields, SendError, Upload};
use tokio::io::AsyncReadExt;

use crate::body::{Body, Content, Piece, Reader, too_short};
use crate::link::State;
use crate::part::Part;

/// At most so many bytes are copied into the machine's outbox; longer pieces go out from where they are.
pub(crate) const COPY_MAX: usize = 8 * 1024;

/// A reader is asked for so many bytes at once: at first, and at most, if it fills what it is given.
const READ_BYTES: (usize, usize) = (64 * 1024, 256 * 1024);

/// Pieces that are there at once are gathered for one write: so many bytes, and so many pieces, give or take the last.
const GATHERED: (usize, usize) = (512 * 1024, 16);

/// A body on its way out.
pub(crate) struct Outgoing {
    source: Source,
    /// Content that the machine has not taken yet,
    piece: Bytes,
    /// or several pieces of it.
    pieces: Vec<Bytes>,
    trailers: Option<Fields>,
}

enum Source {
    /// All content is at hand.
    Exhausted,
    Reader(Feed),
    /// It failed behind what is at hand.
    Failed(io::Error),
    /// The reader is being polled by somebody.
    Away,
}

/// A reader, and how it is read.
struct Feed {
    reader: Reader,
    /// How much of the declared length is still to come.
    left: Option<u64>,
    /// What is read into.
    spare: BytesMut,
    read_bytes: usize,
}

/// A reader that is to be polled.
pub(crate) struct Job {
    id: ExchangeId,
    feed: Feed,
    /// What it gave, in order; never empty pieces.
    given: Vec<Bytes>,
    /// What came behind that.
    then: Then,
}

enum Then {
    /// There may be more: it was not asked, or has to be waited for.
    More,
    End(Option<Fields>),
    Failed(io::Error),
}

impl Outgoing {
    /// What is left to send after the head: nothing if the head is all (RFC 9112 §6.3).
    pub(crate) fn new(body: Body) -> Option<Self> {
        if body.is_empty() {
            return None;
        }
        let (source, piece) = match body.content {
            Content::Empty => (Source::Exhausted, Bytes::new()),
            Content::Bytes(bytes) => (Source::Exhausted, bytes),
            Content::Reader { reader, len } => {
                let left = if let BodyLen::Length(len) = len { Some(len) } else { None };
                let feed = Feed { reader, left, spare: BytesMut::new(), read_bytes: READ_BYTES.0 };
                (Source::Reader(feed), Bytes::new())
            }
        };
        Some(Self { source, piece, pieces: Vec::new(), trailers: body.trailers })
    }
}

impl Job {
    /// Polls the reader until there is enough for one write, or it has to be waited for. Not under the lock: it is the user's code. Whoever drives polls it,
    /// perhaps for somebody else: one that panics fails, and with it its own exchange only.
    pub(crate) fn run(mut self, cx: &mut Context<'_>) -> Self {
        let polled = catch_unwind(AssertUnwindSafe(|| match &mut self.feed.reader {
            Reader::Read(_) => self.read(cx),
            Reader::Pieces(_) => self.gather(cx),
        }));
        if polled.is_err() {
            self.then = Then::Failed(io::Error::other("the reader of the body panicked"));
        }
        self
    }

    fn read(&mut self, cx: &mut Context<'_>) {
        let Feed { reader: Reader::Read(reader), left, spare, read_bytes } = &mut self.feed else { return };
        let limit = left.map_or(*read_bytes, |left| left.min(*read_bytes as u64) as usize);
        // The last piece's memory, if that is written; what is left of it, if that is enough.
        if !spare.try_reclaim(limit) && spare.capacity() < COPY_MAX.min(limit) {
            spare.reserve(limit);
        }
        match pin!(reader.take(limit as u64).read_buf(spare)).poll(cx) {
            Poll::Pending => {}
            Poll::Ready(Err(error)) => self.then = Then::Failed(error),
            Poll::Ready(Ok(0)) => self.then = Then::End(None),
            Poll::Ready(Ok(read)) => {
                if read == *read_bytes {
                    *read_bytes = (2 * read).min(READ_BYTES.1);
                }
                *left = left.map(|left| left - read as u64);
                self.given.push(spare.split().freeze());
            }
        }
    }

    fn gather(&mut self, cx: &mut Context<'_>) {
        let Feed { reader: Reader::Pieces(pieces), left, .. } = &mut self.feed else { return };
        let mut gathered = 0;
        // What follows the declared length is not ours to ask for: waiting for it could take for ever.
        while gathered < GATHERED.0 && self.given.len() < GATHERED.1 && *left != Some(0) {
            match pieces.as_mut().poll_piece(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(Piece::Content(piece))) => {
                    gathered += piece.len();
                    // One that is too long is the machine's to refuse.
                    *left = left.map(|left| left.saturating_sub(piece.len() as u64));
                    self.given.push(piece);
                }
                Poll::Ready(Ok(Piece::End(trailers))) => return self.then = Then::End(trailers),
                Poll::Ready(Err(error)) => return self.then = Then::Failed(error),
            }
        }
    }
}

impl<R: Part, S> State<R, S> {
    /// The head of this exchange's message was taken: its body follows, at once as far as the machine takes it.
    pub(crate) fn begin_body(&mut self, id: ExchangeId, body: Body) {
        let Some(mut outgoing) = Outgoing::new(body) else { return };
        match self.give(id, &mut outgoing) {
            // What is left of it may be the user's code: an unused reader, if there is nothing to be sent after all.
            Ok(Pumped::All) if matches!(outgoing.source, Source::Exhausted) => {}
            Ok(Pumped::All) => self.discard(Some(Box::new(outgoing))),
            outcome => {
                self.settle_down();
                self.entry_or_new(id).outgoing = Some(Box::new(outgoing));
                if let Err(error) = outcome {
                    self.break_off(id, error);
                }
            }
        }
    }

    /// The exchange whose body is sent next: only the first that is unfinished can make progress, later ones are parked behind it.
    #[inline]
    pub(crate) fn first_outgoing(&self) -> Option<usize> {
        match self.entries.len() {
            0 => None,
            1 => self.entries.front()?.outgoing.as_ref().map(|_| 0),
            _ => self.first_outgoing_of_many(),
        }
    }

    #[inline(never)]
    fn first_outgoing_of_many(&self) -> Option<usize> {
        self.entries.iter().position(|entry| entry.outgoing.is_some())
    }

    /// Gives the machine what it takes of the bodies to be sent. True if it took something.
    #[inline]
    pub(crate) fn pump(&mut self) -> bool {
        self.first_outgoing().is_some() && self.pump_bodies()
    }

    #[inline(never)]
    fn pump_bodies(&mut self) -> bool {
        let mut any = false;
        while let Some(at) = self.first_outgoing() {
            let entry = &mut self.entries[at];
            let id = entry.id;
            let Some(mut outgoing) = entry.outgoing.take() else { break };
            let given = self.give(id, &mut outgoing);
            if let Some(entry) = self.entry(id) {
                entry.outgoing = Some(outgoing);
            }
            match given {
                Ok(Pumped::Failed(cause)) => {
                    any = true;
                    self.fail_body(id, Some(cause));
                }
                Ok(Pumped::All) => {
                    any = true;
                    self.end_body(id);
                }
                // What it gave is written first; what follows it may be an error.
                Ok(Pumped::Some) => return true,
                Ok(Pumped::Nothing) => return any,
                Err(error) => {
                    // The machine has news of it, which must come out even if nothing else moves.
                    any = true;
                    self.break_off(id, error);
                }
            }
        }
        any
    }

    /// The body is sent, or will not be: whoever waited for that goes on.
    pub(crate) fn end_body(&mut self, id: ExchangeId) {
        let done = self.entry(id).and_then(|entry| entry.outgoing.take());
        self.discard(done);
        self.wake_exchange(id);
        self.wake_turn();
        self.tidy(id);
    }

    fn give(&mut self, id: ExchangeId, outgoing: &mut Outgoing) -> Result<Pumped, SendError> {
        let now = self.now();
        match self.conn.upload(id) {
            Upload::Ready { room: 0 } | Upload::AwaitContinue => return Ok(Pumped::Nothing),
            Upload::Ready { .. } => {}
            Upload::Stopped => return Err(SendError::UploadStopped),
            Upload::Finished => return Ok(Pumped::All),
        }
        let before = outgoing.piece.len();
        let mut moved = before > 0;
        if !outgoing.pieces.is_empty() {
            if !self.conn.send_body_pieces(id, &outgoing.pieces, now)? {
                return Ok(Pumped::Nothing);
            }
            outgoing.pieces.clear();
            moved = true;
        } else if before > COPY_MAX {
            if !self.conn.send_body_shared(id, &outgoing.piece, now)? {
                return Ok(Pumped::Nothing);
            }
            outgoing.piece = Bytes::new();
        } else if before > 0 {
            let taken = self.conn.send_body(id, &outgoing.piece, now)?;
            outgoing.piece.advance(taken);
        }
        if !outgoing.piece.is_empty() {
            return Ok(if outgoing.piece.len() < before { Pumped::Some } else { Pumped::Nothing });
        }
        match &mut outgoing.source {
            Source::Exhausted | Source::Reader(Feed { left: Some(0), .. }) => {
                self.conn.finish_body(id, outgoing.trailers.as_ref(), now)?;
                Ok(Pumped::All)
            }
            _ if moved => Ok(Pumped::Some),
            source @ Source::Failed(_) => match mem::replace(source, Source::Exhausted) {
                Source::Failed(cause) => Ok(Pumped::Failed(cause)),
                _ => Ok(Pumped::Nothing),
            },
            Source::Reader(_) | Source::Away => Ok(Pumped::Nothing),
        }
    }

    /// The body cannot be sent to its end. An early response or an ended exchange explain themselves; anything else is the body's fault.
    fn break_off(&mut self, id: ExchangeId, error: SendError) {
        let cause = match error {
            SendError::UploadStopped | SendError::NoSuchExchange => None,
            SendError::TooShort { missing } => Some(too_short(missing)),
            other => Some(io::Error::other(other)),
        };
        self.fail_body(id, cause);
    }

    /// No more of the body is sent; with a cause, the whole exchange is given up.
    fn fail_body(&mut self, id: ExchangeId, cause: Option<io::Error>) {
        if let Some(cause) = cause {
            let now = self.now();
            if let Some(entry) = self.entry(id) {
                entry.outgoing_error = Some(Arc::new(cause));
            }
            R::give_up_outbound(&mut self.conn, id, now);
        }
        self.end_body(id);
    }

    /// The reader that must be polled before anything more can be sent.
    #[inline]
    pub(crate) fn take_job(&mut self) -> Option<Job> {
        let at = self.first_outgoing()?;
        self.take_job_at(at)
    }

    #[inline(never)]
    fn take_job_at(&mut self, at: usize) -> Option<Job> {
        let id = self.entries[at].id;
        if !matches!(self.conn.upload(id), Upload::Ready { room: 1.. }) {
            return None;
        }
        let outgoing = self.entries[at].outgoing.as_mut()?;
        if !outgoing.piece.is_empty() || !outgoing.pieces.is_empty() {
            return None;
        }
        match mem::replace(&mut outgoing.source, Source::Away) {
            Source::Reader(feed) => Some(Job { id, feed, given: mem::take(&mut outgoing.pieces), then: Then::More }),
            other => {
                outgoing.source = other;
                None
            }
        }
    }

    /// Takes the reader back. True if there is something to go on with.
    pub(crate) fn put_back(&mut self, job: Job) -> bool {
        let Job { id, feed, mut given, then } = job;
        let left = feed.left;
        let Some(outgoing) = self.entry(id).and_then(|entry| entry.outgoing.as_mut()) else {
            let source = Source::Reader(feed);
            self.discard(Some(Box::new(Outgoing { source, piece: Bytes::new(), pieces: given, trailers: None })));
            return true;
        };
        let came = !given.is_empty();
        if given.len() == 1 {
            outgoing.piece = given.pop().unwrap_or_default();
        }
        outgoing.pieces = given;
        outgoing.source = match then {
            Then::More => {
                outgoing.source = Source::Reader(feed);
                return came;
            }
            Then::End(trailers) => {
                // Only a chunked body can end with them (RFC 9112 §7.1.2).
                outgoing.trailers = trailers.filter(|_| left.is_none()).or(outgoing.trailers.take());
                Source::Exhausted
            }
            Then::Failed(error) => Source::Failed(error),
        };
        let source = Source::Reader(feed);
        self.discard(Some(Box::new(Outgoing { source, piece: Bytes::new(), pieces: Vec::new(), trailers: None })));
        true
    }
}

enum Pumped {
    Nothing,
    Some,
    All,
    /// The reader, behind all that it gave.
    Failed(io::Error),
}
