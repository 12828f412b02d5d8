//! Sends bodies: gives their content to the machine as fast as it takes it. Readers are polled without the connection's lock.

use std::io;
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

/// A reader is asked for so many bytes at once.
const PIECE: usize = 64 * 1024;

/// A body on its way out.
pub(crate) struct Outgoing {
    source: Source,
    /// Content that the machine has not taken yet.
    piece: Bytes,
    trailers: Option<Fields>,
}

enum Source {
    /// All content is in `piece`.
    Exhausted,
    Reader {
        reader: Reader,
        left: Option<u64>,
        spare: BytesMut,
    },
    /// The reader is being polled by somebody.
    Away,
}

/// A reader that is to be polled.
pub(crate) struct Job {
    id: ExchangeId,
    reader: Reader,
    left: Option<u64>,
    spare: BytesMut,
    outcome: Poll<io::Result<Piece>>,
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
                (Source::Reader { reader, left, spare: BytesMut::new() }, Bytes::new())
            }
        };
        Some(Self { source, piece, trailers: body.trailers })
    }
}

impl Job {
    /// Polls the reader once. Not under the lock: it is the user's code.
    pub(crate) fn run(mut self, cx: &mut Context<'_>) -> Self {
        let limit = self.left.map_or(PIECE, |left| left.min(PIECE as u64) as usize);
        let reader = match &mut self.reader {
            Reader::Read(reader) => reader,
            Reader::Pieces(pieces) => {
                self.outcome = pieces.as_mut().poll_piece(cx);
                if let Poll::Ready(Ok(Piece::Content(piece))) = &self.outcome {
                    // One that is too long is the machine's to refuse.
                    self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
                }
                return self;
            }
        };
        if self.spare.capacity() == 0 {
            self.spare.reserve(limit);
        } else {
            self.spare.reserve(limit.min(COPY_MAX));
        }
        self.outcome = match pin!(reader.take(limit as u64).read_buf(&mut self.spare)).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(Piece::End(None))),
            Poll::Ready(Ok(read)) => {
                self.left = self.left.map(|left| left - read as u64);
                Poll::Ready(Ok(Piece::Content(self.spare.split().freeze())))
            }
        };
        self
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
                self.entry_or_new(id).outgoing = Some(Box::new(outgoing));
                if let Err(error) = outcome {
                    self.break_off(id, error);
                }
            }
        }
    }

    /// Gives the machine what it takes of the bodies to be sent. True if it took something.
    pub(crate) fn pump(&mut self) -> bool {
        let mut any = false;
        // Only the first unfinished body can make progress; later ones are parked behind it.
        while let Some(entry) = self.entries.iter_mut().find(|entry| entry.outgoing.is_some()) {
            let id = entry.id;
            let Some(mut outgoing) = entry.outgoing.take() else { break };
            let given = self.give(id, &mut outgoing);
            if let Some(entry) = self.entry(id) {
                entry.outgoing = Some(outgoing);
            }
            match given {
                Ok(Pumped::All) => {
                    any = true;
                    self.end_body(id);
                }
                Ok(Pumped::Some) => any = true,
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
        if before > COPY_MAX {
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
        match &outgoing.source {
            Source::Exhausted | Source::Reader { left: Some(0), .. } => {
                self.conn.finish_body(id, outgoing.trailers.as_ref(), now)?;
                Ok(Pumped::All)
            }
            Source::Reader { .. } | Source::Away if before > 0 => Ok(Pumped::Some),
            Source::Reader { .. } | Source::Away => Ok(Pumped::Nothing),
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
    pub(crate) fn take_job(&mut self) -> Option<Job> {
        let at = self.entries.iter().position(|entry| entry.outgoing.is_some())?;
        let id = self.entries[at].id;
        if !matches!(self.conn.upload(id), Upload::Ready { room: 1.. }) {
            return None;
        }
        let outgoing = self.entries[at].outgoing.as_mut()?;
        if !outgoing.piece.is_empty() {
            return None;
        }
        match std::mem::replace(&mut outgoing.source, Source::Away) {
            Source::Reader { reader, left, spare } => Some(Job { id, reader, left, spare, outcome: Poll::Pending }),
            other => {
                outgoing.source = other;
                None
            }
        }
    }

    /// Takes the reader back. True if there is something to go on with.
    pub(crate) fn put_back(&mut self, job: Job) -> bool {
        let Job { id, reader, left, spare, outcome } = job;
        let source = Source::Reader { reader, left, spare };
        let Some(outgoing) = self.entry(id).and_then(|entry| entry.outgoing.as_mut()) else {
            self.discard(Some(Box::new(Outgoing { source, piece: Bytes::new(), trailers: None })));
            return true;
        };
        outgoing.source = source;
        match outcome {
            Poll::Pending => return false,
            Poll::Ready(Ok(Piece::Content(piece))) => outgoing.piece = piece,
            Poll::Ready(Ok(Piece::End(trailers))) => {
                outgoing.source = Source::Exhausted;
                // Only a chunked body can end with them (RFC 9112 §7.1.2).
                outgoing.trailers = trailers.filter(|_| left.is_none()).or(outgoing.trailers.take());
            }
            Poll::Ready(Err(error)) => self.fail_body(id, Some(error)),
        }
        true
    }
}

enum Pumped {
    Nothing,
    Some,
    All,
}
