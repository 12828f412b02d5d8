//! A body that its sender writes, piece by piece.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::Arc;

use persist_core::{ExchangeId, Fields, Phase, SendError, Upload};

use crate::clock;
use crate::driver::Link;
use crate::error::{self, Error, Result};
use crate::outgoing::{self, BodyError};
use crate::part::Part;

/// Small writes are gathered up to so many bytes: each piece that leaves is a chunk and perhaps a packet.
const GATHERED_BYTES: usize = 8 * 1024;

/// So much is given to the outbox at once.
const PIECE_BYTES: usize = 64 * 1024;

/// A body that is written by whoever sends it: a request's, from [`ClientConn::write_streaming`](crate::ClientConn::write_streaming), or a response's,
/// from [`Responder::send_streaming`](crate::Responder::send_streaming).
///
/// Small writes are gathered; [`flush`](Write::flush) sends them. A write waits while the peer takes no more, and drives the connection meanwhile.
/// [`finish`](Self::finish) completes the message. Dropping it earlier breaks the message off: the peer sees it incomplete, and the connection closes.
///
/// ```
/// use std::io::Write;
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::{ClientConn, Method, Request, Response, ServerConn};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = ClientConn::new(TcpStream::connect(listener.local_addr()?)?)?;
/// let server = ServerConn::new(listener.accept()?.0)?;
///
/// let request = Request::new(Method::PUT, "/log").field("Host", "localhost")?;
/// let (exchange, mut body) = client.write_streaming(request, None)?;
/// for n in 0..3 {
///     writeln!(body, "line {n}")?;
/// }
/// body.finish()?;
///
/// let received = server.read()?.expect("a request");
/// let mut answer = received.responder.send_streaming(Response::ok(), Some(21))?;
/// answer.write_all(&received.body.bytes(100)?)?;
/// answer.finish()?;
/// assert_eq!(client.read(exchange)?.body.bytes(100)?, "line 0\nline 1\nline 2\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "write the body and finish it; dropping it breaks the message off"]
pub struct BodyWriter {
    sink: Option<Sink>,
    gathered: Vec<u8>,
    /// The message has no content, whatever is written: the response to a HEAD request, say.
    discards: bool,
    /// No content was declared.
    empty: bool,
}

struct Sink {
    link: Arc<dyn Outbound>,
    id: ExchangeId,
}

/// A connection, as the writer of a body sees it.
trait Outbound: Send + Sync {
    /// Gives some of `data` to the outbox, waiting for room.
    fn put(&self, id: ExchangeId, data: &[u8]) -> Result<usize>;
    /// Waits until the system has what was put.
    fn push(&self, id: ExchangeId) -> Result<()>;
    /// The body is complete.
    fn finish(&self, id: ExchangeId, trailers: Option<&Fields>) -> Result<()>;
    /// The writer is gone; `finished`: the message is whole.
    fn let_go(&self, id: ExchangeId, finished: bool);
}

impl BodyWriter {
    /// Behind a head that declared `len`.
    pub(crate) fn new<R: Part>(link: Arc<Link<R>>, id: ExchangeId, len: Option<u64>) -> Self {
        let discards = link.look().conn().upload(id) == Upload::Finished;
        Self { sink: Some(Sink { link, id }), gathered: Vec::new(), discards, empty: len == Some(0) }
    }

    /// Completes the message, and returns when all of it is with the operating system.
    ///
    /// # Errors
    /// Fewer bytes than declared: the message is broken off. Or the exchange failed, with its [`Failure`](persist_core::Failure); or, at a client,
    /// a response has [stopped](SendError::UploadStopped) the upload: read it.
    pub fn finish(self) -> Result<()> {
        self.end(None)
    }

