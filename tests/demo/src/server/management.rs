//! The management API, reduced to health, identity, TCP tunnels, and, if they are on, commands and
//! files.
//!
//! | path | behaviour |
//! |---|---|
//! | `/api/v1/health` | `{"healthy":true}` |
//! | `/api/v1/info` | the sandbox's identity, and a record of the request |
//! | `/api/v1/tunnels/tcp?port=N` | a WebSocket that carries a TCP connection |
//! | `/api/v1/processes…`, `/api/v1/files…` | see `commands` |

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;

use super::answer::{Answer, AnyBody};
use super::commands::Commands;
use super::listener::{Connection, Listener};
use super::received::{headers, host, sandbox};
use super::upgrade::Upgrade;
use super::{Addresses, Identity, tunnel};

const HEALTH: &str = "/api/v1/health";
const INFO: &str = "/api/v1/info";

/// The state that the API returns.
#[derive(Clone, Debug)]
pub(super) struct Api {
    identity: Arc<Identity>,
    addresses: Addresses,
    started: Instant,
    commands: Option<Commands>,
}

impl Api {
    pub(super) fn new(
        identity: Arc<Identity>,
        addresses: Addresses,
        started: Instant,
        commands: Option<Commands>,
    ) -> Self {
        Self { identity, addresses, started, commands }
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        connection: Connection,
    ) -> Response<AnyBody> {
        if Commands::has_path(request.uri().path()) {
            return match &self.commands {
                Some(commands) => commands.respond(request).await,
                None => Commands::off(),
            };
        }
        let (request, upgrade) = Upgrade::from_request(request);
        let path = request.uri.path();
        if !matches!(path, HEALTH | INFO | tunnel::PATH) {
            return Answer::error("NOT_FOUND", format!("no such path: `{path}`"))
                .into_response(StatusCode::NOT_FOUND);
        }
        if request.method != Method::GET && request.method != Method::HEAD {
            let mut response =
                Answer::error("METHOD_NOT_ALLOWED", "this path answers only GET and HEAD")
                    .into_response(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            tunnel::PATH => {
                let address = self.addresses.management.ip();
                tunnel::open(&request.uri, upgrade, address).await
            }
            INFO => self.info(&request, connection).into_response(StatusCode::OK),
            _ => Answer::default().with("healthy", true).into_response(StatusCode::OK),
        }
    }

    fn info(&self, request: &http::request::Parts, connection: Connection) -> Answer {
        let uptime = self.started.elapsed();
        let info = Answer::default()
            .with("sandbox", sandbox(&self.identity))
            .with(
                "addresses",
                json!({
                    "http": self.addresses.http,
                    "websocket": self.addresses.websocket,
                    "grpc": self.addresses.grpc,
                    "management": self.addresses.management,
                }),
            )
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("uptime_secs", uptime.as_secs())
            .with("uptime_ms", u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX))
            .with(
                "request",
                json!({
                    "host": host(request),
                    "version": format!("{:?}", request.version),
                    "headers": headers(&request.headers),
                    "peer": connection.peer,
                    "connection": connection.number,
                }),
            );
        match &self.commands {
            Some(commands) => commands.describe(info),
            None => info.with("running_processes", 0).with("total_processes", 0),
        }
    }
}

pub(super) async fn serve(listener: Listener, api: Api) {
    listener
        .serve_http(move |request, connection| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.respond(request, connection).await) }
        })
        .await;
}
