//! The wire form of the configuration, as the operator wrote it.

use ipnet::IpNet;
use serde::Deserialize;

use super::limits::Limits;

/// The JSON that Envoy hands to the filter, as the operator wrote it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawIngressConfig {
    /// Format of this document; 1.
    pub version: u32,
    /// Domains under which sandboxes are reached, without a leading dot: `sandbox.example.com`.
    pub domains: Vec<String>,
    /// Further hosts of the lifecycle API. Tensorlake's clients look for that of `sandbox.example.com`
    /// at `api.example.com`, which is beside the domain and not below it.
    #[serde(default)]
    pub api_hosts: Vec<String>,
    /// How to reach the gateway API.
    pub control_plane: RawControlPlane,
    /// The only addresses that traffic is ever sent to.
    pub sandbox_cidrs: Vec<IpNet>,
    /// What the platform's own secrets start with.
    #[serde(default = "platform_prefixes")]
    pub platform_prefixes: Vec<String>,
    /// What personal access tokens start with; each starts with a platform prefix itself.
    #[serde(default = "pat_prefixes")]
    pub personal_access_token_prefixes: Vec<String>,
    /// Browser origins, apart from a sandbox host itself, that may use a cookie credential:
    /// `https://app.example.com`.
    #[serde(default)]
    pub trusted_origins: Vec<String>,
    /// Bounds in time and number.
    #[serde(default)]
    pub limits: Limits,
}

/// How the filter reaches the gateway API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawControlPlane {
    /// Name of the Envoy cluster, which also adds the gateway's own credential.
    pub cluster: String,
    /// `:authority` of the calls.
    #[serde(default = "authority")]
    pub authority: String,
    /// How long one lookup may take, in milliseconds.
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
