//! The settings that a test can change.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use sandgate_envoy_config::{Edge, Filters, Upstream};
use sandgate_stack::control_plane::DOMAIN;
use sandgate_stack::{Network, artifacts};
use serde_json::{Value, json};

use crate::stack::{API_HOST, SECOND_DOMAIN, upstream_of_this_run};

/// The settings of a stack. `Setup::default()` has the values of the local run.
pub struct Setup {
    /// The number of Envoys. They share one control plane.
    pub envoys: usize,
    /// Whether sandboxes run on an operator's platform, so that they outlive the control plane.
    pub webhook: bool,
    /// `limits` of the filter.
    pub limits: Value,
    /// Origins that may use cookies.
    pub trusted_origins: Value,
    /// The time without data after which Envoy ends a stream.
    pub stream_idle_timeout: Duration,
    /// How Envoy finds the upstream host; `None` for the setting of this run of the tests.
    pub upstream: Option<Upstream>,
    /// A filter to run instead of the real one, as WebAssembly text.
    pub filter: Option<&'static str>,
    /// `--drain-seconds` of the control plane.
    pub drain_seconds: u32,
    /// `SANDGATE_LISTENER_FILTERS` of the edge.
    pub listener_filters: Value,
    /// The number of trusted proxies in front of the edge.
    pub trusted_hops: u32,
    /// Envoy's heap, in bytes.
    pub heap: u64,
    /// The number of connections that clients may have at a time.
    pub connections: u32,
    /// Changes Envoy's configuration.
    pub change: fn(&str) -> String,
    /// Whether the Envoys get their configuration by xDS.
    pub by_xds: bool,
    /// Whether the control plane uses TLS, and what the edge expects of it.
    pub tls_to_control_plane: TlsToControlPlane,
    /// Changes the limit for lines in the access log.
    pub change_log: fn(&str) -> String,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            envoys: 1,
            webhook: false,
            limits: json!({}),
            trusted_origins: json!([]),
            stream_idle_timeout: Duration::from_secs(3600),
            upstream: None,
            filter: None,
            drain_seconds: 20,
            listener_filters: json!([]),
            trusted_hops: 0,
            heap: 2 << 30,
            connections: 50_000,
            by_xds: false,
            tls_to_control_plane: TlsToControlPlane::Absent,
            change: str::to_owned,
            change_log: str::to_owned,
        }
    }
}

/// TLS between edge and control plane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsToControlPlane {
    Absent,
    /// Both sides have what they need.
    Right,
    /// The edge expects another name in the certificate.
    OtherName,
    /// The edge trusts another issuer.
    OtherIssuer,
    /// The edge has no certificate, although the gateway API demands one.
    NoCertificate,
    /// The edge uses plain text.
    PlainText,
}

impl Setup {
    /// The values of the edges, without the ports of the control plane. `folder` is for the file of another filter.
    pub(crate) fn edge(&self, network: &Network, folder: &Path) -> Result<Edge> {
        let wasm = match self.filter {
            Some(text) => {
                let path = folder.join("other-filter.wasm");
                std::fs::write(&path, wat::parse_str(text)?)?;
                path
            }
            None => artifacts::wasm_filter(),
        };
        let sandboxes = (network.base().into(), Network::PREFIX_LEN);
        Ok(Edge {
            second_domain: SECOND_DOMAIN.to_owned(),
            api_host: API_HOST.to_owned(),
            upstream: self.upstream.map_or_else(upstream_of_this_run, Ok)?,
            stream_idle_timeout: self.stream_idle_timeout,
            trusted_origins: self.trusted_origins.clone(),
            ingress_limits: self.limits.clone(),
            listener_filters: self.listener_filters.clone(),
            trusted_hops: self.trusted_hops,
            heap: self.heap,
            connections: self.connections,
            // The system chooses the ports, and those of the control plane follow.
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            tls_port: 0,
            admin_port: 0,
            filters: if self.filter.is_some() { Filters::Wasm } else { artifacts::filters()? },
            wasm,
            native: artifacts::native_module(),
            ..Edge::new(DOMAIN, "127.0.0.1", sandboxes)
        })
    }
}
