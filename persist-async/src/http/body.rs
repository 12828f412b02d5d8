//! Bodies of the `http-body` crate: received ones are such bodies, and any of them can be sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use persist_core::BodyLen;

use super::fields::{Said, from_fields, to_fields};
use crate::body::{Body, Piece, Pieces};
use crate::error::Error;
use crate::incoming::Incoming;
use crate::wakers::Hold;
use persist_core::BoxError;

/// Content in pieces, then the trailers. After a failure it ends: keep the error.
impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Error>>> {
        Poll::Ready(match ready!(self.poll_chunk(Hold::Loose, cx)) {
            Ok(Some(content)) => Some(Ok(Frame::data(content))),
            Ok(None) => self.take_trailers().map(|trailers| Ok(Frame::trailers(from_fields(trailers.iter())))),
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_finished() && self.trailers().is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left().map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// Any body of the `http-body` crate, to be sent: with its length if it knows that, else chunked.
///
/// It is polled by whoever awaits something of the connection, never under a lock. An error of it fails the exchange, and is the
/// cause of the exchange's error.
///
/// ```
/// use persist_async::{BodyLen, http::body};
///
/// assert_eq!(body(String::from("hello")).len(), BodyLen::Length(5));
/// ```
pub fn body<B>(body: B) -> Body
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let len = length(&body, &Said::default());
    with_length(body, len)
}

/// How a body is framed: as its head declares, else as long as it says itself, unless trailers are to follow.
pub(super) fn length<B: http_body::Body>(body: &B, said: &Said) -> BodyLen {
    match said.length.or_else(|| body.size_hint().exact().filter(|_| !said.trailers)) {
        Some(0) if said.length.is_none() => BodyLen::Empty,
        Some(len) => BodyLen::Length(len),
        None if body.is_end_stream() => BodyLen::Empty,
        None => BodyLen::Chunked,
    }
}

pub(super) fn with_length<B>(body: B, len: BodyLen) -> Body
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    if len == BodyLen::Empty {
        return Body::empty();
    }
    Body::of_pieces(Box::pin(Foreign { body: Box::pin(body), ready: None }), len)
}

/// The same, but content that the body has at hand is taken at once: most bodies are one piece. Whoever sends the rest polls it again before he waits for it.
pub(super) fn at_hand<B>(body: B, len: BodyLen) -> Body
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    if len == BodyLen::Empty {
        return Body::empty();
    }
    let mut foreign = Foreign { body: Box::pin(body), ready: None };
    if let BodyLen::Length(len) = len {
        match foreign.poll_foreign(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Piece::Content(content))) if content.len() as u64 == len => return content.into(),
            Poll::Ready(outcome) => foreign.ready = Some(outcome),
            Poll::Pending => {}
        }
    }
    Body::of_pieces(Box::pin(foreign), len)
}

/// Empty pieces in a row before others get their turn.
const EMPTY_MAX: u32 = 32;

struct Foreign<B> {
    body: Pin<Box<B>>,
    /// What came of it already.
    ready: Option<io::Result<Piece>>,
}

impl<B: http_body::Body<Error: Into<BoxError>>> Foreign<B> {
    fn poll_foreign(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        for _ in 0..EMPTY_MAX {
            let frame = match ready!(self.body.as_mut().poll_frame(cx)) {
                None => return Poll::Ready(Ok(Piece::End(None))),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(mut data) if data.has_remaining() => {
                    return Poll::Ready(Ok(Piece::Content(data.copy_to_bytes(data.remaining()))));
                }
                Ok(_) => {}
                Err(frame) => {
                    let trailers = frame.into_trailers().ok().map(|trailers| to_fields(&trailers, None));
                    return Poll::Ready(Ok(Piece::End(trailers)));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send> Pieces for Foreign<B> {
    fn poll_piece(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        match self.ready.take() {
            Some(ready) => Poll::Ready(ready),
            None => self.poll_foreign(cx),
        }
    }
}
