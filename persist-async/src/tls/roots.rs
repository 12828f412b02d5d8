//! Whom to trust: the platform's roots, a list that is compiled in, or the user's own.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::error::TlsConfigError;

/// One source of root certificates.
#[derive(Clone, Debug)]
pub(super) enum Roots {
    Platform,
    #[cfg(feature = "bundled-roots")]
    Bundled,
    Own(Vec<CertificateDer<'static>>),
}

/// All of them together.
pub(super) fn store(sources: &[Roots], what: &'static str) -> Result<RootCertStore, TlsConfigError> {
    let mut store = RootCertStore::empty();
    for source in sources {
        match source {
            Roots::Platform => platform(&mut store)?,
            #[cfg(feature = "bundled-roots")]
            Roots::Bundled => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::Own(certificates) => {
                for certificate in certificates {
                    let added = store.add(certificate.clone());
                    added.map_err(|cause| TlsConfigError::Unusable { what, cause })?;
                }
            }
        }
    }
    Ok(store)
}

/// A few unreadable files among many good ones are no reason to trust nobody.
fn platform(store: &mut RootCertStore) -> Result<(), TlsConfigError> {
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        let cause = found.errors.into_iter().next().map(Into::into);
        return Err(TlsConfigError::NoPlatformRoots { cause });
    }
    Ok(())
}
