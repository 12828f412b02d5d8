//! Certificates for tests: an authority of a test's own, and whatever it signs. Made when they are needed, so none is ever too old.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::folder::Folder;

/// An authority, and a folder with what it has signed.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: Folder,
    name: &'static str,
    /// Its own certificate, PEM, for whoever is to trust it.
    pub file: PathBuf,
}

/// A certificate and its key, PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, as text.
    pub certificate: String,
    /// The key, as text.
    pub key: String,
    /// The certificate's file.
    pub certificate_file: PathBuf,
    /// The key's file.
    pub key_file: PathBuf,
}

impl Authority {
    /// One of this name, which tells it from others.
    ///
    /// # Panics
    /// If a key cannot be made.
    pub fn new(name: &'static str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let folder = Folder::new();
        let file = folder.write("authority.pem", params.self_signed(&key).expect("signed").pem());
        Self { issuer: Issuer::new(params, key), folder, name, file }
    }

    /// A certificate that is good for these names and addresses.
    pub fn sign(&self, names: &[&str]) -> Identity {
        self.sign_as(names, |_| {})
    }

    /// The same, but of long ago.
    pub fn sign_expired(&self, names: &[&str]) -> Identity {
        self.sign_as(names, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        })
    }

    /// The authority's own, as if it were a server's: for `localhost`, as far as names go.
    pub fn itself(&self) -> Identity {
        let file = self.folder.write("authority.key", self.issuer.key().serialize_pem());
        let read = |file: &PathBuf| std::fs::read_to_string(file).expect("it was written");
        Identity {
            certificate: read(&self.file),
            key: read(&file),
            certificate_file: self.file.clone(),
            key_file: file,
        }
    }

    fn sign_as(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let named: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(named).expect("names");
        params.distinguished_name.push(DnType::CommonName, format!("{} of {}", names.join(" "), self.name));
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").pem();
        let key = key.serialize_pem();
        let name = names.join("-").replace(':', "_");
        Identity {
            certificate_file: self.folder.write(format!("{name}.pem"), &certificate),
            key_file: self.folder.write(format!("{name}.key"), &key),
            certificate,
            key,
        }
    }
}
