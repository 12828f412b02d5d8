//! What the user of TLS may choose: cryptography, roots, and whether secrets are written down.

use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;

use persist_sync::Stream;
use persist_sync::tls::rustls::{self, crypto::ring, pki_types::pem::PemObject};
use persist_sync::tls::{ClientTls, ServerTls};

use super::certificates::Authority;
use super::{connect, peer};

/// A server that answers one word of each client.
fn greeter(authority: &Authority) -> String {
    peer(authority.server(), answer)
}

/// Reads a word, as whoever shakes hands does, and says one.
fn answer(_: usize, mut stream: Stream) {
    stream.read_exact(&mut [0; 2]).expect("a word");
    stream.write_all(b"hi").expect("written");
    let _ = stream.read(&mut [0]);
}

fn greet(tls: &ClientTls, url: &str) -> Option<rustls::ProtocolVersion> {
    let mut stream = connect(tls, url);
    let mut word = [0; 2];
    stream.write_all(b"ho").expect("written");
    stream.read_exact(&mut word).expect("a word");
    assert_eq!(&word, b"hi");
    stream.protocol_version()
}

#[test]
fn the_provider_and_the_versions_are_the_users_to_choose() {
    let authority = Authority::new();
    let url = greeter(&authority);
    let mut roots = rustls::RootCertStore::empty();
    let root = rustls::pki_types::CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM");
    roots.add(root).expect("a root");
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("they fit together")
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert_eq!(greet(&ClientTls::from(Arc::new(config)), &url), Some(rustls::ProtocolVersion::TLSv1_2));
}

#[test]
fn secrets_are_written_only_where_both_the_environment_and_the_program_say_so() {
    const ASKED: &str = "PERSIST_TEST_ASKED";
    let authority = Authority::new();
    // This test, in a process of its own, whose environment can be chosen.
    if let Ok(asked) = std::env::var(ASKED) {
        let builder = authority.client_builder();
        let builder = if asked == "yes" { builder.key_log() } else { builder };
        greet(&builder.build().expect("it can be used"), &greeter(&authority));
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secrets");
    for asked in ["no", "yes"] {
        let mut again = Command::new(std::env::current_exe().expect("this program"));
        again.args(["--exact", "choices::secrets_are_written_only_where_both_the_environment_and_the_program_say_so"]);
        let said = again.env(ASKED, asked).env("SSLKEYLOGFILE", &file).output().expect("it runs");
        assert!(said.status.success() && String::from_utf8_lossy(&said.stdout).contains("1 passed"), "{said:?}");
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(written.contains("CLIENT_TRAFFIC_SECRET_0 "), asked == "yes", "{written}");
    }
}

#[test]
fn no_server_of_ours_takes_early_data() {
    let authority = Authority::new();
    let url = greeter(&authority);
    let tls = authority.client();
    for _ in 0..3 {
        // Resumed from the second on; a ticket that allowed early data would be of a server that takes it.
        greet(&tls, &url);
    }
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM"))
        .expect("one");
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("they fit together")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_early_data = true;
    let config = Arc::new(config);
    greet(&ClientTls::from(config.clone()), &url);
    let name = "localhost".try_into().expect("a name");
    let mut eager = rustls::ClientConnection::new(config, name).expect("a connection");
    assert!(eager.early_data().is_none(), "the ticket of the first connection allows none");
}

#[cfg(feature = "bundled-roots")]
#[test]
fn the_bundled_roots_know_no_authority_of_a_tests_own() {
    let authority = Authority::new();
    let server = super::Running::start_tls(super::ServerConfig::default(), authority.server(), super::echo);
    let tls = ClientTls::builder().bundled_roots().build().expect("they can be used");
    let url = format!("https://localhost:{}/", server.addr.port());
    let error = super::client_of(tls).send(super::Request::get(url), ()).map(drop).expect_err("unknown");
    let known = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    assert_eq!(super::tls_error(&error), Some(&known), "{error}");
    server.end(super::LONG);
}

#[test]
fn a_servers_configuration_of_the_users_own_is_taken_as_it_is() {
    let authority = Authority::new();
    let own = authority.sign(&["localhost"]);
    let chain = vec![rustls::pki_types::CertificateDer::from_pem_slice(own.chain.as_bytes()).expect("PEM")];
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("they fit together")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    let url = peer(ServerTls::from(Arc::new(config)), answer);
    assert_eq!(greet(&authority.client(), &url), Some(rustls::ProtocolVersion::TLSv1_2));
}
