//! The WebSocket app: echoes every message at `/socket`.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use http::request::Parts;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Identity;
use super::answer::{Answer, AnyBody};
use super::listener::{Connection, Listener};
use super::received::received;
use super::upgrade::Upgrade;

/// The echo responds to this text with a record of the upgrade request.
const HEADERS_COMMAND: &str = "headers?";
/// The maximum size of a message and of a frame, in bytes.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;

pub(super) async fn serve(listener: Listener, identity: Arc<Identity>) {
    listener
        .serve_http(move |request, connection| {
            let response = upgrade(request, connection, &identity);
            async move { Ok::<_, Infallible>(response) }
        })
        .await;
}

fn upgrade(
    request: Request<Incoming>,
    connection: Connection,
    identity: &Identity,
) -> Response<AnyBody> {
    let (parts, upgrade) = Upgrade::from_request(request);
    if parts.uri.path() != "/socket" {
        let message = format!("no such path: `{}`; the echo is at `/socket`", parts.uri.path());
        return Answer::error("NOT_FOUND", message).into_response(StatusCode::NOT_FOUND);
    }
    let Some(upgrade) = upgrade else { return Upgrade::required("/socket") };
    let (mut response, upgraded) = upgrade.accept();
    if let Some(protocol) = first_protocol(&parts) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let request = received(&parts, connection, identity).to_string();
    tokio::spawn(async move {
        // An error means that the client disconnected or violated the protocol. The library has
        // already sent a Close frame if possible.
        if let Ok(stream) = upgraded.await {
            let _: Result<(), Error> = echo(stream, request).await;
        }
    });
    response
}

/// Chooses the first offered subprotocol, because browsers refuse a server that chooses none.
fn first_protocol(request: &Parts) -> Option<HeaderValue> {
    let offered = request.headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    HeaderValue::from_str(offered.split(',').next()?.trim()).ok()
}

/// Echoes messages until the client closes the WebSocket. The library answers pings.
async fn echo(stream: Upgraded, request: String) -> Result<(), Error> {
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, Some(config())).await;
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(text) if text.as_str() == HEADERS_COMMAND => {
                socket.send(Message::text(request.clone())).await?;
            }
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
    }
    Ok(())
}

/// Allows large messages, but has a small read buffer, because many connections carry none.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}
