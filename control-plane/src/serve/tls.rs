//! TLS on the listeners of the two APIs.

use std::path::PathBuf;

use anyhow::Context as _;
use sandgate_xds::tls::{ServerTls, TlsSettings};

use crate::http::Listener;

/// The files of a listener. They are read again while the server runs.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// A folder with `tls.crt` and `tls.key`.
    pub folder: PathBuf,
    /// The issuers of clients' certificates. Without them, clients need no certificate.
    pub client_issuers: Option<PathBuf>,
}

impl ListenerTls {
    pub(super) fn load(self, option: &str) -> anyhow::Result<ServerTls> {
        let settings = TlsSettings {
            folder: self.folder,
            client_issuers: self.client_issuers,
            protocols: &[b"h2", b"http/1.1"],
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
        };
        ServerTls::load(settings).with_context(|| option.to_owned())
    }
}

/// A listener with TLS, if there are files for it. `api` is the common beginning of its options.
///
/// Warns of plain text beyond this machine. It is no error: a mesh, or a load balancer on the same machine, may add TLS, and the
/// server can't know.
pub(super) fn protect(
    listener: Listener,
    tls: Option<ListenerTls>,
    api: &str,
) -> anyhow::Result<Listener> {
    let address = listener.address();
    let option = format!("{api}-tls-dir");
    match tls {
        Some(tls) => return Ok(listener.tls(Some(tls.load(&option)?))),
        None if !address.ip().is_loopback() => tracing::warn!(
            %address,
            "this listener is plain text, and it receives credentials: unless something in front of it adds TLS, set {option}"
        ),
        None => {}
    }
    Ok(listener)
}
