//! What a real Envoy does while its module, its certificate, and its stream are replaced.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use sandgate_xds::nodes::NodeReport;
use sandgate_xds::server::Limits;
use sandgate_xds::state::{self, EdgeSettings, Module};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::envoy::{connection, is_complete, start};
use crate::support::{Server, issue, root, settings};

/// An address where nothing listens now.
fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn publish(server: &Server, settings: &EdgeSettings) {
    let built = state::build(settings).unwrap();
    assert!(built.warnings.is_empty(), "{:?}", built.warnings);
    server.snapshots.send_replace(Arc::new(built.snapshot.into()));
}

fn version(node: &NodeReport, kind: &str, name: &str) -> Option<String> {
    node.versions.get(kind)?.get(name).cloned()
}

/// The status line for a host that the filter refuses by itself. Without the filter, it would be another one.
async fn ask(edge: SocketAddr) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(edge).await?;
    connection
        .write_all(b"GET / HTTP/1.1\r\nhost: nowhere.example\r\nconnection: close\r\n\r\n")
        .await?;
    let mut response = String::new();
    connection.read_to_string(&mut response).await?;
    Ok(response.lines().next().unwrap_or_default().to_owned())
}

const REFUSED: &str = "HTTP/1.1 400 Bad Request";

#[tokio::test(flavor = "multi_thread")]
async fn a_new_module_replaces_the_former_one_between_two_requests_and_a_bad_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("module.wasm");
    let original = std::fs::read(root().join("target/filters/sandgate_ingress.wasm")).unwrap();
    std::fs::write(&file, &original).unwrap();
    let edge = free_address();
    let settings = EdgeSettings {
        edge_port: Some(edge.port()),
        module: Some(Module { file: file.clone(), sha256: None }),
        // The edge has no module of its own.
        wasm: Some("/nonexistent/sandgate_ingress.wasm".into()),
        ..settings(folder.path(), "")
    };
    let server = Server::start(state::build(&settings).unwrap().snapshot, None).await;
    let _envoy = start(&server, &settings, &connection(&server, "edge-1", None));
    let has_everything = server.until("the Envoy has everything", is_complete).await;
    let of_module = |node: &NodeReport| version(node, "extension", "sandgate.ingress.wasm");
    let first = of_module(&has_everything);
    assert_eq!(ask(edge).await.unwrap(), REFUSED);

    let ends = Arc::new(AtomicBool::new(false));
    let requests = tokio::spawn({
        let ends = Arc::clone(&ends);
        async move {
            let mut count = 0;
            while !ends.load(Ordering::Relaxed) {
                assert_eq!(ask(edge).await.unwrap(), REFUSED, "request {count}");
                count += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            count
        }
    });
    // A custom section does not change what a module does.
    let with_section = |name: u8| [&original[..], &[0, 2, 1, name]].concat();
    std::fs::write(&file, with_section(b'a')).unwrap();
    publish(&server, &settings);
    let replaced =
        server.until("the module changes", |node| is_complete(node) && of_module(node) != first);
    let second = of_module(&replaced.await);

    // It begins like a module, and Envoy can't compile it.
    std::fs::write(&file, &original[..original.len() / 2]).unwrap();
    publish(&server, &settings);
    let rejects = |node: &NodeReport| node.rejected.contains_key("extension");
    let rejecting = server.until("the Envoy rejects the module", rejects).await;
    assert_eq!(of_module(&rejecting), second);

    std::fs::write(&file, with_section(b'b')).unwrap();
    publish(&server, &settings);
    let recovered =
        server.until("the Envoy recovers", |node| is_complete(node) && of_module(node) != second);
    let last = recovered.await;
    let listener = |node: &NodeReport| version(node, "listener", "edge");
    assert_eq!(listener(&last), listener(&has_everything));
    ends.store(true, Ordering::Relaxed);
    assert!(requests.await.unwrap() > 0);
}

/// The certificate that a listener shows.
async fn certificate_of(edge: SocketAddr, authority: &Path) -> Option<CertificateDer<'static>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = TcpStream::connect(edge).await.ok()?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, connection).await.ok()?;
    let (_, session) = connected.get_ref();
    Some(session.peer_certificates()?.first()?.clone().into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_and_a_new_token_reach_the_edge_and_its_listener_stays() {
    let folder = tempfile::tempdir().unwrap();
    issue(folder.path(), &["tls", "next"]);
    let edge = free_address();
    let settings = EdgeSettings {
        edge_tls_port: Some(edge.port()),
        certificate: Some(folder.path().to_owned()),
        ..settings(folder.path(), "")
    };
    let server = Server::start(state::build(&settings).unwrap().snapshot, None).await;
    let _envoy = start(&server, &settings, &connection(&server, "edge-1", None));
    let before = server.until("the Envoy has everything", is_complete).await;
    let file = |name: &str| folder.path().join(name);
    let on_disk = |name: &str| CertificateDer::from_pem_file(file(name)).unwrap();
    let shown = certificate_of(edge, &file("ca.crt")).await;
    assert_eq!(shown, Some(on_disk("tls.crt")));

    std::fs::rename(file("next.crt"), file("tls.crt")).unwrap();
    std::fs::rename(file("next.key"), file("tls.key")).unwrap();
    std::fs::write(file("token"), "gateway-token-9876543210\n").unwrap();
    publish(&server, &settings);
    let is_new = |node: &NodeReport| {
        let differs = |name| version(node, "secret", name) != version(&before, "secret", name);
        is_complete(node) && differs("edge_certificate") && differs("gateway_token")
    };
    let after = server.until("the secrets change", is_new).await;
    for name in ["edge", "edge_tls"] {
        assert_eq!(version(&after, "listener", name), version(&before, "listener", name));
    }
    let shown = certificate_of(edge, &file("ca.crt")).await;
    assert_eq!(shown, Some(on_disk("tls.crt")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_whose_stream_is_old_opens_another_one_and_gets_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let edge = free_address();
    let settings = EdgeSettings { edge_port: Some(edge.port()), ..settings(folder.path(), "") };
    let limits = Limits { stream_age: Duration::from_secs(4), ..Limits::default() };
    let snapshot = state::build(&settings).unwrap().snapshot;
    let server = Server::start_with(snapshot, None, limits).await;
    let _envoy = start(&server, &settings, &connection(&server, "edge-1", None));
    server.until("the Envoy has everything", is_complete).await;
    let metrics = || server.shared.nodes().metrics();
    let sent = |kind: &str| {
        let name = format!("sandgate_xds_responses_total{{kind=\"{kind}\"}} ");
        metrics().lines().find_map(|line| line.strip_prefix(&name)?.parse::<u32>().ok()).unwrap()
    };
    let kinds = ["secret", "extension", "route", "token_bucket"];
    let before = kinds.map(sent);
    let streams = |metrics: &str| {
        let mut lines = metrics.lines();
        lines.find_map(|line| line.strip_prefix("sandgate_xds_streams_total ")?.parse::<u32>().ok())
    };
    server
        .until("the third stream", |node| is_complete(node) && streams(&metrics()) >= Some(3))
        .await;
    assert_eq!(ask(edge).await.unwrap(), REFUSED);
    assert_eq!(kinds.map(sent), before);
}