    /// [`finish`](Self::finish) with a trailer section, which only a chunked body has (RFC 9112 §7.1.2): elsewhere it is dropped.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_with(self, trailers: &Fields) -> Result<()> {
        self.end(Some(trailers))
    }

    fn end(mut self, trailers: Option<&Fields>) -> Result<()> {
        self.drain()?;
        let Some(sink) = self.sink.take() else { return Ok(()) };
        let result = if self.discards { sink.link.push(sink.id) } else { sink.link.finish(sink.id, trailers) };
        sink.link.let_go(sink.id, result.is_ok());
        result
    }

    /// Gives all that was gathered to the outbox.
    fn drain(&mut self) -> Result<()> {
        let gathered = mem::take(&mut self.gathered);
        self.put_all(&gathered)
    }

    fn put_all(&self, mut data: &[u8]) -> Result<()> {
        if self.empty && !data.is_empty() {
            return Err(Error::new(Phase::Send, SendError::TooLong { excess: data.len() as u64 }));
        }
        let Some(sink) = self.sink.as_ref().filter(|_| !self.discards) else { return Ok(()) };
        while !data.is_empty() {
            let n = sink.link.put(sink.id, &data[..data.len().min(PIECE_BYTES)])?;
            data = &data[n..];
        }
        Ok(())
    }
}

impl Write for BodyWriter {
    /// Takes all of it. An error holds an [`Error`], which tells what became of the exchange.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.gathered.len() + buf.len() < GATHERED_BYTES {
            self.gathered.extend_from_slice(buf);
            return Ok(buf.len());
        }
        self.drain().and_then(|()| self.put_all(buf)).map_err(error::into_io)?;
        Ok(buf.len())
    }

    /// Sends what was gathered, and returns when the system has it.
    fn flush(&mut self) -> io::Result<()> {
        self.drain().map_err(error::into_io)?;
        match &self.sink {
            Some(sink) => sink.link.push(sink.id).map_err(error::into_io),
            None => Ok(()),
        }
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.link.let_go(sink.id, self.discards);
        }
    }
}

impl fmt::Debug for BodyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyWriter").field("gathered", &self.gathered.len()).finish_non_exhaustive()
    }
}

impl<R: Part> Outbound for Link<R> {
    fn put(&self, id: ExchangeId, data: &[u8]) -> Result<usize> {
        let put = self.wait(|state| match state.conn().upload(id) {
            Upload::AwaitContinue => None,
            Upload::Stopped | Upload::Finished => Some(Err(SendError::UploadStopped)),
            Upload::Ready { .. } if state.outbox_is_full() => None,
            Upload::Ready { .. } => match state.conn_mut().send_body(id, data, clock::now()) {
                Ok(0) => {
                    state.await_turn(id);
                    None
                }
                other => Some(other),
            },
        });
        match put {
            Some(Ok(n)) => Ok(n),
            Some(Err(cause)) => Err(self.stopped(id, cause)),
            None => Err(self.gone(Phase::Send)),
        }
    }

    fn push(&self, id: ExchangeId) -> Result<()> {
        self.wait(|state| {
            state.uncork();
            state.is_flushed_or_stuck().then_some(())
        });
        match self.failure(id) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn finish(&self, id: ExchangeId, trailers: Option<&Fields>) -> Result<()> {
        let finished = self.wait(|state| match state.conn().upload(id) {
            Upload::AwaitContinue => None,
            _ => Some(state.conn_mut().finish_body(id, trailers, clock::now())),
        });
        match finished {
            Some(Ok(())) => self.push(id),
            Some(Err(SendError::TooShort { missing })) => {
                Err(self.broken_off(id, BodyError::Reader(outgoing::too_short(missing))))
            }
            Some(Err(cause)) => Err(self.stopped(id, cause)),
            None => Err(self.gone(Phase::Send)),
        }
    }

    fn let_go(&self, id: ExchangeId, finished: bool) {
        self.act(|state| {
            // One that a reply has stopped is over already, and its reply is still wanted.
            if !finished && matches!(state.conn().upload(id), Upload::Ready { .. } | Upload::AwaitContinue) {
                R::broken_off(state.conn_mut(), id, clock::now());
            }
            if R::ASKS {
                // A server's exchange is held by its body and by its answer.
                state.arrived.release(id);
            }
        });
    }
}

impl<R: Part> Link<R> {
    /// The failure of an exchange, if it has failed.
    fn failure(&self, id: ExchangeId) -> Option<Error> {
        let mut state = self.look();
        let fault = state.fault();
        let failure = state.arrived.get_mut(id)?.failure.clone()?;
        Some(error::failed(failure, fault))
    }

    /// Why the machine takes no more of a body.
    fn stopped(&self, id: ExchangeId, cause: SendError) -> Error {
        match (self.failure(id), cause) {
            (Some(error), SendError::UploadStopped | SendError::NoSuchExchange) => error,
            (_, cause) => Error::new(Phase::Send, cause),
        }
    }
}
