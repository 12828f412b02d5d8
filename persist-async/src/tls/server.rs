//! The server's end: who it is, under which name, and whom it lets in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{KeyLogFile, ServerConfig};

use super::client::Protocols;
use super::error::TlsConfigError;
use super::roots::{Roots, store};
use super::session::Session;
use super::{HTTP_1_1, material, provider};
use crate::stream::Stream;

/// How a server speaks TLS. Cheap to clone.
///
/// ```no_run
/// use persist_async::{Response, Server, tls::ServerTls};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = ServerTls::builder().certificate(std::fs::read("chain.pem")?, std::fs::read("key.pem")?).build()?;
/// let server = Server::bind("127.0.0.1:8443").await?.with_tls(tls);
/// server.serve(|received| async move { received.responder.send(Response::ok(), "secret\n").await }).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

/// Whether clients must have a certificate.
///
/// ```
/// use persist_async::{Client, ClientConfig, Connector, Request, Response, Server};
/// use persist_async::tls::{ClientAuth, ClientTls, ServerTls};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
/// # let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
/// # let client = |tls: ClientTls| {
/// #     let config = ClientConfig::default();
/// #     let connector = Connector::new(&config).with_tls(tls);
/// #     Client::with_connector(config, connector).expect("no contradiction")
/// # };
/// let tls = ServerTls::builder()
///     .certificate(&*certificate, &*key)
///     .client_roots(&*certificate, ClientAuth::Required)
///     .build()?;
/// let server = Server::bind("127.0.0.1:0").await?.with_tls(tls);
/// let url = format!("https://localhost:{}/", server.local_addr().expect("TCP").port());
/// tokio::spawn(server.serve(|received| async move { received.responder.send(Response::ok(), "welcome").await }));
///
/// // Who shows a certificate comes in, who has none does not.
/// let known = ClientTls::builder().root_certificates(&*certificate).client_certificate(&*certificate, &*key).build()?;
/// assert_eq!(client(known).send(Request::get(&*url), ()).await?.body.bytes(100).await?, "welcome");
/// let stranger = ClientTls::builder().root_certificates(&*certificate).build()?;
/// assert!(client(stranger).send(Request::get(&*url), ()).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// Who has none is refused.
    Required,
    /// Who has one must prove it; who has none may come in: [`Stream::peer_certificates`] tells them apart.
    Optional,
}

/// Makes a [`ServerTls`]. What is read is looked at by [`build`](Self::build), which tells what is wrong with it.
///
/// ```no_run
/// use persist_async::tls::{ClientAuth, ServerTls};
///
/// let tls = ServerTls::builder()
///     .certificate(std::fs::read("a.example.pem")?, std::fs::read("a.example.key")?)
///     .certificate(std::fs::read("b.example.pem")?, std::fs::read("b.example.key")?) // by the name that was asked for
///     .client_roots(std::fs::read("our-ca.pem")?, ClientAuth::Optional)
///     .build()?;
/// # let _ = tls;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is made until `build`"]
pub struct ServerTlsBuilder {
    certificates: Vec<(Vec<u8>, Vec<u8>)>,
    client_roots: Option<(Vec<u8>, ClientAuth)>,
    alpn: Vec<Vec<u8>>,
    key_log: bool,
}

impl ServerTls {
    /// A configuration, part by part. It needs a certificate.
    pub fn builder() -> ServerTlsBuilder {
        ServerTlsBuilder { certificates: Vec::new(), client_roots: None, alpn: vec![HTTP_1_1.to_vec()], key_log: false }
    }

