//! The body of a message that is coming in.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use persist_core::{BodyLen, ExchangeId, Fields, Phase, SendError};

use crate::arrived::Whole;
use crate::at_hand::AtHand;
use crate::clock;
use crate::driver::{Link, State};
use crate::error::{self, Error, TooLong};
use crate::outgoing::{BodyError, Outgoing, Sent};
use crate::part::Part;
use crate::trace::Span;

/// Bytes that [`Incoming::chunk`] gives at most, unless told otherwise.
const CHUNK_BYTES: usize = 64 * 1024;

/// The body of a message that is coming in: read it with [`Read`], in pieces with [`chunk`](Self::chunk), or whole with [`bytes`](Self::bytes).
///
/// Reading waits, and whoever waits drives the connection for all its exchanges. Dropping a body before its end gives up on it: the rest is
/// read and dropped within [`Limits::drain_bytes_max`](persist_core::Limits::drain_bytes_max), or the connection closes.
///
/// ```
/// use std::io::Read;
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::{Body, ClientConn, Fields, Request, Response, ServerConn};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = ClientConn::new(TcpStream::connect(listener.local_addr()?)?)?;
/// let server = ServerConn::new(listener.accept()?.0)?;
/// let exchange = client.write(Request::get("/").field("Host", "localhost")?, ())?;
/// let mut trailers = Fields::new();
/// trailers.push("X-Sum", "42")?;
/// server.read()?.expect("a request").responder.send(Response::ok(), Body::from("some content").with_trailers(trailers))?;
///
/// let mut body = client.read(exchange)?.body;
/// let mut some = [0; 4];
/// body.read_exact(&mut some)?;
/// assert_eq!(&some, b"some");
/// while let Some(piece) = body.chunk()? {
///     assert_eq!(piece, " content");
/// }
/// assert!(body.trailers().is_some_and(|trailers| trailers.get("x-sum").is_some()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Incoming {
    /// Content that is at hand; where there is any, there is no source.
    ready: AtHand,
    /// Apart, since most bodies are whole when they are given.
    source: Option<Box<Source>>,
    len: BodyLen,
    /// Apart, since few have any.
    trailers: Option<Box<Fields>>,
    chunk_bytes_max: usize,
}

/// Where the rest comes from; gone once the end was reached.
struct Source {
    link: Arc<dyn Inbound>,
    id: ExchangeId,
    asked: bool,
    /// The last piece that was given: once nobody has it any more, the next one is read into its place.
    spare: Option<Bytes>,
    /// A request's own body, where the reply began before it was all sent: who reads the one sends the other.
    outgoing: Option<Box<Outgoing>>,
    span: Span,
    /// Dropped when nothing more comes: gives the connection back to its pool.
    lease: Option<Box<dyn Lent>>,
}

/// What is held on to until nothing more comes.
pub(crate) trait Lent: Send + Sync {
    /// The content broke off; gives the error that the caller is told.
    fn broke_off(&self, error: Error) -> Error;
}

/// The end of a body, with its trailers.
pub(crate) type End = Option<Fields>;

/// One step of reading.
#[derive(Debug)]
pub(crate) enum Piece {
    Bytes(usize),
    End(End),
}

/// A connection, as a body sees it.
pub(crate) trait Inbound: Send + Sync {
    /// Content into `buf`, which is not empty.
    fn read(&self, id: ExchangeId, outgoing: &mut Option<Box<Outgoing>>, buf: &mut [u8]) -> Result<Piece, Error>;
    /// At most `most` bytes of content that is there already, without a copy if that is all; and whether that is the end, which makes it the last call.
    fn read_ready(&self, id: ExchangeId, most: usize) -> (Vec<u8>, Option<End>);
    /// Reading begins.
    fn ask(&self, id: ExchangeId);
    /// The body is at its end, or nobody wants the rest.
    fn let_go(&self, id: ExchangeId, unwanted: bool);
}

impl Incoming {
    pub(crate) fn new(
        link: Arc<dyn Inbound>,
        id: ExchangeId,
        len: BodyLen,
        outgoing: Option<Box<Outgoing>>,
        span: Span,
    ) -> Self {
        let source = Some(Box::new(Source { link, id, asked: false, spare: None, outgoing, span, lease: None }));
        Self { ready: AtHand::NONE, source, len, trailers: None, chunk_bytes_max: CHUNK_BYTES }
    }

    /// A body that is there already.
    pub(crate) fn whole(Whole { content, trailers }: Whole, len: BodyLen) -> Self {
        Self::at_hand(content.into(), trailers, len)
    }

    /// The same, wherever its content is.
    #[inline(always)]
    pub(crate) fn at_hand(ready: AtHand, trailers: Option<Fields>, len: BodyLen) -> Self {
        Self { ready, source: None, len, trailers: trailers.map(Box::new), chunk_bytes_max: CHUNK_BYTES }
    }

    /// Has [`chunk`](Self::chunk) give no more than `bytes` at once, at least 1. 64 KiB by default.
    pub fn set_chunk_bytes_max(&mut self, bytes: usize) {
        self.chunk_bytes_max = bytes.max(1);
    }

