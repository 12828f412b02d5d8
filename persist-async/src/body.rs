//! The body of a message to be sent.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use persist_core::{BodyLen, Fields};
use tokio::io::AsyncRead;

use crate::incoming::Incoming;
use crate::pump::COPY_MAX;

/// The body of a message to be sent: nothing, bytes, whatever a reader gives, or pieces one after the other.
///
/// ```
/// use persist_async::Body;
///
/// let nothing = Body::empty();
/// let text = Body::from("hello");
/// let stream = Body::reader(tokio::io::empty(), None); // chunked
/// # let _ = (nothing, text, stream);
/// ```
pub struct Body {
    pub(crate) content: Content,
    pub(crate) trailers: Option<Fields>,
}

/// Where content comes from that is not at hand.
pub(crate) enum Reader {
    /// It is read into a buffer of ours.
    Read(Pin<Box<dyn AsyncRead + Send>>),
    /// It brings its own buffers.
    Pieces(Pin<Box<dyn Pieces>>),
}

/// A body that comes in pieces, and perhaps with trailers that are known only at its end.
pub(crate) trait Pieces: Send {
    fn poll_piece(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Piece>>;
}

/// What came of a body to be sent.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Never empty.
    Content(Bytes),
    End(Option<Fields>),
}

/// Pieces that a function gives.
struct Next<F>(F);

/// It is called, and never pinned.
impl<F> Unpin for Next<F> {}

/// Empty pieces in a row before others get their turn.
const EMPTY_MAX: u32 = 32;

impl<F: FnMut(&mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> + Send> Pieces for Next<F> {
    fn poll_piece(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        for _ in 0..EMPTY_MAX {
            match ready!((self.0)(cx)) {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => return Poll::Ready(Ok(Piece::Content(piece))),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(Piece::End(None))),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

pub(crate) enum Content {
    Empty,
    Bytes(Bytes),
    Reader { reader: Reader, len: BodyLen },
}

impl Body {
    /// No content.
    pub const fn empty() -> Self {
        Self { content: Content::Empty, trailers: None }
    }

    /// What `reader` gives: its first `len` bytes, or all of it, chunked, if that is `None`.
    ///
    /// The reader is polled by whoever awaits something of the connection, never under a lock. If it fails, panics, or gives fewer bytes than declared,
    /// the exchange fails with its error and the connection closes: a broken message is never completed.
    pub fn reader(reader: impl AsyncRead + Send + 'static, len: Option<u64>) -> Self {
        let len = len.map_or(BodyLen::Chunked, BodyLen::Length);
        Self { content: Content::Reader { reader: Reader::Read(Box::pin(reader)), len }, trailers: None }
    }

    /// What `next` gives until that is `None`: pieces that bring their own memory. Those of more than 8 KiB go out from where they are, uncopied. `len` bytes in all, or
    /// chunked if that is `None`.
    ///
    /// `next` is polled as a reader is, and only when there is room: what is there at once is held until it is written, up to 512 KiB or 16 pieces. If it fails, or gives fewer or more bytes than declared,
    /// the exchange fails with that error and the connection closes.
    ///
    /// ```
    /// use std::task::Poll;
    /// use bytes::Bytes;
    /// use persist_async::Body;
    ///
    /// // An iterator, and a stream of the crate `futures`.
    /// let mut pieces = vec![Bytes::from("hello, "), Bytes::from("world")].into_iter();
    /// let body = Body::pieces(move |_| Poll::Ready(pieces.next().map(Ok)), Some(12));
    /// # let stream = futures_util::stream::iter([Ok(Bytes::from("hello"))]);
    /// let mut stream = Box::pin(stream);
    /// let body = Body::pieces(move |cx| futures_util::Stream::poll_next(stream.as_mut(), cx), None);
    /// # let _ = body;
    /// ```
    pub fn pieces(
        next: impl FnMut(&mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> + Send + 'static,
        len: Option<u64>,
    ) -> Self {
        Self::of_pieces(Box::pin(Next(next)), len.map_or(BodyLen::Chunked, BodyLen::Length))
    }

    /// What `pieces` gives, framed as `len` says.
    pub(crate) fn of_pieces(pieces: Pin<Box<dyn Pieces>>, len: BodyLen) -> Self {
        Self { content: Content::Reader { reader: Reader::Pieces(pieces), len }, trailers: None }
    }

    /// Adds a trailer section. The body is then chunked (RFC 9112 §7.1.2), even if its length is known.
    #[must_use]
    pub fn with_trailers(mut self, trailers: Fields) -> Self {
        self.trailers = Some(trailers);
        if let Content::Reader { len, .. } = &mut self.content {
            *len = BodyLen::Chunked;
        }
        self
    }

    /// How it will be framed.
    pub fn len(&self) -> BodyLen {
        match (&self.content, &self.trailers) {
            (_, Some(_)) => BodyLen::Chunked,
            (Content::Empty, None) => BodyLen::Empty,
            (Content::Bytes(bytes), None) => BodyLen::Length(bytes.len() as u64),
            (Content::Reader { len, .. }, None) => *len,
        }
    }

    /// Content that is worth being copied behind its head at once.
    pub(crate) fn at_hand(&self) -> Option<&[u8]> {
        match (&self.content, &self.trailers) {
            (Content::Bytes(bytes), None) if bytes.len() <= COPY_MAX => Some(bytes),
            _ => None,
        }
    }

    /// Whether it is known to have no content.
    pub fn is_empty(&self) -> bool {
        matches!(self.len(), BodyLen::Empty | BodyLen::Length(0))
    }

    /// The same body again, if it can be sent twice: one from a reader cannot.
    pub fn try_clone(&self) -> Option<Self> {
        let content = match &self.content {
            Content::Empty => Content::Empty,
            Content::Bytes(bytes) => Content::Bytes(bytes.clone()),
            Content::Reader { .. } => return None,
        };
        Some(Self { content, trailers: self.trailers.clone() })
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { content: Content::Bytes(bytes), trailers: None }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

/// No content.
impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

/// What comes in goes out, piece by piece: as long as it comes in, or chunked. Trailers are not passed on.
impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        // A client that waits for `100 Continue` must get it before the head of the response that echoes its content.
        incoming.ask();
        match incoming.len() {
            BodyLen::Empty => Self::empty(),
            BodyLen::Length(len) => Self::reader(incoming, Some(len)),
            BodyLen::Chunked | BodyLen::UntilClose => Self::reader(incoming, None),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("len", &self.len()).field("trailers", &self.trailers).finish_non_exhaustive()
    }
}

/// Why a reader's body cannot be sent to its end.
pub(crate) fn too_short(missing: u64) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the body's reader ended {missing} bytes early"))
}
