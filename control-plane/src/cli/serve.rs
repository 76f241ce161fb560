//! `sandgate serve`: runs the control plane.

mod namespaces;
mod runtime;
mod xds;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::runtime::RuntimeArgs;
use self::xds::XdsArgs;
use super::output::Output;
use super::store::StoreOptions;
use crate::api::{EgressEnforcement, PrivateToPublic, PublicUrls};
use crate::http::{Listener, RequestLimits};
use crate::model::TokenPrefix;
use crate::sandboxes::ServiceSettings;
use crate::serve::{
    Addresses, AdminSettings, ApiSettings, GatewaySettings, ListenerTls, ServeSettings, Server,
};
use crate::store::Limits;

/// The options of `sandgate serve`.
#[derive(Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    location: StoreOptions,
    /// Maximum number of this server's connections to the `--database`, without seven that it always has
    #[arg(long, value_name = "COUNT", default_value_t = DATABASE_CONNECTIONS, value_parser = count)]
    database_connections: usize,
    /// Address of the public API; port 0 means any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8900")]
    api_listen: SocketAddr,
    /// Address of the gateway API; only gateways and sidecars should reach it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8901")]
    gateway_listen: SocketAddr,
    /// Directory with `tls.crt` and `tls.key` of the public API, which then accepts only TLS; read again when they change
    #[arg(long, value_name = "DIR")]
    api_tls_dir: Option<PathBuf>,
    /// Directory with `tls.crt` and `tls.key` of the gateway API, which then accepts only TLS; read again when they change
    #[arg(long, value_name = "DIR")]
    gateway_tls_dir: Option<PathBuf>,
    /// File with issuers; each client of the gateway API then needs a certificate of one of them; read again when it changes
    #[arg(long, value_name = "FILE", requires = "gateway_tls_dir")]
    gateway_client_ca: Option<PathBuf>,
    /// Address of the admin API, for operators only; without it, there is none
    #[arg(long, value_name = "ADDRESS", requires = "admin_token_file")]
    admin_listen: Option<SocketAddr>,
    /// File with one or two tokens of the admin API, one on each line; read again when it changes
    #[arg(long, value_name = "FILE", requires = "admin_listen")]
    admin_token_file: Option<PathBuf>,
    /// Directory with `tls.crt` and `tls.key` of the admin API; required except on loopback
    #[arg(long, value_name = "DIR", requires = "admin_listen")]
    admin_tls_dir: Option<PathBuf>,
    /// Address of the metrics for Prometheus, without a credential; they are also at the gateway API
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// File with one or two gateway tokens, one on each line; read again when it changes
    #[arg(long, value_name = "FILE")]
    gateway_token_file: PathBuf,
    /// Domain of the sandboxes
    #[arg(long, default_value = "sandbox.localhost")]
    domain: String,
    /// URL of the edge for clients
    #[arg(long, value_name = "URL", default_value = "http://localhost:9443")]
    proxy_url: String,
    /// Minimum interval between two resumes of one sandbox by requests to public ports, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    public_resume_interval_ms: u64,
    /// Maximum time for requests and the operations that they started to finish after a stop signal
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    drain_seconds: u64,
    /// Time after a stop signal in which health checks fail and requests are still served, before the stop begins
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    drain_pause_seconds: u64,
    /// Whether sidecars enforce network policies; if not, only the default policy is accepted
    #[arg(long, value_enum, default_value_t = EgressEnforcement::Absent)]
    egress: EgressEnforcement,
    /// What happens to a patch that contains `exposed_ports` and would make private ports public
    #[arg(long, value_enum, default_value_t = PrivateToPublic::Allow)]
    public_ports: PrivateToPublic,
    /// Prefix of personal access tokens; must be one of the ingress filter's `personal_access_token_prefixes`
    #[arg(
        long,
        value_name = "PREFIX",
        env = "SANDGATE_PERSONAL_ACCESS_TOKEN_PREFIX",
        default_value_t
    )]
    personal_access_token_prefix: TokenPrefix,
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    xds: XdsArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

#[derive(Args)]
struct ApiArgs {
    /// Maximum number of connections to the public API
    #[arg(long, value_name = "COUNT", default_value_t = Listener::MAX_CONNECTIONS, value_parser = count)]
    api_connections: usize,
    /// Maximum number of requests of owners in flight, without waiting ones
    #[arg(long, value_name = "COUNT", default_value_t = API_REQUESTS, value_parser = count)]
    api_requests: usize,
    /// Maximum number of requests of one project in flight, including waiting ones
    #[arg(long, value_name = "COUNT", default_value_t = RequestLimits::PER_PROJECT, value_parser = count)]
    api_requests_per_project: usize,
    /// Maximum number of requests of owners that wait for a sandbox
    #[arg(long, value_name = "COUNT", default_value_t = RequestLimits::WAITING, value_parser = count)]
    api_waiting: usize,
}

#[derive(Args)]
struct GatewayArgs {
    /// Maximum number of connections to the gateway API, without those of sidecars
    #[arg(long, value_name = "COUNT", default_value_t = Listener::MAX_CONNECTIONS, value_parser = count)]
    gateway_connections: usize,
    /// Maximum number of connections of sidecars to the gateway API; each sidecar has one, and another one for a moment when it
    /// reports denials
    #[arg(long, value_name = "COUNT", default_value_t = SIDECARS, value_parser = count)]
    sidecars: usize,
}

