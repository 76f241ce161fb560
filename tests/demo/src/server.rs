//! The demo sandbox: four listeners on one address.
//!
//! | default port | protocol | module |
//! |---|---|---|
//! | 8080 | HTTP/1.1 and HTTP/2 without TLS | `http` |
//! | 3000 | WebSocket echo at `/socket` | `websocket` |
//! | 50051 | gRPC | `grpc` |
//! | 9501 | the management API | `management` |

mod answer;
mod commands;
mod grpc;
mod http;
mod listener;
mod management;
mod query;
mod received;
mod tunnel;
mod upgrade;
mod websocket;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tonic::service::Routes;

pub use self::commands::{CommandSettings, Commands, NOTE};
pub(crate) use self::grpc::MAX_MESSAGE as MAX_GRPC_MESSAGE;
pub(crate) use self::websocket::config as websocket_config;

use self::listener::{Connections, Listener};

/// The identity of the sandbox, which its responses contain.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Canonical id.
    pub id: String,
    /// The name that the owner gave the sandbox, if any.
    pub name: Option<String>,
}

/// The four ports. 0 lets the system choose a port.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// HTTP/1.1 and h2c.
    pub http: u16,
    /// WebSocket echo.
    pub websocket: u16,
    /// gRPC.
    pub grpc: u16,
    /// Management API.
    pub management: u16,
}

impl Ports {
    /// Lets the system choose all four.
    pub const ANY: Self = Self { http: 0, websocket: 0, grpc: 0, management: 0 };
}

impl Default for Ports {
    fn default() -> Self {
        Self { http: 8080, websocket: 3000, grpc: 50051, management: 9501 }
    }
}

/// The addresses that the four services listen on.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// HTTP/1.1 and h2c.
    pub http: SocketAddr,
    /// WebSocket echo.
    pub websocket: SocketAddr,
    /// gRPC.
    pub grpc: SocketAddr,
    /// Management API.
    pub management: SocketAddr,
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "http {} websocket {} grpc {} management {}",
            self.http, self.websocket, self.grpc, self.management
        )
    }
}

/// The reason why a demo sandbox can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port can't be listened on.
    #[error("cannot listen on `{address}` ({service}): {reason}; {}", remedy(.reason))]
    Bind {
        address: SocketAddr,
        service: &'static str,
        /// The system's error.
        reason: std::io::Error,
    },
    /// The compiled-in proto descriptors are broken.
    #[error("cannot offer gRPC reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "stop what uses it or choose another address or port",
        std::io::ErrorKind::AddrNotAvailable => {
            "choose an address of this machine, such as one of 127.0.0.0/8 on Linux"
        }
        std::io::ErrorKind::PermissionDenied => "choose a port of 1024 or above",
        _ => "choose another address or port",
    }
}

/// A demo sandbox with open ports.
#[derive(Debug)]
pub struct DemoSandbox {
    identity: Arc<Identity>,
    addresses: Addresses,
    http: Listener,
    websocket: Listener,
    grpc: Listener,
    grpc_services: Routes,
    management: Listener,
    commands: Option<Commands>,
}

impl DemoSandbox {
    /// Opens all four ports on `address`. Clients can connect as soon as this returns.
    pub async fn bind(
        address: IpAddr,
        ports: Ports,
        identity: Identity,
    ) -> Result<Self, StartError> {
        let connections = Connections::default();
        let bind =
            async |port, service| {
                let address = SocketAddr::new(address, port);
                Listener::bind(address, connections.clone())
                    .await
                    .map_err(|reason| StartError::Bind { address, service, reason })
            };
        let http = bind(ports.http, "http").await?;
        let websocket = bind(ports.websocket, "websocket").await?;
        let grpc = bind(ports.grpc, "grpc").await?;
        let management = bind(ports.management, "management").await?;
        let addresses = Addresses {
            http: http.address(),
            websocket: websocket.address(),
            grpc: grpc.address(),
            management: management.address(),
        };
        let identity = Arc::new(identity);
        let grpc_services = grpc::routes(identity.clone()).await?;
        Ok(Self {
            identity,
            addresses,
            http,
            websocket,
            grpc,
            grpc_services,
            management,
            commands: None,
        })
    }

    /// Runs commands for callers of the management API.
    #[must_use]
    pub fn with_commands(self, commands: Option<Commands>) -> Self {
        Self { commands, ..self }
    }

    /// The addresses that the four services listen on.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until the future is dropped, which closes the ports. Open connections end with the
    /// runtime.
    pub async fn serve(self) {
        let Self {
            identity,
            addresses,
            http,
            websocket,
            grpc,
            grpc_services,
            management,
            commands,
        } = self;
        let started = Instant::now();
        let api = management::Api::new(identity.clone(), addresses, started, commands);
        tokio::join!(
            http::serve(http, identity.clone()),
            websocket::serve(websocket, identity),
            grpc::serve(grpc, grpc_services),
            management::serve(management, api),
        );
    }
}
