//! Certificates for tests: an authority of their own, and whatever it signs.

use std::sync::atomic::{AtomicU32, Ordering};

use persist_async::tls::{ClientTls, ServerTls, ServerTlsBuilder};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

static NUMBER: AtomicU32 = AtomicU32::new(1);

/// An authority that exists only in one test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, for whoever is to trust it.
    pub(crate) pem: String,
}

/// A certificate and its key, both as PEM.
pub(crate) struct Identity {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("no names");
        // Names of their own: an authority is looked up by its name.
        let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Good for these names and addresses.
    pub(crate) fn sign(&self, names: &[&str]) -> Identity {
        self.sign_as(names, |_| {})
    }

    pub(crate) fn sign_expired(&self, names: &[&str]) -> Identity {
        self.sign_as(names, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        })
    }

    fn sign_as(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let chain = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Identity { chain, key: key.serialize_pem() }
    }

    /// A client that trusts it.
    pub(crate) fn client(&self) -> ClientTls {
        ClientTls::builder().root_certificates(&self.pem).build().expect("a configuration")
    }

    /// A server for `localhost` and 127.0.0.1.
    pub(crate) fn server(&self) -> ServerTls {
        self.server_builder().build().expect("a configuration")
    }

    pub(crate) fn server_builder(&self) -> ServerTlsBuilder {
        let own = self.sign(&["localhost", "127.0.0.1"]);
        ServerTls::builder().certificate(own.chain, own.key)
    }
}
