//! The webhook runtime with a real receiver.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sandgate::gateway::{Tokens, follow_file, sidecar_tokens};
use sandgate::model::{ExposedPorts, Sandbox, SandboxId, SandboxName, Timestamp};
use sandgate::runtime::{Runtime as _, RuntimeError, SigningKey, WebhookRuntime, WebhookSettings};
use sandgate_policy::gateway_api::SandboxState;
use serde_json::json;

use super::receiver::{Receiver, Reply, SECRET};
use super::support::TOKEN;

fn runtime(address: SocketAddr) -> WebhookRuntime {
    WebhookRuntime::new(settings(address), None).unwrap()
}

fn settings(address: SocketAddr) -> WebhookSettings {
    WebhookSettings {
        url: format!("http://{address}/hook").parse().unwrap(),
        key: SigningKey::new(SECRET).unwrap(),
        trusted: vec![],
        sandbox_cidrs: vec!["10.0.0.0/8".parse().unwrap()],
        call_timeout: Duration::from_millis(300),
        step_timeout: Duration::from_secs(5),
    }
}

fn sandbox() -> Sandbox {
    Sandbox {
        id: SandboxId::parse("aaaaaaaaaaaaaaaaaaaa1").unwrap(),
        name: Some(SandboxName::parse("my-env").unwrap()),
        organization_id: "org_1".parse().unwrap(),
        project_id: "project_1".parse().unwrap(),
        state: SandboxState::Pending,
        address: None,
        generation: 7,
        exposed_ports: ExposedPorts::default(),
        allow_unauthenticated_access: false,
        auto_resume: true,
        network_policy: sandgate_policy::egress::NetworkPolicy::default(),
        network_policy_revision: 0,
        placement: 1,
        suspension_unconfirmed: false,
        spec: json!({ "image": "python" }).as_object().unwrap().clone(),
        created_at: Timestamp::from_millis(0),
        sequence: 1,
    }
}

fn running(address: &str) -> Reply {
    Reply::Json(200, json!({ "state": "running", "address": address, "more": 1 }))
}

