//! Content that comes in: handed out as it is read, which is when the peer may send more.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::RecvStream;
use persist_core::{CloseReason, Deadline, Fields, Phase, TooLong};
use tokio::io::ReadBuf;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until};

use super::failure::Track;
use crate::clock;
use crate::error::{Error, Result};
use crate::http::to_fields;
use crate::incoming::Piece;

/// The receiving end of one stream.
pub(crate) struct Inbound {
    stream: RecvStream,
    track: Track,
    /// Content that came and was more than its reader takes at once.
    held: Bytes,
    ended: bool,
    /// The task that sends our own message, which ends with this.
    upload: Option<AbortHandle>,
    limits: Limits,
    timer: Option<Pin<Box<Sleep>>>,
}

/// A head as it came.
pub(crate) enum Wire {
    Request(http::request::Parts),
    Response(http::response::Parts),
}

/// What a body may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Between two pieces.
    pub(super) idle: Option<Duration>,
    /// The whole exchange.
    pub(super) total: Option<Instant>,
    pub(super) bytes: u64,
}

impl Inbound {
    pub(super) fn new(stream: RecvStream, track: Track, upload: Option<AbortHandle>, limits: Limits) -> Self {
        Self { stream, track, held: Bytes::new(), ended: false, upload, limits, timer: None }
    }

    /// How much content was handed out.
    pub(crate) fn taken(&self) -> u64 {
        self.track.received - self.held.len() as u64
    }

    /// The next piece, at most so much of it, or the end.
    pub(crate) fn poll_piece(&mut self, most: usize, cx: &mut Context<'_>) -> Poll<Result<Piece>> {
        let mut piece = ready!(self.poll_any(cx))?;
        if let Piece::Content(content) = &mut piece {
            self.held = content.split_off(content.len().min(most));
        }
        Poll::Ready(Ok(piece))
    }

    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece>> {
        if self.held.has_remaining() {
            return Poll::Ready(Ok(Piece::Content(std::mem::take(&mut self.held))));
        }
        loop {
            let Poll::Ready(data) = self.stream.poll_data(cx) else { return self.poll_late(cx).map(Err) };
            self.timer = None;
            match data {
                Some(Ok(content)) => {
                    // Whoever takes it has room: the peer may send as much again.
                    let _ = self.stream.flow_control().release_capacity(content.len());
                    self.track.received += content.len() as u64;
                    if self.track.received > self.limits.bytes {
                        let limit = usize::try_from(self.limits.bytes).unwrap_or(usize::MAX);
                        return Poll::Ready(Err(Error::new(Phase::Body, TooLong { limit })));
                    }
                    if content.has_remaining() {
                        return Poll::Ready(Ok(Piece::Content(content)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(self.track.fail(error))),
                None => {
                    let Poll::Ready(trailers) = self.stream.poll_trailers(cx) else {
                        return self.poll_late(cx).map(Err);
                    };
                    return Poll::Ready(match trailers {
                        Ok(trailers) => Ok(Piece::End(self.end(trailers.map(|map| to_fields(&map, None))))),
                        Err(error) => Err(self.track.fail(error)),
                    });
                }
            }
        }
    }

    /// Content into `buf`; the trailers at the end.
    pub(crate) fn poll_into(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Option<Option<Fields>>>> {
        match ready!(self.poll_piece(buf.remaining(), cx))? {
            Piece::Content(content) => {
                buf.put_slice(&content);
                Poll::Ready(Ok(None))
            }
            Piece::End(trailers) => Poll::Ready(Ok(Some(trailers))),
        }
    }

    fn end(&mut self, trailers: Option<Fields>) -> Option<Fields> {
        if !self.ended {
            self.ended = true;
            self.track.complete();
        }
        trailers
    }

    /// Ready once it takes too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let idle = self.limits.idle.map(clock::after);
        let (due, deadline) = match (idle, self.limits.total) {
            (None, None) => return Poll::Pending,
            (Some(idle), Some(total)) if total < idle => (total, Deadline::Total),
            (None, Some(total)) => (total, Deadline::Total),
            (Some(idle), _) => (idle, Deadline::BodyIdle),
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(self.track.give_up(CloseReason::Timeout(deadline)))
    }
}

/// Nobody reads on: what is not complete is reset, and our own message is not sent any further.
impl Drop for Inbound {
    fn drop(&mut self) {
        if !self.ended
            && let Some(upload) = self.upload.take()
        {
            upload.abort();
        }
    }
}
