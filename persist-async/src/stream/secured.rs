//! What a stream knows of its TLS session.

use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;

use super::{Kind, Stream};
use crate::tls::Session;

/// With the feature `tls`. Each is `None` without TLS, and until hands were shaken.
impl Stream {
    pub(crate) fn secured(session: Session) -> Self {
        Self(Kind::Tls(Box::new(session)))
    }

    /// The outermost session: the one that the bytes read from this stream belong to.
    fn session(&self) -> Option<&Session> {
        match &self.0 {
            Kind::Behind(behind) => behind.stream.session(),
            Kind::Tls(session) => Some(session),
            _ => None,
        }
    }

    /// The protocol that both ends agreed on (RFC 7301): `http/1.1`, for one.
    pub fn alpn(&self) -> Option<Vec<u8>> {
        self.session().and_then(Session::alpn)
    }

    /// The name that the client asked for (RFC 6066 §3).
    pub fn server_name(&self) -> Option<String> {
        self.session().and_then(Session::server_name)
    }

    /// The peer's certificates, its own first; `None` also where it has shown none.
    pub fn peer_certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.session().and_then(Session::certificates)
    }

    /// The version of TLS.
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.session().and_then(Session::version)
    }
}
