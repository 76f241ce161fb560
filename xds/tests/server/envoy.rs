//! A real Envoy as a client.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use sandgate_xds::bootstrap::{BootstrapSettings, Servers, TlsFiles, bootstrap};
use sandgate_xds::nodes::NodeReport;
use sandgate_xds::state::{self, EdgeSettings};

use crate::support::{Server, issue, root, settings};

pub(crate) struct Envoy(Child);

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> PathBuf {
    let cache = std::env::var_os("SANDGATE_CACHE_DIR");
    cache.map_or_else(|| root().join(".cache"), PathBuf::from).join("envoy/1.40.0/envoy")
}

pub(crate) fn connection(server: &Server, node: &str, tls: Option<TlsFiles>) -> BootstrapSettings {
    BootstrapSettings {
        node: node.to_owned(),
        token: server.keys.token(node).unwrap(),
        servers: Servers::new("127.0.0.1", server.port).unwrap(),
        tls,
    }
}

fn write_bootstrap(folder: &Path, settings: &EdgeSettings, to: &BootstrapSettings) -> PathBuf {
    let file = folder.join("bootstrap.json");
    let json = bootstrap(settings, to).unwrap();
    std::fs::write(&file, serde_json::to_string_pretty(&json).unwrap()).unwrap();
    file
}

pub(crate) fn start(server: &Server, settings: &EdgeSettings, to: &BootstrapSettings) -> Envoy {
    let folder = server.folder.path();
    let log = std::fs::File::create(folder.join("envoy.log")).unwrap();
    let child = Command::new(program())
        .arg("-c")
        .arg(write_bootstrap(folder, settings, to))
        .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Envoy(child)
}