#[derive(Args)]
struct StoreArgs {
    /// Number of freed names that remain reserved for one project; the newest ones are kept
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().held_names)]
    held_names: usize,
    /// Maximum number of sandboxes of one project
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().sandboxes)]
    sandboxes_per_project: u64,
    /// Maximum size in MiB of the exposed ports, kept fields and network policies of all sandboxes of one project
    #[arg(long, value_name = "MIB", default_value_t = Limits::default().bytes / MIB)]
    stored_mib_per_project: u64,
    /// Age in days at which lines of the audit log are deleted
    #[arg(long, value_name = "DAYS", default_value_t = Limits::default().audit_age.as_secs() / DAY)]
    audit_days: u64,
    /// Number of lines of each audit log that are kept for one sandbox; the newest ones are kept
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().audit_of_sandbox, value_parser = count)]
    audit_lines_per_sandbox: usize,
    /// Number of lines of each audit log that are kept for one project; the newest ones are kept
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().audit_of_project, value_parser = count)]
    audit_lines_per_project: usize,
}

const MIB: u64 = 1_024 * 1_024;
const DAY: u64 = 24 * 60 * 60;

impl StoreArgs {
    fn limits(&self) -> Limits {
        Limits {
            held_names: self.held_names,
            sandboxes: self.sandboxes_per_project,
            bytes: self.stored_mib_per_project.saturating_mul(MIB),
            audit_age: Duration::from_secs(self.audit_days.saturating_mul(DAY)),
            audit_of_sandbox: self.audit_lines_per_sandbox,
            audit_of_project: self.audit_lines_per_project,
            ..Limits::default()
        }
    }
}

/// The default number of connections to a database. PostgreSQL accepts 100 by default, from all servers together.
const DATABASE_CONNECTIONS: usize = 20;
/// The default number of sidecars.
const SIDECARS: usize = 4_096;
/// The default number of requests of owners.
const API_REQUESTS: usize = 512;
/// The largest limit. It is greater than the number of file descriptors of any machine.
const MAX_LIMIT: usize = 1_000_000;

/// Parses a limit, which must not be 0.
fn count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MAX_LIMIT).contains(number));
    number.ok_or_else(|| format!("must be a whole number from 1 to {MAX_LIMIT}"))
}

impl ServeArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let settings = self.settings()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(serve(settings))
    }

    fn settings(self) -> anyhow::Result<ServeSettings> {
        let domain = sandgate_policy::ingress::domain::Domain::parse(&self.domain)
            .with_context(|| "--domain".to_owned())?;
        let urls = PublicUrls::new(&self.proxy_url, domain.as_str())?;
        let runtime = self.runtime.settings(self.egress)?;
        Ok(ServeSettings {
            store: self.location.location(self.database_connections)?,
            api_listen: self.api_listen,
            gateway_listen: self.gateway_listen,
            api_tls: self.api_tls_dir.map(|folder| ListenerTls { folder, client_issuers: None }),
            gateway_tls: self
                .gateway_tls_dir
                .map(|folder| ListenerTls { folder, client_issuers: self.gateway_client_ca }),
            admin: match (self.admin_listen, self.admin_token_file) {
                (Some(listen), Some(token_file)) => Some(AdminSettings {
                    listen,
                    token_file,
                    tls: self
                        .admin_tls_dir
                        .map(|folder| ListenerTls { folder, client_issuers: None }),
                }),
                _ => None,
            },
            metrics_listen: self.metrics_listen,
            gateway_token_file: self.gateway_token_file,
            urls,
            egress: self.egress,
            private_to_public: self.public_ports,
            personal_access_token_prefix: self.personal_access_token_prefix,
            runtime,
            drain_pause: Duration::from_secs(self.drain_pause_seconds),
            drain: Duration::from_secs(self.drain_seconds),
            sandboxes: ServiceSettings {
                public_resume_interval: Duration::from_millis(self.public_resume_interval_ms),
                ..ServiceSettings::default()
            },
            api: ApiSettings {
                connections: self.api.api_connections,
                requests: self.api.api_requests,
                requests_per_project: self.api.api_requests_per_project,
                waiting: self.api.api_waiting,
            },
            gateway: GatewaySettings {
                connections: self.gateway.gateway_connections,
                sidecars: self.gateway.sidecars,
            },
            limits: self.store.limits(),
            xds: self.xds.settings(),
        })
    }
}

async fn serve(settings: ServeSettings) -> anyhow::Result<()> {
    // Registered before the start, so that a signal can't end the program without a cleanup.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let server = Server::start(settings).await?;
    Output::plain(&ready(server.addresses()))?;
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    tracing::info!("stopping");
    tokio::select! {
        () = server.stop() => {}
        // A second signal skips the drain.
        _ = interrupted.recv() => tracing::warn!("stopped without a drain"),
        _ = terminated.recv() => tracing::warn!("stopped without a drain"),
    }
    Ok(())
}

/// The line by which others know that the server is ready, and where it listens.
fn ready(addresses: &Addresses) -> String {
    let Addresses { api, gateway, admin, metrics, xds } = addresses;
    let mut line = format!("ready: api {api} gateway {gateway}");
    for (name, address) in [("admin", admin), ("metrics", metrics), ("xds", xds)] {
        if let Some(address) = address {
            line.extend([" ", name, " ", &address.to_string()]);
        }
    }
    line + "\n"
}
