//! The server's side of TLS, for the xDS server and for the listeners of `sandgate serve`. The certificate, and the issuers of
//! clients' certificates, are read again while the server runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The files are read again after this time, so that a new certificate needs no restart.
pub const RELOAD_AFTER: Duration = Duration::from_secs(2);

/// The files can't be used.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {reason}", path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

/// What a server accepts.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// A folder with `tls.crt` and `tls.key`.
    pub folder: PathBuf,
    /// A file with issuers. If there is one, each client needs a certificate of one of them.
    pub client_issuers: Option<PathBuf>,
    /// The names of the protocols (ALPN), the preferred one first.
    pub protocols: &'static [&'static [u8]],
    pub versions: Vec<&'static SupportedProtocolVersion>,
}

/// The server's side of TLS.
pub struct ServerTls {
    settings: TlsSettings,
    active: Mutex<(Instant, Arc<ServerConfig>)>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// If a file is missing or not valid, or the key does not belong to the certificate.
    pub fn load(settings: TlsSettings) -> Result<Self, TlsError> {
        let active = Mutex::new((Instant::now(), configuration(&settings)?));
        Ok(Self { settings, active })
    }

    /// Performs the handshake.
    ///
    /// # Errors
    ///
    /// If the client speaks no TLS, or lacks the certificate that it needs.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.current()).accept(stream).await
    }

    /// The configuration of a new connection. Files that can't be used have no effect.
    fn current(&self) -> Arc<ServerConfig> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if active.0.elapsed() > RELOAD_AFTER {
            active.0 = Instant::now();
            match configuration(&self.settings) {
                Ok(fresh) => active.1 = fresh,
                Err(error) => {
                    tracing::error!(%error, "the former certificate stays active");
                }
            }
        }
        Arc::clone(&active.1)
    }
}

fn configuration(settings: &TlsSettings) -> Result<Arc<ServerConfig>, TlsError> {
    let folder = &settings.folder;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&settings.versions)
        .map_err(|error| failed(folder, &error))?;
    let builder = match &settings.client_issuers {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut issuers = RootCertStore::empty();
            for certificate in certificates(path)? {
                issuers.add(certificate).map_err(|error| failed(path, &error))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(issuers), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| failed(path, &error))?)
        }
    };
    let (path, key_path) = (folder.join("tls.crt"), folder.join("tls.key"));
    let chain = certificates(&path)?;
    let key = PrivateKeyDer::from_pem_file(&key_path).map_err(|error| failed(&key_path, &error))?;
    let mut configuration =
        builder.with_single_cert(chain, key).map_err(|error| failed(&path, &error))?;
    configuration.alpn_protocols = settings.protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(configuration))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<_> = all.map_err(|error| failed(path, &error))?;
    if all.is_empty() {
        return Err(failed(path, &"it has no certificate"));
    }
    Ok(all)
}

fn failed(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError { path: path.to_owned(), reason: reason.to_string() }
}
