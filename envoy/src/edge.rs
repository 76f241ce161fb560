//! The values of `edge.yaml`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::control_plane_tls::{self, ControlPlaneTls};
use crate::filters::{Filters, INGRESS_CONFIGURATION};
use crate::parts::insert;
use crate::template::{RenderError, Values, collect, render};
use crate::upstream::Upstream;
use crate::value::Value;

/// The edge's bootstrap as a template. Its head explains each name.
pub const EDGE_TEMPLATE: &str = include_str!("../edge.yaml");
/// The file that [`Edge::log`] points to. It is not a template.
pub const EDGE_LOG: &str = include_str!("../edge-log.yaml");

/// The values of the edge's bootstrap.
#[derive(Clone, Debug)]
pub struct Edge {
    pub address: IpAddr,
    pub port: u16,
    pub tls_port: u16,
    pub tls_sds: PathBuf,
    pub listener_filters: serde_json::Value,
    pub trusted_hops: u32,
    pub admin_port: u16,
    /// A host name or an address, or several of them in the order of preference, separated by commas.
    pub control_plane_address: String,
    /// TLS to the control plane; without it, the edge uses plain text.
    pub control_plane_tls: Option<ControlPlaneTls>,
    pub api_port: u16,
    pub gateway_port: u16,
    pub gateway_token_sds: PathBuf,
    pub filters: Filters,
    /// The filter, if `filters` is [`Filters::Wasm`].
    pub wasm: PathBuf,
    /// The module, if `filters` is [`Filters::Native`].
    pub native: PathBuf,
    pub domain: String,
    pub second_domain: String,
    pub api_host: String,
    pub sandbox_network: IpAddr,
    pub sandbox_prefix_len: u8,
    pub upstream: Upstream,
    pub stream_idle_timeout: Duration,
    pub trusted_origins: serde_json::Value,
    pub ingress_limits: serde_json::Value,
    /// In bytes.
    pub heap: u64,
    pub connections: u32,
    pub log: PathBuf,
}

impl Edge {
    /// The edge of a domain, with the default of each other value. Its files are those of the image. `sandboxes` is the
    /// network of the sandboxes, with the length of its prefix.
    #[must_use]
    pub fn new(domain: &str, control_plane_address: &str, sandboxes: (IpAddr, u8)) -> Self {
        let (sandbox_network, sandbox_prefix_len) = sandboxes;
        let edge = Self {
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 9443,
            tls_port: 9444,
            tls_sds: PathBuf::new(),
            listener_filters: json!([]),
            trusted_hops: 0,
            admin_port: 9901,
            control_plane_address: control_plane_address.to_owned(),
            control_plane_tls: None,
            api_port: 8900,
            gateway_port: 8901,
            gateway_token_sds: PathBuf::new(),
            filters: Filters::default(),
            wasm: PathBuf::new(),
            native: PathBuf::new(),
            domain: domain.to_owned(),
            second_domain: "local".to_owned(),
            api_host: api_host(domain),
            sandbox_network,
            sandbox_prefix_len,
            upstream: Upstream::default(),
            stream_idle_timeout: Duration::from_secs(3600),
            trusted_origins: json!([]),
            ingress_limits: json!({}),
            heap: 2 << 30,
            connections: 50_000,
            log: PathBuf::new(),
        };
        let folder = Path::new("/etc/sandgate");
        edge.with_files_in(folder, folder)
    }

    /// Takes the filter and `edge-log.yaml` from one folder, and the files that are rendered beside `edge.yaml` from
    /// another one.
    #[must_use]
    pub fn with_files_in(self, templates: &Path, rendered: &Path) -> Self {
        Self {
            tls_sds: rendered.join("tls-certificate.yaml"),
            gateway_token_sds: rendered.join("gateway-token.yaml"),
            wasm: templates.join("sandgate_ingress.wasm"),
            native: templates.join("libsandgate_native.so"),
            log: templates.join("edge-log.yaml"),
            ..self
        }
    }

    /// Returns Envoy's bootstrap.
    ///
    /// # Errors
    ///
    /// If a value is invalid.
    pub fn render(&self) -> Result<String, RenderError> {
        self.render_template(&self.template()?)
    }

    /// [`EDGE_TEMPLATE`] with the parts of the settings inserted.
    ///
    /// # Errors
    ///
    /// If a part does not exist, which a test excludes.
    pub fn template(&self) -> Result<String, RenderError> {
        let tls = control_plane_tls::control_plane_parts(self.control_plane_tls.as_ref());
        let parts = [self.filters.parts(), INGRESS_CONFIGURATION, self.upstream.parts(), tls];
        insert(EDGE_TEMPLATE, &parts)
    }

