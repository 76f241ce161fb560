//! The certificate authority of a test process. [`crate::Client`] trusts it, and it signs the certificate of each Envoy.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{ClientConfig, RootCertStore};

use crate::client::Protocol;
use crate::control_plane::DOMAIN;

/// The second domain of every edge.
pub const SECOND_DOMAIN: &str = "local";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Result<&'static Authority> {
    static AUTHORITY: OnceLock<Result<Authority, String>> = OnceLock::new();
    let made = AUTHORITY.get_or_init(|| make().map_err(|error| error.to_string()));
    made.as_ref().map_err(|error| anyhow::anyhow!("no certificate authority: {error}"))
}

fn make() -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "Sandgate end-to-end tests");
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// The certificate of the authority, as PEM.
pub fn trusted() -> Result<String> {
    Ok(authority()?.pem())
}

/// The certificate of an authority that signs nothing of this process, as PEM.
pub fn another_authority() -> Result<String> {
    Ok(make()?.pem())
}

/// Writes a new certificate for all hosts of the tests' domains into a directory, under other names first and then by
/// renames, as operators do. Returns the certificate (DER).
pub fn issue(directory: &Path) -> Result<Vec<u8>> {
    let names = [DOMAIN, SECOND_DOMAIN].map(|domain| [format!("*.{domain}"), domain.to_owned()]);
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(names.concat())?;
    let certificate = params.signed_by(&key, authority()?)?;
    for (name, text) in [("tls.key", key.serialize_pem()), ("tls.crt", certificate.pem())] {
        let next = directory.join(format!("{name}.next"));
        std::fs::write(&next, text)?;
        std::fs::rename(next, directory.join(name))?;
    }
    Ok(certificate.der().to_vec())
}

/// The TLS configuration of clients.
pub(crate) fn client_config(protocol: Protocol) -> Result<Arc<ClientConfig>> {
    let mut trusted = RootCertStore::empty();
    trusted.add(authority()?.der().clone()).context("the authority can't be trusted")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let alpn: &[u8] = match protocol {
        Protocol::Http1 => b"http/1.1",
        Protocol::H2c => b"h2",
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}
