//! The body of a received message.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use persist_core::{BodyLen, ExchangeId, Fields, Phase};
use tokio::io::{AsyncRead, ReadBuf};

use crate::client::Lease;
use crate::driver::Direct;
use crate::error::{Error, TooLong, into_io};
use crate::link::{Link, State, Transport};
use crate::part::Part;
use crate::waiting::Interest;
use crate::wakers::{Hold, Slot};

/// The body of a received message, read as it comes: as [`AsyncRead`], piece by piece with [`chunk`](Self::chunk), or whole with [`bytes`](Self::bytes).
///
/// While it is not read, the peer is stopped after some 128 KiB (64 KiB held here, one read of the socket, and the kernel's buffers), and so are the messages behind it.
/// Dropping it unread reads and drops the rest within [`Limits::drain_bytes_max`](persist_core::Limits::drain_bytes_max), or closes the connection.
///
/// ```
/// use persist_async::{Body, ClientConn, Fields, Request, Response, ServerConn};
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(1 << 16);
/// let (client, server) = (ClientConn::new(near), ServerConn::new(far));
///
/// let exchange = client.write(Request::get("/").field("Host", "localhost")?, ()).await?;
/// let mut trailers = Fields::new();
/// trailers.push("X-Sum", "42")?;
/// let received = server.read().await?.expect("a request");
/// received.responder.send(Response::ok(), Body::from("some content").with_trailers(trailers)).await?;
/// tokio::spawn(async move { server.read().await }); // whoever waits for the next request sends the answer to this one
///
/// let mut body = client.read(exchange).await?.body;
/// let mut some = [0; 4];
/// body.read_exact(&mut some).await?;
/// assert_eq!(&some, b"some");
/// while let Some(piece) = body.chunk().await? {
///     assert_eq!(piece, " content");
/// }
/// assert!(body.trailers().is_some_and(|trailers| trailers.get("x-sum").is_some()));
/// # Ok(())
/// # }
/// ```
pub struct Incoming {
    len: BodyLen,
    source: Source,
    /// Boxed, as is all that is not the same for most bodies: they are moved with the messages that they belong to, and fast only while they are small.
    rare: Option<Box<Rare>>,
}

/// What few bodies have.
#[derive(Default)]
struct Rare {
    trailers: Option<Fields>,
    /// The pooled connection, kept while content may come from it.
    lease: Option<Lease>,
    chunk_bytes_max: Option<usize>,
    /// The head as HTTP/2 had it, for whoever wants it in that form.
    #[cfg(feature = "http2")]
    wire: Option<crate::http2::Wire>,
}

enum Source {
    /// All of it is here; the connection has forgotten it.
    Whole(Bytes),
    Live(Box<Live>),
    #[cfg(feature = "http2")]
    Http2(Box<crate::http2::Inbound>),
    /// It ended, well or not.
    Done,
}

/// Where content comes from, and how much was handed out.
struct Live {
    inlet: Arc<dyn Inlet>,
    id: ExchangeId,
    slot: Option<Slot>,
    taken: u64,
}

/// The receiving end of a connection, whatever its role and stream are.
pub(crate) trait Inlet: Send + Sync {
    /// Content into `buf`; `None` at the end, with the trailers.
    fn poll_into(
        &self,
        wait: Place<'_>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Option<End>, Error>>;
    /// What there is of content, at most so much.
    fn poll_piece(&self, wait: Place<'_>, most: usize, cx: &mut Context<'_>) -> Poll<Result<Piece, Error>>;
    /// The future that waited here is gone, or the body is.
    fn leave(&self, slot: &mut Option<Slot>);
    /// Content is about to be wanted.
    fn ask(&self, id: ExchangeId);
    /// Nobody will read on.
    fn release(&self, id: ExchangeId);
}

/// Which exchange, and where its reader waits.
pub(crate) type Place<'a> = (ExchangeId, &'a mut Option<Slot>, Hold);

/// The message is complete; its trailers.
#[derive(Debug)]
pub(crate) struct End(Option<Fields>);

/// What [`Inlet::poll_piece`] found.
#[derive(Debug)]
pub(crate) enum Piece {
    Content(Bytes),
    End(Option<Fields>),
}

