//! The client's end: whom it trusts, who it is, what it speaks.

use std::fmt;
use std::sync::Arc;

use persist_core::{Blame, Host, Phase};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, KeyLogFile};
use tokio_rustls::TlsConnector;

use super::error::{TlsConfigError, failure};
use super::roots::{Roots, store};
use super::session::Session;
use super::{HTTP_1_1, material, provider};
use crate::dial::DialTimer;
use crate::error::{Error, Result};
use crate::stream::Stream;

/// How a client speaks TLS. Cheap to clone; clones share their session cache.
///
/// ```no_run
/// use persist_async::{Client, ClientConfig, Connector, Request, tls::ClientTls};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = ClientTls::builder().root_certificates(std::fs::read("our-ca.pem")?).build()?;
/// let config = ClientConfig::default();
/// let connector = Connector::new(&config).with_tls(tls);
/// let client = Client::with_connector(config, connector)?;
/// let reply = client.send(Request::get("https://internal.example/"), ()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClientTls(Arc<ClientConfig>);

/// Makes a [`ClientTls`]. What is read is looked at by [`build`](Self::build), which tells what is wrong with it.
///
/// ```no_run
/// use persist_async::tls::ClientTls;
///
/// let tls = ClientTls::builder()
///     .root_certificates(std::fs::read("our-ca.pem")?)
///     .client_certificate(std::fs::read("me.pem")?, std::fs::read("me.key")?)
///     .key_log() // to the file that SSLKEYLOGFILE names
///     .build()?;
/// # let _ = tls;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is made until `build`"]
pub struct ClientTlsBuilder {
    roots: Result<Vec<Roots>, TlsConfigError>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    alpn: Vec<Vec<u8>>,
    key_log: bool,
}

impl ClientTls {
    /// A configuration, part by part. Without roots it takes the platform's.
    pub fn builder() -> ClientTlsBuilder {
        ClientTlsBuilder { roots: Ok(Vec::new()), identity: None, alpn: vec![HTTP_1_1.to_vec()], key_log: false }
    }

    /// The configuration, for rustls.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.0
    }

    /// The same, which does not offer `h2`.
    #[cfg(feature = "http2")]
    pub(crate) fn without_http2(&self) -> Self {
        if !self.0.alpn_protocols.iter().any(|protocol| protocol == crate::http2::ALPN) {
            return self.clone();
        }
        let mut config = (*self.0).clone();
        config.alpn_protocols.retain(|protocol| protocol != crate::http2::ALPN);
        Self(Arc::new(config))
    }

    /// Secures a stream: shakes hands with `host` at its other end, within what is left of the timer's phase.
    ///
    /// # Errors
    /// In the phase [`Handshake`](Phase::Handshake): the cause is the [`rustls::Error`] where TLS itself failed, else an [`io::Error`](std::io::Error) or a
    /// [`DialTimeout`](persist_core::DialTimeout).
    pub async fn connect(&self, stream: impl Into<Stream>, host: &Host, timer: &mut DialTimer) -> Result<Stream> {
        let name = server_name(host);
        let hands = TlsConnector::from(self.0.clone()).connect(name.clone(), stream.into());
        let work = async { hands.await.map(|tls| Stream::secured(Session::connected(tls, name))).map_err(failure) };
        timer.within(Phase::Handshake, work).await
    }
}

/// A configuration of the user's own: provider, verifier, versions and all.
impl From<Arc<ClientConfig>> for ClientTls {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self(config)
    }
}

impl ClientTlsBuilder {
    /// Trusts the roots of the platform, as `SSL_CERT_FILE` and `SSL_CERT_DIR` may replace them. The default, unless other roots are given.
    pub fn platform_roots(self) -> Self {
        self.roots(|| Ok(Roots::Platform))
    }

    /// Trusts the roots of Mozilla's list, as they were when this program was built.
    #[cfg(feature = "bundled-roots")]
    pub fn bundled_roots(self) -> Self {
        self.roots(|| Ok(Roots::Bundled))
    }

