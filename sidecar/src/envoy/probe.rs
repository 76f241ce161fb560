//! Asks Envoy's egress filter, on a listener of its own, which policy generation it applies.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

/// The interval between two requests while the agent waits for a generation.
const INTERVAL: Duration = Duration::from_millis(20);
/// The timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum size of a response, in bytes.
const MAX_RESPONSE: usize = 1 << 20;

#[derive(Deserialize)]
struct State {
    generation: u64,
    /// Whether the filter has not yet evaluated all live connections again.
    judging: bool,
}

/// Waits until the filter applies a generation and has closed all connections that the generation denies. Never returns
/// if the filter rejects the generation.
pub(crate) async fn until_applied(port: u16, generation: u64) {
    while !state(port).await.is_some_and(|state| state.generation == generation && !state.judging) {
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether Envoy responds.
pub(crate) async fn responds(port: u16) -> bool {
    state(port).await.is_some()
}

/// The number of connections and requests that Envoy has denied or closed since it started, by the counters of its admin interface.
pub(crate) async fn denials(admin_port: u16) -> Option<u64> {
    let path = "/stats?filter=sandgate_egress_(decisions_total.*deny|closed_total)";
    let body = tokio::time::timeout(TIMEOUT, get(admin_port, path)).await.ok()??;
    Some(sum(std::str::from_utf8(&body).ok()?))
}

/// The sum of the values of lines `name: value`.
fn sum(stats: &str) -> u64 {
    let values = stats.lines().filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok());
    values.fold(0, u64::saturating_add)
}

async fn state(port: u16) -> Option<State> {
    let body = tokio::time::timeout(TIMEOUT, get(port, "/generation")).await.ok()??;
    serde_json::from_slice(&body).ok()
}

/// The body of a response with status 200. A connection serves one request, so that no request meets a connection of an
/// Envoy that has exited.
async fn get(port: u16, path: &str) -> Option<Bytes> {
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let uri = format!("http://127.0.0.1:{port}{path}");
    let request = Request::get(uri).body(Empty::<Bytes>::new()).ok()?;
    let response = client.request(request).await.ok()?;
    if response.status() != StatusCode::OK {
        return None;
    }
    let body = Limited::new(response.into_body(), MAX_RESPONSE).collect().await.ok()?;
    Some(body.to_bytes())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Sends this response to one request, in these pieces. Then closes the connection, or keeps it open.
    async fn server(pieces: &'static [&'static str], closes: bool) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
            if !closes {
                std::future::pending::<()>().await;
            }
        });
        port
    }

    #[test]
    fn the_counters_of_all_rules_are_added() {
        let stats = "wasmcustom.sandgate_egress_closed_total.tcp: 1\n\
            wasmcustom.sandgate_egress_decisions_total.tcp.deny.default: 20\n\
            wasmcustom.sandgate_egress_decisions_total.http.deny.deny_out: 300\nno counter\n";
        assert_eq!(sum(stats), 321);
    }

    #[tokio::test]
    async fn a_response_ends_at_its_content_length_while_the_connection_stays_open() {
        let pieces = &["HTTP/1.1 200 OK\r\nContent-", "Length: 5\r\n\r\nhel", "lo"];
        assert_eq!(get(server(pieces, false).await, "/").await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_response_without_content_length_ends_with_the_connection() {
        let pieces = &["HTTP/1.1 200 OK\r\n\r\n{\"generation\":7,", "\"judging\":false}"];
        let state = state(server(pieces, true).await).await.unwrap();
        assert_eq!((state.generation, state.judging), (7, false));
    }

    #[tokio::test]
    async fn an_error_and_a_truncated_response_are_no_answer() {
        for response in [
            &["HTTP/1.1 503 Service Unavailable\r\n\r\n{\"generation\":7,\"judging\":false}"],
            &["HTTP/1.1 200 OK\r\ncontent-le"],
            &["HTTP/1.1 200 OK\r\ncontent-length: 33\r\n\r\n{\"generation\":7,\"judging\":false}"],
        ] {
            assert!(!responds(server(response, true).await).await, "{response:?}");
        }
    }
}