impl Incoming {
    /// The body of the exchange `id`, whose head was just taken from `state`: detached if all of it is here.
    pub(crate) fn open<R: Part, S: Transport>(
        link: &Arc<Link<R, S>>,
        state: &mut State<R, S>,
        id: ExchangeId,
        len: BodyLen,
    ) -> Self {
        match state.take_whole(id) {
            Some((content, trailers)) => {
                let mut body = Self::whole(len, content);
                if let Some(trailers) = trailers {
                    body.rare.get_or_insert_default().trailers = Some(*trailers);
                }
                body
            }
            None => {
                let live = Live { inlet: link.clone(), id, slot: None, taken: 0 };
                Self::of(len, Source::Live(Box::new(live)))
            }
        }
    }

    /// The body of a message of which all is here.
    pub(crate) fn whole(len: BodyLen, content: Bytes) -> Self {
        Self::of(len, if content.is_empty() { Source::Done } else { Source::Whole(content) })
    }

    /// The body of a message that has none.
    pub(crate) fn nothing() -> Self {
        Self::of(BodyLen::Empty, Source::Done)
    }

    fn of(len: BodyLen, source: Source) -> Self {
        Self { len, source, rare: None }
    }

    /// The body of a message that came by HTTP/2; `None` if it has none.
    #[cfg(feature = "http2")]
    pub(crate) fn of_http2(len: BodyLen, inbound: Option<crate::http2::Inbound>, wire: crate::http2::Wire) -> Self {
        let source = inbound.map_or(Source::Done, |inbound| Source::Http2(Box::new(inbound)));
        let mut body = Self::of(len, source);
        body.rare = Some(Box::new(Rare { wire: Some(wire), ..Rare::default() }));
        body
    }

    /// Hands the head out, once, if it came by HTTP/2.
    #[cfg(feature = "http2")]
    pub(crate) fn take_wire(&mut self) -> Option<crate::http2::Wire> {
        self.rare.as_mut()?.wire.take()
    }

    /// How the body is framed, and so how long it is if that was said.
    pub fn len(&self) -> BodyLen {
        self.len
    }

    /// Whether it is known to have no content.
    pub fn is_empty(&self) -> bool {
        matches!(self.len, BodyLen::Empty | BodyLen::Length(0))
    }

    /// Whether the end was reached, or reading failed.
    pub fn is_finished(&self) -> bool {
        matches!(self.source, Source::Done)
    }

    /// Has [`chunk`](Self::chunk) give no more than `bytes` at once, at least 1. By default it gives what there is: mostly up to 64 KiB.
    pub fn set_chunk_bytes_max(&mut self, bytes: usize) {
        self.rare.get_or_insert_default().chunk_bytes_max = Some(bytes.max(1));
    }

