//! Exit codes. Where curl has a code for the same thing, ours is curl's.

use std::process::ExitCode;

/// How a command ended. `docs/cli.md` says which command uses which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Exit {
    /// All is well.
    #[default]
    Success = 0,
    /// `inspect`: the input was rejected, or a line of a batch is no case. `get`: a scheme that is not supported, or a wrong body in the demo.
    Failed = 1,
    /// The command line does not make sense.
    Usage = 2,
    /// A URL is malformed. `inspect`: the input ends inside a message, or holds none.
    Malformed = 3,
    /// The proxy's name did not resolve.
    ResolveProxy = 5,
    /// The host's name did not resolve.
    Resolve = 6,
    /// The connection was not established.
    Connect = 7,
    /// The peer sent something that is not HTTP/1.x as it should be.
    WeirdReply = 8,
    /// The reply was cut off.
    Partial = 18,
    /// `--fail`, and a status of 400 or above.
    HttpError = 22,
    /// The output could not be written.
    Write = 23,
    /// The input could not be read.
    Read = 26,
    /// `--max-time` or `--connect-timeout` passed.
    Timeout = 28,
    /// The TLS handshake failed.
    Secure = 35,
    /// The peer closed without sending a byte in reply.
    NoReply = 52,
    /// Sending failed.
    Send = 55,
    /// Receiving failed, or an HTTP proxy made no tunnel.
    Receive = 56,
    /// Our own certificate, or its key, is of no use.
    LocalCertificate = 58,
    /// The other end's certificate was not accepted.
    Untrusted = 60,
    /// The root certificates cannot be read.
    RootCertificates = 77,
    /// A SOCKS proxy made no tunnel.
    Proxy = 97,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
