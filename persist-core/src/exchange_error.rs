//! The error that both adapters give for an exchange: what was being done, where, who is to blame, what became of the request, and what to try.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::error::Error;
use core::fmt;

use crate::close::CloseReason;
use crate::destination::Destination;
use crate::disposition::{Disposition, Failure};
use crate::error::Blame;

/// A cause from any layer: an `io::Error`, a TLS error, a [`Failure`].
pub type BoxError = Box<dyn core::error::Error + Send + Sync>;

/// What was being done when it failed, in the order in which an exchange does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Checking what the caller gave: the URL, the request, the configuration.
    Prepare,
    /// Asking the router.
    Route,
    /// Waiting for the pool to give a connection.
    Wait,
    /// Turning a name into addresses.
    Resolve,
    /// Opening a socket.
    Connect,
    /// Going through a proxy.
    Tunnel,
    /// TLS, or the session that an `on_connect` hook sets up.
    Handshake,
    /// Sending the request.
    Send,
    /// Waiting for the response's head.
    Receive,
    /// Reading the response's content.
    Body,
    /// Closing, and learning whether everything was acknowledged.
    Close,
    /// At a server: reading a request's content, or sending its response.
    Serve,
}

/// An exchange failed.
///
/// `Display` is one line that names all of it, the cause included; [`source`](core::error::Error::source) gives the cause as a value.
///
/// ```
/// use persist_core::{ExchangeError, Phase};
///
/// let error = ExchangeError::new(Phase::Connect, "connection refused").at(&"http://127.0.0.1:9".parse()?);
/// assert_eq!(
///     error.to_string(),
///     "cannot connect to http://127.0.0.1:9: connection refused; is the server running, and the port right?",
/// );
/// # Ok::<(), persist_core::UrlError>(())
/// ```
///
/// It can be cloned: one failed dial is told to everybody who waited for it. Clones share the cause.
#[derive(Clone)]
pub struct ExchangeError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    phase: Phase,
    destination: Option<Destination>,
    failure: Option<Box<Failure>>,
    blame: Blame,
    hint: Option<Cow<'static, str>>,
    source: Option<Arc<dyn Error + Send + Sync>>,
    /// Whose failure it is that stands above.
    attempt: Attempt,
}

/// One of the attempts at one request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Last,
    Earlier,
}

impl ExchangeError {
    /// A failure in `phase` that no connection has a [`Failure`] for. Blame and hint are the phase's usual ones until given.
    pub fn new(phase: Phase, cause: impl Into<BoxError>) -> Self {
        Self(Box::new(Inner {
            phase,
            destination: None,
            failure: None,
            blame: phase.usual_blame(),
            hint: phase.usual_hint().map(Cow::Borrowed),
            source: Some(Arc::from(cause.into())),
            attempt: Attempt::Last,
        }))
    }

    /// An exchange that its connection ended: the phase follows from the disposition, or is `Serve` where the request came in.
    ///
    /// ```
    /// use persist_core::{CloseReason, Disposition, ExchangeError, Failure, Method, Phase};
    ///
    /// let mut failure = Failure::new(Disposition::NotSent, CloseReason::PeerClosedEarly, &Method::PUT);
    /// (failure.served, failure.received) = (true, 99);
    /// let error = ExchangeError::from_failure(failure.into());
    /// assert_eq!((error.phase(), error.hint()), (Phase::Serve, None));
    /// assert!(error.to_string().starts_with("cannot complete the exchange: "), "{error}");
    /// ```
    pub fn from_failure(failure: Box<Failure>) -> Self {
        let phase = match failure.disposition {
            _ if failure.served => Phase::Serve,
            Disposition::NotSent | Disposition::PartlySent { .. } => Phase::Send,
            Disposition::SentNoReply | Disposition::Declined => Phase::Receive,
            Disposition::ReplyPartial => Phase::Body,
        };
        let blame = match failure.reason {
            crate::CloseReason::Aborted | crate::CloseReason::OurClose => Blame::Caller,
            crate::CloseReason::Io(_) | crate::CloseReason::Timeout(_) => Blame::Network,
            _ => Blame::Peer,
        };
        let hint = usual_hint_of(&failure).map(Cow::Borrowed);
        let attempt = Attempt::Last;
        Self(Box::new(Inner { phase, destination: None, failure: Some(failure), blame, hint, source: None, attempt }))
    }

    /// Names the destination.
    #[must_use]
    pub fn at(mut self, destination: &Destination) -> Self {
        self.0.destination = Some(destination.clone());
        self
    }

    /// Gives the cause from the layer below (an `io::Error`) that the failure's reason stands for.
    #[must_use]
    pub fn because(mut self, cause: impl Into<BoxError>) -> Self {
        self.0.source = Some(Arc::from(cause.into()));
        self
    }

    /// Blames somebody else.
    #[must_use]
    pub fn blaming(mut self, blame: Blame) -> Self {
        self.0.blame = blame;
        self
    }

