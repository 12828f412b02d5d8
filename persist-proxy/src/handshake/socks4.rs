//! SOCKS 4a: one request, one reply of eight bytes.

use persist_core::{Credentials, Host, TunnelStep};

use super::{HandshakeError, InvalidHandshake, Out, fill};

const PROTOCOL: &str = "SOCKS 4";

#[derive(Debug)]
pub(super) struct Socks4 {
    pub(super) out: Out,
    reply: Vec<u8>,
}

/// Why a SOCKS 4 proxy refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Socks4Error {
    /// 91
    #[error("request rejected or failed (SOCKS 4 code 91)")]
    Rejected,
    /// 92
    #[error("the proxy cannot reach our identd (SOCKS 4 code 92)")]
    NoIdentd,
    /// 93
    #[error("our identd names another user (SOCKS 4 code 93)")]
    UserMismatch,
    /// Any other.
    #[error("unknown SOCKS 4 code {0}")]
    Unknown(u8),
}

impl Socks4 {
    pub(super) fn new(host: &Host, port: u16, credentials: Option<&Credentials>) -> Result<Self, InvalidHandshake> {
        let user = credentials.map_or("", |credentials| &credentials.user);
        credentials.map_or(Ok(()), check_user)?;
        let mut out = vec![4, 1];
        out.extend_from_slice(&port.to_be_bytes());
        // 0.0.0.1: no address; the name follows the user, and the proxy resolves it.
        let (address, name) = match host {
            Host::V4(address) => (address.octets(), None),
            Host::V6(_) => return Err(InvalidHandshake::Ipv6),
            Host::Name(name) => ([0, 0, 0, 1], Some(name)),
        };
        out.extend_from_slice(&address);
        out.extend_from_slice(user.as_bytes());
        out.push(0);
        if let Some(name) = name {
            if name.len() > 255 {
                return Err(InvalidHandshake::HostTooLong { len: name.len() });
            }
            out.extend_from_slice(name.as_bytes());
            out.push(0);
        }
        Ok(Self { out: Out::new(out), reply: Vec::with_capacity(8) })
    }

    pub(super) fn handle_input(&mut self, input: &mut &[u8]) -> Result<TunnelStep, HandshakeError> {
        let complete = fill(&mut self.reply, 8, input);
        if let Some(&byte) = self.reply.first().filter(|&&version| version != 0) {
            return Err(HandshakeError::Garbage { protocol: PROTOCOL, expected: "version 0 of the reply", byte });
        }
        if !complete {
            return Ok(TunnelStep::Pending);
        }
        match self.reply[1] {
            90 => Ok(TunnelStep::Done),
            91 => Err(Socks4Error::Rejected.into()),
            92 => Err(Socks4Error::NoIdentd.into()),
            93 => Err(Socks4Error::UserMismatch.into()),
            code => Err(Socks4Error::Unknown(code).into()),
        }
    }
}

/// SOCKS 4 ends a user with a NUL; the other control characters are not sent to anybody.
pub(crate) fn check_user(credentials: &Credentials) -> Result<(), InvalidHandshake> {
    let user = &credentials.user;
    if user.chars().any(char::is_control) {
        return Err(InvalidHandshake::Credentials);
    }
    if user.len() > 255 {
        return Err(InvalidHandshake::UserLength { len: user.len() });
    }
    Ok(())
}
