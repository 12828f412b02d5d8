//! A stream that outlives its connections.

use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use persist_core::{
    Blame, BoxError, Contradiction, Destination, DialTimeout, PeerSilent, PersistentStreamConfig, Phase, Session,
    SessionState, SessionStep,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::client::random;
use crate::clock;
use crate::dial::{Connector, DialTimer};
use crate::error::{Error, Result};
use crate::stream::Stream;

mod greeting;
mod line;
mod wakers;

pub use greeting::Greeting;
use line::Line;
use wakers::{Both, End};

/// A stream to a destination that outlives its connections: bytes of any protocol, over TCP, a Unix socket, TLS, and through proxies.
///
/// - It dials when it is first read or written.
/// - An end of file, or an error of the connection, is told once, by the call that met it; the **next** read or write dials again. Whoever speaks a
///   protocol needs to know: what was under way is not repeated by a stream that cannot know what it meant.
/// - Dials that fail are repeated by the call that needs them, after waits that grow ([`SessionConfig`](persist_core::SessionConfig)), until
///   the last retry failed: then that call gives the last dial's error, and later ones [`GaveUp`](persist_core::GaveUp), until [`close`](Self::close). A connection that the peer
///   closes at once counts as a failure, too.
/// - The [`on_connect`](Self::on_connect) hook sets up the session on each new connection before anything else is read or written.
///
/// Dropping any future at any point loses nothing: a dial that is under way stays there, and goes on with the next read or write. One task may read while another
/// writes, with [`tokio::io::split`].
///
/// ```no_run
/// use persist_async::PersistentStream;
/// use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut redis = PersistentStream::new("http://127.0.0.1:6379".parse()?).on_connect(|mut greeting| async move {
///     greeting.write_all(b"CLIENT SETNAME example\r\n").await?;
///     let mut answer = [0; 5];
///     greeting.read_exact(&mut answer).await?;
///     if &answer == b"+OK\r\n" { Ok(greeting) } else { Err("the session was refused".into()) }
/// });
/// redis.write_all(b"PING\r\n").await?; // dials, greets, writes
/// let mut answer = String::new();
/// BufReader::new(&mut redis).read_line(&mut answer).await?;
/// println!("{redis} says {answer}");
/// # Ok(())
/// # }
/// ```
///
/// # Writes and heartbeats
/// A `write` takes what the system takes, as always; the rest of its buffer is never continued on another connection: if the connection ended meanwhile, the
/// next write fails, and the one after it dials. Heartbeats ([`PersistentStreamConfig::heartbeat`]) go between two buffers, so give each
/// message to one `write_all`, or put a [`BufWriter`](tokio::io::BufWriter) in front. They are sent, and missed answers noticed, by whoever waits for a read: there is no task for it. A
/// connection that nobody reads has no heartbeat.
///
/// # Errors
/// Each [`io::Error`] holds an [`Error`], with the phase, the destination and the cause.
pub struct PersistentStream {
    destination: Destination,
    config: Arc<PersistentStreamConfig>,
    connector: Connector,
    hook: Option<Hook>,
    session: Session,
    step: Step,
    /// The connection that a read waits on, and the one that has the beginning of a message.
    reading: Option<u64>,
    writing: Option<u64>,
    wakers: Arc<Both>,
    waker: Waker,
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Hook = Arc<dyn Fn(Greeting) -> Work<Result<Greeting, BoxError>> + Send + Sync>;

/// What there is instead of a connection, or the connection.
enum Step {
    Nothing,
    Pause(Pin<Box<Sleep>>),
    Dial(Work<Result<Stream>>),
    Greet(Work<Result<Greeting>>),
    Line(Line),
}

impl PersistentStream {
    /// A stream to `destination`, with the defaults of [`PersistentStreamConfig`]. Nothing is dialled yet. An `https` destination speaks TLS (feature `tls`).
    pub fn new(destination: Destination) -> Self {
        let config = PersistentStreamConfig::default();
        Self::with_config(destination, config).expect("the defaults do not contradict each other: tested")
    }

    /// The same, configured.
    ///
    /// # Errors
    /// Two settings that cannot both hold.
    pub fn with_config(destination: Destination, config: PersistentStreamConfig) -> Result<Self, Contradiction> {
        config.check()?;
        let wakers = Arc::new(Both::default());
        Ok(Self {
            destination,
            connector: Connector::of_parts(config.dial, config.socket).for_any_protocol(),
            hook: None,
            session: Session::new(config.session)?,
            config: Arc::new(config),
            step: Step::Nothing,
            reading: None,
            writing: None,
            waker: wakers.clone().into(),
            wakers,
        })
    }

    /// Dials by a connector of the caller's: it brings its own deadlines and socket options; those of the configuration are not used, but for the hook's.
    #[must_use]
    pub fn with_connector(mut self, connector: Connector) -> Self {
        self.connector = connector;
        self
    }

    /// Sets up the session on each new connection: authenticates, subscribes. Until it gives the connection back, reads and writes wait; if it fails, the
    /// connection is closed and counts as one that failed. It has [`DialConfig::handshake`](persist_core::DialConfig::handshake) in all.
    #[must_use]
    pub fn on_connect<F>(mut self, hook: impl Fn(Greeting) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Greeting, BoxError>> + Send + 'static,
    {
        self.hook = Some(Arc::new(move |greeting| Box::pin(hook(greeting))));
        self
    }

    /// Closes the connection and forgets everything about failures: the next read or write dials anew. Does not wait for the peer to get what was written.
    pub fn close(&mut self) {
        self.session.close();
        self.step = Step::Nothing;
        self.waker.wake_by_ref();
    }

    /// Where it leads.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Whether there is a connection, as far as anybody has noticed.
    pub fn is_connected(&self) -> bool {
        matches!(self.step, Step::Line(_))
    }

    /// Where the session stands.
    pub fn session_state(&self) -> SessionState {
        self.session.state()
    }

    /// Connections in a row that failed.
    pub fn failures(&self) -> u32 {
        self.session.failures()
    }

    /// How many connections there have been, the hook's success included.
    pub fn connections(&self) -> u64 {
        self.session.connections()
    }

    /// Waits for a connection, as a read or write would.
    ///
    /// # Errors
    /// As theirs.
    pub async fn connect(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            self.wakers.waits(End::Writer, cx);
            let waker = self.waker.clone();
            self.poll_line(&mut Context::from_waker(&waker)).map_ok(drop)
        })
        .await
        .map_err(told)
    }

    /// The connection; one is made if there is none.
    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Result<&mut Line>> {
        while !self.is_connected() {
            ready!(self.poll_step(cx))?;
        }
        match &mut self.step {
            Step::Line(line) => Poll::Ready(Ok(line)),
            _ => unreachable!("it was made above"),
        }
    }

    /// One step nearer to a connection.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // Taken out while it is polled: if the caller's hook panics, its future is not polled again.
        match std::mem::replace(&mut self.step, Step::Nothing) {
            Step::Nothing => return Poll::Ready(self.begin()),
            Step::Pause(mut pause) => match pause.as_mut().poll(cx) {
                Poll::Ready(()) => return Poll::Ready(Ok(())),
                Poll::Pending => self.step = Step::Pause(pause),
            },
            Step::Dial(mut dial) => match dial.as_mut().poll(cx) {
                Poll::Ready(Ok(stream)) => {
                    self.session.handle_dialed();
                    self.step = Step::Greet(self.greet(stream));
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(self.dial_failed(error)),
                Poll::Pending => self.step = Step::Dial(dial),
            },
            Step::Greet(mut greet) => match greet.as_mut().poll(cx) {
                Poll::Ready(Ok(greeting)) => return Poll::Ready(self.greeted(greeting.into_stream())),
                Poll::Ready(Err(error)) => return Poll::Ready(self.dial_failed(error)),
                Poll::Pending => self.step = Step::Greet(greet),
            },
            Step::Line(line) => {
                self.step = Step::Line(line);
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    fn begin(&mut self) -> Result<()> {
        let now = clock::now();
        match self.session.poll_use(now).map_err(|gave_up| self.failed(Phase::Connect, gave_up))? {
            SessionStep::Dial => self.step = Step::Dial(self.dial()),
            SessionStep::Wait(until) => {
                self.step = Step::Pause(Box::pin(tokio::time::sleep_until(clock::at(until))));
            }
            // Whoever did it panicked; or the connection is gone without a word.
            SessionStep::Busy => self.session.handle_failed(now, random()),
            SessionStep::Go => self.session.handle_broken(now, random()),
        }
        Ok(())
    }

    fn dial(&self) -> Work<Result<Stream>> {
        let (destination, connector, config) = (self.destination.clone(), self.connector.clone(), self.config.clone());
        Box::pin(async move {
            let there = |error: Error| if error.destination().is_some() { error } else { error.at(&destination) };
            let router = &*config.router;
            let route = router.route(&destination).map_err(|error| there(Error::new(Phase::Route, error)))?;
            // A proxy that takes requests in absolute form takes nothing else.
            if route.hops.last().is_none_or(|last| last.to != destination) {
                let error = Error::new(Phase::Prepare, "the route ends at a proxy that takes requests, not a stream");
                return Err(there(error.blaming(Blame::Caller).hinting("have the router make a tunnel")));
            }
            connector.connect(&route, router).await.map_err(there)
        })
    }

    fn greet(&self, stream: Stream) -> Work<Result<Greeting>> {
        let greeting = Greeting::new(stream);
        let Some(hook) = self.hook.clone() else { return Box::pin(std::future::ready(Ok(greeting))) };
        let (destination, dial) = (self.destination.clone(), self.config.dial);
        Box::pin(async move {
            let mut timer = DialTimer::new(dial);
            let work = async { hook(greeting).await.map_err(|cause| Error::new(Phase::Handshake, cause)) };
            timer.within(Phase::Handshake, work).await.map_err(|error| error.at(&destination))
        })
    }

    fn greeted(&mut self, stream: Stream) -> Result<()> {
        self.session.handle_greeted(clock::now());
        let line = Line::new(stream, self.session.connections(), &self.config);
        self.step = Step::Line(line.map_err(|error| self.failed(Phase::Prepare, error))?);
        // The other end may have waited for it, too.
        self.waker.wake_by_ref();
        Ok(())
    }

    /// Tells the caller only what trying again does not mend.
    fn dial_failed(&mut self, error: Error) -> Result<()> {
        self.session.handle_failed(clock::now(), random());
        match self.session.state() {
            SessionState::GivenUp => {
                let failures = self.session.failures();
                Err(error.hinting(format!("gave up after {failures} in a row; close the stream to begin anew")))
            }
            _ if error.phase() <= Phase::Route => Err(error),
            _ => Ok(()),
        }
    }

    fn failed(&self, phase: Phase, cause: impl Into<BoxError>) -> Error {
        Error::new(phase, cause).at(&self.destination)
    }

    /// The connection is over, and whoever asked is told.
    fn broken(&mut self) {
        self.session.handle_broken(clock::now(), random());
        self.step = Step::Nothing;
        // The other end waits on a socket that is gone.
        self.waker.wake_by_ref();
    }

    /// Whether the connection with this number is still the one in use.
    fn is_current(&self, number: u64) -> bool {
        matches!(&self.step, Step::Line(line) if line.number == number)
    }

    fn lost(&self, phase: Phase) -> Error {
        let cause = "the connection ended at the stream's other end, reading or writing, or was closed by this program";
        self.failed(phase, io::Error::new(io::ErrorKind::ConnectionAborted, cause))
    }

    fn poll_read_some(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        // Half a message may have come from the one that is gone.
        if self.reading.take().is_some_and(|number| !self.is_current(number)) {
            return Poll::Ready(Err(self.lost(Phase::Receive)));
        }
        let line = ready!(self.poll_line(cx))?;
        let number = line.number;
        let before = buf.filled().len();
        match line.poll_read(cx, buf) {
            Poll::Pending => {
                self.reading = Some(number);
                Poll::Pending
            }
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                line.heard();
                self.session.handle_received();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(outcome) => {
                self.broken();
                Poll::Ready(outcome.map_err(|cause| self.failed(Phase::Receive, cause)))
            }
        }
    }

    fn poll_write_some(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        if self.writing.take().is_some_and(|number| !self.is_current(number)) {
            return Poll::Ready(Err(self.lost(Phase::Send)));
        }
        let line = ready!(self.poll_line(cx))?;
        let outcome = line.poll_write(cx, buf);
        self.writing = line.mid_message.then_some(line.number);
        self.finish(outcome, Phase::Send)
    }

    /// Flushes or shuts down, where there is something to.
    fn poll_if_connected(
        &mut self,
        cx: &mut Context<'_>,
        phase: Phase,
        call: impl FnOnce(&mut Line, &mut Context<'_>) -> Poll<Result<(), BoxError>>,
    ) -> Poll<io::Result<()>> {
        self.wakers.waits(End::Writer, cx);
        let waker = self.waker.clone();
        let Step::Line(line) = &mut self.step else { return Poll::Ready(Ok(())) };
        let outcome = call(line, &mut Context::from_waker(&waker));
        self.finish(outcome, phase).map_err(told)
    }

    fn finish<T>(&mut self, outcome: Poll<Result<T, BoxError>>, phase: Phase) -> Poll<Result<T>> {
        outcome.map(|outcome| {
            outcome.map_err(|cause| {
                self.writing = None;
                self.broken();
                self.failed(phase, cause)
            })
        })
    }
}

/// With the kind of what lies at the bottom of it.
fn told(error: Error) -> io::Error {
    let mut kind = io::ErrorKind::ConnectionAborted;
    let mut next = StdError::source(&error);
    while let Some(cause) = next {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            kind = cause.kind();
        } else if cause.is::<DialTimeout>() || cause.is::<PeerSilent>() {
            kind = io::ErrorKind::TimedOut;
        }
        next = cause.source();
    }
    io::Error::new(kind, error)
}

/// What comes; nothing at the end of the connection, once.
impl AsyncRead for PersistentStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.wakers.waits(End::Reader, cx);
        let waker = self.waker.clone();
        self.poll_read_some(&mut Context::from_waker(&waker), buf).map_err(told)
    }
}

/// Shutting down ends our side of the current connection, if there is one; reading goes on to its end.
impl AsyncWrite for PersistentStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.wakers.waits(End::Writer, cx);
        let waker = self.waker.clone();
        self.poll_write_some(&mut Context::from_waker(&waker), buf).map_err(told)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_if_connected(cx, Phase::Send, Line::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_if_connected(cx, Phase::Close, Line::poll_shutdown)
    }
}

impl fmt::Display for PersistentStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.destination.fmt(f)
    }
}

impl fmt::Debug for PersistentStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PersistentStream")
            .field("destination", &self.destination)
            .field("state", &self.session.state())
            .field("connections", &self.session.connections())
            .finish_non_exhaustive()
    }
}
