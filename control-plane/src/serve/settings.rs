//! The settings of a server, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::StoreLocation;
use super::tls::ListenerTls;
use super::xds::XdsSettings;
use crate::api::{EgressEnforcement, PrivateToPublic, PublicUrls};
use crate::model::TokenPrefix;
use crate::runtime::{LocalSettings, NamespacesSettings, WebhookSettings};
use crate::sandboxes::ServiceSettings;
use crate::store::Limits;

pub struct ServeSettings {
    pub store: StoreLocation,
    /// The address of the public API.
    pub api_listen: SocketAddr,
    /// The address of the gateway API.
    pub gateway_listen: SocketAddr,
    /// TLS of the public API; without it, the API is plain text.
    pub api_tls: Option<ListenerTls>,
    /// TLS of the gateway API; without it, the API is plain text.
    pub gateway_tls: Option<ListenerTls>,
    /// The admin API; by default, there is none.
    pub admin: Option<AdminSettings>,
    /// The address of the metrics, which need no credential there; they are also at the gateway API.
    pub metrics_listen: Option<SocketAddr>,
    /// Contains the tokens of gateways.
    pub gateway_token_file: PathBuf,
    /// The URLs of sandboxes, as clients reach them.
    pub urls: PublicUrls,
    /// Whether sidecars enforce network policies.
    pub egress: EgressEnforcement,
    /// What happens to a patch that contains `exposed_ports` and would make private ports public.
    pub private_to_public: PrivateToPublic,
    /// The prefix of personal access tokens.
    pub personal_access_token_prefix: TokenPrefix,
    pub runtime: RuntimeSettings,
    /// The time between a stop signal and the stop, in which health checks fail.
    pub drain_pause: Duration,
    /// The longest time that requests, and the transitions that they began, continue after a stop.
    pub drain: Duration,
    /// Bounds on resumes and retries.
    pub sandboxes: ServiceSettings,
    /// Bounds on the public API.
    pub api: ApiSettings,
    /// Bounds on the gateway API.
    pub gateway: GatewaySettings,
    /// Bounds on what owners store.
    pub limits: Limits,
    /// The xDS server; edges with a static configuration need none.
    pub xds: Option<XdsSettings>,
}

/// The admin API.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    pub listen: SocketAddr,
    /// Contains the tokens.
    pub token_file: PathBuf,
    /// Required beyond loopback.
    pub tls: Option<ListenerTls>,
}

/// Bounds on the public API.
#[derive(Clone, Copy, Debug)]
pub struct ApiSettings {
    /// The most connections at once.
    pub connections: usize,
    /// The most requests at once.
    pub requests: usize,
    /// The most requests of one project at once, including waiting ones.
    pub requests_per_project: usize,
    /// The most requests at once that wait for a sandbox.
    pub waiting: usize,
}

/// Bounds on the gateway API.
#[derive(Clone, Copy, Debug)]
pub struct GatewaySettings {
    /// The most connections at once of gateways, the platform, and callers that are not yet authenticated.
    pub connections: usize,
    /// The most connections of sidecars at once, and the most of their calls.
    pub sidecars: usize,
}

pub enum RuntimeSettings {
    /// Processes on this machine.
    Local(LocalSettings),
    /// Network namespaces of this machine.
    Namespaces(Box<NamespacesSettings>),
    /// The operator's platform.
    Webhook(Box<WebhookSettings>),
}
