//! SOCKS 5 (RFC 1928) with no authentication or user and password (RFC 1929): greeting, perhaps credentials, request.

use persist_core::{Credentials, Host, TunnelStep};

use super::{HandshakeError, InvalidHandshake, Out, fill};

const PROTOCOL: &str = "SOCKS 5";
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;

#[derive(Debug)]
pub(super) struct Socks5 {
    pub(super) out: Out,
    step: Step,
    reply: Vec<u8>,
    /// What is sent when its turn comes.
    credentials: Option<Out>,
    request: Out,
}

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Method,
    Authentication,
    Reply,
}

/// Why a SOCKS 5 proxy refused (RFC 1928 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Socks5Error {
    /// 1
    #[error("general failure of the SOCKS server (code 1)")]
    General,
    /// 2
    #[error("not allowed by its rules (code 2)")]
    NotAllowed,
    /// 3
    #[error("the target's network is unreachable (code 3)")]
    NetworkUnreachable,
    /// 4
    #[error("the target host is unreachable (code 4)")]
    HostUnreachable,
    /// 5
    #[error("the target refused the connection (code 5)")]
    ConnectionRefused,
    /// 6
    #[error("the time to live expired on the way to the target (code 6)")]
    TtlExpired,
    /// 7
    #[error("the proxy does not support CONNECT (code 7)")]
    CommandNotSupported,
    /// 8
    #[error("the proxy does not support this type of address (code 8)")]
    AddressNotSupported,
    /// Any other.
    #[error("unknown SOCKS 5 code {0}")]
    Unknown(u8),
}

impl Socks5Error {
    /// Whether the proxy says that the target, rather than itself, is to blame.
    pub const fn is_targets(self) -> bool {
        matches!(self, Self::NetworkUnreachable | Self::HostUnreachable | Self::ConnectionRefused | Self::TtlExpired)
    }
}

impl Socks5 {
    pub(super) fn new(host: &Host, port: u16, credentials: Option<&Credentials>) -> Result<Self, InvalidHandshake> {
        let credentials = credentials.map(login).transpose()?;
        let greeting = match credentials {
            None => vec![5, 1, NO_AUTHENTICATION],
            Some(_) => vec![5, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
        };
        let mut request = vec![5, 1, 0];
        match host {
            Host::V4(address) => {
                request.push(1);
                request.extend_from_slice(&address.octets());
            }
            Host::V6(address) => {
                request.push(4);
                request.extend_from_slice(&address.octets());
            }
            Host::Name(name) => {
                let len = u8::try_from(name.len()).map_err(|_| InvalidHandshake::HostTooLong { len: name.len() })?;
                request.extend_from_slice(&[3, len]);
                request.extend_from_slice(name.as_bytes());
            }
        }
        request.extend_from_slice(&port.to_be_bytes());
        Ok(Self {
            out: Out::new(greeting),
            step: Step::Method,
            reply: Vec::new(),
            credentials: credentials.map(Out::new),
            request: Out::new(request),
        })
    }

    pub(super) fn waiting_for(&self) -> &'static str {
        match self.step {
            Step::Method => "its choice of a SOCKS 5 method",
            Step::Authentication => "its verdict on user and password",
            Step::Reply => "its SOCKS 5 reply",
        }
    }

    pub(super) fn handle_input(&mut self, input: &mut &[u8]) -> Result<TunnelStep, HandshakeError> {
        // After each step there may be something to send, and what came is no answer to it.
        while self.out.rest().is_empty() {
            let Some(result) = self.step(input)? else { return Ok(TunnelStep::Pending) };
            if result == TunnelStep::Done {
                return Ok(result);
            }
        }
        Ok(TunnelStep::Pending)
    }

