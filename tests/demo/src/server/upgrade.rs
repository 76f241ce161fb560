//! The HTTP handshake of a WebSocket. It is implemented here instead of in a WebSocket library, so
//! that a wrong path or a plain request gets an HTTP response instead of a closed connection.

use http::request::Parts;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::answer::{Answer, AnyBody, full};

/// A WebSocket upgrade that a client requested.
#[derive(Debug)]
pub(super) struct Upgrade {
    accept: HeaderValue,
    connection: OnUpgrade,
}

impl Upgrade {
    /// Returns the request's head, and the upgrade if the request is one.
    pub(super) fn from_request(mut request: Request<Incoming>) -> (Parts, Option<Self>) {
        let connection = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let upgrade = accept_key(&parts).map(|accept| Self { accept, connection });
        (parts, upgrade)
    }

    /// The response to a request that is not an upgrade.
    pub(super) fn required(path: &str) -> Response<AnyBody> {
        let message = format!("`{path}` answers only WebSocket upgrades");
        let mut response =
            Answer::error("UPGRADE_REQUIRED", message).into_response(StatusCode::UPGRADE_REQUIRED);
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        response
    }

    /// The response that accepts the upgrade, and the connection, which becomes available after the
    /// response was sent.
    pub(super) fn accept(self) -> (Response<AnyBody>, OnUpgrade) {
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        (response, self.connection)
    }
}

/// The value of `Sec-WebSocket-Accept`, if the request is a WebSocket upgrade (RFC 6455, section
/// 4.2.1).
fn accept_key(request: &Parts) -> Option<HeaderValue> {
    let lists = |name, token: &str| {
        request.headers.get_all(name).iter().any(|value| {
            value.to_str().is_ok_and(|value| {
                value.split(',').any(|item| item.trim().eq_ignore_ascii_case(token))
            })
        })
    };
    let upgrades = request.method == Method::GET
        && request.version == Version::HTTP_11
        && lists(CONNECTION, "upgrade")
        && lists(UPGRADE, "websocket")
        && lists(SEC_WEBSOCKET_VERSION, "13");
    let key = request.headers.get(SEC_WEBSOCKET_KEY).filter(|_| upgrades)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}
