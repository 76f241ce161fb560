//! A real Envoy gets its configuration from the server.

#![cfg(test)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sandgate_xds::bootstrap::{BootstrapSettings, bootstrap};
use sandgate_xds::server::{Credentials, DeltaService, Limits, Shared};
use sandgate_xds::state::{self, EdgeSettings};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;

struct OneToken;

impl Credentials for OneToken {
    fn node_of(&self, token: &[u8]) -> Option<String> {
        (token == b"token-of-edge-1").then(|| "edge-1".to_owned())
    }
}

struct Envoy(Child);

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cache = std::env::var_os("SANDGATE_CACHE_DIR").map_or(root.join(".cache"), PathBuf::from);
    cache.join("envoy/1.40.0/envoy")
}

fn settings(folder: &Path) -> EdgeSettings {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let token = folder.join("token");
    std::fs::write(&token, "gateway-token-0123456789\n").unwrap();
    state::parse(&format!(
        "version: 1\nedge:\n  domain: sandbox.localhost\n  sandbox_network: 127.64.0.0/16\n  \
         edge_address: 127.0.0.1\n  edge_port: 0\n  edge_tls_port: 0\n  admin_port: 0\n  \
         control_plane_address: 127.0.0.1\n  gateway_token_file: {}\n  wasm: {}\n",
        token.display(),
        root.join("target/filters/sandgate_ingress.wasm").display(),
    ))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_gets_its_listeners_and_clusters_by_delta_ads() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let built = state::build(&settings).unwrap();
    println!("{}\n{:?}", state::summary(&built.snapshot), built.warnings);
    let (_snapshots, receiver) = watch::channel(Arc::new(built.snapshot));
    let (_stopping, stopped) = watch::channel(false);
    let shared =
        Arc::new(Shared::new(Arc::new(OneToken), false, receiver, stopped, Limits::default()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let service = DeltaService::new(Arc::clone(&shared));
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let connection = BootstrapSettings {
        node: "edge-1".to_owned(),
        token: "token-of-edge-1".to_owned(),
        server: "127.0.0.1".to_owned(),
        port,
        tls: None,
    };
    let file = folder.path().join("bootstrap.json");
    let text = serde_json::to_string_pretty(&bootstrap(&settings, &connection).unwrap()).unwrap();
    std::fs::write(&file, text).unwrap();
    let log = std::fs::File::create(folder.path().join("envoy.log")).unwrap();
    let _envoy = Envoy(
        Command::new(program())
            .arg("-c")
            .arg(&file)
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap(),
    );
    let mut done = false;
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let nodes = shared.nodes().list();
        done = nodes.first().is_some_and(|node| {
            node.pending == 0 && node.versions.len() == 6 && node.rejected.is_empty()
        });
        if done {
            break;
        }
    }
    println!("{}", std::fs::read_to_string(folder.path().join("envoy.log")).unwrap());
    println!("{:#?}\n{}", shared.nodes().list(), shared.nodes().metrics());
    assert!(done);
}