    /// Keeps what `lease` gives until nothing more comes, which may be now.
    pub(crate) fn keep<L: Lent + 'static>(&mut self, lease: impl FnOnce() -> L) {
        if let Some(source) = &mut self.source {
            source.lease = Some(Box::new(lease()));
        }
    }

    /// The next piece, at most [so much](Self::set_chunk_bytes_max) of it; `None` at the end.
    ///
    /// # Errors
    /// [`Error`] with the exchange's [`Failure`](persist_core::Failure): the body is not complete, and will not be.
    pub fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.ready.is_empty() {
            return Ok(Some(self.ready.take_bytes(self.chunk_bytes_max)));
        }
        if let Some(source) = &mut self.source {
            source.ask();
            if source.outgoing.is_none() {
                let (ready, end) = {
                    let _entered = source.span.enter();
                    source.link.read_ready(source.id, self.chunk_bytes_max)
                };
                if let Some(trailers) = end {
                    self.trailers = trailers.map(Box::new);
                    self.source = None;
                }
                if !ready.is_empty() || self.source.is_none() {
                    return Ok((!ready.is_empty()).then(|| ready.into()));
                }
            }
        }
        if self.source.is_none() {
            return Ok(None);
        }
        let spare = self.source.as_mut().and_then(|source| source.spare.take());
        let mut piece = spare.and_then(|last| last.try_into_mut().ok()).unwrap_or_default();
        piece.resize(self.most(self.chunk_bytes_max), 0);
        let n = self.fill(&mut piece)?;
        piece.truncate(n);
        let is_small = n < piece.capacity() / 4;
        let piece = piece.freeze();
        // A small piece must not hold a large buffer.
        let given = if is_small { Bytes::copy_from_slice(&piece) } else { piece.clone() };
        if let Some(source) = &mut self.source {
            source.spare = Some(piece);
        }
        Ok((n > 0).then_some(given))
    }

    /// All of it, if it has no more than `limit` bytes.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk); or [`TooLong`] as the cause, and the exchange is given up.
    pub fn bytes(mut self, limit: usize) -> Result<Bytes, Error> {
        let too_long = || Error::new(Phase::Body, TooLong { limit });
        if let BodyLen::Length(len) = self.len
            && !self.is_finished()
            && len > limit as u64
        {
            return Err(too_long());
        }
        let mut all = Vec::new();
        while let Some(piece) = self.chunk()? {
            if all.len() + piece.len() > limit {
                return Err(too_long());
            }
            if all.is_empty() && self.is_finished() {
                return Ok(piece);
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }

    /// The trailer section, once the end was reached; `None` before, and where none came.
    pub fn trailers(&self) -> Option<&Fields> {
        self.trailers.as_deref().filter(|_| self.is_finished())
    }

    /// How the content is framed, from the head.
    pub fn len(&self) -> BodyLen {
        self.len
    }

    /// Whether it is known to have no content.
    pub fn is_empty(&self) -> bool {
        matches!(self.len, BodyLen::Empty | BodyLen::Length(0))
    }

    /// Whether the end was reached, or reading failed.
    pub fn is_finished(&self) -> bool {
        self.source.is_none() && self.ready.is_empty()
    }

    /// Whether all of it is here, and the connection free of it.
    pub(crate) fn is_whole(&self) -> bool {
        self.source.is_none()
    }

    /// Says that the content is wanted, before anything of it is read.
    pub(crate) fn ask(&mut self) {
        if let Some(source) = &mut self.source {
            source.ask();
        }
    }

    /// A buffer no larger than what can come.
    fn most(&self, limit: usize) -> usize {
        match self.len {
            BodyLen::Length(len) => limit.min(usize::try_from(len).unwrap_or(usize::MAX)).max(1),
            _ => limit,
        }
    }

    /// Reads into `buf`; 0 at the end only, since `buf` is not empty.
    pub(crate) fn fill(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let n = self.ready.take(buf);
        if n > 0 || self.source.is_none() { Ok(n) } else { self.fill_from_source(buf) }
    }

    #[inline(never)]
    fn fill_from_source(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let Some(source) = &mut self.source else { return Ok(0) };
        source.ask();
        let read = {
            let _entered = source.span.enter();
            source.link.read(source.id, &mut source.outgoing, buf)
        };
        match read {
            Ok(Piece::Bytes(n)) => {
                self.finish_if_at_end();
                Ok(n)
            }
            Ok(Piece::End(trailers)) => {
                self.trailers = trailers.map(Box::new);
                self.finish(false);
                Ok(0)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    fn fail(&mut self, error: Error) -> Error {
        let lease = self.source.as_ref().and_then(|source| source.lease.as_ref());
        let error = match lease {
            Some(lease) => lease.broke_off(error),
            None => error,
        };
        self.finish(true);
        error
    }

    /// Many readers stop at the last byte, so the connection must be free by then.
    pub(crate) fn finish_if_at_end(&mut self) {
        let Some(source) = &mut self.source else { return };
        if source.outgoing.is_none()
            && let Ok(Piece::End(trailers)) = source.link.read(source.id, &mut None, &mut [])
        {
            self.trailers = trailers.map(Box::new);
            self.finish(false);
        }
    }

    fn finish(&mut self, unwanted: bool) {
        if let Some(source) = self.source.take() {
            source.link.let_go(source.id, unwanted);
            drop(source.lease);
        }
    }
}

impl Source {
    fn ask(&mut self) {
        if !std::mem::replace(&mut self.asked, true) {
            self.link.ask(self.id);
        }
    }
}

impl Read for Incoming {
    /// Content, straight from the socket where nothing stands in between.
    ///
    /// An error holds an [`Error`], which tells what became of the exchange.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.fill(buf).map_err(error::into_io)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.finish(true);
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("len", &self.len)
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

impl<R: Part> Inbound for Link<R> {
    fn read(&self, id: ExchangeId, outgoing: &mut Option<Box<Outgoing>>, buf: &mut [u8]) -> Result<Piece, Error> {
        if buf.is_empty() {
            // Only whether the end is there: nobody waits for that.
            let mut state = self.look();
            return take(&mut state, id, buf).unwrap_or(Ok(Piece::Bytes(0)));
        }
        loop {
            let Some(body) = outgoing else {
                if let Some(n) = self.read_straight(id, buf) {
                    return Ok(Piece::Bytes(n));
                }
                let taken = self.wait(|state| take(state, id, buf));
                return taken.unwrap_or_else(|| Err(self.gone(Phase::Body)));
            };
            match body.send(self, |state| take_while_sending(state, id, buf)) {
                Ok(Sent::Interrupted(taken)) => return taken,
                Ok(Sent::Whole | Sent::Unwanted) => *outgoing = None,
                Err(error) => return Err(self.broken_off(id, error)),
            }
        }
    }

    fn read_ready(&self, id: ExchangeId, most: usize) -> (Vec<u8>, Option<End>) {
        // Without reading on: what comes next goes straight to where it is wanted.
        self.take(|state| {
            let data = state.arrived.read_some(id, most);
            let over = state.arrived.get_mut(id).filter(|exchange| exchange.complete && exchange.waiting() == 0);
            let end = over.map(|exchange| exchange.trailers.take());
            if end.is_some() {
                state.arrived.release(id);
            }
            (data, end)
        })
    }

    fn ask(&self, id: ExchangeId) {
        if R::ASKS {
            self.act(|state| R::body_wanted(state.conn_mut(), id, clock::now()));
        }
    }

    fn let_go(&self, id: ExchangeId, unwanted: bool) {
        self.act(|state| {
            if let Some(exchange) = state.arrived.get_mut(id).filter(|_| unwanted)
                && !exchange.complete
                && exchange.failure.is_none()
            {
                R::body_unwanted(state.conn_mut(), id, clock::now());
            }
            state.arrived.disclaim(id);
            state.arrived.release(id);
        });
    }
}

/// Content or the end of it, if either is there.
fn take<R: Part>(state: &mut State<R>, id: ExchangeId, buf: &mut [u8]) -> Option<Result<Piece, Error>> {
    let n = state.arrived.read(id, buf);
    if n > 0 {
        return Some(Ok(Piece::Bytes(n)));
    }
    let fault = state.fault();
    let Some(exchange) = state.arrived.get_mut(id) else {
        return Some(Err(error::refused(SendError::NoSuchExchange)));
    };
    if exchange.waiting() > 0 {
        return None;
    }
    if exchange.complete {
        return Some(Ok(Piece::End(exchange.trailers.take())));
    }
    if let Some(failure) = &exchange.failure {
        return Some(Err(error::failed(failure.clone(), fault)));
    }
    state.read_straight(id, buf).map(|n| Ok(Piece::Bytes(n)))
}

/// The same while our own body is still going out: it must be sent to its end first, even if the reply is complete.
fn take_while_sending<R: Part>(state: &mut State<R>, id: ExchangeId, buf: &mut [u8]) -> Option<Result<Piece, Error>> {
    match state.arrived.get_mut(id) {
        Some(exchange) if exchange.complete && exchange.waiting() == 0 => None,
        _ => take(state, id, buf),
    }
}

impl<R: Part> Link<R> {
    /// The error of whoever asks something of a connection that is gone.
    pub(crate) fn gone(&self, phase: Phase) -> Error {
        let state = self.look();
        error::ended(phase, state.arrived.closed.clone(), state.fault())
    }

    /// Our own body could not be sent to its end: the exchange is over.
    pub(crate) fn broken_off(&self, id: ExchangeId, cause: BodyError) -> Error {
        let failure = self.act(|state| {
            R::broken_off(state.conn_mut(), id, clock::now());
            state.advance();
            state.arrived.get_mut(id).and_then(|exchange| exchange.failure.clone())
        });
        let error = match failure {
            Some(failure) => Error::from_failure(failure),
            None => Error::new(Phase::Send, "the body broke off"),
        };
        match cause {
            BodyError::Reader(cause) => error.because(cause),
            BodyError::Refused(cause) => error.because(cause),
        }
        .blaming(persist_core::Blame::Caller)
    }
}
