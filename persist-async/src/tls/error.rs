//! What can be wrong with TLS: in a configuration, and in a handshake.

use std::io;

use persist_core::{BoxError, Phase};
use rustls::CertificateError;

use crate::error::Error;

/// A configuration that no handshake could come of.
///
/// ```
/// use persist_async::tls::{ServerTls, TlsConfigError};
///
/// let error = ServerTls::builder().build().expect_err("no certificate");
/// assert!(matches!(error, TlsConfigError::NoServerCertificate));
/// let error = ServerTls::builder().certificate("not PEM", "not PEM either").build().expect_err("unreadable");
/// assert_eq!(error.to_string(), "what was given for the server certificate holds no certificate");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// No certificate in what should hold some.
    #[error("what was given for the {what} holds no certificate")]
    NoCertificate {
        /// What was read.
        what: &'static str,
    },
    /// Neither PEM nor DER.
    #[error("the {what} cannot be read")]
    Unreadable {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        cause: BoxError,
    },
    /// The platform has no root certificates that can be used, or would not give them.
    #[error("the platform gives no root certificates; install them, or give the builder some")]
    NoPlatformRoots {
        /// The first fault, if there was one.
        #[source]
        cause: Option<BoxError>,
    },
    /// A server without a certificate.
    #[error("a server needs a certificate")]
    NoServerCertificate,
    /// The certificate, its key or the roots are of no use to rustls.
    #[error("the {what} is of no use: {cause}")]
    Unusable {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        cause: rustls::Error,
    },
}

/// A handshake that failed, with the TLS library's own error as the cause where it was that.
pub(crate) fn failure(error: io::Error) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
    match tls {
        Some(cause) => {
            let hint = hint(&cause);
            let error = Error::new(Phase::Handshake, cause);
            match hint {
                Some(hint) => error.hinting(hint),
                None => error,
            }
        }
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Error::new(Phase::Handshake, error).hinting("the server closed; does it speak TLS on this port?")
        }
        None => Error::new(Phase::Handshake, error),
    }
}

/// What to try.
fn hint(error: &rustls::Error) -> Option<&'static str> {
    use rustls::{AlertDescription, Error};
    Some(match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "no root that is trusted has signed the server's certificate; if it should be trusted, add its root"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the certificate belongs to another host; is the name in the URL right?",
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the server must renew its certificate; or this machine's clock is wrong"
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "the certificate is not valid yet; or this machine's clock is wrong"
        }
        Error::InvalidMessage(_) => "the peer does not speak TLS on this port, it seems; is the scheme right?",
        Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "the two ends have no protocol in common"
        }
        Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate | AlertDescription::UnknownCA,
        ) => "the server wants a certificate of the client's that it can verify",
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the two ends have no version or cipher of TLS in common"
        }
        _ => return None,
    })
}
