//! A running server, with a desired state in a folder of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandgate_xds::Snapshots;
use sandgate_xds::keys::NodeKeys;
use sandgate_xds::nodes::NodeReport;
use sandgate_xds::server::{Limits, Port, Shared};
use sandgate_xds::state::{self, EdgeSettings};
use tokio::sync::watch;

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) keys: NodeKeys,
    pub(crate) shared: Arc<Shared>,
    pub(crate) snapshots: watch::Sender<Arc<Snapshots>>,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) served: tokio::task::JoinHandle<()>,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

impl Server {
    /// Starts a server. `tls` is the folder of its certificates.
    pub(crate) async fn start(snapshots: impl Into<Snapshots>, tls: Option<PathBuf>) -> Self {
        Self::start_with(snapshots, tls, Limits::default()).await
    }

    /// Starts a server at an address.
    pub(crate) async fn start_at(
        address: [u8; 4],
        port: u16,
        snapshots: impl Into<Snapshots>,
    ) -> Self {
        let port = Port::bind((address, port).into(), None).await.unwrap();
        Self::serve(port, snapshots, Limits::default())
    }

    /// Starts a server with other bounds.
    pub(crate) async fn start_with(
        snapshots: impl Into<Snapshots>,
        tls: Option<PathBuf>,
        limits: Limits,
    ) -> Self {
        Self::serve(
            Port::bind("127.0.0.1:0".parse().unwrap(), tls).await.unwrap(),
            snapshots,
            limits,
        )
    }

    fn serve(port: Port, snapshots: impl Into<Snapshots>, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "0123456789abcdef0123456789abcdef\n").unwrap();
        let keys = NodeKeys::from_file(&key).unwrap();
        let (snapshots, receiver) = watch::channel(Arc::new(snapshots.into()));
        let (stopping, stopped) = watch::channel(false);
        let credentials = Arc::new(keys.clone());
        let shared = Arc::new(Shared::new(
            credentials,
            port.needs_certificate(),
            receiver,
            stopped.clone(),
            limits,
        ));
        let number = port.address().unwrap().port();
        let served = tokio::spawn(port.serve(Arc::clone(&shared), stopped));
        Self { port: number, keys, shared, snapshots, stopping, served, folder }
    }

    /// Waits until a node is as it should be.
    pub(crate) async fn until(
        &self,
        what: &str,
        holds: impl Fn(&NodeReport) -> bool,
    ) -> NodeReport {
        for _ in 0..3_000 {
            let node = self.shared.nodes().list().into_iter().next();
            if let Some(node) = node.filter(&holds) {
                return node;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not within a minute: {what}: {:#?}", self.shared.nodes().list());
    }
}

/// A state for an Envoy on this machine, with more fields as YAML.
pub(crate) fn settings(folder: &Path, more: &str) -> EdgeSettings {
    let token = folder.join("token");
    std::fs::write(&token, "gateway-token-0123456789\n").unwrap();
    state::parse(&format!(
        "version: 1\nedge:\n  domain: sandbox.localhost\n  sandbox_network: 127.64.0.0/16\n  \
         edge_address: 127.0.0.1\n  edge_port: 0\n  edge_tls_port: 0\n  admin_port: 0\n  \
         control_plane_address: 127.0.0.1\n  gateway_token_file: {}\n  wasm: {}\n  native: {}\n{more}",
        token.display(),
        root().join("target/filters/sandgate_ingress.wasm").display(),
        root().join("target/filters/libsandgate_native.so").display(),
    ))
    .unwrap()
    .common
}

/// Writes a certificate authority and a certificate for each name: `NAME.crt` and `NAME.key`, with `ca.crt`.
pub(crate) fn issue(folder: &Path, names: &[&str]) {
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "the authority of a test");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = parameters.self_signed(&key).unwrap();
    std::fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    let issuer = rcgen::Issuer::new(parameters, key);
    for name in names {
        let names = [(*name).to_owned(), "127.0.0.1".to_owned()];
        let own = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(names.to_vec()).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, *name);
        let certificate = parameters.signed_by(&own, &issuer).unwrap();
        std::fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), own.serialize_pem()).unwrap();
    }
}
