//! Certificates and keys, as they lie in files: PEM, or one of them as DER.

use persist_core::BoxError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsConfigError;

/// How every section of PEM begins.
const PEM: &[u8] = b"-----BEGIN ";

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(PEM.len()).any(|window| window == PEM)
}

/// All certificates of a PEM file, or the one that is DER. At least one.
pub(super) fn certificates(bytes: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    if !is_pem(bytes) {
        return match bytes.first() {
            // A certificate is a SEQUENCE. What is in it is looked at by whoever uses it.
            Some(0x30) => Ok(vec![CertificateDer::from(bytes.to_vec())]),
            _ => Err(TlsConfigError::NoCertificate { what }),
        };
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(TlsConfigError::NoCertificate { what }),
        Ok(certificates) => Ok(certificates),
        Err(cause) => Err(TlsConfigError::Unreadable { what, cause: cause.into() }),
    }
}

/// The first private key of a PEM file, or the one that is DER: PKCS #8, SEC 1 or PKCS #1.
pub(super) fn key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    let unreadable = |cause: BoxError| TlsConfigError::Unreadable { what: "private key", cause };
    if is_pem(bytes) {
        return PrivateKeyDer::from_pem_slice(bytes).map_err(|cause| unreadable(cause.into()));
    }
    PrivateKeyDer::try_from(bytes.to_vec()).map_err(|cause| unreadable(cause.into()))
}