    /// The next piece of content, at most [so much](Self::set_chunk_bytes_max) of it but never empty; `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The exchange did not complete; [`Error::failure`] tells how far it came.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        Chunk { body: self }.await
    }

    /// The rest of the content, in one piece.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk); or [`TooLong`] as the cause. What was read is lost then, the rest can still be read.
    pub async fn bytes(&mut self, limit: usize) -> Result<Bytes, Error> {
        let too_long = || Error::new(Phase::Body, TooLong { limit });
        if matches!(self.len, BodyLen::Length(len) if len > limit as u64) && !self.is_finished() {
            return Err(too_long());
        }
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        if first.len() > limit {
            return Err(too_long());
        }
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut all = BytesMut::from(first);
        let mut next = Some(second);
        while let Some(piece) = next {
            if piece.len() > limit - all.len() {
                return Err(too_long());
            }
            all.extend_from_slice(&piece);
            next = self.chunk().await?;
        }
        Ok(all.freeze())
    }

    /// Asks the peer for the content, if it waits for that (`100 Continue`), before it is read.
    pub(crate) fn ask(&self) {
        if let Source::Live(live) = &self.source {
            live.inlet.ask(live.id);
        }
    }

    /// The trailer section, once the body was read to its end. Never merged with the head's fields (RFC 9110 §6.5.1).
    pub fn trailers(&self) -> Option<&Fields> {
        self.rare.as_ref()?.trailers.as_ref()
    }

    /// Hands the trailers out, once, after the end.
    #[cfg(feature = "http")]
    pub(crate) fn take_trailers(&mut self) -> Option<Fields> {
        self.rare.as_mut()?.trailers.take()
    }

    /// How much content is still to be handed out, as far as that is known.
    #[cfg(feature = "http")]
    pub(crate) fn left(&self) -> Option<u64> {
        match (&self.source, self.len) {
            (Source::Done, _) => Some(0),
            (Source::Whole(content), _) => Some(content.len() as u64),
            (Source::Live(live), BodyLen::Length(len)) => Some(len.saturating_sub(live.taken)),
            #[cfg(feature = "http2")]
            (Source::Http2(inbound), BodyLen::Length(len)) => Some(len.saturating_sub(inbound.taken())),
            #[cfg(feature = "http2")]
            (Source::Http2(_), _) => None,
            (Source::Live(_), BodyLen::Empty) => Some(0),
            (Source::Live(_), BodyLen::Chunked | BodyLen::UntilClose) => None,
        }
    }

    fn finish(&mut self, trailers: Option<Fields>) {
        self.source = Source::Done;
        drop(self.rare.as_mut().and_then(|rare| rare.lease.take()));
        if trailers.is_some() {
            self.rare.get_or_insert_default().trailers = trailers;
        }
    }

    /// So much content is being handed out.
    fn took(&mut self, bytes: usize) {
        if let Source::Live(live) = &mut self.source {
            live.taken += bytes as u64;
        }
    }

    /// Whether nothing more is needed from the connection.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.source, Source::Whole(_) | Source::Done)
    }

    /// Keeps a pooled connection lent until nothing more is needed from it.
    pub(crate) fn keep(&mut self, lease: Lease) {
        self.rare.get_or_insert_default().lease = Some(lease);
    }

    fn fail(&mut self, error: Error) -> Error {
        let error = match self.rare.as_ref().and_then(|rare| rare.lease.as_ref()) {
            Some(lease) => lease.failed(error),
            None => error,
        };
        self.finish(None);
        error
    }

    /// The next piece, for a future that leaves the list of waiters when it is dropped (`Hold::Firm`), or for anybody else.
    pub(crate) fn poll_chunk(&mut self, hold: Hold, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        let most = || self.rare.as_ref().and_then(|rare| rare.chunk_bytes_max).unwrap_or(usize::MAX);
        let outcome = match &mut self.source {
            Source::Done => return Poll::Ready(Ok(None)),
            Source::Whole(content) if content.len() > most() => return Poll::Ready(Ok(Some(content.split_to(most())))),
            Source::Whole(content) => {
                let content = std::mem::take(content);
                self.source = Source::Done;
                return Poll::Ready(Ok(Some(content)));
            }
            Source::Live(live) => ready!(live.inlet.poll_piece((live.id, &mut live.slot, hold), most(), cx)),
            #[cfg(feature = "http2")]
            Source::Http2(inbound) => ready!(inbound.poll_piece(most(), cx)),
        };
        Poll::Ready(match outcome {
            Ok(Piece::Content(content)) => {
                self.took(content.len());
                Ok(Some(content))
            }
            Ok(Piece::End(trailers)) => {
                self.finish(trailers);
                Ok(None)
            }
            Err(error) => Err(self.fail(error)),
        })
    }
}

/// Waits for a piece; leaves the list of waiters when it is dropped, so that it can be a firm driver.
struct Chunk<'a> {
    body: &'a mut Incoming,
}

impl Future for Chunk<'_> {
    type Output = Result<Option<Bytes>, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Most requests have no content, and their handlers ask all the same.
        if self.body.is_finished() { Poll::Ready(Ok(None)) } else { self.body.poll_chunk(Hold::Firm, cx) }
    }
}

impl Drop for Chunk<'_> {
    fn drop(&mut self) {
        if let Source::Live(live) = &mut self.body.source {
            live.inlet.leave(&mut live.slot);
        }
    }
}

