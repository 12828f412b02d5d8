//! Sending a body: from memory or a reader into the outbox, as far as there is room.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Buf, Bytes};
use persist_core::{BodyLen, ExchangeId, Fields, Instant, SendError, Upload};

use crate::body::{Body, Content};
use crate::clock;
use crate::driver::{Link, State};
use crate::part::Part;
use crate::supply::Supply;

/// What is still to be sent of one message's body.
pub(crate) struct Outgoing {
    id: ExchangeId,
    source: Source,
    trailers: Option<Fields>,
}

enum Source {
    /// Only the end is missing.
    Ended,
    Bytes(Bytes),
    Supply(Supply),
}

/// How sending went on.
#[derive(Debug)]
pub(crate) enum Sent<T> {
    /// All of it is in the outbox.
    Whole,
    /// The rest is not wanted: the exchange is over, or a reply has stopped it.
    Unwanted,
    /// Something else came first.
    Interrupted(T),
}

/// Why sending cannot go on.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// The reader failed, or ended early.
    Reader(io::Error),
    /// The machine refused it.
    Refused(SendError),
}

enum Step<T> {
    Refill,
    Done(Result<Sent<T>, SendError>),
}

impl Outgoing {
    /// What is to be sent behind a head that said so; `None` if the head is the whole message.
    pub(crate) fn new(id: ExchangeId, body: Body) -> Option<Self> {
        if body.is_empty() {
            return None;
        }
        let source = match body.content {
            Content::Empty => Source::Ended,
            Content::Bytes(bytes) if bytes.is_empty() => Source::Ended,
            Content::Bytes(bytes) => Source::Bytes(bytes),
            Content::Stream { feed, len } => {
                let len = if let BodyLen::Length(len) = len { Some(len) } else { None };
                Source::Supply(Supply::new(feed, len))
            }
        };
        Some(Self { id, source, trailers: body.trailers })
    }

    /// Sends, driving the connection in both directions, until all is in the outbox or `until` gives something.
    pub(crate) fn send<R: Part, T>(
        &mut self,
        link: &Link<R>,
        mut until: impl FnMut(&mut State<R>) -> Option<T>,
    ) -> Result<Sent<T>, BodyError> {
        loop {
            self.refill().map_err(BodyError::Reader)?;
            let step = link.wait(|state| match until(state) {
                Some(first) => Some(Step::Done(Ok(Sent::Interrupted(first)))),
                None => self.offer(state),
            });
            match step {
                Some(Step::Refill) => {}
                Some(Step::Done(Err(SendError::TooShort { missing }))) => {
                    return Err(BodyError::Reader(too_short(missing)));
                }
                Some(Step::Done(result)) => return result.map_err(BodyError::Refused),
                None => return Ok(Sent::Unwanted),
            }
        }
    }

    /// Gives the machine all of a body that is in memory; says whether it took it.
    pub(crate) fn offer_whole<R: Part>(&mut self, state: &mut State<R>) -> bool {
        matches!(self.offer::<R, ()>(state), Some(Step::Done(Ok(Sent::Whole))))
    }

    /// Fetches more, if everything before was taken. Runs the user's code: never under the lock. If that panics it has failed, and the exchange with it: nobody
    /// must wait for what will not come.
    fn refill(&mut self) -> io::Result<()> {
        if let Source::Supply(supply) = &mut self.source {
            let refilled = catch_unwind(AssertUnwindSafe(|| supply.refill()));
            if !refilled.unwrap_or_else(|_| Err(io::Error::other("the reader of the body panicked")))? {
                self.source = Source::Ended;
            }
        }
        Ok(())
    }

    /// Gives the machine what it takes now.
    fn offer<R: Part, T>(&mut self, state: &mut State<R>) -> Option<Step<T>> {
        match state.conn().upload(self.id) {
            Upload::Ready { .. } => {}
            Upload::AwaitContinue => return None,
            // Stopped by a reply, failed, or a message that has no content, whatever the caller gave (to HEAD, 204, 304).
            Upload::Stopped | Upload::Finished => return Some(Step::Done(Ok(Sent::Unwanted))),
        }
        if let Source::Supply(_) = self.source {
            // What came so far must not wait for what a slow reader gives later.
            state.uncork();
        }
        let now = clock::now();
        let taken = match &mut self.source {
            Source::Ended => Ok(true),
            Source::Bytes(bytes) => state.conn_mut().send_body_shared(self.id, bytes, now),
            Source::Supply(_) if state.outbox_is_full() => return None,
            Source::Supply(supply) => match give(self.id, supply, state, now) {
                Ok(true) => return Some(Step::Refill),
                other => other,
            },
        };
        let result = match taken {
            Ok(false) => {
                state.await_turn(self.id);
                return None;
            }
            Ok(true) => {
                if state.writing == Some(self.id) {
                    // A client's head was held back for it; a server's burst goes on.
                    state.uncork();
                }
                self.source = Source::Ended;
                state.conn_mut().finish_body(self.id, self.trailers.as_ref(), now)
            }
            Err(error) => Err(error),
        };
        Some(Step::Done(match result {
            Ok(()) => Ok(Sent::Whole),
            Err(SendError::UploadStopped | SendError::NoSuchExchange | SendError::Closed) => Ok(Sent::Unwanted),
            Err(error) => Err(error),
        }))
    }
}

/// Gives the machine what is at hand of a supply; says whether it took all of it.
fn give<R: Part>(id: ExchangeId, supply: &mut Supply, state: &mut State<R>, now: Instant) -> Result<bool, SendError> {
    let in_turn = state.conn().is_turn(id);
    while let Some(piece) = supply.next_mut() {
        if in_turn {
            // Once there is room for some of it, the machine is lent the whole.
            if !state.conn_mut().send_body_shared(id, piece, now)? {
                return Ok(false);
            }
        } else {
            let n = state.conn_mut().send_body(id, piece, now)?;
            piece.advance(n);
            if !piece.is_empty() {
                return Ok(false);
            }
        }
        supply.taken();
    }
    Ok(true)
}

pub(crate) fn too_short(missing: u64) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the body's reader ended {missing} bytes early"))
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("id", &self.id).finish_non_exhaustive()
    }
}
