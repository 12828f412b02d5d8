//! Certificates of a test's own authority.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::sync::atomic::{AtomicU32, Ordering};

use persist_sync::tls::{ClientTls, ClientTlsBuilder, ServerTls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};

/// Signs certificates, and is trusted by whoever is told to.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Identity {
    pub chain: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two of one name would be taken for each other.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("persist tests {}", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a root"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names, changed before it is signed.
    pub fn sign_changed(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let chain = params.signed_by(&key, &self.0).expect("signed").pem();
        Identity { chain, key: key.serialize_pem() }
    }

    pub fn sign(&self, names: &[&str]) -> Identity {
        self.sign_changed(names, |_| {})
    }

    pub fn expired(&self, names: &[&str]) -> Identity {
        self.sign_changed(names, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        })
    }

    /// A server with a certificate for this machine.
    pub fn server(&self) -> ServerTls {
        let Identity { chain, key } = self.sign(&["localhost", "127.0.0.1"]);
        ServerTls::builder().certificate(chain, key).build().expect("a configuration")
    }

    /// A client that trusts this authority and nobody else.
    pub fn client_builder(&self) -> ClientTlsBuilder {
        ClientTls::builder().root_certificates(self.pem())
    }

    pub fn client(&self) -> ClientTls {
        self.client_builder().build().expect("a configuration")
    }
}
