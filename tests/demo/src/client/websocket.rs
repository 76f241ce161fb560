//! Opens WebSockets. The upgrade uses an HTTP client, because WebSocket libraries discard most of
//! the body of a refusal.

use std::time::Duration;

use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderValue, InvalidHeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

pub use tokio_tungstenite::tungstenite::{Error, Message};

use super::Target;
use super::target::Alpn;
pub use super::target::CannotConnect;

/// The number of bytes of a refusal's body that are kept.
const REFUSAL_LIMIT: usize = 64 << 10;
/// The maximum wait for the server's SETTINGS frame, which is its first frame.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A [`Stream`](futures_util::Stream) and [`Sink`](futures_util::Sink) of [`Message`]s.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// An open WebSocket.
#[derive(Debug)]
pub struct Opened {
    /// To send and receive messages.
    pub socket: Socket,
    /// The headers of the response.
    pub headers: HeaderMap,
}

/// The WebSocket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The connection failed.
    #[error(transparent)]
    Connect(#[from] CannotConnect),
    /// The status of the response is not 101, or in HTTP/2 not 200.
    #[error("the WebSocket upgrade was refused: HTTP {status}\n{body}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The response's headers.
        headers: HeaderMap,
        /// The response's body as text, or its first 64 KiB.
        body: String,
    },
    /// The server does not support WebSockets over HTTP/2.
    #[error("the server does not offer WebSocket over HTTP/2 (RFC 8441)")]
    NotOffered,
    /// The status is 101, but the headers are not those of a WebSocket.
    #[error("the response to the WebSocket upgrade has a missing or wrong `{0}` header")]
    NotAWebSocket(http::HeaderName),
    /// The connection failed during the upgrade.
    #[error("the connection failed during the WebSocket upgrade")]
    Connection(#[from] hyper::Error),
    /// The URL's authority can't be sent as a `Host` header.
    #[error("the URL's host can't be sent in a header")]
    Host(#[from] InvalidHeaderValue),
}

/// Connects and upgrades over HTTP/1.1.
///
/// The target's headers replace headers of the upgrade that have the same name (`host`, …).
pub async fn open(target: &Target) -> Result<Opened, OpenError> {
    let stream = target.connect(Alpn::Http1).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The request and, after the upgrade, the socket also return the connection's errors.
    tokio::spawn(async move { connection.with_upgrades().await });
    let key = generate_key();
    let response = sender.send_request(upgrade_request(target, &key)?).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(response).await);
    }
    let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT);
    if accepted.is_none_or(|it| it.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(OpenError::NotAWebSocket(SEC_WEBSOCKET_ACCEPT));
    }
    let protocol = response.headers().get(UPGRADE);
    if protocol.is_none_or(|it| !it.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Err(OpenError::NotAWebSocket(UPGRADE));
    }
    opened(response).await
}

/// Connects and opens a WebSocket by an extended CONNECT over HTTP/2 (RFC 8441), as browsers do.
pub async fn open_over_http2(target: &Target) -> Result<Opened, OpenError> {
    connect_over_http2(target, "websocket").await
}

/// Like [`open_over_http2`], for any `:protocol`.
pub async fn connect_over_http2(
    target: &Target,
    protocol: &'static str,
) -> Result<Opened, OpenError> {
    let stream = target.connect(Alpn::Http2).await?;
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // The client must wait until the server's SETTINGS frame allows extended CONNECT (RFC 8441,
    // section 3). hyper has no notification for it, so the client polls.
    let offered = async {
        while !connection.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(SETTINGS_TIMEOUT, offered).await.map_err(|_| OpenError::NotOffered)?;
    tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = target.uri.clone();
    request.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    request.headers_mut().extend(target.headers.clone());
    request.extensions_mut().insert(Protocol::from_static(protocol));
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    opened(response).await
}

async fn opened(mut response: Response<Incoming>) -> Result<Opened, OpenError> {
    let upgraded = hyper::upgrade::on(&mut response).await?;
    let config = crate::server::websocket_config();
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
    Ok(Opened { socket, headers: response.into_parts().0.headers })
}

fn upgrade_request(target: &Target, key: &str) -> Result<Request<Empty<Bytes>>, OpenError> {
    let mut request = Request::new(Empty::new());
    if let Some(path) = target.uri.path_and_query() {
        *request.uri_mut() = Uri::from(path.clone());
    }
    let authority = target.uri.authority().map_or("", |it| it.as_str());
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(authority)?);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(key)?);
    headers.extend(target.headers.clone());
    Ok(request)
}

async fn refusal(response: Response<Incoming>) -> OpenError {
    let (parts, body) = response.into_parts();
    let mut text = Vec::new();
    let mut body = Limited::new(body, REFUSAL_LIMIT);
    let ending = loop {
        match body.frame().await {
            None => break "",
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    text.extend_from_slice(&data);
                }
            }
            Some(Err(error)) if error.is::<LengthLimitError>() => break " [cut off here]",
            Some(Err(_)) => break " [the connection broke here]",
        }
    };
    let body = format!("{}{ending}", String::from_utf8_lossy(&text));
    OpenError::Refused { status: parts.status, headers: parts.headers, body }
}
