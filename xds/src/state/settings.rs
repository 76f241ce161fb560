//! The values of the file.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use sandgate_envoy_config::{Authorities, ControlPlaneTls, Edge, Filters, Upstream};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::yaml::{YamlError, parse_yaml};

/// The text is not a desired state.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StateError {
    #[error("not YAML: {0}")]
    Yaml(#[from] YamlError),
    #[error("`{path}`: {reason}")]
    Field { path: String, reason: String },
    #[error("`version` is {0}, and this program reads version 1")]
    Version(u32),
}

/// The file as a whole.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    edge: EdgeSettings,
}

/// What the edges do. The names are those of the variables of the edge's image, without `SANDGATE_`, in lower case; the
/// defaults are the same.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct EdgeSettings {
    pub domain: String,
    #[serde(default = "default_second_domain")]
    pub second_domain: String,
    pub api_host: Option<String>,
    pub sandbox_network: IpNet,
    /// Where edges listen.
    #[serde(default = "any_address")]
    pub edge_address: IpAddr,
    #[serde(default = "default_edge_port")]
    pub edge_port: u16,
    #[serde(default = "default_edge_tls_port")]
    pub edge_tls_port: u16,
    /// A folder with `tls.crt` and `tls.key`. Without it, edges have no listener for TLS.
    pub certificate: Option<PathBuf>,
    #[serde(default = "empty_list")]
    pub listener_filters: Value,
    #[serde(default)]
    pub trusted_hops: u32,
    #[serde(default = "default_admin_port")]
    pub admin_port: u16,
    /// The control plane, as edges reach it.
    pub control_plane_address: String,
    /// A file of the control plane with the issuers of its certificate. Without it, edges use plain text to both APIs.
    pub control_plane_ca: Option<PathBuf>,
    /// The DNS name in the control plane's certificate; the default is `control_plane_address`.
    pub control_plane_name: Option<String>,
    /// A folder of the edges with `tls.crt` and `tls.key`, for a gateway API that demands certificates.
    pub control_plane_certificate: Option<PathBuf>,
    #[serde(default = "default_api_port")]
    pub api_port: u16,
    #[serde(default = "default_gateway_port")]
    pub gateway_port: u16,
    /// A file whose first token the edges send to the gateway API.
    pub gateway_token_file: PathBuf,
    #[serde(default = "default_filters")]
    pub filters: String,
    /// The filter, as a file of the edges.
    #[serde(default = "default_wasm")]
    pub wasm: PathBuf,
    /// The module, as a file of the edges.
    #[serde(default = "default_native")]
    pub native: PathBuf,
    #[serde(default = "default_upstream")]
    pub upstream: String,
    #[serde(default = "default_idle_timeout")]
    pub stream_idle_timeout_seconds: u64,
    #[serde(default = "empty_list")]
    pub trusted_origins: Value,
    #[serde(default = "empty_object")]
    pub ingress_limits: Value,
    #[serde(default = "default_heap")]
    pub edge_heap: u64,
    #[serde(default = "default_connections")]
    pub edge_connections: u32,
    /// `max_tokens`, `tokens_per_fill` and `fill_interval` of the access log.
    pub log_rate: Option<Value>,
}

/// Parses a desired state.
///
/// # Errors
///
/// If a field is missing, unknown, or has a wrong type; the error names its path.
pub fn parse(text: &str) -> Result<EdgeSettings, StateError> {
    let json = parse_yaml(text)?;
    let file: File = serde_path_to_error::deserialize(&json).map_err(|error| {
        StateError::Field { path: error.path().to_string(), reason: error.inner().to_string() }
    })?;
    if file.version != 1 {
        return Err(StateError::Version(file.version));
    }
    file.edge.edge()?;
    Ok(file.edge)
}