    /// Says what to try.
    #[must_use]
    pub fn hinting(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same, of a request that had been sent before in vain. If an earlier attempt got further than this one, its failure says what became of the request:
    /// a retry that could not even connect takes nothing back. Phase and cause stay those of the last attempt.
    ///
    /// ```
    /// use persist_core::{CloseReason, Disposition, ExchangeError, Failure, Method, Phase};
    ///
    /// let failure = Failure::new(Disposition::SentNoReply, CloseReason::PeerClosedEarly, &Method::PUT);
    /// let first = ExchangeError::from_failure(failure.into());
    /// let second = ExchangeError::new(Phase::Connect, "connection refused");
    /// assert_eq!(second.disposition(), Some(Disposition::NotSent));
    /// assert_eq!(second.after(Some(first)).disposition(), Some(Disposition::SentNoReply));
    /// ```
    #[must_use]
    pub fn after(mut self, earlier: Option<Self>) -> Self {
        let Some(Self(earlier)) = earlier else { return self };
        let Some(failure) = earlier.failure else { return self };
        if reach(self.disposition()) >= reach(Some(failure.disposition)) {
            return self;
        }
        let inner = &mut *self.0;
        inner.hint = usual_hint_of(&failure).map(Cow::Borrowed);
        let last = inner.failure.replace(failure);
        inner.attempt = Attempt::Earlier;
        if let (None, Some(last)) = (&inner.source, last) {
            inner.source = Some(Arc::new(*last));
        }
        self
    }

    /// What was being done.
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// Where, once that was known.
    pub fn destination(&self) -> Option<&Destination> {
        self.0.destination.as_ref()
    }

    /// What the connection knows of the exchange; `None` if it never reached one. Of a request that was sent again: what the connection knows that had most of it.
    pub fn failure(&self) -> Option<&Failure> {
        self.0.failure.as_deref()
    }

    /// What became of the request; `NotSent` wherever no connection had taken it, `None` where only closing failed.
    pub fn disposition(&self) -> Option<Disposition> {
        match &self.0.failure {
            Some(failure) => Some(failure.disposition),
            None if self.0.phase < Phase::Send => Some(Disposition::NotSent),
            None => None,
        }
    }

    /// Who has to change something.
    pub fn blame(&self) -> Blame {
        self.0.blame
    }

    /// What to try.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The failure, for whoever keeps it.
    pub fn into_failure(self) -> Option<Box<Failure>> {
        self.0.failure
    }
}

/// The connection has ended, and with it what was asked of it. The cause of an [`ExchangeError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why; `None` if it was taken apart by a hijack.
    pub reason: Option<CloseReason>,
}

/// A body is longer than the caller wanted to hold in memory. What was read of it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body has more than {limit} bytes")]
pub struct TooLong {
    /// The caller's limit, in bytes.
    pub limit: usize,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "the connection has ended: {reason}"),
            None => f.write_str("the connection was detached"),
        }
    }
}

impl core::error::Error for Ended {}

impl Phase {
    /// What could not be done.
    const fn verb(self) -> &'static str {
        match self {
            Self::Prepare => "cannot send this request",
            Self::Route => "cannot find a route",
            Self::Wait => "got no connection",
            Self::Resolve => "cannot resolve the name",
            Self::Connect => "cannot connect",
            Self::Tunnel => "cannot get through the proxy",
            Self::Handshake => "the handshake failed",
            Self::Send => "cannot send the request",
            Self::Receive => "got no response",
            Self::Body => "the response broke off",
            Self::Close => "closing failed",
            Self::Serve => "cannot complete the exchange",
        }
    }

    const fn preposition(self) -> &'static str {
        match self {
            Self::Receive | Self::Body => "from",
            Self::Resolve => "of",
            Self::Handshake | Self::Close | Self::Serve => "with",
            _ => "to",
        }
    }

    const fn usual_blame(self) -> Blame {
        match self {
            Self::Prepare | Self::Route | Self::Wait => Blame::Caller,
            Self::Tunnel | Self::Handshake => Blame::Peer,
            _ => Blame::Network,
        }
    }

    const fn usual_hint(self) -> Option<&'static str> {
        match self {
            Self::Wait => Some("allow more connections, or wait longer"),
            Self::Resolve => Some("is the name spelled right, and the network up?"),
            Self::Connect => Some("is the server running, and the port right?"),
            _ => None,
        }
    }
}

/// How far a request may have come, so that what became of several attempts can be compared.
fn reach(disposition: Option<Disposition>) -> u32 {
    match disposition {
        None | Some(Disposition::NotSent) => 0,
        Some(Disposition::Declined) => 1,
        Some(Disposition::PartlySent { .. }) => 2,
        Some(Disposition::SentNoReply) => 3,
        Some(Disposition::ReplyPartial) => 4,
    }
}

fn usual_hint_of(failure: &Failure) -> Option<&'static str> {
    match failure.disposition {
        _ if failure.served => None,
        Disposition::NotSent | Disposition::Declined => Some("it was not processed and may be sent again"),
        Disposition::PartlySent { .. } | Disposition::SentNoReply if failure.idempotent => {
            Some("it may have been processed; its method is idempotent, so it may be sent again")
        }
        Disposition::PartlySent { .. } | Disposition::SentNoReply => {
            Some("it may have been processed; find out before sending it again")
        }
        Disposition::ReplyPartial => None,
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.write_str(inner.phase.verb())?;
        if let Some(destination) = &inner.destination {
            write!(f, " {} {destination}", inner.phase.preposition())?;
        }
        if let Some(failure) = inner.failure.as_ref().filter(|_| inner.attempt == Attempt::Last) {
            write!(f, ": {failure}")?;
        }
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        if let Some(failure) = inner.failure.as_ref().filter(|_| inner.attempt == Attempt::Earlier) {
            write!(f, "; an earlier attempt: {failure}")?;
        }
        match &inner.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeError")
            .field("phase", &self.0.phase)
            .field("destination", &self.0.destination)
            .field("failure", &self.0.failure)
            .field("blame", &self.0.blame)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl core::error::Error for ExchangeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match (&self.0.source, &self.0.failure) {
            (Some(source), _) => Some(&**source),
            (None, Some(failure)) => Some(&**failure),
            (None, None) => None,
        }
    }
}

impl From<Box<Failure>> for ExchangeError {
    fn from(failure: Box<Failure>) -> Self {
        Self::from_failure(failure)
    }
}

#[cfg(test)]
mod tests;
