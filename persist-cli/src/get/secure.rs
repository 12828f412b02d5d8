//! The options of TLS, and what they come to. Names and meanings are curl's.

use std::path::PathBuf;
use std::sync::Arc;

use persist_async::tls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use persist_async::tls::rustls::crypto::{self, CryptoProvider, ring};
use persist_async::tls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use persist_async::tls::rustls::{ClientConfig, DigitallySignedStruct, Error, KeyLogFile, SignatureScheme};
use persist_async::tls::{ClientTls, TlsConfigError};

use super::failure::Failed;
use crate::exit::Exit;
use crate::identity::{Identity, explain, read};

/// `--cacert` and its relatives.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct TlsOptions {
    /// Trust those whom a certificate in this file has signed (PEM), and nobody else, instead of whom this system trusts
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Trust any server and any HTTPS proxy, whoever they are: anybody on the way can read and change everything
    #[arg(short = 'k', long)]
    insecure: bool,
    /// Our certificate, for servers that want one, with those it depends on, and with its key if --key does not name it (PEM or DER)
    #[arg(short = 'E', long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The key of --cert (PEM or DER, not encrypted)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl TlsOptions {
    /// Reads the files and makes a configuration of them. Sessions' secrets go to the file that the variable `SSLKEYLOGFILE` names, if it does.
    ///
    /// # Errors
    /// Which file is of no use, and why.
    pub(super) fn build(&self) -> Result<ClientTls, Failed> {
        let failed = |exit| move |what: String| Failed::new(format!("preparing TLS: {what}"), exit);
        let identity = self.cert.as_deref().map(|cert| Identity::read(cert, self.key.as_deref())).transpose();
        let identity = identity.map_err(failed(Exit::LocalCertificate))?;
        if self.insecure {
            return trusting_anyone(identity.as_ref()).map_err(failed(Exit::LocalCertificate));
        }
        let mut builder = ClientTls::builder().key_log();
        if let Some(file) = &self.cacert {
            builder = builder.root_certificates(read(file).map_err(failed(Exit::RootCertificates))?);
        }
        if let Some(Identity { chain, key }) = identity {
            builder = builder.client_certificate(chain, key);
        }
        builder.build().map_err(|error| failed(exit(&error))(self.explain(&error)))
    }

    fn explain(&self, error: &TlsConfigError) -> String {
        match (error, &self.cacert) {
            (TlsConfigError::NoPlatformRoots { .. }, _) => {
                "this system has no root certificates; install them, or name some with --cacert".to_owned()
            }
            (_, Some(file)) if exit(error) == Exit::RootCertificates => {
                format!("{}: {}", file.display(), explain(error))
            }
            _ => explain(error),
        }
    }
}

/// curl's code for the same thing.
fn exit(error: &TlsConfigError) -> Exit {
    use TlsConfigError::{NoCertificate, NoPlatformRoots, Unreadable, Unusable};
    match error {
        NoPlatformRoots { .. } => Exit::RootCertificates,
        NoCertificate { what } | Unreadable { what, .. } | Unusable { what, .. } if what.starts_with("root") => {
            Exit::RootCertificates
        }
        _ => Exit::LocalCertificate,
    }
}

/// For `--insecure`. Without looking for roots, which the system may not have.
fn trusting_anyone(identity: Option<&Identity>) -> Result<ClientTls, String> {
    let provider = Arc::new(ring::default_provider());
    let unusable = |error: Error| format!("the client certificate is of no use: {error}");
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = identity.parse()?;
            builder.with_client_auth_cert(chain, key).map_err(unusable)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.key_log = Arc::new(KeyLogFile::new());
    Ok(ClientTls::from(Arc::new(config)))
}

/// Takes every certificate. That the server has its key is still looked at: a server without it is broken, not only unknown.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
