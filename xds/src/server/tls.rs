//! TLS with certificates of both sides.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::CertifiedNames;
use crate::tls::{ServerTls, TlsError, TlsSettings};

/// The server's side of TLS.
pub(super) struct Tls(ServerTls);

impl Tls {
    pub(super) fn load(folder: PathBuf) -> Result<Self, TlsError> {
        ServerTls::load(TlsSettings {
            client_issuers: Some(folder.join("ca.crt")),
            folder,
            protocols: &[b"h2"],
            versions: vec![&rustls::version::TLS13],
        })
        .map(Self)
    }

    /// Performs the handshake. The client needs a certificate of a trusted issuer.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, CertifiedNames)> {
        let stream = self.0.accept(stream).await?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.map(|it| it.clone().into_owned());
        let names = CertifiedNames(Arc::new(move |node: &str| {
            certificate.as_ref().is_some_and(|certificate| is_for(certificate, node))
        }));
        Ok((stream, names))
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
