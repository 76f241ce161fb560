//! The values of one group of edges.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use sandgate_envoy_config::{Authorities, ControlPlaneTls, Edge, Filters, Upstream};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::Value;

use super::StateError;
use super::build::{BuildError, read};

/// What the edges of a group do. The names are those of the variables of the edge's image, without `SANDGATE_`, in lower case;
/// the defaults are the same.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct EdgeSettings {
    pub domain: String,
    pub second_domain: Option<String>,
    pub api_host: Option<String>,
    pub sandbox_network: IpNet,
    /// Where edges listen.
    pub edge_address: Option<IpAddr>,
    pub edge_port: Option<u16>,
    pub edge_tls_port: Option<u16>,
    /// A folder with `tls.crt` and `tls.key`. Without it, edges have no listener for TLS.
    pub certificate: Option<PathBuf>,
    pub listener_filters: Option<Value>,
    pub trusted_hops: Option<u32>,
    pub admin_port: Option<u16>,
    /// The control plane, as edges reach it, or several of them in the order of preference, separated by commas.
    pub control_plane_address: String,
    /// A file of the control plane with the issuers of its certificate. Without it, edges use plain text to both APIs.
    pub control_plane_ca: Option<PathBuf>,
    /// The DNS name in the control plane's certificate; the default is `control_plane_address`.
    pub control_plane_name: Option<String>,
    /// A folder of the edges with `tls.crt` and `tls.key`, for a gateway API that demands certificates.
    pub control_plane_certificate: Option<PathBuf>,
    pub api_port: Option<u16>,
    pub gateway_port: Option<u16>,
    /// A file whose first token the edges send to the gateway API.
    pub gateway_token_file: PathBuf,
    #[serde(default, deserialize_with = "from_name")]
    pub filters: Option<Filters>,
    /// The filter, as a file of the edges.
    pub wasm: Option<PathBuf>,
    /// The filter, which the edges get with their configuration.
    pub module: Option<Module>,
    /// The module, as a file of the edges.
    pub native: Option<PathBuf>,
    #[serde(default, deserialize_with = "from_name")]
    pub upstream: Option<Upstream>,
    pub stream_idle_timeout_seconds: Option<u64>,
    pub trusted_origins: Option<Value>,
    pub ingress_limits: Option<Value>,
    pub edge_heap: Option<u64>,
    pub edge_connections: Option<u32>,
    /// `max_tokens`, `tokens_per_fill` and `fill_interval` of the access log.
    pub log_rate: Option<Value>,
}

/// A wasm module of the control plane.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Module {
    pub file: PathBuf,
    /// The hash that the file must have, in hexadecimal digits.
    pub sha256: Option<String>,
}

impl EdgeSettings {
    /// Reads the values of `path` in the file.
    pub(super) fn from_json(json: &Value, path: &str) -> Result<Self, StateError> {
        let field = |field: &str, reason: String| StateError::Field {
            path: if field == "." { path.to_owned() } else { format!("{path}.{field}") },
            reason,
        };
        let settings: Self = serde_path_to_error::deserialize(json)
            .map_err(|error| field(&error.path().to_string(), error.inner().to_string()))?;
        if settings.module.is_some() && settings.filters == Some(Filters::Native) {
            let reason = "only the form `wasm` can come with the configuration; `native` is a file";
            return Err(field("module", reason.to_owned()));
        }
        let expects_tls =
            settings.control_plane_name.is_some() || settings.control_plane_certificate.is_some();
        if settings.control_plane_ca.is_none() && expects_tls {
            // Without this error, a misspelled or forgotten field would mean plain text.
            return Err(field("control_plane_ca", "TLS to the control plane needs it".to_owned()));
        }
        if settings.control_plane_ca.is_some() && settings.tls_name().parse::<IpAddr>().is_ok() {
            let reason = "must be a DNS name of the control plane's certificate".to_owned();
            return Err(field("control_plane_name", reason));
        }
        Ok(settings)
    }

    fn tls_name(&self) -> &str {
        self.control_plane_name.as_ref().unwrap_or(&self.control_plane_address)
    }

    fn control_plane_tls(&self) -> Result<Option<ControlPlaneTls>, BuildError> {
        let Some(path) = &self.control_plane_ca else { return Ok(None) };
        Ok(Some(ControlPlaneTls {
            authorities: Authorities::Text(read(path)?),
            name: self.tls_name().to_owned(),
            certificate: self.control_plane_certificate.clone(),
        }))
    }

    /// The values of `edge.yaml`.
    ///
    /// # Errors
    ///
    /// If the issuers of the control plane's certificate can't be read.
    pub fn edge(&self) -> Result<Edge, BuildError> {
        let sandboxes = (self.sandbox_network.network(), self.sandbox_network.prefix_len());
        let default = Edge::new(&self.domain, &self.control_plane_address, sandboxes);
        // The stream replaces these files.
        let nowhere = || PathBuf::from("/nonexistent");
        Ok(Edge {
            address: self.edge_address.unwrap_or(default.address),
            port: self.edge_port.unwrap_or(default.port),
            tls_port: self.edge_tls_port.unwrap_or(default.tls_port),
            tls_sds: nowhere(),
            listener_filters: self.listener_filters.clone().unwrap_or(default.listener_filters),
            trusted_hops: self.trusted_hops.unwrap_or(default.trusted_hops),
            admin_port: self.admin_port.unwrap_or(default.admin_port),
            control_plane_address: default.control_plane_address,
            control_plane_tls: self.control_plane_tls()?,
            api_port: self.api_port.unwrap_or(default.api_port),
            gateway_port: self.gateway_port.unwrap_or(default.gateway_port),
            gateway_token_sds: nowhere(),
            filters: self.filters.unwrap_or(default.filters),
            wasm: self.wasm.clone().unwrap_or(default.wasm),
            native: self.native.clone().unwrap_or(default.native),
            domain: default.domain,
            second_domain: self.second_domain.clone().unwrap_or(default.second_domain),
            api_host: self.api_host.clone().unwrap_or(default.api_host),
            sandbox_network: default.sandbox_network,
            sandbox_prefix_len: default.sandbox_prefix_len,
            upstream: self.upstream.unwrap_or(default.upstream),
            stream_idle_timeout: self
                .stream_idle_timeout_seconds
                .map_or(default.stream_idle_timeout, Duration::from_secs),
            trusted_origins: self.trusted_origins.clone().unwrap_or(default.trusted_origins),
            ingress_limits: self.ingress_limits.clone().unwrap_or(default.ingress_limits),
            heap: self.edge_heap.unwrap_or(default.heap),
            connections: self.edge_connections.unwrap_or(default.connections),
            log: nowhere(),
        })
    }

    /// The files of the control plane from which the configuration is made.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.gateway_token_file.clone()];
        files.extend(
            self.certificate.iter().flat_map(|it| [it.join("tls.crt"), it.join("tls.key")]),
        );
        files.extend(self.control_plane_ca.clone());
        files.extend(self.module.iter().map(|module| module.file.clone()));
        files
    }
}

/// Reads a value by its name.
fn from_name<'a, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'a>,
    T: FromStr<Err: Display>,
{
    let name = Option::<String>::deserialize(deserializer)?;
    name.map(|name| name.parse().map_err(D::Error::custom)).transpose()
}
