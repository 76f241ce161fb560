//! The edge's certificate, and the certificate authority that signs it, in a folder that survives a run.
//!
//! Name constraints limit the authority to this machine's loopback names, so a client that trusts the authority trusts
//! only certificates for these names.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

use crate::files::{create_private_folder, write_private};

const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 86_400);
const LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// A certificate is renewed when it expires within this time.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);

/// The files of an authority and of the edge's certificate.
#[derive(Clone, Debug)]
pub struct Certificates {
    folder: PathBuf,
    names: Vec<String>,
}

impl Certificates {
    /// Creates the files that are missing in a folder, and renews those that expire soon. `names` are the names in the
    /// edge's certificate. The authority is limited to the last one and the names below it.
    ///
    /// The certificate contains no address: gRPC's TLS library does not support name constraints for addresses, and
    /// refuses a chain with an address.
    pub fn ensure(folder: &Path, names: &[&str]) -> Result<Self> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let this = Self { folder: folder.to_owned(), names };
        create_private_folder(&this.directory())?;
        if !this.authority_lasts() {
            this.create_authority().context("the certificate authority can't be created")?;
        }
        if !this.certificate_lasts() {
            this.issue().context("the edge's certificate can't be created")?;
        }
        Ok(this)
    }

    /// The certificate that clients must trust.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The folder of the edge's `tls.crt` and `tls.key`.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.folder.join("tls")
    }

    fn authority_key(&self) -> PathBuf {
        self.folder.join("ca.key")
    }

    fn certificate(&self) -> PathBuf {
        self.directory().join("tls.crt")
    }

    fn key(&self) -> PathBuf {
        self.directory().join("tls.key")
    }

    /// Whether the authority exists, key and certificate match, and the certificate does not expire soon.
    fn authority_lasts(&self) -> bool {
        let lasts = || {
            let age = self.authority().metadata().ok()?.modified().ok()?.elapsed().ok()?;
            let certificate = CertificateDer::from_pem_file(self.authority()).ok()?;
            let key =
                KeyPair::from_pem(&std::fs::read_to_string(self.authority_key()).ok()?).ok()?;
            // The certificate contains the identifier that is derived from the key.
            let identifier = self.authority_params().ok()?.key_identifier(&key);
            let matches =
                certificate.windows(identifier.len()).any(|bytes| bytes == identifier.as_slice());
            Some(matches && age + RENEW_BEFORE < AUTHORITY_LIFETIME)
        };
        lasts().unwrap_or(false)
    }

    /// Whether the pair exists, key and certificate match, this authority signed the certificate for these names, and it
    /// does not expire soon.
    fn certificate_lasts(&self) -> bool {
        let lasts = || {
            let provider = rustls::crypto::ring::default_provider();
            let chain = vec![CertificateDer::from_pem_file(self.certificate()).ok()?];
            let key = PrivateKeyDer::from_pem_file(self.key()).ok()?;
            CertifiedKey::from_der(chain, key, &provider).ok()?;
            let soon = SystemTime::now() + RENEW_BEFORE;
            self.verify(soon).ok()
        };
        lasts().is_some()
    }

    /// Verifies the certificate for all names, as a client does at that time.
    fn verify(&self, time: SystemTime) -> Result<()> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.authority())?)?;
        let provider = rustls::crypto::ring::default_provider().into();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build()?;
        let certificate = CertificateDer::from_pem_file(self.certificate())?;
        let time = UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH)?);
        for name in &self.names {
            let name = ServerName::try_from(name.replace('*', "any"))?;
            verifier.verify_server_cert(&certificate, &[], &name, &[], time)?;
        }
        Ok(())
    }

    fn authority_params(&self) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Sandgate local run");
        let within = self.names.last().context("a certificate needs a name")?;
        let loopback = CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0]);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![
                GeneralSubtree::DnsName(within.clone()),
                GeneralSubtree::IpAddress(loopback),
            ],
            excluded_subtrees: Vec::new(),
        });
        Ok(params)
    }

    fn create_authority(&self) -> Result<()> {
        let mut params = self.authority_params()?;
        set_validity(&mut params, AUTHORITY_LIFETIME);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        write_private(&self.authority_key(), &key.serialize_pem())?;
        write_private(&self.authority(), &certificate.pem())
    }

    /// Creates a new certificate for the edge. A running Envoy reloads it.
    fn issue(&self) -> Result<()> {
        let key = KeyPair::from_pem(&std::fs::read_to_string(self.authority_key())?)?;
        let issuer = Issuer::new(self.authority_params()?, key);
        let mut params = CertificateParams::new(self.names.clone())?;
        params.distinguished_name.push(DnType::CommonName, "Sandgate edge");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, LIFETIME);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        write_private(&self.key(), &key.serialize_pem())?;
        write_private(&self.certificate(), &certificate.pem())
    }
}

fn set_validity(params: &mut CertificateParams, lifetime: Duration) {
    let now = SystemTime::now();
    params.not_before = now.into();
    params.not_after = (now + lifetime).into();
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const NAMES: [&str; 2] = ["*.sandbox.localhost", "localhost"];

    #[test]
    fn only_their_owner_can_read_the_keys() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::ensure(folder.path(), &NAMES).unwrap();
        for key in [certificates.authority_key(), certificates.key()] {
            assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{key:?}");
        }
    }

    #[test]
    fn files_that_last_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::ensure(folder.path(), &NAMES).unwrap();
        let read =
            || [certificates.authority(), certificates.certificate()].map(std::fs::read_to_string);
        let before = read().map(Result::unwrap);
        Certificates::ensure(folder.path(), &NAMES).unwrap();
        assert_eq!(read().map(Result::unwrap), before);
    }

    #[test]
    fn a_key_that_does_not_match_is_replaced_under_the_same_authority() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::ensure(folder.path(), &NAMES).unwrap();
        let authority = std::fs::read(certificates.authority()).unwrap();
        let before = std::fs::read(certificates.certificate()).unwrap();
        std::fs::copy(certificates.authority_key(), certificates.key()).unwrap();
        Certificates::ensure(folder.path(), &NAMES).unwrap();
        assert_eq!(std::fs::read(certificates.authority()).unwrap(), authority);
        assert_ne!(std::fs::read(certificates.certificate()).unwrap(), before);
        assert!(certificates.certificate_lasts());
    }

    #[test]
    fn a_certificate_that_expires_soon_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::ensure(folder.path(), &NAMES).unwrap();
        let now = SystemTime::now();
        assert!(certificates.verify(now + LIFETIME - DAY).is_ok());
        assert!(certificates.verify(now + LIFETIME + DAY).is_err());
    }

    #[test]
    fn the_authority_can_not_sign_for_other_hosts() {
        let folder = tempfile::tempdir().unwrap();
        Certificates::ensure(folder.path(), &NAMES).unwrap();
        let mut other = Certificates::ensure(folder.path(), &NAMES).unwrap();
        other.names = vec!["www.example.com".to_owned()];
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(
            Certificates::ensure(folder.path(), &NAMES).unwrap().authority_params().unwrap(),
            KeyPair::from_pem(&std::fs::read_to_string(other.authority_key()).unwrap()).unwrap(),
        );
        let params = CertificateParams::new(other.names.clone()).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        write_private(&other.certificate(), &certificate.pem()).unwrap();
        let error = format!("{:?}", other.verify(SystemTime::now()).unwrap_err());
        assert!(error.contains("NameConstraintViolation"), "{error}");
    }
}
