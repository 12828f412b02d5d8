//! A stream that outlives its connections.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use persist_core::{
    Blame, BoxError, Contradiction, Destination, DialTimeout, Instant, PeerSilent, PersistentStreamConfig, Phase,
    Session, SessionState, SessionStep,
};

use crate::client::random;
use crate::clock;
use crate::dial::{Connector, DialTimer};
use crate::error::Error;
use crate::stream::Stream;

mod greeting;
mod line;

pub use greeting::Greeting;
use line::Line;

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
/// One thread may read while another writes, through `&PersistentStream`.
///
/// ```no_run
/// use std::io::{BufRead, BufReader, Read, Write};
/// use persist_sync::PersistentStream;
///
/// let redis = PersistentStream::new("http://127.0.0.1:6379".parse()?).on_connect(|greeting| {
///     greeting.write_all(b"CLIENT SETNAME example\r\n")?;
///     let mut answer = [0; 5];
///     greeting.read_exact(&mut answer)?;
///     if &answer == b"+OK\r\n" { Ok(()) } else { Err("the session was refused".into()) }
/// });
/// (&redis).write_all(b"PING\r\n")?; // dials, greets, writes
/// let mut answer = String::new();
/// BufReader::new(&redis).read_line(&mut answer)?;
/// println!("{redis} says {answer}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Writes and heartbeats
/// A `write` blocks until the system took the whole buffer, or fails: no rest of it will ever be continued on another connection. Heartbeats
/// ([`PersistentStreamConfig::heartbeat`]) go between two writes, so give each message to one `write`, or put a
/// [`BufWriter`](io::BufWriter) in front. They are sent, and missed answers noticed, by whoever waits in `read`: there is no thread for it. A connection that
/// nobody reads has no heartbeat.
///
/// # Errors
/// Each [`io::Error`] holds an [`Error`], with the phase, the destination and the cause.
pub struct PersistentStream {
    destination: Destination,
    config: PersistentStreamConfig,
    connector: Connector,
    hook: Option<Hook>,
    state: Mutex<State>,
    /// A dial or a hook has ended, or the stream was closed.
    changed: Condvar,
}

