//! Handshakes with proxies, as pure machines: bytes in, bytes out, no socket and no clock.
//!
//! Each one consumes exactly its own bytes: what the proxy sent behind its last reply is left in the input, and belongs to the
//! stream beyond (hyper #4095 is what happens otherwise).
//!
//! ```
//! use persist_core::{Host, TunnelStep};
//! use persist_proxy::handshake::Handshake;
//!
//! let mut handshake = Handshake::connect(&"example.com".parse::<Host>()?, 443, None, &Default::default())?;
//! assert!(handshake.transmit().starts_with(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n"));
//! handshake.advance(handshake.transmit().len());
//! let mut input: &[u8] = b"HTTP/1.0 200 Connection established\r\n\r\nSSH-2.0-x";
//! assert_eq!(handshake.handle_input(&mut input)?, TunnelStep::Done);
//! assert_eq!(input, b"SSH-2.0-x");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod connect;
mod error;
#[cfg(test)]
mod hostile_tests;
mod socks4;
mod socks5;
#[cfg(test)]
mod tests;

use persist_core::{BoxError, Credentials, Fields, Hop, Host, Means, Tunnel, TunnelStep};

pub use connect::REFUSAL_BODY_BYTES_MAX;
pub(crate) use connect::{basic as basic_authorization, check_fields as check_connect_fields};
pub use error::{Challenge, HandshakeError, InvalidHandshake, Refusal};
pub use socks4::Socks4Error;
pub(crate) use socks4::check_user as check_socks4_user;
pub use socks5::Socks5Error;
pub(crate) use socks5::login as socks5_login;

/// One handshake, from the first byte sent to the last one received.
///
/// Contract: write what [`transmit`](Self::transmit) gives and [`advance`](Self::advance); read and [`handle_input`](Self::handle_input);
/// until it is done or fails. Deadlines are the caller's.
#[derive(Debug)]
pub struct Handshake {
    dialect: Dialect,
    /// It has failed, or the stream is the target's.
    over: bool,
}

#[derive(Debug)]
enum Dialect {
    Connect(Box<connect::Connect>),
    Socks4(socks4::Socks4),
    Socks5(socks5::Socks5),
}

impl Handshake {
    fn new(dialect: Dialect) -> Self {
        Self { dialect, over: false }
    }

    /// `CONNECT` to an HTTP proxy (RFC 9110 §9.3.6), with Basic credentials (RFC 7617) and fields of the caller's.
    ///
    /// # Errors
    /// [`InvalidHandshake`]: the credentials or fields cannot be sent.
    pub fn connect(
        host: &Host,
        port: u16,
        credentials: Option<&Credentials>,
        fields: &Fields,
    ) -> Result<Self, InvalidHandshake> {
        let connect = connect::Connect::new(host, port, credentials, fields)?;
        Ok(Self::new(Dialect::Connect(Box::new(connect))))
    }

    /// SOCKS 4a: IPv4 addresses, and names that the proxy resolves. Of credentials only the user name is sent.
    ///
    /// # Errors
    /// [`InvalidHandshake`]: an IPv6 address, an over-long name or user, or one with a NUL.
    pub fn socks4a(host: &Host, port: u16, credentials: Option<&Credentials>) -> Result<Self, InvalidHandshake> {
        Ok(Self::new(Dialect::Socks4(socks4::Socks4::new(host, port, credentials)?)))
    }

    /// SOCKS 5 (RFC 1928), without authentication or with user and password (RFC 1929). A name is resolved by the proxy (`socks5h`);
    /// resolve it first for `socks5`.
    ///
    /// # Errors
    /// [`InvalidHandshake`]: a name, user or password that is empty or longer than 255 bytes.
    pub fn socks5(host: &Host, port: u16, credentials: Option<&Credentials>) -> Result<Self, InvalidHandshake> {
        Ok(Self::new(Dialect::Socks5(socks5::Socks5::new(host, port, credentials)?)))
    }

