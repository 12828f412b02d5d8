//! The body of a message to be sent.

use std::fmt;
use std::io::{self, Read};

use bytes::Bytes;
use persist_core::{BodyLen, Fields};

use crate::incoming::Incoming;

/// The body of a message to be sent: nothing, bytes, or whatever a reader or an iterator gives.
///
/// ```
/// use persist_sync::Body;
///
/// let nothing = Body::empty();
/// let text = Body::from("hello");
/// let stream = Body::reader(std::io::empty(), None); // chunked
/// # let _ = (nothing, text, stream);
/// ```
pub struct Body {
    pub(crate) content: Content,
    pub(crate) trailers: Option<Fields>,
}

pub(crate) type Reader = Box<dyn Read + Send>;
pub(crate) type Pieces = Box<dyn Iterator<Item = io::Result<Bytes>> + Send>;

pub(crate) enum Content {
    Empty,
    Bytes(Bytes),
    Stream { feed: Feed, len: BodyLen },
}

/// Where content comes from that is not in memory.
pub(crate) enum Feed {
    Reader(Reader),
    Pieces(Pieces),
}

impl Body {
    /// No content.
    pub const fn empty() -> Self {
        Self { content: Content::Empty, trailers: None }
    }

    /// What `reader` gives: its first `len` bytes, or all of it, chunked, if that is `None`.
    ///
    /// The reader is called by the thread that sends the message, never under a lock. If it fails, panics, or gives fewer bytes than declared,
    /// the exchange fails with its error and the connection closes: a broken message is never completed.
    pub fn reader(reader: impl Read + Send + 'static, len: Option<u64>) -> Self {
        Self::stream(Feed::Reader(Box::new(reader)), len)
    }

    /// The pieces that an iterator gives, none of which is copied: the first `len` bytes of them, or all, chunked, if that is `None`.
    ///
    /// Some are gathered for each write, up to 512 KiB, so this is for pieces that are at hand. One that must be waited for holds those before it
    /// back; a [`reader`](Self::reader) does not. Apart from that, the same holds as there.
    ///
    /// ```
    /// use persist_sync::{Body, persist_core::bytes::Bytes};
    ///
    /// let page = Bytes::from_static(&[b'x'; 65_536]);
    /// let body = Body::pieces((0..1_600).map(move |_| Ok(page.clone())), Some(1_600 * 65_536)); // 100 MiB, of which there is one page
    /// # drop(body);
    /// ```
    pub fn pieces(pieces: impl Iterator<Item = io::Result<Bytes>> + Send + 'static, len: Option<u64>) -> Self {
        Self::stream(Feed::Pieces(Box::new(pieces)), len)
    }

    fn stream(feed: Feed, len: Option<u64>) -> Self {
        let len = len.map_or(BodyLen::Chunked, BodyLen::Length);
        Self { content: Content::Stream { feed, len }, trailers: None }
    }

    /// Adds a trailer section. The body is then chunked (RFC 9112 §7.1.2), even if its length is known.
    #[must_use]
    pub fn with_trailers(mut self, trailers: Fields) -> Self {
        self.trailers = Some(trailers);
        self
    }

    /// How it will be framed.
    pub fn len(&self) -> BodyLen {
        match (&self.content, &self.trailers) {
            (_, Some(_)) => BodyLen::Chunked,
            (Content::Empty, None) => BodyLen::Empty,
            (Content::Bytes(bytes), None) => BodyLen::Length(bytes.len() as u64),
            (Content::Stream { len, .. }, None) => *len,
        }
    }

    /// Whether it is known to have no content.
    pub fn is_empty(&self) -> bool {
        matches!(self.len(), BodyLen::Empty | BodyLen::Length(0))
    }

    /// Whether nobody has to be asked for it.
    pub(crate) fn is_in_memory(&self) -> bool {
        !matches!(self.content, Content::Stream { .. })
    }

    /// The same body again, if it can be sent twice: one from a reader or an iterator cannot.
    pub fn try_clone(&self) -> Option<Self> {
        let content = match &self.content {
            Content::Empty => Content::Empty,
            Content::Bytes(bytes) => Content::Bytes(bytes.clone()),
            Content::Stream { .. } => return None,
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
    fn from(mut incoming: Incoming) -> Self {
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