pub(crate) fn is_complete(node: &NodeReport) -> bool {
    node.connected && node.pending == 0 && node.rejected.is_empty() && node.versions.len() == 6
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_gets_everything_by_delta_ads_and_follows_changes() {
    let folder = tempfile::tempdir().unwrap();
    let before = settings(folder.path(), "");
    let built = state::build(&before).unwrap();
    assert!(built.warnings.is_empty(), "{:?}", built.warnings);
    let server = Server::start(built.snapshot, None).await;
    let _envoy = start(&server, &before, &connection(&server, "edge-1", None));
    let first = server.until("the Envoy has everything", is_complete).await;
    let after = settings(folder.path(), "  trusted_hops: 1\n");
    server.snapshots.send_replace(Arc::new(state::build(&after).unwrap().snapshot.into()));
    let wanted = first.versions["listener"]["edge"].clone();
    let second = server.until("the listener changes", |node| {
        is_complete(node) && node.versions["listener"]["edge"] != wanted
    });
    assert_eq!(second.await.versions["route"], first.versions["route"]);
    // The native filter needs a part of the bootstrap, which this Envoy has not.
    let native = settings(folder.path(), "  filters: native\n");
    server.snapshots.send_replace(Arc::new(state::build(&native).unwrap().snapshot.into()));
    let rejects =
        |node: &NodeReport| node.rejected["extension"].contains_key("sandgate.ingress.native");
    let rejected = server.until("the filter is rejected", |node| {
        node.rejected.contains_key("extension") && rejects(node)
    });
    assert_eq!(rejected.await.versions["listener"].len(), 1, "the former listener goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_with_the_bootstrap_of_the_native_form_follows_a_change_of_the_form() {
    let folder = tempfile::tempdir().unwrap();
    let native = settings(folder.path(), "  filters: native\n");
    let server = Server::start(state::build(&native).unwrap().snapshot, None).await;
    let _envoy = start(&server, &native, &connection(&server, "edge-1", None));
    server.until("the Envoy has everything", is_complete).await;
    for filters in ["wasm", "native"] {
        let other = settings(folder.path(), &format!("  filters: {filters}\n"));
        server.snapshots.send_replace(Arc::new(state::build(&other).unwrap().snapshot.into()));
        let name = format!("sandgate.ingress.{filters}");
        let has_it = |node: &NodeReport| node.versions["extension"].contains_key(&name);
        server.until("the form changes", |node| is_complete(node) && has_it(node)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_authenticates_with_a_certificate_of_its_node_and_with_no_other() {
    let folder = tempfile::tempdir().unwrap();
    issue(folder.path(), &["tls", "edge-1", "edge-2"]);
    let settings = settings(folder.path(), "");
    let snapshot = state::build(&settings).unwrap().snapshot;
    let server = Server::start(snapshot, Some(folder.path().to_owned())).await;
    let tls = |name: &str| TlsFiles {
        server_name: "127.0.0.1".to_owned(),
        trusted_ca: folder.path().join("ca.crt"),
        certificate: folder.path().join(format!("{name}.crt")),
        key: folder.path().join(format!("{name}.key")),
    };
    let foreign = start(&server, &settings, &connection(&server, "edge-1", Some(tls("edge-2"))));
    for _ in 0..3_000 {
        if !server.shared.nodes().metrics().contains("sandgate_xds_denied_total 0\n") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let log = std::fs::read_to_string(server.folder.path().join("envoy.log")).unwrap();
    assert!(!server.shared.nodes().metrics().contains("sandgate_xds_denied_total 0\n"), "{log}");
    assert!(server.shared.nodes().list().is_empty());
    drop(foreign);
    let _envoy = start(&server, &settings, &connection(&server, "edge-1", Some(tls("edge-1"))));
    server.until("the Envoy has everything", is_complete).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_accepts_the_resources_of_each_form_and_upstream() {
    for filters in ["wasm", "native"] {
        for upstream in ["dynamic_forward_proxy", "original_dst"] {
            let folder = tempfile::tempdir().unwrap();
            let more = format!("  filters: {filters}\n  upstream: {upstream}\n");
            let settings = settings(folder.path(), &more);
            let server = Server::start(state::build(&settings).unwrap().snapshot, None).await;
            let _envoy = start(&server, &settings, &connection(&server, "edge-1", None));
            server.until(&format!("accepted: {filters} {upstream}"), is_complete).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_whose_server_ended_continues_with_the_next_one_of_its_list() {
    let folder = tempfile::tempdir().unwrap();
    let before = settings(folder.path(), "");
    let snapshot = |settings| state::build(settings).unwrap().snapshot;
    let one = Server::start(snapshot(&before), None).await;
    let two = Server::start_at([127, 0, 0, 2], one.port, snapshot(&before)).await;
    // Nobody listens at the first address.
    let hosts = "127.0.0.3,127.0.0.1,127.0.0.2";
    let to = BootstrapSettings {
        servers: Servers::new(hosts, one.port).unwrap(),
        ..connection(&one, "edge-1", None)
    };
    let _envoy = start(&one, &before, &to);
    one.until("the Envoy has everything", is_complete).await;
    assert!(two.shared.nodes().list().is_empty(), "the second server is not preferred");

    one.stopping.send_replace(true);
    let first = two.until("the other server has the Envoy", is_complete).await;
    let after = settings(folder.path(), "  trusted_hops: 1\n");
    two.snapshots.send_replace(Arc::new(snapshot(&after).into()));
    let former = first.versions["listener"]["edge"].clone();
    two.until("the listener changes", |node| {
        is_complete(node) && node.versions["listener"]["edge"] != former
    })
    .await;
}

#[test]
fn envoy_accepts_the_bootstrap_with_and_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    issue(folder.path(), &["edge-1"]);
    let settings = settings(folder.path(), "");
    for tls in [false, true] {
        let file = |name: &str| folder.path().join(name);
        let tls = tls.then(|| TlsFiles {
            server_name: "control-plane.internal".to_owned(),
            trusted_ca: file("ca.crt"),
            certificate: file("edge-1.crt"),
            key: file("edge-1.key"),
        });
        let to = BootstrapSettings {
            node: "edge-1".to_owned(),
            token: "token".to_owned(),
            servers: Servers::new("control-plane-1.internal, 192.0.2.2", 1).unwrap(),
            tls,
        };
        let bootstrap = write_bootstrap(folder.path(), &settings, &to);
        let output = Command::new(program())
            .args(["--mode", "validate", "-c"])
            .arg(bootstrap)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
