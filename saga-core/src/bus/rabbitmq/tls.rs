//! Whom an `amqps://` connection trusts.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::BuildError;

/// Trusts the certificates of a file and nobody else; without a file, the public CAs. The cryptography is named here,
/// so that nothing depends on what else the process has installed.
pub(super) fn connector(ca: Option<&Path>) -> Result<TlsConnector, BuildError> {
    let roots = match ca {
        Some(file) => roots(file).map_err(|why| BuildError::CaFile { file: file.to_owned(), why })?,
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| BuildError::Option(format!("TLS can not be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())? {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in it: a PEM file is wanted".to_owned());
    }
    Ok(roots)
}
