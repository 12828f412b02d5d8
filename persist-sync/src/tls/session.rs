//! One TLS session over any stream: what a socket is to a connection, with encryption in between.
//!
//! Calls never wait. Between two of them the session keeps to these rules, which the driver relies on:
//! - where a read gave less than was asked for, everything that the layer below had is decrypted and given, or [`holds_input`](Session::holds_input) says that more
//!   is inside: the socket will not tell;
//! - bytes that were taken for writing are encrypted, and what of that the layer below did not take is [unsent](Session::has_unsent): the
//!   next write or flush sends it first;
//! - an end without the peer's closing alert is an error, for it may be an attacker's (RFC 9112 §9.8).

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use persist_core::Side;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, ProtocolVersion, ServerConfig, ServerConnection};

use crate::clock;
use crate::ready::{Directions, wait_alone};
use crate::stream::Stream;

/// One end of a session.
pub(crate) struct Session {
    inner: Stream,
    state: Mutex<State>,
    /// Copies of what the state says, so that asking takes no lock.
    holds_input: AtomicBool,
    has_unsent: AtomicBool,
    /// How long a blocking read and a blocking write may take.
    timeouts: Mutex<[Option<Duration>; 2]>,
}

struct State {
    tls: Connection,
    /// Whom the client has asked for.
    asked: Option<ServerName<'static>>,
    /// Told by the next call, since the one that met it had something to give.
    read_fault: Option<io::Error>,
    write_fault: Option<io::Error>,
    /// The layer below takes nothing any more.
    is_mute: bool,
    /// Our side is shut down once the closing alert has left.
    closing: bool,
}

impl Session {
    pub(super) fn client(inner: Stream, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let tls = ClientConnection::new(config, name.clone()).map_err(invalid)?;
        Ok(Self::new(inner, tls.into(), Some(name)))
    }

    pub(super) fn server(inner: Stream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let tls = ServerConnection::new(config).map_err(invalid)?;
        Ok(Self::new(inner, tls.into(), None))
    }

    fn new(inner: Stream, tls: Connection, asked: Option<ServerName<'static>>) -> Self {
        // Bytes of the handshake may have been read ahead of it.
        let (holds_input, has_unsent) = (inner.holds_input(), tls.wants_write());
        let state = State { tls, asked, read_fault: None, write_fault: None, is_mute: false, closing: false };
        Self {
            inner,
            state: Mutex::new(state),
            holds_input: AtomicBool::new(holds_input),
            has_unsent: AtomicBool::new(has_unsent),
            timeouts: Mutex::default(),
        }
    }

    /// The layer below.
    pub(crate) fn inner(&self) -> &Stream {
        &self.inner
    }