type Hook = Arc<dyn Fn(&mut Greeting<'_>) -> Result<(), BoxError> + Send + Sync>;

struct State {
    session: Session,
    line: Option<Arc<Line>>,
    /// How often it was closed: whoever began before that finds out by it.
    closes: u64,
    timeouts: Timeouts,
}

#[derive(Clone, Copy, Default)]
struct Timeouts {
    read: Option<Duration>,
    write: Option<Duration>,
}

/// A call that needs a connection: how long it may take, and which life of the stream it belongs to.
#[derive(Clone, Copy)]
struct Call {
    phase: Phase,
    deadline: Option<Instant>,
    closes: u64,
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
        let state =
            State { session: Session::new(config.session)?, line: None, closes: 0, timeouts: Timeouts::default() };
        let connector = Connector::of_parts(config.dial, config.socket).for_any_protocol();
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Ok(Self { destination, config, connector, hook: None, state, changed })
    }

    /// Dials by a connector of the caller's: it brings its own deadlines and socket options; those of the configuration are not used, but for the hook's.
    #[must_use]
    pub fn with_connector(mut self, connector: Connector) -> Self {
        self.connector = connector;
        self
    }

    /// Sets up the session on each new connection: authenticates, subscribes. Until it returns, reads and writes wait; if it fails, the connection is
    /// closed and counts as one that failed. It has [`DialConfig::handshake`](persist_core::DialConfig::handshake) in all.
    #[must_use]
    pub fn on_connect(
        mut self,
        hook: impl Fn(&mut Greeting<'_>) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// How long one `read` may take, dialling and waiting for the next dial included (a dial that is under way ends by its own deadlines). `None`,
    /// the default: any time. A read that times out harms nothing.
    ///
    /// # Errors
    /// A time of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.state().timeouts.read = not_zero(timeout)?;
        Ok(())
    }

    /// The same for `write`. A write that times out may have left half a message behind, so that the connection is closed.
    ///
    /// # Errors
    /// A time of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.state().timeouts.write = not_zero(timeout)?;
        Ok(())
    }

    /// Closes the connection and forgets everything about failures: the next read or write dials anew. Calls of other threads that are under
    /// way fail. Does not wait for the peer to get what was written.
    pub fn close(&self) {
        let line = {
            let mut state = self.state();
            state.closes += 1;
            state.session.close();
            state.line.take()
        };
        self.changed.notify_all();
        if let Some(line) = line {
            line.close();
        }
    }

    /// Where it leads.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Whether there is a connection, as far as anybody has noticed.
    pub fn is_connected(&self) -> bool {
        self.state().line.is_some()
    }

    /// Where the session stands.
    pub fn session_state(&self) -> SessionState {
        self.state().session.state()
    }

    /// Connections in a row that failed.
    pub fn failures(&self) -> u32 {
        self.state().session.failures()
    }

    /// How many connections there have been, the hook's success included.
    pub fn connections(&self) -> u64 {
        self.state().session.connections()
    }

    /// Waits for a connection, as a write would.
    ///
    /// # Errors
    /// As its.
    pub fn connect(&self) -> io::Result<()> {
        self.line(self.call(Phase::Send)).map(drop).map_err(told)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, phase: Phase) -> Call {
        let state = self.state();
        let timeout = if phase == Phase::Send { state.timeouts.write } else { state.timeouts.read };
        Call { phase, deadline: timeout.map(|timeout| clock::now() + timeout), closes: state.closes }
    }

    /// The connection; one is made if there is none.
    fn line(&self, call: Call) -> Result<Arc<Line>, Error> {
        let mut state = self.state();
        loop {
            if state.closes != call.closes {
                return Err(self.closed(call));
            }
            let now = clock::now();
            let wait = match state.session.poll_use(now) {
                Err(gave_up) => return Err(Error::new(Phase::Connect, gave_up).at(&self.destination)),
                Ok(SessionStep::Go) => match &state.line {
                    Some(line) => return Ok(line.clone()),
                    // Cannot be: both change under one lock.
                    None => return Err(self.closed(call)),
                },
                Ok(SessionStep::Dial) => {
                    drop(state);
                    if let Some(line) = self.dial(call)? {
                        return Ok(line);
                    }
                    state = self.state();
                    continue;
                }
                Ok(SessionStep::Busy) => call.deadline,
                Ok(SessionStep::Wait(until)) => Some(call.deadline.map_or(until, |deadline| deadline.min(until))),
            };
            if call.deadline.is_some_and(|deadline| deadline <= now) {
                return Err(self.late(call));
            }
            state = match clock::until(wait) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(time) => self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Dials once, and greets. `None`: it failed, and will be tried again.
    fn dial(&self, call: Call) -> Result<Option<Arc<Line>>, Error> {
        let turn = Turn { stream: self, closes: call.closes };
        let error = match self.open(call) {
            Ok(line) => {
                turn.succeeded();
                return Ok(Some(line));
            }
            Err(error) => error,
        };
        drop(turn);
        let state = self.state();
        if state.closes != call.closes {
            return Err(self.closed(call));
        }
        match state.session.state() {
            SessionState::GivenUp => {
                let hint =
                    format!("gave up after {} in a row; close the stream to begin anew", state.session.failures());
                Err(error.hinting(hint))
            }
            // Trying again makes nothing better.
            _ if error.phase() <= Phase::Route => Err(error),
            _ => Ok(None),
        }
    }

    fn open(&self, call: Call) -> Result<Arc<Line>, Error> {
        let router = &*self.config.router;
        let there = |error: Error| if error.destination().is_some() { error } else { error.at(&self.destination) };
        let route = router.route(&self.destination).map_err(|error| there(Error::new(Phase::Route, error)))?;
        // A proxy that takes requests in absolute form takes nothing else.
        if route.hops.last().is_none_or(|last| last.to != self.destination) {
            let error = Error::new(Phase::Prepare, "the route ends at a proxy that takes requests, not a stream");
            return Err(there(error.blaming(Blame::Caller).hinting("have the router make a tunnel")));
        }
        let stream = self.connector.connect(&route, router).map_err(there)?;
        let mut timer = DialTimer::new(self.config.dial);
        timer.enter(Phase::Handshake);
        stream.attach().map_err(|error| there(timer.failed(error)))?;
        if !self.with_ours(call, |state| state.session.handle_dialed()) {
            return Err(self.closed(call));
        }
        let stream = self.greet(stream, timer).map_err(there)?;
        let now = clock::now();
        let line = Line::new(stream, &self.config, now).map_err(|error| there(Error::new(Phase::Prepare, error)))?;
        let line = Arc::new(line);
        let ours = self.with_ours(call, |state| {
            state.session.handle_greeted(now);
            state.line = Some(line.clone());
        });
        self.changed.notify_all();
        if ours { Ok(line) } else { Err(self.closed(call)) }
    }

    fn greet(&self, stream: Stream, timer: DialTimer) -> Result<Stream, Error> {
        let Some(hook) = &self.hook else { return Ok(stream) };
        let mut greeting = Greeting::new(&stream, timer);
        hook(&mut greeting).map_err(|cause| timer.failed(cause))?;
        let unread = greeting.into_unread();
        Ok(stream.with_leftover(unread))
    }

    /// Changes the state, if nobody has closed the stream meanwhile.
    fn with_ours(&self, call: Call, change: impl FnOnce(&mut State)) -> bool {
        let mut state = self.state();
        let ours = state.closes == call.closes;
        if ours {
            change(&mut state);
        }
        ours
    }

    /// Bytes came over `line`.
    fn received(&self, line: &Arc<Line>) {
        line.heard(clock::now());
        let mut state = self.state();
        if state.line.as_ref().is_some_and(|current| Arc::ptr_eq(current, line)) {
            state.session.handle_received();
        }
    }

    /// The connection is done for, and the caller is told by what this gives.
    fn broken(&self, line: &Arc<Line>, call: Call, cause: BoxError) -> Error {
        if self.leave(line, call) { self.failed(call.phase, cause) } else { self.closed(call) }
    }

    /// Gives the connection up; says whether that was not somebody else's will.
    fn leave(&self, line: &Arc<Line>, call: Call) -> bool {
        let mut state = self.state();
        if state.line.as_ref().is_some_and(|current| Arc::ptr_eq(current, line)) {
            state.session.handle_broken(clock::now(), random());
            state.line = None;
        }
        let ours = state.closes == call.closes;
        drop(state);
        // Whoever else uses it is not to wait for ever.
        line.close();
        ours
    }

    fn failed(&self, phase: Phase, cause: BoxError) -> Error {
        Error::new(phase, cause).at(&self.destination)
    }

    fn late(&self, call: Call) -> Error {
        self.failed(call.phase, io::Error::from(io::ErrorKind::TimedOut).into())
    }

    fn closed(&self, call: Call) -> Error {
        let cause = io::Error::new(io::ErrorKind::ConnectionAborted, "the stream was closed by this program meanwhile");
        self.failed(call.phase, cause.into()).blaming(Blame::Caller)
    }

    fn read_some(&self, buf: &mut [u8]) -> Result<usize, Error> {
        let call = self.call(Phase::Receive);
        let line = self.line(call)?;
        match line.read(buf, call.deadline) {
            Ok(0) if self.leave(&line, call) => Ok(0),
            Ok(0) => Err(self.closed(call)),
            Ok(n) => {
                self.received(&line);
                Ok(n)
            }
            Err(line::Fault::Late) => Err(self.late(call)),
            Err(line::Fault::Broken(cause)) => Err(self.broken(&line, call, cause)),
        }
    }

    fn write_all_of(&self, buf: &[u8]) -> Result<usize, Error> {
        let call = self.call(Phase::Send);
        let line = self.line(call)?;
        line.write(buf, call.deadline).map(|()| buf.len()).map_err(|cause| self.broken(&line, call, cause))
    }
}

/// The right to dial. However that ends, others must not wait for ever.
struct Turn<'s> {
    stream: &'s PersistentStream,
    closes: u64,
}

impl Turn<'_> {
    /// By now, others may have used the connection and be dialling the next.
    fn succeeded(self) {
        std::mem::forget(self);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.stream.state();
        if state.closes == self.closes {
            state.session.handle_failed(clock::now(), random());
        }
        drop(state);
        self.stream.changed.notify_all();
    }
}

fn not_zero(timeout: Option<Duration>) -> io::Result<Option<Duration>> {
    if timeout == Some(Duration::ZERO) { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(timeout) }
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

impl Read for &PersistentStream {
    /// What comes; 0 at the end of the connection, once.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() { Ok(0) } else { self.read_some(buf).map_err(told) }
    }
}

impl Write for &PersistentStream {
    /// All of `buf`, or an error.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() { Ok(0) } else { self.write_all_of(buf).map_err(told) }
    }

    /// Nothing waits: a write has gone all the way.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for PersistentStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for PersistentStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The destination.
impl fmt::Display for PersistentStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.destination.fmt(f)
    }
}

impl fmt::Debug for PersistentStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("PersistentStream")
            .field("destination", &self.destination)
            .field("session", &state.session.state())
            .field("failures", &state.session.failures())
            .finish_non_exhaustive()
    }
}

impl Drop for PersistentStream {
    fn drop(&mut self) {
        self.close();
    }
}
