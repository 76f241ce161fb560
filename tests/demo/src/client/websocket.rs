//! Opening WebSockets. The upgrade is done with an HTTP client rather than a WebSocket library,
//! because libraries lose most of a refusal's body.

use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderValue, InvalidHeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

pub use tokio_tungstenite::tungstenite::{Error, Message};

use super::Target;
pub use super::target::CannotConnect;

/// As much of a refusal's body as is kept.
const REFUSAL_LIMIT: usize = 64 << 10;

/// A [`Stream`](futures_util::Stream) and [`Sink`](futures_util::Sink) of [`Message`]s.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// An open WebSocket.
#[derive(Debug)]
pub struct Opened {
    /// To send and receive messages.
    pub socket: Socket,
    /// The headers of the 101 response.
    pub headers: HeaderMap,
}

/// No WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing listens there.
    #[error(transparent)]
    Connect(#[from] CannotConnect),
    /// The answer was another status than 101.
    #[error("the WebSocket upgrade was refused: HTTP {status}\n{body}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The response's headers.
        headers: HeaderMap,
        /// The response's body as text, or its first 64 KiB.
        body: String,
    },
    /// The status was 101, but the answer is not a WebSocket's.
    #[error("the answer to the WebSocket upgrade has a missing or wrong `{0}` header")]
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
/// The target's headers take the place of those that an upgrade has anyway (`host`, …).
pub async fn open(target: &Target) -> Result<Opened, OpenError> {
    let stream = target.connect().await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its errors are also given to the request, and after the upgrade to the socket.
    tokio::spawn(async move { connection.with_upgrades().await });
    let key = generate_key();
    let mut response = sender.send_request(upgrade_request(target, &key)?).await?;
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
