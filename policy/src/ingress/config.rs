//! The ingress filter's configuration: its wire form, and the checked form that the filter uses.
//!
//! An unknown field in the wire form is an error, so that a typo can't disable a protection unnoticed.
//! [`IngressConfig::try_from`] checks what the types of the wire form can't express.

mod check;
mod error;
mod limits;
mod raw;
pub mod upstream;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::authority::HostName;
use super::concurrency::Shares;
use super::domain::Domain;

pub use error::ConfigError;
pub use limits::Limits;
pub use raw::{PERSONAL_ACCESS_TOKEN_PREFIX, RawControlPlane, RawIngressConfig};
pub use upstream::Upstream;

/// The checked configuration that the filter uses.
#[derive(Clone, Debug)]
pub struct IngressConfig {
    domains: Vec<Domain>,
    api_hosts: Vec<Domain>,
    control_plane: RawControlPlane,
    upstream: Upstream,
    sandbox_cidrs: Vec<IpNet>,
    platform_prefixes: Vec<String>,
    personal_access_token_prefixes: Vec<String>,
    trusted_origins: Vec<String>,
    limits: Limits,
    shares: Shares,
}

impl IngressConfig {
    /// Parses and checks the JSON of a filter's configuration.
    ///
    /// # Errors
    /// [`ConfigError`], which names the field.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        serde_json::from_slice::<RawIngressConfig>(json)?.try_into()
    }

    /// The domains under which sandboxes are reached.
    #[must_use]
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// Whether a host name is one of the further hosts of the public API, outside the domains.
    #[must_use]
    pub fn is_api_host(&self, host: &HostName) -> bool {
        self.api_hosts.iter().any(|api| api.as_str() == host.as_str())
    }

    /// The settings of calls to the gateway API.
    #[must_use]
    pub fn control_plane(&self) -> &RawControlPlane {
        &self.control_plane
    }

    /// How Envoy finds the upstream host of a permitted request.
    #[must_use]
    pub fn upstream(&self) -> Upstream {
        self.upstream
    }

    /// The limits in time and number.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The slots of one sandbox that each class of requests may take.
    #[must_use]
    pub fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Whether a text names the networks of `sandbox_cidrs` and no other, separated by commas.
    #[must_use]
    pub fn are_sandbox_networks(&self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let parse = |network: &str| network.trim().parse().map(|network: IpNet| network.trunc());
        let named: Result<BTreeSet<IpNet>, _> = text.split(',').map(parse).collect();
        named.is_ok_and(|named| named == self.sandbox_cidrs.iter().map(IpNet::trunc).collect())
    }

    /// Whether the address is in `sandbox_cidrs`, so that requests may be forwarded to it.
    #[must_use]
    pub fn is_sandbox_address(&self, address: IpAddr) -> bool {
        self.sandbox_cidrs.iter().any(|range| range.contains(&address))
    }

    /// Whether a token has the prefix of a credential of the platform.
    #[must_use]
    pub fn is_platform_secret(&self, token: &[u8]) -> bool {
        self.platform_prefixes.iter().any(|prefix| token.starts_with(prefix.as_bytes()))
    }

    /// Whether a token has the prefix of a personal access token.
    #[must_use]
    pub fn is_personal_access_token(&self, token: &str) -> bool {
        self.personal_access_token_prefixes.iter().any(|prefix| token.starts_with(prefix))
    }

    /// The trusted origin that equals the value of a browser's `Origin` header (RFC 6454, section 6.2), if there is
    /// one.
    #[must_use]
    pub fn trusted_origin(&self, origin: &[u8]) -> Option<&str> {
        let known = |known: &&String| origin.eq_ignore_ascii_case(known.as_bytes());
        self.trusted_origins.iter().find(known).map(String::as_str)
    }
}