    /// The configuration, for rustls.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.0
    }

    /// The same, which offers `h2` before `http/1.1` if that is all it offers.
    #[cfg(feature = "http2")]
    pub(crate) fn offering_http2(self) -> Self {
        if self.0.alpn_protocols != [HTTP_1_1] {
            return self;
        }
        let mut config = (*self.0).clone();
        config.alpn_protocols.insert(0, crate::http2::ALPN.to_vec());
        Self(Arc::new(config))
    }

    /// Secures a stream that was accepted. Never waits: hands are shaken as the stream is first read or written, so that a client that is slow at it delays
    /// nobody. Deadlines are those of whoever reads: a connection's are [`Timeouts`](persist_core::Timeouts).
    pub fn accept(&self, stream: impl Into<Stream>) -> Stream {
        Stream::secured(Session::accepting(&self.0, stream.into(), None))
    }

    /// The same, with a deadline of its own: a read fails when hands were not shaken by then.
    pub(crate) fn accept_within(&self, stream: Stream, limit: Option<Duration>) -> Stream {
        Stream::secured(Session::accepting(&self.0, stream, limit))
    }
}

/// A configuration of the user's own: provider, verifier, versions, tickets and all.
impl From<Arc<ServerConfig>> for ServerTls {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self(config)
    }
}

impl ServerTlsBuilder {
    /// Adds a chain that begins with the server's own certificate, and its key, each as PEM or DER. Of several, clients get the first that is for the name
    /// they ask for (SNI), and the first of all if none is.
    pub fn certificate(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.certificates.push((chain.as_ref().to_vec(), key.as_ref().to_vec()));
        self
    }

    /// Asks clients for a certificate that one of these roots has signed: PEM with any number of them, or one as DER.
    pub fn client_roots(mut self, certificates: impl AsRef<[u8]>, auth: ClientAuth) -> Self {
        self.client_roots = Some((certificates.as_ref().to_vec(), auth));
        self
    }

    /// The protocols that are spoken (RFC 7301), the preferred one first; none to take whatever clients offer. `http/1.1` by default: clients that
    /// offer only others are refused, those that offer none are not.
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
    pub fn build(self) -> Result<ServerTls, TlsConfigError> {
        let provider = provider();
        let unusable = |what| move |cause| TlsConfigError::Unusable { what, cause };
        let resolver = Named::new(&self.certificates, &provider)?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(unusable("provider"))?;
        let builder = match self.client_roots {
            None => builder.with_no_client_auth(),
            Some((roots, auth)) => {
                let roots = material::certificates(&roots, "client roots")?;
                let roots = store(&[Roots::Own(roots)], "client root")?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match auth {
                    ClientAuth::Required => verifier,
                    ClientAuth::Optional => verifier.allow_unauthenticated(),
                };
                let unreadable = |cause: rustls::server::VerifierBuilderError| TlsConfigError::Unreadable {
                    what: "client roots",
                    cause: cause.into(),
                };
                builder.with_client_cert_verifier(verifier.build().map_err(unreadable)?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = self.alpn;
        if self.key_log {
            config.key_log = Arc::new(KeyLogFile::new());
        }
        Ok(ServerTls(Arc::new(config)))
    }
}

/// The certificates of a server, chosen by the name that a client asks for.
#[derive(Debug)]
struct Named(Vec<Arc<CertifiedKey>>);

impl Named {
    fn new(certificates: &[(Vec<u8>, Vec<u8>)], provider: &CryptoProvider) -> Result<Self, TlsConfigError> {
        let what = "server certificate";
        let mut all = Vec::new();
        for (chain, key) in certificates {
            let (chain, key) = (material::certificates(chain, what)?, material::key(key)?);
            let certified = CertifiedKey::from_der(chain, key, provider);
            all.push(Arc::new(certified.map_err(|cause| TlsConfigError::Unusable { what, cause })?));
        }
        if all.is_empty() { Err(TlsConfigError::NoServerCertificate) } else { Ok(Self(all)) }
    }
}

impl ResolvesServerCert for Named {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = asked.and_then(|name| {
            self.0.iter().find(|certified| certified.end_entity_cert().is_ok_and(|cert| is_for(cert, &name)))
        });
        named.or_else(|| self.0.first()).cloned()
    }
}

fn is_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    ParsedCertificate::try_from(certificate).is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

/// Without keys.
impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("alpn", &Protocols(&self.0.alpn_protocols)).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerTlsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTlsBuilder")
            .field("certificates", &self.certificates.len())
            .field("alpn", &Protocols(&self.alpn))
            .finish_non_exhaustive()
    }
}
