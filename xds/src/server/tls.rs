//! TLS with certificates of both sides.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::CertifiedNames;

/// The files are read again after this time, so that a new certificate needs no restart.
const RELOAD_AFTER: Duration = Duration::from_secs(10);

/// The files can't be used.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {reason}", path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

/// The server's side of TLS.
pub(super) struct Tls {
    folder: PathBuf,
    active: Mutex<(Instant, Arc<rustls::ServerConfig>)>,
}

impl Tls {
    pub(super) fn load(folder: PathBuf) -> Result<Self, TlsError> {
        let active = Mutex::new((Instant::now(), configuration(&folder)?));
        Ok(Self { folder, active })
    }

    /// Performs the handshake. The client needs a certificate of a trusted issuer.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, CertifiedNames)> {
        let stream = TlsAcceptor::from(self.current()).accept(stream).await?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.map(|it| it.clone().into_owned());
        let names = CertifiedNames(Arc::new(move |node: &str| {
            certificate.as_ref().is_some_and(|certificate| is_for(certificate, node))
        }));
        Ok((stream, names))
    }

    fn current(&self) -> Arc<rustls::ServerConfig> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if active.0.elapsed() > RELOAD_AFTER {
            active.0 = Instant::now();
            match configuration(&self.folder) {
                Ok(fresh) => active.1 = fresh,
                Err(error) => {
                    tracing::error!(%error, "the former certificate of xDS stays active");
                }
            }
        }
        Arc::clone(&active.1)
    }
}

/// Whether a certificate names a node, as a DNS name.
fn is_for(certificate: &CertificateDer<'_>, node: &str) -> bool {
    let (Ok(certificate), Ok(name)) =
        (ParsedCertificate::try_from(certificate), ServerName::try_from(node))
    else {
        return false;
    };
    verify_server_name(&certificate, &name).is_ok()
}

fn configuration(folder: &Path) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let certificates = |name: &str| {
        let path = folder.join(name);
        let all = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect);
        all.map_err(|error| failed(&path, &error)).map(|all: Vec<_>| (path, all))
    };
    let mut issuers = RootCertStore::empty();
    let (ca_path, ca) = certificates("ca.crt")?;
    for certificate in ca {
        issuers.add(certificate).map_err(|error| failed(&ca_path, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(issuers), Arc::clone(&provider));
    let verifier = verifier.build().map_err(|error| failed(&ca_path, &error))?;
    let (path, chain) = certificates("tls.crt")?;
    let key_path = folder.join("tls.key");
    let key = PrivateKeyDer::from_pem_file(&key_path).map_err(|error| failed(&key_path, &error))?;
    let mut configuration = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(folder, &error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| failed(&path, &error))?;
    configuration.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(configuration))
}

fn failed(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError { path: path.to_owned(), reason: reason.to_string() }
}
