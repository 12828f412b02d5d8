//! Certificates and keys, read from files.

use std::error::Error as _;
use std::fmt::Display;
use std::fs;
use std::path::Path;

use persist_async::tls::TlsConfigError;
use persist_async::tls::rustls::pki_types::pem::PemObject as _;
use persist_async::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate with those it depends on, and its key; each as PEM or DER, as it lies in its file.
pub(crate) struct Identity {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Identity {
    /// Reads the files. Without one of its own, the key is in the certificate's.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub(crate) fn read(certificate: &Path, key: Option<&Path>) -> Result<Self, String> {
        let chain = read(certificate)?;
        let key_file = key.unwrap_or(certificate);
        let key = if key.is_some() { read(key_file)? } else { chain.clone() };
        // Both forms of PEM that have it say so in clear.
        if contains(&key, b"ENCRYPTED") {
            let file = key_file.display();
            return Err(format!(
                "the key in {file} is encrypted, which is not supported; `openssl pkey -in {file}` gives one that is not"
            ));
        }
        Ok(Self { chain, key })
    }

    /// What a configuration of rustls takes.
    ///
    /// # Errors
    /// What cannot be read, for a person.
    pub(crate) fn parse(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let unreadable = |what: &'static str| move |error: &dyn Display| format!("the {what} cannot be read: {error}");
        let chain = match contains(&self.chain, PEM) {
            true => CertificateDer::pem_slice_iter(&self.chain).collect::<Result<_, _>>(),
            false => Ok(vec![CertificateDer::from(self.chain.clone())]),
        };
        let chain = chain.map_err(|error| unreadable("client certificate")(&error))?;
        let key = match contains(&self.key, PEM) {
            true => PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| unreadable("private key")(&error))?,
            false => PrivateKeyDer::try_from(self.key.clone()).map_err(|error| unreadable("private key")(&error))?,
        };
        Ok((chain, key))
    }
}

/// How every section of PEM begins.
const PEM: &[u8] = b"-----BEGIN ";

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A file, whole.
///
/// # Errors
/// What is wrong, for a person.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("reading {}: {error}", file.display()))
}

/// The error and its cause, in one line.
pub(crate) fn explain(error: &TlsConfigError) -> String {
    let line = error.to_string();
    match error.source().map(ToString::to_string) {
        Some(cause) if !line.contains(&cause) => format!("{line}: {cause}"),
        _ => line,
    }
}