    /// Trusts these roots: PEM with any number of certificates, or one as DER.
    pub fn root_certificates(self, certificates: impl AsRef<[u8]>) -> Self {
        self.roots(|| material::certificates(certificates.as_ref(), "root certificates").map(Roots::Own))
    }

    fn roots(mut self, more: impl FnOnce() -> Result<Roots, TlsConfigError>) -> Self {
        self.roots = self.roots.and_then(|mut roots| {
            roots.push(more()?);
            Ok(roots)
        });
        self
    }

    /// Says who we are, to servers that ask: a chain that begins with our own certificate, and its key, each as PEM or DER.
    pub fn client_certificate(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.identity = Some((chain.as_ref().to_vec(), key.as_ref().to_vec()));
        self
    }

    /// The protocols to offer (RFC 7301), the preferred one first; none to offer nothing. `http/1.1` by default, and the only one that a
    /// [`Client`](crate::Client) speaks.
    pub fn alpn<P: AsRef<[u8]>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        self
    }

    /// Writes the secrets of each session to the file that the environment variable `SSLKEYLOGFILE` names, for a debugger such as Wireshark.
    /// Whoever has that file can read everything: never by default.
    pub fn key_log(mut self) -> Self {
        self.key_log = true;
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// [`TlsConfigError`] with what cannot be read or used.
    pub fn build(self) -> Result<ClientTls, TlsConfigError> {
        let mut roots = self.roots?;
        if roots.is_empty() {
            roots.push(Roots::Platform);
        }
        let roots = store(&roots, "root certificate")?;
        let unusable = |what| move |cause| TlsConfigError::Unusable { what, cause };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable("provider"))?
            .with_root_certificates(roots);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let (chain, key) = identity(&chain, &key)?;
                builder.with_client_auth_cert(chain, key).map_err(unusable("client certificate"))?
            }
        };
        config.alpn_protocols = self.alpn;
        if self.key_log {
            config.key_log = Arc::new(KeyLogFile::new());
        }
        Ok(ClientTls(Arc::new(config)))
    }
}

fn identity(
    chain: &[u8],
    key: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsConfigError> {
    Ok((material::certificates(chain, "client certificate")?, material::key(key)?))
}

/// The name that the server must prove: an address proves itself, too, if its certificate says so.
pub(crate) fn server_name(host: &Host) -> ServerName<'static> {
    match (host.address(), host.name()) {
        (Some(address), _) => ServerName::IpAddress(address.into()),
        (None, name) => {
            // A final dot is the resolver's business; no certificate has it (RFC 9525 §6.3 takes it off).
            let name = name.unwrap_or_default().trim_end_matches('.');
            ServerName::try_from(name.to_owned()).unwrap_or_else(|_| unnameable())
        }
    }
}

/// Names with an underscore or of odd form are hosts, but no names that a certificate could prove: nobody has a certificate for this one.
fn unnameable() -> ServerName<'static> {
    ServerName::try_from("invalid").expect("a name")
}

/// A client of HTTP/1.1 that finds another protocol at the other end would talk into the void.
pub(crate) fn judge_alpn(stream: &Stream) -> Result<()> {
    match stream.alpn() {
        Some(protocol) if protocol != HTTP_1_1 => {
            let what = format!("the server chose the protocol {:?}", String::from_utf8_lossy(&protocol));
            let error = Error::new(Phase::Handshake, what).blaming(Blame::Caller);
            Err(error.hinting("offer http/1.1 only: this client speaks nothing else"))
        }
        _ => Ok(()),
    }
}

/// Without keys.
impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("alpn", &Protocols(&self.0.alpn_protocols)).finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientTlsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTlsBuilder").field("alpn", &Protocols(&self.alpn)).finish_non_exhaustive()
    }
}

/// Names of protocols, as text.
pub(super) struct Protocols<'p>(pub(super) &'p [Vec<u8>]);

impl fmt::Debug for Protocols<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|protocol| String::from_utf8_lossy(protocol))).finish()
    }
}
