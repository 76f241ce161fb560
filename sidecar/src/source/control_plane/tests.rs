//! Polls a control plane of its own.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const SANDBOX: &str = "a1b2c3d4e5f6g7h8i9j0k";

/// Starts a control plane that responds to all requests with `status` and `body`. Returns its URL and the headers
/// of the requests.
async fn serve(status: &'static str, body: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            received.lock().unwrap().push(String::from_utf8(request).unwrap());
            let response = format!(
                "HTTP/1.1 {status}\r\n{MARKER_HEADER}: {MARKER_VALUE}\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    });
    (url, requests)
}

/// Follows the control plane at `url`. Returns the first state.
async fn first_state(
    url: &str,
    token_file: &str,
    rest: Duration,
) -> super::super::SourceState<NetworkPolicy> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, token_file).unwrap();
    let source = ControlPlane::new(url, SANDBOX.to_owned(), path, &Tls::default()).unwrap();
    let (sender, mut states) = SourceSender::new();
    let following = tokio::spawn(source.follow(sender));
    let changed = tokio::time::timeout(Duration::from_secs(20), states.changed());
    changed.await.unwrap().unwrap();
    let state = states.borrow_and_update().clone();
    tokio::time::sleep(rest).await;
    following.abort();
    state
}

#[tokio::test]
async fn an_unknown_sandbox_is_denied_everything_and_reported() {
    let (url, _) = serve("404 Not Found", String::new()).await;
    let state = first_state(&url, "token\n", Duration::ZERO).await;
    assert_eq!(state.valid, Some(deny_all()));
    let problem = format!("the control plane has no sandbox `{SANDBOX}`; all traffic is denied");
    assert_eq!(state.problem, Some(problem));
}

#[tokio::test]
async fn a_control_plane_that_does_not_hold_requests_gets_few() {
    let body = serde_json::json!({
        "sandbox_id": SANDBOX, "revision": "7", "network_policy": {},
    });
    let (url, requests) = serve("200 OK", body.to_string()).await;
    let state = first_state(&url, "token\n", 3 * MIN_BACKOFF).await;
    assert_eq!(state.problem, None);
    let count = requests.lock().unwrap().len();
    assert!((2..=6).contains(&count), "{count} requests");
}

#[tokio::test]
async fn comments_in_the_token_file_are_not_tokens() {
    let (url, requests) = serve("404 Not Found", String::new()).await;
    first_state(&url, "# new\ntoken-a\n", Duration::ZERO).await;
    let requests = requests.lock().unwrap();
    assert!(requests[0].contains("Bearer token-a\r\n"), "{requests:?}");
}
