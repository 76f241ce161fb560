//! The HTTP client of commands that call a server.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Certificate, Client, Identity, Url};

/// The longest time of a call, unless the command needs another one.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// The URL of a server. Only a server on this machine may get a token in plain text.
pub(super) fn url(option: &str, text: &str) -> anyhow::Result<Url> {
    let url: Url = text.parse().with_context(|| format!("{option} `{text}`"))?;
    let is_loopback = url.host_str().is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    });
    anyhow::ensure!(
        url.scheme() == "https" || (url.scheme() == "http" && is_loopback),
        "{option} `{url}` is not https://, and it is not on this machine: others could read the token"
    );
    Ok(url)
}

/// A client that trusts the issuers in the file `authorities` only, or those of the system, and shows the certificate in the folder
/// `certificate`. Neither an environment variable nor a response may send a token elsewhere.
pub(super) fn client(
    authorities: Option<&Path>,
    certificate: Option<&Path>,
    timeout: Duration,
) -> anyhow::Result<Client> {
    // Fails if the process has a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder =
        Client::builder().timeout(timeout).no_proxy().redirect(reqwest::redirect::Policy::none());
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
