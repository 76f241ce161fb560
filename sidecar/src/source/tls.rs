//! Certificates for a control plane whose URL begins with `https://`.

use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder, Identity, Url};

/// The files. They are read once.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// A file with the only issuers to trust; without it, those of the system.
    pub authorities: Option<PathBuf>,
    /// A folder with `tls.crt` and `tls.key`, for a gateway API that demands certificates.
    pub certificate: Option<PathBuf>,
}

/// The files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTls {
    #[error("`{}` can't be used: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// Plain text has no certificates.
    #[error("`{0}` is plain text, which has no certificates; use https://")]
    PlainText(Url),
}

impl Tls {
    /// Refuses files for a URL that does not use them.
    pub(super) fn require_https(&self, url: &Url) -> Result<(), InvalidTls> {
        let is_empty = self.authorities.is_none() && self.certificate.is_none();
        if is_empty || url.scheme() == "https" {
            return Ok(());
        }
        Err(InvalidTls::PlainText(url.clone()))
    }

    /// A client that uses the files.
    pub(super) fn apply(&self, mut client: ClientBuilder) -> Result<ClientBuilder, InvalidTls> {
        if let Some(authorities) = self.authorities()? {
            client = client.tls_certs_only(authorities);
        }
        if let Some(identity) = self.identity()? {
            client = client.identity(identity);
        }
        Ok(client)
    }

    fn authorities(&self) -> Result<Option<Vec<Certificate>>, InvalidTls> {
        let Some(path) = &self.authorities else { return Ok(None) };
        let all = Certificate::from_pem_bundle(&read(path)?);
        let all = all.map_err(|error| invalid(path, &error))?;
        // An empty list would mean that every server is refused, and the reason would be hard to find.
        if all.is_empty() { Err(invalid(path, &"it has no certificate")) } else { Ok(Some(all)) }
    }

    fn identity(&self) -> Result<Option<Identity>, InvalidTls> {
        let Some(folder) = &self.certificate else { return Ok(None) };
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        let pem = [read(&key)?, b"\n".to_vec(), read(&certificate)?].concat();
        Identity::from_pem(&pem).map(Some).map_err(|error| invalid(folder, &error))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, InvalidTls> {
    std::fs::read(path).map_err(|error| invalid(path, &error))
}

fn invalid(path: &Path, reason: &dyn std::fmt::Display) -> InvalidTls {
    InvalidTls::File { path: path.to_owned(), reason: reason.to_string() }
}