/// After a failure, reads end with its error once, and then as if the body were complete: keep the error.
impl AsyncRead for Incoming {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let outcome = match &mut this.source {
            Source::Done => return Poll::Ready(Ok(())),
            Source::Whole(content) => {
                let n = content.len().min(buf.remaining());
                buf.put_slice(&content[..n]);
                content.advance(n);
                if content.is_empty() {
                    this.source = Source::Done;
                }
                return Poll::Ready(Ok(()));
            }
            Source::Live(live) => ready!(live.inlet.poll_into((live.id, &mut live.slot, Hold::Loose), cx, buf)),
            #[cfg(feature = "http2")]
            Source::Http2(inbound) => ready!(inbound.poll_into(cx, buf)).map(|end| end.map(End)),
        };
        Poll::Ready(match outcome {
            Ok(None) => {
                this.took(buf.filled().len() - before);
                Ok(())
            }
            Ok(Some(End(trailers))) => {
                this.finish(trailers);
                Ok(())
            }
            Err(error) => Err(into_io(this.fail(error))),
        })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.inlet.leave(&mut self.slot);
        self.inlet.release(self.id);
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("len", &self.len).field("ended", &self.is_finished()).finish_non_exhaustive()
    }
}

/// Content that is here already, or the end, or the failure.
fn take<R: Part, S>(state: &mut State<R, S>, id: ExchangeId, most: usize) -> Option<Result<Piece, Error>> {
    let Some(entry) = state.entry(id) else { return state.ended(Phase::Body).map(Err) };
    if !entry.content.is_empty() {
        let n = entry.content.len().min(most);
        let content =
            if n == entry.content.len() { entry.content.split().freeze() } else { entry.content.split_to(n).freeze() };
        state.buffered -= n;
        return Some(Ok(Piece::Content(content)));
    }
    if entry.failure.is_some() {
        return state.failure(id).map(Err);
    }
    if entry.is_told_complete() {
        let trailers = entry.end.take().flatten().map(|trailers| *trailers);
        entry.inbound_held = false;
        state.tidy(id);
        return Some(Ok(Piece::End(trailers)));
    }
    state.ended(Phase::Body).map(Err)
}

/// The end or the failure, where no content is left before it.
fn take_end<R: Part, S>(state: &mut State<R, S>, id: ExchangeId) -> Option<Result<Option<End>, Error>> {
    match take(state, id, 0)? {
        Ok(Piece::End(trailers)) => Some(Ok(Some(End(trailers)))),
        Ok(Piece::Content(_)) => None,
        Err(error) => Some(Err(error)),
    }
}

impl<R: Part, S: Transport> Inlet for Link<R, S> {
    fn poll_into(
        &self,
        (id, slot, hold): Place<'_>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Option<End>, Error>> {
        let before = buf.filled().len();
        self.poll((slot, &Cell::new(Interest::Exchange(id)), hold), cx, |state, cx, _| {
            // What is here already comes first, and stays in order.
            match take(state, id, buf.remaining()) {
                Some(Ok(Piece::Content(content))) => {
                    buf.put_slice(&content);
                    return Some(Ok(None));
                }
                Some(Ok(Piece::End(trailers))) => return Some(Ok(Some(End(trailers)))),
                Some(Err(error)) => return Some(Err(error)),
                None => {}
            }
            let now = state.now();
            R::want_body(&mut state.conn, id, now);
            // Ends when something is in the buffer, too.
            let ended = state.drive(cx, &mut Some(Direct::new(id, buf)), &mut |state| take_end(state, id));
            if buf.filled().len() > before { Some(Ok(None)) } else { ended }
        })
    }

    fn poll_piece(&self, (id, slot, hold): Place<'_>, most: usize, cx: &mut Context<'_>) -> Poll<Result<Piece, Error>> {
        self.poll((slot, &Cell::new(Interest::Exchange(id)), hold), cx, |state, cx, _| {
            let now = state.now();
            R::want_body(&mut state.conn, id, now);
            state.drive(cx, &mut None, &mut |state| take(state, id, most))
        })
    }

    fn leave(&self, slot: &mut Option<Slot>) {
        if slot.is_some() {
            Link::leave(self, self.lock(), slot);
        }
    }

    fn ask(&self, id: ExchangeId) {
        self.mutate(|state| {
            let now = state.now();
            R::want_body(&mut state.conn, id, now);
        });
    }

    fn release(&self, id: ExchangeId) {
        self.mutate(|state| {
            let now = state.now();
            let Some(entry) = state.entry(id).filter(|entry| entry.inbound_held) else { return };
            entry.inbound_held = false;
            let unread = std::mem::take(&mut entry.content).len();
            let incomplete = entry.end.is_none() && entry.failure.is_none();
            state.buffered -= unread;
            if incomplete {
                R::give_up_inbound(&mut state.conn, id, now);
            }
            state.tidy(id);
        });
    }
}