#[tokio::test]
async fn a_call_is_signed_and_has_an_action_and_a_sandbox() {
    let receiver = Receiver::default();
    let runtime = runtime(receiver.listen().await);
    receiver.reply([running("10.1.2.3")]);
    assert_eq!(runtime.start(&sandbox()).await.unwrap().to_string(), "10.1.2.3");
    assert_eq!(runtime.resume(&sandbox()).await.unwrap().to_string(), "10.1.2.3");
    receiver.reply([Reply::Json(200, json!({ "state": "suspended" }))]);
    runtime.suspend(&sandbox()).await.unwrap();
    receiver.reply([Reply::Json(200, json!({ "state": "terminated" }))]);
    runtime.stop(&sandbox()).await.unwrap();
    let calls = receiver.calls();
    assert!(calls.iter().all(|call| call.genuine), "{calls:?}");
    let actions: Vec<_> = calls.iter().map(|call| call.body["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["start", "resume", "suspend", "stop"]);
    let subject = json!({
        "id": "aaaaaaaaaaaaaaaaaaaa1", "placement": 1, "name": "my-env", "organization_id": "org_1",
        "project_id": "project_1", "spec": { "image": "python" },
    });
    assert_eq!(calls[0].body["sandbox"], subject);
    let keys: std::collections::BTreeSet<_> =
        calls.iter().map(|call| call.idempotency_key.clone()).collect();
    assert_eq!(keys.len(), 4, "each action has its own key");
    assert!(calls.iter().all(|call| call.body["sandbox"]["placement"] == 1), "{calls:?}");
    assert_eq!(calls[0].body["idempotency_key"], calls[0].idempotency_key.as_str());
}

#[tokio::test]
async fn calls_to_start_and_resume_have_the_tokens_of_the_sidecar() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, TOKEN).unwrap();
    let tokens = Tokens::from_file(&file).unwrap();
    let receiver = Receiver::default();
    let address = receiver.listen().await;
    let runtime = WebhookRuntime::new(settings(address), Some(tokens.clone())).unwrap();
    let following = tokio::spawn(follow_file(tokens.clone(), file.clone(), "gateway"));
    let made = || json!(sidecar_tokens(&file, &sandbox().id).unwrap());
    receiver.reply([running("10.1.2.3")]);
    runtime.start(&sandbox()).await.unwrap();
    let first = made();
    assert_eq!(receiver.calls()[0].body["sandbox"]["sidecar_tokens"], first);
    receiver.reply([Reply::Json(200, json!({ "state": "suspended" }))]);
    runtime.suspend(&sandbox()).await.unwrap();
    receiver.reply([Reply::Json(200, json!({ "state": "terminated" }))]);
    runtime.stop(&sandbox()).await.unwrap();
    for call in &receiver.calls()[1..] {
        assert_eq!(call.body["sandbox"].get("sidecar_tokens"), None, "{call:?}");
    }
    // During a rotation there are two tokens, and after it only the new one.
    let new = format!("{TOKEN}-new");
    std::fs::write(&file, format!("{TOKEN}\n{new}")).unwrap();
    let both = async {
        while !tokens.accepts(new.as_bytes()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    receiver.reply([running("10.1.2.3")]);
    runtime.resume(&sandbox()).await.unwrap();
    let resumed = receiver.calls().pop().unwrap().body["sandbox"]["sidecar_tokens"].clone();
    assert_eq!((resumed.as_array().unwrap().len(), &resumed[0]), (2, &first[0]));
    assert_eq!(resumed, made());
    following.abort();
}

#[tokio::test]
async fn temporary_failures_are_retried_with_the_same_key() {
    let receiver = Receiver::default();
    let runtime = runtime(receiver.listen().await);
    receiver.reply([
        Reply::Json(500, json!({})),
        Reply::Json(503, json!({})),
        Reply::Json(429, json!({})),
        Reply::Silence(Duration::from_secs(2)),
        Reply::Json(202, json!({ "state": "pending" })),
        running("10.1.2.3"),
    ]);
    runtime.start(&sandbox()).await.unwrap();
    let keys: std::collections::BTreeSet<_> =
        receiver.calls().into_iter().map(|call| call.idempotency_key).collect();
    assert_eq!((receiver.calls().len(), keys.len()), (6, 1));
}

#[tokio::test]
async fn an_action_fails_after_several_consecutive_failures() {
    let receiver = Receiver::default();
    let runtime = runtime(receiver.listen().await);
    receiver.reply([Reply::Json(500, json!({}))]);
    let error = runtime.start(&sandbox()).await.unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    assert_eq!(receiver.calls().len(), 5);
}

#[tokio::test]
async fn an_invalid_answer_is_final() {
    let receiver = Receiver::default();
    let runtime = runtime(receiver.listen().await);
    for reply in [
        Reply::Json(400, json!({ "error": "who are you" })),
        Reply::Json(401, json!({})),
        Reply::Json(404, json!({})),
        Reply::Json(302, json!({})),
        Reply::Json(200, json!({ "state": "melted" })),
        Reply::Json(200, json!({ "address": "10.0.0.1" })),
        Reply::Json(200, json!({ "state": "running" })),
        Reply::Json(200, json!({ "state": "running", "address": "sandbox.example.com" })),
        Reply::Json(200, json!({ "state": "suspended" })),
    ] {
        let before = receiver.calls().len();
        receiver.reply([reply.clone()]);
        let error = runtime.start(&sandbox()).await.unwrap_err();
        assert!(matches!(error, RuntimeError::Failed(_)), "{reply:?}: {error}");
        assert_eq!(receiver.calls().len() - before, 1, "{reply:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_the_owner_gets_its_reason() {
    let receiver = Receiver::default();
    let runtime = runtime(receiver.listen().await);
    let (long, cut) = ("x".repeat(10_000), "x".repeat(500));
    for (status, body, words) in [
        (422, json!({ "error": "there is no image `x`" }), "there is no image `x`"),
        (409, json!({ "error": " two\nlines\u{1b}[31m ", "more": 1 }), "two lines [31m"),
        (422, json!({ "error": long }), cut.as_str()),
        (422, json!({ "error": "" }), "the platform refused, without saying why"),
        (422, json!({ "error": { "text": 1 } }), "the platform refused, without saying why"),
        (409, json!([]), "the platform refused, without saying why"),
    ] {
        let before = receiver.calls().len();
        receiver.reply([Reply::Json(status, body)]);
        let error = runtime.suspend(&sandbox()).await.unwrap_err();
        let failure = error.for_owner();
        assert_eq!((failure.refused, failure.reason.as_str()), (true, words));
        assert_eq!(receiver.calls().len() - before, 1);
    }
}

#[tokio::test]
async fn an_address_outside_the_sandbox_cidrs_is_refused() {
    let receiver = Receiver::default();
    let runtime = runtime(receiver.listen().await);
    for address in ["127.0.0.1", "169.254.169.254", "11.0.0.1", "::1", "::ffff:10.0.0.1"] {
        receiver.reply([running(address)]);
        let error = runtime.start(&sandbox()).await.unwrap_err();
        assert!(matches!(error, RuntimeError::ForeignAddress(_)), "{address}: {error}");
    }
}

#[tokio::test]
async fn stopping_a_sandbox_that_the_platform_does_not_know_succeeds() {
    let receiver = Receiver::default();
    let runtime = runtime(receiver.listen().await);
    receiver.reply([Reply::Json(404, json!({}))]);
    runtime.stop(&sandbox()).await.unwrap();
    assert!(runtime.suspend(&sandbox()).await.is_err());
}

#[tokio::test]
async fn an_action_that_never_finishes_times_out() {
    let receiver = Receiver::default();
    let address = receiver.listen().await;
    receiver.reply([Reply::Json(200, json!({ "state": "pending" }))]);
    let settings = WebhookSettings { step_timeout: Duration::from_secs(1), ..settings(address) };
    let began = Instant::now();
    let error = WebhookRuntime::new(settings, None).unwrap().start(&sandbox()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::TimedOut(_)), "{error}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_unreachable_platform_is_reported_without_its_url() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let error = runtime(address).start(&sandbox()).await.unwrap_err().to_string();
    assert!(error.contains("can't be reached") && !error.contains("/hook"), "{error}");
}

/// Starts a TLS proxy in front of `plain`, with a certificate for localhost from a new authority. Returns its
/// address and the authority's certificate.
async fn behind_tls(plain: SocketAddr) -> (SocketAddr, String) {
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(authority.signing_key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![authority.cert.der().clone()], key.unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust the certificate closes the connection here.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut onward = tokio::net::TcpStream::connect(plain).await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    (address, authority.cert.pem())
}

#[tokio::test]
async fn an_https_url_is_called_only_if_its_certificate_is_trusted() {
    let receiver = Receiver::default();
    let (address, certificate) = behind_tls(receiver.listen().await).await;
    receiver.reply([running("10.1.2.3")]);
    let runtime = |trusted| {
        let settings = WebhookSettings {
            url: format!("https://localhost:{}/hook", address.port()).parse().unwrap(),
            key: SigningKey::new(SECRET).unwrap(),
            trusted,
            sandbox_cidrs: vec!["10.0.0.0/8".parse().unwrap()],
            call_timeout: Duration::from_secs(2),
            step_timeout: Duration::from_secs(5),
        };
        WebhookRuntime::new(settings, None).unwrap()
    };
    let trusted = reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap();
    assert!(runtime(vec![]).start(&sandbox()).await.is_err());
    assert!(receiver.calls().is_empty());
    runtime(vec![trusted]).start(&sandbox()).await.unwrap();
    assert!(receiver.calls()[0].genuine);
}