impl EdgeSettings {
    /// The values of `edge.yaml`.
    ///
    /// # Errors
    ///
    /// If `filters` or `upstream` is unknown.
    pub fn edge(&self) -> Result<Edge, StateError> {
        let field =
            |path: &str, reason: String| StateError::Field { path: path.to_owned(), reason };
        let filters: Filters =
            self.filters.parse().map_err(|why: sandgate_envoy_config::UnknownFilters| {
                field("edge.filters", why.to_string())
            })?;
        let upstream: Upstream =
            self.upstream.parse().map_err(|why: sandgate_envoy_config::UnknownUpstream| {
                field("edge.upstream", why.to_string())
            })?;
        // The stream replaces these files.
        let nowhere = || PathBuf::from("/nonexistent");
        Ok(Edge {
            address: self.edge_address,
            port: self.edge_port,
            tls_port: self.edge_tls_port,
            tls_sds: nowhere(),
            listener_filters: self.listener_filters.clone(),
            trusted_hops: self.trusted_hops,
            admin_port: self.admin_port,
            control_plane_address: self.control_plane_address.clone(),
            control_plane_tls: self.control_plane_tls()?,
            api_port: self.api_port,
            gateway_port: self.gateway_port,
            gateway_token_sds: nowhere(),
            filters,
            wasm: self.wasm.clone(),
            native: self.native.clone(),
            domain: self.domain.clone(),
            second_domain: self.second_domain.clone(),
            api_host: self.api_host.clone().unwrap_or_else(|| default_api_host(&self.domain)),
            sandbox_network: self.sandbox_network.network(),
            sandbox_prefix_len: self.sandbox_network.prefix_len(),
            upstream,
            stream_idle_timeout: Duration::from_secs(self.stream_idle_timeout_seconds),
            trusted_origins: self.trusted_origins.clone(),
            ingress_limits: self.ingress_limits.clone(),
            heap: self.edge_heap,
            connections: self.edge_connections,
            log: nowhere(),
        })
    }
}

impl EdgeSettings {
    fn control_plane_tls(&self) -> Result<Option<ControlPlaneTls>, StateError> {
        let field =
            |path: &str, reason: String| StateError::Field { path: path.to_owned(), reason };
        let Some(path) = &self.control_plane_ca else {
            if self.control_plane_name.is_some() || self.control_plane_certificate.is_some() {
                // Without this error, a misspelled or forgotten field would mean plain text.
                let reason = "TLS to the control plane needs it".to_owned();
                return Err(field("edge.control_plane_ca", reason));
            }
            return Ok(None);
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            let reason = format!("`{}` can't be read: {error}", path.display());
            field("edge.control_plane_ca", reason)
        })?;
        let name = self.control_plane_name.as_ref().unwrap_or(&self.control_plane_address);
        if name.parse::<IpAddr>().is_ok() {
            let reason = "must be a DNS name of the control plane's certificate".to_owned();
            return Err(field("edge.control_plane_name", reason));
        }
        Ok(Some(ControlPlaneTls {
            authorities: Authorities::Text(text),
            name: name.clone(),
            certificate: self.control_plane_certificate.clone(),
        }))
    }
}

fn default_api_host(domain: &str) -> String {
    match domain.strip_prefix("sandbox.") {
        Some(parent) => format!("api.{parent}"),
        None => "api.localhost".to_owned(),
    }
}

fn default_second_domain() -> String {
    "local".to_owned()
}

fn any_address() -> IpAddr {
    Ipv4Addr::UNSPECIFIED.into()
}

fn default_edge_port() -> u16 {
    9443
}

fn default_edge_tls_port() -> u16 {
    9444
}

fn default_admin_port() -> u16 {
    9901
}

fn default_api_port() -> u16 {
    8900
}

fn default_gateway_port() -> u16 {
    8901
}

fn default_filters() -> String {
    "wasm".to_owned()
}

fn default_wasm() -> PathBuf {
    PathBuf::from("/etc/sandgate/sandgate_ingress.wasm")
}

fn default_native() -> PathBuf {
    PathBuf::from("/etc/sandgate/libsandgate_native.so")
}

fn default_upstream() -> String {
    Upstream::default().name().to_owned()
}

fn default_idle_timeout() -> u64 {
    3600
}

fn default_heap() -> u64 {
    2 << 30
}

fn default_connections() -> u32 {
    50_000
}

fn empty_list() -> Value {
    json!([])
}

fn empty_object() -> Value {
    json!({})
}
