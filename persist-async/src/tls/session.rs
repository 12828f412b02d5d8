//! One TLS session over any stream. A server's shakes hands as it is first used, so that accepting never waits.

use std::fmt;
use std::io::{self, IoSlice, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_rustls::{Accept, TlsAcceptor, TlsStream, client};

use crate::stream::Stream;

/// One end of a session.
pub(crate) struct Session {
    state: State,
    /// Whom the client asked for, where this is its end.
    asked: Option<ServerName<'static>>,
}

enum State {
    Open(TlsStream<Stream>),
    Accepting {
        hands: Accept<Stream>,
        deadline: Deadline,
    },
    /// The handshake failed; whoever met that was told.
    Failed,
}

/// Until when hands are to be shaken.
enum Deadline {
    None,
    /// From the first use on.
    After(Duration),
    At(Duration, Pin<Box<Sleep>>),
}

impl Session {
    /// A server's end, which has not shaken hands yet.
    pub(super) fn accepting(config: &Arc<ServerConfig>, stream: Stream, limit: Option<Duration>) -> Self {
        let hands = TlsAcceptor::from(config.clone()).accept(stream);
        let state = State::Accepting { hands, deadline: limit.map_or(Deadline::None, Deadline::After) };
        Self { state, asked: None }
    }

    /// A client's end, after the handshake.
    pub(super) fn connected(session: client::TlsStream<Stream>, asked: ServerName<'static>) -> Self {
        Self { state: State::Open(session.into()), asked: Some(asked) }
    }

    /// The layer below; `None` once that was given up.
    pub(crate) fn inner(&self) -> Option<&Stream> {
        match &self.state {
            State::Open(session) => Some(session.get_ref().0),
            State::Accepting { hands, .. } => hands.get_ref(),
            State::Failed => None,
        }
    }

    /// The session, once hands were shaken.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut TlsStream<Stream>>> {
        if let State::Accepting { hands, deadline } = &mut self.state {
            let outcome = match Pin::new(hands).poll(cx) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => Err(ready!(deadline.poll(cx))),
            };
            match outcome {
                Ok(session) => self.state = State::Open(session.into()),
                Err(error) => {
                    self.state = State::Failed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(match &mut self.state {
            State::Open(session) => Ok(session),
            _ => Err(io::ErrorKind::NotConnected.into()),
        })
    }

    /// One read that never waits, of what is there now.
    pub(crate) fn read_now(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> io::Result<usize> {
        let session = match self.poll_open(cx) {
            Poll::Ready(session) => session?,
            Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
        };
        let (stream, tls) = match session {
            TlsStream::Client(session) => {
                let (stream, tls) = session.get_mut();
                (stream, &mut **tls as &mut dyn Decrypts)
            }
            TlsStream::Server(session) => {
                let (stream, tls) = session.get_mut();
                (stream, &mut **tls as &mut dyn Decrypts)
            }
        };
        loop {
            match tls.read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            // Session tickets and the like decrypt to nothing: then there is nothing to read, however much came.
            tls.decrypt(&mut Below { stream, cx })?;
        }
    }

    /// The protocol that both ends agreed on.
    pub(crate) fn alpn(&self) -> Option<Vec<u8>> {
        self.about(|tls| tls.alpn_protocol().map(<[u8]>::to_vec))
    }

    /// The version that both ends agreed on.
    pub(crate) fn version(&self) -> Option<ProtocolVersion> {
        self.about(|tls| tls.protocol_version())
    }

    /// The peer's chain, its own certificate first.
    pub(crate) fn certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.about(|tls| Some(tls.peer_certificates()?.iter().map(|cert| cert.clone().into_owned()).collect()))
    }

    /// The name that the client asked for.
    pub(crate) fn server_name(&self) -> Option<String> {
        match (&self.state, &self.asked) {
            (_, Some(asked)) => Some(asked.to_str().into_owned()),
            (State::Open(TlsStream::Server(session)), None) => session.get_ref().1.server_name().map(str::to_owned),
            _ => None,
        }
    }

    fn about<T>(&self, ask: impl FnOnce(&rustls::CommonState) -> Option<T>) -> Option<T> {
        match &self.state {
            State::Open(session) => ask(session.get_ref().1),
            _ => None,
        }
    }
}

impl Deadline {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Self::After(limit) = *self {
            *self = Self::At(limit, Box::pin(tokio::time::sleep(limit)));
        }
        let Self::At(limit, timer) = self else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, format!("no end of the handshake within {limit:?}")))
    }
}

/// What both roles' sessions do with what came.
trait Decrypts {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;
    fn decrypt(&mut self, from: &mut dyn Read) -> io::Result<()>;
}

impl<D: rustls::SideData> Decrypts for rustls::ConnectionCommon<D> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reader().read(buf)
    }

    /// An end of file is noted, and told by the next read: as a clean one, or not.
    fn decrypt(&mut self, from: &mut dyn Read) -> io::Result<()> {
        self.read_tls(from)?;
        let processed = self.process_new_packets();
        processed.map(drop).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// The layer below, read without waiting.
struct Below<'a, 'b, 'c> {
    stream: &'a mut Stream,
    cx: &'b mut Context<'c>,
}

impl Read for Below<'_, '_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read_now(self.cx, buf)
    }
}

impl AsyncRead for Session {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(ready!(self.get_mut().poll_open(cx))?).poll_read(cx, buf)
    }
}

impl AsyncWrite for Session {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(ready!(self.get_mut().poll_open(cx))?).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(ready!(self.get_mut().poll_open(cx))?).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().state {
            State::Open(session) => Pin::new(session).poll_flush(cx),
            _ => Poll::Ready(Ok(())), // nothing was written
        }
    }

    /// Says goodbye (RFC 8446 §6.1), then shuts our side down. Without a session there is nobody to say it to.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().state {
            State::Open(session) => Pin::new(session).poll_shutdown(cx),
            State::Accepting { hands, .. } => match hands.get_mut() {
                Some(stream) => Pin::new(stream).poll_shutdown(cx),
                None => Poll::Ready(Ok(())),
            },
            State::Failed => Poll::Ready(Ok(())),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("inner", &self.inner()).finish_non_exhaustive()
    }
}
