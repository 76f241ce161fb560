//! An operator's platform for tests: receives the webhook's calls on a real socket, verifies their signatures, and
//! responds as the test requires.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

pub(crate) const SECRET: &str = "webhook-secret-for-tests";

/// A received call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) body: Value,
    pub(crate) idempotency_key: String,
    pub(crate) genuine: bool,
}

/// The answers. The last one is repeated.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Json(u16, Value),
    /// Responds after this time.
    Silence(Duration),
}

#[derive(Clone, Default)]
pub(crate) struct Receiver {
    calls: Arc<Mutex<Vec<Call>>>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
}

impl Receiver {
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn reply(&self, replies: impl IntoIterator<Item = Reply>) {
        *self.replies.lock().unwrap() = replies.into_iter().collect();
    }

    /// Listens on a free port until the test ends.
    pub(crate) async fn listen(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/hook", post(receive)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        address
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{}.", header("x-sandgate-timestamp")).as_bytes());
    mac.update(&body);
    let signature = header("x-sandgate-signature");
    let hex = signature.strip_prefix("v1=").unwrap();
    let expected = sandgate::random::hex(&mac.finalize().into_bytes());
    receiver.calls.lock().unwrap().push(Call {
        body: serde_json::from_slice(&body).unwrap(),
        idempotency_key: header("idempotency-key"),
        genuine: hex == expected,
    });
    let reply = {
        let mut replies = receiver.replies.lock().unwrap();
        if replies.len() > 1 { replies.pop_front() } else { replies.front().cloned() }
    };
    match reply {
        Some(Reply::Json(status, body)) => {
            (StatusCode::from_u16(status).unwrap(), body.to_string())
        }
        Some(Reply::Silence(time)) => {
            tokio::time::sleep(time).await;
            (StatusCode::OK, json!({}).to_string())
        }
        None => (StatusCode::NOT_IMPLEMENTED, String::new()),
    }
}
