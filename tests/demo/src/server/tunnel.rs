//! TCP tunnels: `GET /api/v1/tunnels/tcp?port=N` opens a WebSocket that carries one TCP connection
//! to port N of this sandbox.
//!
//! This module decides about the request. `relay` forwards the bytes of an open tunnel.

mod relay;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper::{Response, StatusCode, Uri};
use tokio::net::TcpStream;

use super::answer::{Answer, AnyBody};
use super::query::Query;
use super::upgrade::Upgrade;

pub(super) const PATH: &str = "/api/v1/tunnels/tcp";
/// On one machine, a service accepts immediately unless its backlog is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The reason why a request opens no tunnel.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the query must name the port once, as in `{PATH}?port=5432`")]
    NoPort,
    #[error("query parameter `port` must be a whole number from 1 to 65535, got `{0}`")]
    BadPort(String),
    #[error(
        "nothing accepts connections at {address} in this sandbox: {reason}; start the service"
    )]
    ConnectFailed { address: SocketAddr, reason: std::io::Error },
}

impl Refusal {
    fn into_response(self) -> Response<AnyBody> {
        let (status, code) = match self {
            Self::NoPort | Self::BadPort(_) => (StatusCode::BAD_REQUEST, "BAD_REQUEST"),
            Self::ConnectFailed { .. } => (StatusCode::BAD_GATEWAY, "CONNECTION_REFUSED"),
        };
        Answer::error(code, self.to_string()).into_response(status)
    }
}

/// Handles a request for a tunnel. A tunnel only leads to the sandbox's own `address`.
pub(super) async fn open(
    uri: &Uri,
    upgrade: Option<Upgrade>,
    address: IpAddr,
) -> Response<AnyBody> {
    let port = match port(uri) {
        Ok(port) => port,
        Err(refusal) => return refusal.into_response(),
    };
    let Some(upgrade) = upgrade else { return Upgrade::required(PATH) };
    let service = match connect(SocketAddr::new(address, port.get())).await {
        Ok(service) => service,
        Err(refusal) => return refusal.into_response(),
    };
    let (response, upgraded) = upgrade.accept();
    tokio::spawn(forward(upgraded, service));
    response
}

async fn forward(upgraded: OnUpgrade, service: TcpStream) {
    // On an error, the client disconnected before it received the response. Dropping `service` then
    // closes the service's connection.
    if let Ok(client) = upgraded.await {
        relay::run(client, service).await;
    }
}

fn port(uri: &Uri) -> Result<NonZeroU16, Refusal> {
    let mut values = Query::of(uri).all("port");
    let (Some(value), None) = (values.next(), values.next()) else { return Err(Refusal::NoPort) };
    let value = String::from_utf8_lossy(&value).into_owned();
    // `parse` alone would accept `+80`.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits).ok_or(Refusal::BadPort(value))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Refusal> {
    let connected = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(connected) => connected,
        Err(elapsed) => Err(elapsed.into()),
    };
    // Sends bytes without delay, because the writer has already chosen how to group them.
    connected
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .map_err(|reason| Refusal::ConnectFailed { address, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port_of(query: &str) -> Result<u16, String> {
        let uri: Uri = format!("{PATH}{query}").parse().unwrap();
        port(&uri).map(NonZeroU16::get).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn ports_are_1_to_65535_in_digits() {
        for (query, expected) in [("?port=1", 1), ("?port=65535", 65535), ("?x=2&port=%38", 8)] {
            assert_eq!(port_of(query), Ok(expected), "{query}");
        }
        for value in ["0", "65536", "-1", "+80", " 80", "80 ", "http", "", "8080,8081", "0x50"] {
            let query = format!("?port={}", value.replace(' ', "%20"));
            let expected = format!("a whole number from 1 to 65535, got `{value}`");
            assert!(port_of(&query).unwrap_err().ends_with(&expected), "{value}");
        }
    }

    #[test]
    fn the_query_has_exactly_one_port() {
        for query in ["", "?", "?Port=80", "?ports=80", "?port=80&port=80"] {
            assert!(port_of(query).unwrap_err().contains("name the port once"), "{query}");
        }
    }
}