    /// The file that contains the filter.
    #[must_use]
    pub fn filter(&self) -> &Path {
        match self.filters {
            Filters::Wasm => &self.wasm,
            Filters::Native => &self.native,
        }
    }

    /// Renders another template with the same names.
    ///
    /// # Errors
    ///
    /// If a value is invalid, or the template contains another name.
    pub fn render_template(&self, template: &str) -> Result<String, RenderError> {
        render(template, &self.values()?)
    }

    fn values(&self) -> Result<Values, RenderError> {
        let tls = self.control_plane_tls.as_ref();
        let control_planes = &self.control_plane_address;
        collect([
            ("SANDGATE_EDGE_ADDRESS", Ok(Value::address(self.address))),
            ("SANDGATE_EDGE_PORT", Ok(Value::number(self.port))),
            ("SANDGATE_EDGE_TLS_PORT", Ok(Value::number(self.tls_port))),
            ("SANDGATE_TLS_SDS", Value::path(&self.tls_sds)),
            ("SANDGATE_LISTENER_FILTERS", Ok(Value::from_json(&self.listener_filters))),
            ("SANDGATE_TRUSTED_HOPS", Ok(Value::number(self.trusted_hops))),
            ("SANDGATE_ADMIN_PORT", Ok(Value::number(self.admin_port))),
            ("SANDGATE_CONTROL_PLANE_NAME", Value::host(tls.map_or("none", |tls| &tls.name))),
            (
                "SANDGATE_CONTROL_PLANE_CA",
                Ok(Value::from_json(&control_plane_tls::authorities(tls))),
            ),
            (
                "SANDGATE_CONTROL_PLANE_CERTIFICATE",
                Ok(Value::from_json(&control_plane_tls::certificates(tls))),
            ),
            ("SANDGATE_API_ENDPOINTS", Value::endpoints(control_planes, self.api_port)),
            ("SANDGATE_GATEWAY_ENDPOINTS", Value::endpoints(control_planes, self.gateway_port)),
            ("SANDGATE_GATEWAY_TOKEN_SDS", Value::path(&self.gateway_token_sds)),
            ("SANDGATE_WASM", Value::path(&self.wasm)),
            ("SANDGATE_NATIVE", Value::path(&self.native)),
            ("SANDGATE_DOMAIN", Value::host(&self.domain)),
            ("SANDGATE_SECOND_DOMAIN", Value::host(&self.second_domain)),
            ("SANDGATE_API_HOST", Value::host(&self.api_host)),
            ("SANDGATE_SANDBOX_NETWORK", Ok(Value::address(self.sandbox_network))),
            ("SANDGATE_SANDBOX_PREFIX_LEN", Ok(Value::number(self.sandbox_prefix_len))),
            ("SANDGATE_UPSTREAM", Value::host(self.upstream.name())),
            ("SANDGATE_STREAM_IDLE_TIMEOUT", Ok(Value::duration(self.stream_idle_timeout))),
            ("SANDGATE_TRUSTED_ORIGINS", Ok(Value::from_json(&self.trusted_origins))),
            ("SANDGATE_INGRESS_LIMITS", Ok(Value::from_json(&self.ingress_limits))),
            ("SANDGATE_EDGE_HEAP", Ok(Value::number(self.heap))),
            ("SANDGATE_EDGE_CONNECTIONS", Ok(Value::number(self.connections))),
            ("SANDGATE_EDGE_LOG", Value::path(&self.log)),
        ])
    }
}

/// The host where Tensorlake's clients expect the API of a domain.
fn api_host(domain: &str) -> String {
    match domain.strip_prefix("sandbox.") {
        Some(parent) => format!("api.{parent}"),
        None => "api.localhost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::tests_support::names;

    #[test]
    fn the_head_of_the_template_lists_every_name_and_every_value_is_used() {
        let edge = crate::environment::tests_support::edge_with_tls();
        for upstream in [Upstream::DynamicForwardProxy, Upstream::OriginalDst] {
            let form = |filters| Edge { upstream, filters, ..edge.clone() }.template().unwrap();
            // A file has the values of one form.
            let template = form(Filters::Wasm) + &form(Filters::Native);
            let (head, body) = template.split_once("\nnode:").unwrap();
            let listed: std::collections::BTreeSet<&str> = head
                .lines()
                .filter_map(|line| line.strip_prefix("#   SANDGATE_"))
                .filter_map(|line| line.split_whitespace().next())
                .collect();
            let names: std::collections::BTreeSet<&str> =
                names(body).into_iter().filter_map(|name| name.strip_prefix("SANDGATE_")).collect();
            assert_eq!(listed, names);
            let values = edge.values().unwrap();
            assert_eq!(
                listed,
                values.keys().filter_map(|name| name.strip_prefix("SANDGATE_")).collect()
            );
        }
    }
}
