//! Certificates for the TLS listener.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::folder::Folder;

/// The files that the listener and its clients need.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// Who signed the server's certificate.
    pub(crate) ca: PathBuf,
    /// One that signed nothing here.
    pub(crate) other_ca: PathBuf,
    /// The server's certificate, for `localhost` and `127.0.0.1`.
    pub(crate) server: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

impl Certificates {
    pub(crate) fn new(folder: &Folder) -> Self {
        let made = || -> Result<_, rcgen::Error> {
            let (ca, other_ca) = (authority("Test CA")?, authority("Other CA")?);
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, "localhost");
            let server = params.signed_by(&key, &ca)?;
            Ok((ca.pem(), other_ca.pem(), server.pem(), key.serialize_pem()))
        };
        let (ca, other_ca, server, key) = made().unwrap_or_else(|error| panic!("no certificate can be made: {error}"));
        Self {
            ca: folder.write("ca.pem", ca),
            other_ca: folder.write("other-ca.pem", other_ca),
            server: folder.write("server.pem", server),
            key: folder.write("server.key", key),
        }
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}
