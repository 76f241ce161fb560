//! What a server needs to know, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::{Egress, PublicPorts, PublicUrls};
use crate::runtime::{LocalSettings, WebhookSettings};
use crate::sandboxes::ServiceSettings;
use crate::store::Limits;

/// Settings of [`super::Server`].
pub struct ServeSettings {
    /// Holds the database.
    pub data_dir: PathBuf,
    /// For owners.
    pub api_listen: SocketAddr,
    /// For gateways.
    pub gateway_listen: SocketAddr,
    /// Who is a gateway.
    pub gateway_token_file: PathBuf,
    /// How sandboxes are reached from outside.
    pub urls: PublicUrls,
    /// Whether network policies hold.
    pub egress: Egress,
    /// Whether owners must confirm that private ports become public.
    pub public_ports: PublicPorts,
    /// Where sandboxes live.
    pub runtime: RuntimeSettings,
    /// How long requests, and what they began, may go on after a stop.
    pub drain: Duration,
    /// Bounds on resumes.
    pub sandboxes: ServiceSettings,
    /// Bounds on what owners may ask at once.
    pub api: ApiSettings,
    /// Bounds on the gateway API.
    pub gateway: GatewaySettings,
    /// Bounds on what owners store.
    pub limits: Limits,
}

/// Bounds on the owners' API.
#[derive(Clone, Copy, Debug)]
pub struct ApiSettings {
    /// Connections at once.
    pub connections: usize,
    /// Requests at once.
    pub requests: usize,
    /// Requests of one project at once, waiting ones too.
    pub requests_per_project: usize,
    /// Requests at once that wait for a sandbox.
    pub waiting: usize,
}

/// Bounds on the gateway API.
#[derive(Clone, Copy, Debug)]
pub struct GatewaySettings {
    /// Connections at once of gateways, the platform, and whoever has not said yet who it is.
    pub connections: usize,
    /// Sidecars at once: their connections, and their calls.
    pub sidecars: usize,
}

/// Where sandboxes live.
pub enum RuntimeSettings {
    /// On this machine.
    Local(LocalSettings),
    /// On the operator's platform.
    Webhook(Box<WebhookSettings>),
}
