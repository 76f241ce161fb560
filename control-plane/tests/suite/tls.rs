//! TLS on a listener: plain text and clients without a certificate are refused, and new files need no restart.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sandgate::http::Listener;
use sandgate_sidecar::source::{ControlPlane, SourceSender, Tls};
use sandgate_xds::tls::{ServerTls, TlsSettings};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::support::{TOKEN, World};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
const SOON: Duration = Duration::from_secs(20);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `tls.crt` and `tls.key`. Returns the certificate.
fn issue(authority: &Authority, folder: &Path) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["control-plane".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    std::fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
    certificate.der().to_vec()
}

async fn serve(folder: &TempDir, client_issuers: bool) -> SocketAddr {
    let router = Router::new().route("/", get(|| std::future::ready("served")));
    serve_router(folder, client_issuers, router).await
}

async fn serve_router(folder: &TempDir, client_issuers: bool, router: Router) -> SocketAddr {
    let tls = ServerTls::load(TlsSettings {
        folder: folder.path().to_owned(),
        client_issuers: client_issuers.then(|| folder.path().join("ca.crt")),
        protocols: &[b"h2", b"http/1.1"],
        versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
    });
    let listener = Listener::bind("--api-listen", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let listener = listener.tls(Some(tls.unwrap()));
    let address = listener.address();
    tokio::spawn(listener.serve(router, std::future::pending()));
    address
}

/// Sends a request over TLS. Returns the server's certificate and its response.
async fn ask(
    address: SocketAddr,
    trusted: &Authority,
    identity: Option<&Path>,
) -> std::io::Result<(Vec<u8>, String)> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some(folder) => {
            let certificate = CertificateDer::from_pem_file(folder.join("tls.crt")).unwrap();
            let key = PrivateKeyDer::from_pem_file(folder.join("tls.key")).unwrap();
            config.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    let name = ServerName::try_from("control-plane").unwrap();
    let stream = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    stream.write_all(REQUEST).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok((shown, answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_listener_serves_tls_and_refuses_plain_text() {
    let (folder, issuer) = (tempfile::tempdir().unwrap(), authority());
    issue(&issuer, folder.path());
    let address = serve(&folder, false).await;
    let (_, answer) = ask(address, &issuer, None).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("served"), "{answer}");
    assert!(ask(address, &authority(), None).await.is_err(), "another issuer is trusted");

    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_needs_a_certificate_of_the_named_issuer() {
    let (folder, issuer) = (tempfile::tempdir().unwrap(), authority());
    issue(&issuer, folder.path());
    let clients = authority();
    std::fs::write(folder.path().join("ca.crt"), clients.pem()).unwrap();
    let address = serve(&folder, true).await;
    let identity = tempfile::tempdir().unwrap();
    issue(&clients, identity.path());
    let (_, answer) = ask(address, &issuer, Some(identity.path())).await.unwrap();
    assert!(answer.ends_with("served"), "{answer}");
    assert!(ask(address, &issuer, None).await.is_err(), "a client without a certificate");
    // A certificate of the server's own issuer is not one for clients.
    issue(&issuer, identity.path());
    assert!(ask(address, &issuer, Some(identity.path())).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_without_a_restart_and_an_invalid_one_is_not() {
    let (folder, issuer) = (tempfile::tempdir().unwrap(), authority());
    let first = issue(&issuer, folder.path());
    let address = serve(&folder, false).await;
    assert_eq!(ask(address, &issuer, None).await.unwrap().0, first);
    // The key of another certificate.
    std::fs::write(folder.path().join("tls.key"), KeyPair::generate().unwrap().serialize_pem())
        .unwrap();
    tokio::time::sleep(sandgate_xds::tls::RELOAD_AFTER + Duration::from_millis(200)).await;
    assert_eq!(ask(address, &issuer, None).await.unwrap().0, first);
    let next = issue(&issuer, folder.path());
    let used = async {
        while ask(address, &issuer, None).await.unwrap().0 != next {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, used).await.unwrap();
}

#[test]
fn a_server_does_not_start_without_a_usable_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let load = || {
        ServerTls::load(TlsSettings {
            folder: folder.path().to_owned(),
            client_issuers: None,
            protocols: &[],
            versions: vec![&rustls::version::TLS13],
        })
    };
    let error = load().err().unwrap().to_string();
    assert!(error.contains("tls.crt"), "{error}");
    issue(&authority(), folder.path());
    assert!(load().is_ok());
    std::fs::write(folder.path().join("tls.crt"), "").unwrap();
    let error = load().err().unwrap().to_string();
    assert!(error.contains("has no certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_gets_its_policy_over_tls_and_only_from_the_named_control_plane() {
    let world = World::with_sidecars();
    let (folder, issuer) = (tempfile::tempdir().unwrap(), authority());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.path().join("tls.key"), key.serialize_pem()).unwrap();
    std::fs::write(folder.path().join("tls.crt"), certificate.pem()).unwrap();
    std::fs::write(folder.path().join("ca.crt"), issuer.pem()).unwrap();
    std::fs::write(folder.path().join("other.crt"), authority().pem()).unwrap();
    std::fs::write(folder.path().join("empty.crt"), "").unwrap();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let address = serve_router(&folder, true, world.gateway.clone()).await;
    let id = world.create(json!({})).await;
    let source = |scheme: &str, host: &str, ca: &str, identity: bool| {
        let tls = Tls {
            authorities: Some(folder.path().join(ca)),
            certificate: identity.then(|| folder.path().to_owned()),
        };
        let url = format!("{scheme}://{host}:{}", address.port());
        ControlPlane::new(&url, id.clone(), folder.path().join("token"), &tls)
    };
    let first = async |host: &str, ca: &str, identity: bool| {
        let (sender, mut states) = SourceSender::new();
        let agent = tokio::spawn(source("https", host, ca, identity).unwrap().follow(sender));
        tokio::time::timeout(SOON, states.changed()).await.unwrap().unwrap();
        agent.abort();
        states.borrow().clone()
    };
    let state = first("127.0.0.1", "ca.crt", true).await;
    assert!(state.valid.is_some() && state.problem.is_none(), "{:?}", state.problem);
    for (host, ca, identity) in [
        ("localhost", "ca.crt", true),
        ("127.0.0.1", "other.crt", true),
        ("127.0.0.1", "ca.crt", false),
    ] {
        let state = first(host, ca, identity).await;
        assert!(state.valid.is_none(), "{host} {ca} {identity}");
        assert!(state.problem.unwrap().contains("can't be fetched"));
    }
    let plain = source("http", "127.0.0.1", "ca.crt", false);
    assert!(plain.err().unwrap().to_string().contains("use https://"));
    let empty = source("https", "127.0.0.1", "empty.crt", false).err().unwrap().to_string();
    assert!(empty.contains("empty.crt"), "{empty}");
}

/// What `sandgate conformance` prints about a server.
async fn conformance(folder: &TempDir, url: String, options: &[&str]) -> String {
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandgate"));
    command.current_dir(folder.path()).args(["conformance", "--sandbox", "my-env", "--url", &url]);
    command.args(["--token-file", "token", "--without-sidecars"]).args(options);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).unwrap()
}

/// The attacks: somebody on the way reads the token that the command sends, or answers as the server; and a server answers with
/// what a terminal obeys.
#[tokio::test(flavor = "multi_thread")]
async fn the_conformance_test_gives_its_token_to_the_named_server_only() {
    let world = World::new();
    world.create(json!({ "name": "my-env" })).await;
    let (folder, issuer) = (tempfile::tempdir().unwrap(), authority());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.path().join("tls.key"), key.serialize_pem()).unwrap();
    std::fs::write(folder.path().join("tls.crt"), certificate.pem()).unwrap();
    std::fs::write(folder.path().join("ca.crt"), issuer.pem()).unwrap();
    std::fs::write(folder.path().join("other.crt"), authority().pem()).unwrap();
    let address = serve_router(&folder, true, world.gateway.clone()).await;
    let url = || format!("https://{address}");
    let named = ["--ca", "ca.crt", "--certificate", "."];
    let output = conformance(&folder, url(), &named).await;
    assert!(output.contains("ok       a call without a token gets 401"), "{output}");
    assert!(output.contains(" 0 failed"), "{output}");
    for options in [&["--ca", "other.crt", "--certificate", "."][..], &named[..2], &[]] {
        let output = conformance(&folder, url(), options).await;
        assert!(output.contains("\n0 passed"), "{options:?}: {output}");
    }
    let output = conformance(&folder, "http://192.0.2.1".to_owned(), &[]).await;
    assert!(output.contains("--url") && output.contains("is not https://"), "{output}");

    let hostile = Router::new().fallback(|| std::future::ready("\u{1b}]0;title\u{7}\u{202e}"));
    let address = serve_router(&folder, false, hostile).await;
    let output = conformance(&folder, format!("https://{address}"), &named).await;
    assert!(output.contains(r"\u{1b}]0;title\u{7}\u{202e}"), "{output}");
    assert!(!output.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{output}");
}
