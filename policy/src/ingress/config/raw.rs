//! The wire form of the configuration, as the operator wrote it.

use ipnet::IpNet;
use serde::Deserialize;

use super::limits::Limits;
use super::upstream::Upstream;

/// The JSON that Envoy passes to the filter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawIngressConfig {
    /// The format version of this document: 1.
    pub version: u32,
    /// The domains under which sandboxes are reached, without a leading dot: `sandbox.example.com`.
    pub domains: Vec<String>,
    /// Further hosts of the public API. For `sandbox.example.com`, Tensorlake's clients call `api.example.com`,
    /// which is not below that domain.
    #[serde(default)]
    pub api_hosts: Vec<String>,
    /// The settings of calls to the gateway API.
    pub control_plane: RawControlPlane,
    /// How Envoy finds the upstream host of a permitted request.
    #[serde(default)]
    pub upstream: Upstream,
    /// The ranges of the sandboxes' addresses. No request is forwarded to any other address.
    pub sandbox_cidrs: Vec<IpNet>,
    /// The prefixes of the platform's credentials.
    #[serde(default = "platform_prefixes")]
    pub platform_prefixes: Vec<String>,
    /// The prefixes of personal access tokens. Each must start with one of `platform_prefixes`.
    #[serde(default = "pat_prefixes")]
    pub personal_access_token_prefixes: Vec<String>,
    /// The browser origins whose requests may use a cookie credential, for example `https://app.example.com`. The
    /// origin of a sandbox's own host may always use one for that sandbox.
    #[serde(default)]
    pub trusted_origins: Vec<String>,
    /// The limits in time and number.
    #[serde(default)]
    pub limits: Limits,
}

/// The settings of calls to the gateway API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawControlPlane {
    /// The Envoy cluster of the control plane. Its configuration adds the gateway's own credential.
    pub cluster: String,
    /// The `:authority` of the calls.
    #[serde(default = "authority")]
    pub authority: String,
    /// The timeout of a lookup, in milliseconds.
    #[serde(default = "lookup_timeout_ms")]
    pub timeout_ms: u32,
}

fn platform_prefixes() -> Vec<String> {
    vec!["tl_".into()]
}
/// The default prefix of personal access tokens.
pub const PERSONAL_ACCESS_TOKEN_PREFIX: &str = "tl_pat";

fn pat_prefixes() -> Vec<String> {
    vec![PERSONAL_ACCESS_TOKEN_PREFIX.into()]
}
fn authority() -> String {
    "gateway.sandgate.internal".into()
}
fn lookup_timeout_ms() -> u32 {
    2_000
}
