//! The HTTP client of commands that call a server.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Certificate, Client, Identity};

/// A client that trusts the issuers in the file `authorities` only, or those of the system, and shows the certificate in the folder
/// `certificate`. Neither an environment variable nor a response may send a token elsewhere.
pub(super) fn client(
    authorities: Option<&Path>,
    certificate: Option<&Path>,
) -> anyhow::Result<Client> {
    // Fails if the process has a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .timeout(Duration::from_secs(30))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = authorities {
        let issuers = Certificate::from_pem_bundle(&read(path)?)
            .with_context(|| format!("`{}`", path.display()))?;
        anyhow::ensure!(!issuers.is_empty(), "`{}` has no certificate", path.display());
        builder = builder.tls_certs_only(issuers);
    }
    if let Some(folder) = certificate {
        let (key, chain) = (read(&folder.join("tls.key"))?, read(&folder.join("tls.crt"))?);
        let identity = Identity::from_pem(&[key, b"\n".to_vec(), chain].concat())
            .with_context(|| format!("`{}`", folder.display()))?;
        builder = builder.identity(identity);
    }
    Ok(builder.build()?)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("`{}` can't be read", path.display()))
}