    /// The handshake of one hop of a route; `None` for a plain socket.
    ///
    /// # Errors
    /// As the constructors; and a Unix socket beyond a proxy.
    pub fn for_hop(hop: &Hop) -> Result<Option<Self>, InvalidHandshake> {
        if hop.means == Means::Socket {
            return Ok(None);
        }
        let (host, port) = hop.to.host().zip(hop.to.port()).ok_or(InvalidHandshake::UnixPath)?;
        let credentials = hop.credentials.as_ref();
        match hop.means {
            Means::HttpConnect => Self::connect(host, port, credentials, &hop.fields).map(Some),
            Means::Socks4a => Self::socks4a(host, port, credentials).map(Some),
            Means::Socks5 { .. } => Self::socks5(host, port, credentials).map(Some),
            _ => Err(InvalidHandshake::UnknownMeans),
        }
    }

    /// Bytes to be written to the proxy.
    pub fn transmit(&self) -> &[u8] {
        match &self.dialect {
            Dialect::Connect(connect) => connect.out.rest(),
            Dialect::Socks4(socks4) => socks4.out.rest(),
            Dialect::Socks5(socks5) => socks5.out.rest(),
        }
    }

    /// The layer below accepted `n` bytes of them.
    ///
    /// # Panics
    /// If `n` is more than there were.
    pub fn advance(&mut self, n: usize) {
        match &mut self.dialect {
            Dialect::Connect(connect) => connect.out.advance(n),
            Dialect::Socks4(socks4) => socks4.out.advance(n),
            Dialect::Socks5(socks5) => socks5.out.advance(n),
        }
    }

    /// What the proxy sent. Consumes the handshake's own bytes off the front of `input`, and no other; none while there is something to transmit.
    ///
    /// # Errors
    /// [`HandshakeError`]: the stream is of no use any more.
    pub fn handle_input(&mut self, input: &mut &[u8]) -> Result<TunnelStep, HandshakeError> {
        if self.over {
            return Err(HandshakeError::Over);
        }
        if !self.transmit().is_empty() {
            // Whatever came, it is no answer yet; and a tunnel that began now would swallow the rest of the request.
            return Ok(TunnelStep::Pending);
        }
        let step = match &mut self.dialect {
            Dialect::Connect(connect) => connect.handle_input(input),
            Dialect::Socks4(socks4) => socks4.handle_input(input),
            Dialect::Socks5(socks5) => socks5.handle_input(input),
        };
        self.over = step != Ok(TunnelStep::Pending);
        step
    }

    /// The proxy closed the stream before the handshake was done. A refusal whose body ends there is complete.
    pub fn handle_eof(&mut self) -> HandshakeError {
        if std::mem::replace(&mut self.over, true) {
            return HandshakeError::Over;
        }
        match &mut self.dialect {
            Dialect::Connect(connect) => connect.handle_eof(),
            Dialect::Socks4(_) => HandshakeError::Closed { waiting_for: "its SOCKS 4 reply" },
            Dialect::Socks5(socks5) => HandshakeError::Closed { waiting_for: socks5.waiting_for() },
        }
    }
}

impl Tunnel for Handshake {
    fn transmit(&self) -> &[u8] {
        Self::transmit(self)
    }

    fn advance(&mut self, n: usize) {
        Self::advance(self, n);
    }

    fn handle_input(&mut self, input: &mut &[u8]) -> Result<TunnelStep, BoxError> {
        Ok(Self::handle_input(self, input)?)
    }

    fn handle_eof(&mut self) -> BoxError {
        Self::handle_eof(self).into()
    }
}

/// Bytes on their way out.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    spent: usize,
}

impl Out {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, spent: 0 }
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.spent..]
    }

    fn advance(&mut self, n: usize) {
        assert!(n <= self.rest().len(), "advanced past the end of what there is to send");
        self.spent += n;
    }
}

/// May hold a password: shows the length only.
impl std::fmt::Debug for Out {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.rest().len())
    }
}

/// Moves bytes from `input` to `reply` until it has `n`. Whether it has.
fn fill(reply: &mut Vec<u8>, n: usize, input: &mut &[u8]) -> bool {
    let (taken, rest) = input.split_at(n.saturating_sub(reply.len()).min(input.len()));
    reply.extend_from_slice(taken);
    *input = rest;
    reply.len() >= n
}
