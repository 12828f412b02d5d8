//! The options of TLS, and what they come to.

use std::path::PathBuf;

use persist_async::tls::{ClientAuth, ServerTls, TlsConfigError};

use super::Failed;
use crate::exit::Exit;
use crate::identity::{Identity, explain, read};

/// `--cert` and its relatives.
#[derive(Debug, clap::Args)]
pub(super) struct TlsOptions {
    /// Speak TLS, with this certificate, those it depends on, and its key if --key does not name it (PEM or DER); again for further names
    #[arg(long, value_name = "FILE")]
    cert: Vec<PathBuf>,
    /// The key of --cert (PEM or DER, not encrypted); with several, one for each, in the same order
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Vec<PathBuf>,
    /// Let in nobody but clients whose certificate one in this file has signed (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    client_ca: Option<PathBuf>,
}

impl TlsOptions {
    /// Reads the files; `None` without a certificate.
    pub(super) fn build(&self) -> Result<Option<ServerTls>, Failed> {
        let failed = |exit| move |what: String| Failed { message: format!("preparing TLS: {what}"), exit };
        if self.cert.is_empty() {
            return Ok(None);
        }
        if !self.key.is_empty() && self.key.len() != self.cert.len() {
            let (keys, certificates) = (self.key.len(), self.cert.len());
            let message = format!("{certificates} times --cert, but {keys} times --key: one for each, or none");
            return Err(Failed { message, exit: Exit::Usage });
        }
        let mut builder = ServerTls::builder().key_log();
        for (place, certificate) in self.cert.iter().enumerate() {
            let identity = Identity::read(certificate, self.key.get(place).map(PathBuf::as_path));
            let Identity { chain, key } = identity.map_err(failed(Exit::LocalCertificate))?;
            builder = builder.certificate(chain, key);
        }
        if let Some(file) = &self.client_ca {
            let roots = read(file).map_err(failed(Exit::RootCertificates))?;
            builder = builder.client_roots(roots, ClientAuth::Required);
        }
        builder.build().map(Some).map_err(|error| failed(exit(&error))(explain(&error)))
    }
}

fn exit(error: &TlsConfigError) -> Exit {
    use TlsConfigError::{NoCertificate, Unreadable, Unusable};
    match error {
        NoCertificate { what } | Unreadable { what, .. } | Unusable { what, .. } if what.starts_with("client root") => {
            Exit::RootCertificates
        }
        _ => Exit::LocalCertificate,
    }
}