    /// Whether nothing was agreed on yet.
    #[cfg(unix)]
    pub(crate) fn is_handshaking(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).tls.is_handshaking()
    }

    /// Whether there are bytes to be read, or an end to be told of, that the layer below does not tell of.
    pub(crate) fn holds_input(&self) -> bool {
        self.holds_input.load(Ordering::Relaxed) || self.inner.holds_input()
    }

    /// Whether encrypted bytes wait for the layer below to take them.
    pub(crate) fn has_unsent(&self) -> bool {
        self.has_unsent.load(Ordering::Relaxed) || self.inner.has_unsent()
    }

    /// As a blocking socket: waits, outside the lock, so that another thread may write meanwhile.
    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.blocking(Side::Read, || self.try_read(buf))
    }

    /// The same for writing.
    pub(crate) fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.blocking(Side::Write, || self.try_write(bufs))
    }

    /// Waits until all that was written is with the system.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.blocking(Side::Write, || self.try_flush())
    }

    fn blocking<T>(&self, side: Side, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let [read, write] = *self.timeouts.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout = if side == Side::Read { read } else { write };
        let deadline = timeout.map(|timeout| clock::now() + timeout);
        loop {
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            let wanted = Directions { read: side == Side::Read, write: side == Side::Write || self.has_unsent() };
            let left = clock::until(deadline);
            if left == Some(Duration::ZERO) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            wait_alone(&self.inner, wanted, left)?;
        }
    }

    pub(crate) fn set_timeout(&self, side: Side, timeout: Option<Duration>) {
        let at = if side == Side::Read { 0 } else { 1 };
        self.timeouts.lock().unwrap_or_else(PoisonError::into_inner)[at] = timeout;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls, and keeps the copies true.
    fn with<T>(&self, call: impl FnOnce(&mut State, &Stream) -> T) -> T {
        let mut state = self.state();
        let result = call(&mut state, &self.inner);
        self.has_unsent.store(state.tls.wants_write() && !state.is_mute, Ordering::Relaxed);
        result
    }

    /// Goes on with the handshake; `WouldBlock` until it is done.
    pub(super) fn try_handshake(&self) -> io::Result<()> {
        let result = self.with(|state, inner| {
            state.flush(inner)?;
            while state.tls.is_handshaking() {
                match state.tls.read_tls(&mut Below(inner))? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    _ => state.process(inner)?,
                }
            }
            state.flush(inner)?;
            inner.try_flush()
        });
        // Whether the peer has said more already, only a read can tell.
        self.holds_input.store(true, Ordering::Relaxed);
        result
    }

    /// Decrypted bytes; `WouldBlock` if there are none.
    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.with(|state, inner| {
            let (mut got, mut more) = (0, true);
            let result = loop {
                match state.tls.reader().read(&mut buf[got..]) {
                    // The closing alert came: the end, and a clean one.
                    Ok(0) => break Ok(0),
                    Ok(n) => {
                        got += n;
                        if got == buf.len() {
                            break Ok(got);
                        }
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => break Err(error),
                }
                if let Some(fault) = state.read_fault.take() {
                    break Err(fault);
                }
                match state.receive(inner) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        more = false;
                        break Err(error);
                    }
                    Err(error) => break Err(error),
                }
            };
            self.holds_input.store(more, Ordering::Relaxed);
            match result {
                Err(error) if got > 0 => {
                    // What came before is given first.
                    if error.kind() != io::ErrorKind::WouldBlock && error.kind() != io::ErrorKind::UnexpectedEof {
                        state.read_fault = Some(error);
                    }
                    Ok(got)
                }
                Ok(_) => Ok(got),
                Err(error) => Err(error),
            }
        })
    }

    /// Encrypts and sends; `WouldBlock` while what was taken before has not left.
    pub(crate) fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.with(|state, inner| {
            state.flush(inner)?;
            let taken = state.tls.writer().write_vectored(bufs)?;
            if state.tls.is_handshaking() {
                // It leaves when the handshake is done.
                return Ok(taken);
            }
            match state.send(inner) {
                (_, Ok(())) => Ok(taken),
                (_, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(taken),
                // Not a byte of it has left: it was not sent, and that is the truth to be told.
                (0, Err(error)) => Err(error),
                (_, Err(error)) => {
                    state.write_fault = Some(error);
                    Ok(taken)
                }
            }
        })
    }

    /// Sends what was taken before; `WouldBlock` if that takes longer.
    pub(crate) fn try_flush(&self) -> io::Result<()> {
        self.with(|state, inner| {
            state.flush(inner)?;
            inner.try_flush()
        })
    }

    /// Says goodbye before our side is shut down. Where the layer below takes nothing now, both happen with the flush that follows.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how == Shutdown::Read {
            return self.inner.shutdown(how);
        }
        let left = self.with(|state, inner| {
            if !state.closing {
                state.closing = true;
                state.tls.send_close_notify();
            }
            state.flush(inner)
        });
        match (left, how) {
            (Err(error), Shutdown::Write) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            (Err(error), Shutdown::Write) => Err(error),
            (Ok(()), Shutdown::Write) => Ok(()),
            _ => self.inner.shutdown(how),
        }
    }

    /// The protocol that both ends agreed on.
    pub(crate) fn alpn(&self) -> Option<Vec<u8>> {
        self.state().tls.alpn_protocol().map(<[u8]>::to_vec)
    }

    /// The version that both ends agreed on.
    pub(crate) fn version(&self) -> Option<ProtocolVersion> {
        self.state().tls.protocol_version()
    }

    /// The peer's chain, its own certificate first.
    pub(crate) fn certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        let state = self.state();
        state.tls.peer_certificates().map(|chain| chain.iter().map(|cert| cert.clone().into_owned()).collect())
    }

    /// The name that the client asked for.
    pub(crate) fn server_name(&self) -> Option<String> {
        let state = self.state();
        match (&state.tls, &state.asked) {
            (_, Some(name)) => Some(name.to_str().into_owned()),
            (Connection::Server(tls), None) => tls.server_name().map(str::to_owned),
            (Connection::Client(_), None) => None,
        }
    }
}

impl State {
    /// Reads once from the layer below, and decrypts.
    fn receive(&mut self, inner: &Stream) -> io::Result<()> {
        // 0 is the end: the session's reader tells whether it was a clean one.
        self.tls.read_tls(&mut Below(inner))?;
        self.process(inner)
    }

    /// Takes what was read apart. May have something to say to it: handshakes, new keys, an alert.
    fn process(&mut self, inner: &Stream) -> io::Result<()> {
        let processed = self.tls.process_new_packets().map_err(invalid);
        match self.flush(inner) {
            // Later will do; and reading has its own way to fail.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.write_fault = Some(error),
            _ => {}
        }
        processed.map(drop)
    }

    /// Sends what is encrypted, and then, if that was all there will be, shuts our side down.
    fn flush(&mut self, inner: &Stream) -> io::Result<()> {
        if let Some(fault) = self.write_fault.take() {
            return Err(fault);
        }
        self.send(inner).1?;
        if self.closing {
            // Fails on a dead socket only, which reads and writes will tell.
            let _ = inner.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Sends what is encrypted: how many bytes of it left, and what kept the rest.
    fn send(&mut self, inner: &Stream) -> (usize, io::Result<()>) {
        let mut sent = 0;
        while self.tls.wants_write() && !self.is_mute {
            match self.tls.write_tls(&mut Below(inner)) {
                Ok(n) => sent += n,
                Err(error) => {
                    self.is_mute = error.kind() != io::ErrorKind::WouldBlock;
                    return (sent, Err(error));
                }
            }
        }
        if self.is_mute { (sent, Err(io::ErrorKind::BrokenPipe.into())) } else { (sent, Ok(())) }
    }
}

/// The layer below, as rustls takes it.
struct Below<'s>(&'s Stream);

impl Read for Below<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Below<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("inner", &self.inner).finish_non_exhaustive()
    }
}