    /// One reply; `None` if it is not complete.
    fn step(&mut self, input: &mut &[u8]) -> Result<Option<TunnelStep>, HandshakeError> {
        let needed = match self.step {
            Step::Method | Step::Authentication => 2,
            Step::Reply => match self.reply.get(3..5) {
                // RFC 1928 §6: the address that the proxy bound tells nothing, but its length must be known.
                Some(&[1, _]) => 10,
                Some(&[4, _]) => 22,
                Some(&[3, len]) => 7 + usize::from(len),
                Some(&[byte, _]) => {
                    return Err(HandshakeError::Garbage { protocol: PROTOCOL, expected: "a type of address", byte });
                }
                _ => 5,
            },
        };
        let complete = fill(&mut self.reply, needed, input);
        self.check_version()?;
        // RFC 1928 §6: some proxies refuse without a proper address, so the code alone counts.
        if let (Step::Reply, Some(&code)) = (self.step, self.reply.get(1).filter(|&&code| code != 0)) {
            return Err(refusal(code).into());
        }
        if !complete {
            return Ok(None);
        }
        match self.step {
            Step::Method => self.method(self.reply[1])?,
            Step::Authentication => match self.reply[1] {
                0 => self.ask(),
                status => return Err(HandshakeError::CredentialsRejected { status }),
            },
            Step::Reply if needed == 5 => return Ok(Some(TunnelStep::Pending)),
            Step::Reply => return Ok(Some(TunnelStep::Done)),
        }
        self.reply.clear();
        Ok(Some(TunnelStep::Pending))
    }

    fn check_version(&self) -> Result<(), HandshakeError> {
        let (version, expected) = match self.step {
            Step::Authentication => (1, "version 1 of the authentication"),
            _ => (5, "version 5"),
        };
        match self.reply.first() {
            Some(&byte) if byte != version => Err(HandshakeError::Garbage { protocol: PROTOCOL, expected, byte }),
            _ => Ok(()),
        }
    }

    fn method(&mut self, method: u8) -> Result<(), HandshakeError> {
        match (method, self.credentials.take()) {
            (NO_AUTHENTICATION, _) => self.ask(),
            (USER_AND_PASSWORD, Some(login)) => {
                self.out = login;
                self.step = Step::Authentication;
            }
            (NONE_ACCEPTABLE, login) => {
                return Err(HandshakeError::NoAcceptableMethod { with_password: login.is_some() });
            }
            (byte, _) => {
                return Err(HandshakeError::Garbage {
                    protocol: PROTOCOL,
                    expected: "a method that was offered",
                    byte,
                });
            }
        }
        Ok(())
    }

    fn ask(&mut self) {
        self.out = std::mem::take(&mut self.request);
        self.step = Step::Reply;
    }
}

/// RFC 1929 §2. An empty password, which the RFC does not provide for, is sent as curl sends it: some proxies know users only.
pub(crate) fn login(credentials: &Credentials) -> Result<Vec<u8>, InvalidHandshake> {
    let Credentials { user, password } = credentials;
    if user.chars().chain(password.chars()).any(char::is_control) {
        return Err(InvalidHandshake::Credentials);
    }
    let too_long = InvalidHandshake::UserLength { len: user.len() };
    let user_len = u8::try_from(user.len()).ok().filter(|&len| len > 0).ok_or(too_long)?;
    let password_len =
        u8::try_from(password.len()).map_err(|_| InvalidHandshake::PasswordLength { len: password.len() })?;
    let mut login = vec![1, user_len];
    login.extend_from_slice(user.as_bytes());
    login.push(password_len);
    login.extend_from_slice(password.as_bytes());
    Ok(login)
}

fn refusal(code: u8) -> Socks5Error {
    match code {
        1 => Socks5Error::General,
        2 => Socks5Error::NotAllowed,
        3 => Socks5Error::NetworkUnreachable,
        4 => Socks5Error::HostUnreachable,
        5 => Socks5Error::ConnectionRefused,
        6 => Socks5Error::TtlExpired,
        7 => Socks5Error::CommandNotSupported,
        8 => Socks5Error::AddressNotSupported,
        other => Socks5Error::Unknown(other),
    }
}
