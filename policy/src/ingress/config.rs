//! The ingress filter's configuration: its wire form, and the checked form that the filter uses.
//!
//! The wire form is strict: a field that is not known is an error, so that a typo can't switch a
//! protection off in silence. [`IngressConfig::try_from`] checks what types can't say.

mod check;
mod error;
mod limits;
mod raw;

use std::net::IpAddr;

use ipnet::IpNet;

use super::authority::Authority;
use super::concurrency::Shares;
use super::domain::Domain;

pub use error::ConfigError;
pub use limits::Limits;
pub use raw::{PERSONAL_ACCESS_TOKEN_PREFIX, RawControlPlane, RawIngressConfig};

/// A configuration that has been checked; what the filter works with.
#[derive(Clone, Debug)]
pub struct IngressConfig {
    domains: Vec<Domain>,
    api_hosts: Vec<Domain>,
    control_plane: RawControlPlane,
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
    /// [`ConfigError`], naming the field.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        serde_json::from_slice::<RawIngressConfig>(json)?.try_into()
    }

    /// Domains under which sandboxes are reached.
    #[must_use]
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// Whether an authority is a host of the lifecycle API that lies outside of the domains.
    #[must_use]
    pub fn is_api_host(&self, authority: &Authority) -> bool {
        self.api_hosts.iter().any(|api| api.as_str() == authority.host())
    }

    /// How to reach the gateway API.
    #[must_use]
    pub fn control_plane(&self) -> &RawControlPlane {
        &self.control_plane
    }

    /// Bounds in time and number.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many of one sandbox's slots each class of requests may take.
    #[must_use]
    pub fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Whether traffic may be sent to this address.
    #[must_use]
    pub fn is_sandbox_address(&self, address: IpAddr) -> bool {
        self.sandbox_cidrs.iter().any(|range| range.contains(&address))
    }

    /// Whether a token is one of the platform's own, by its prefix.
    #[must_use]
    pub fn is_platform_secret(&self, token: &[u8]) -> bool {
        self.platform_prefixes.iter().any(|prefix| token.starts_with(prefix.as_bytes()))
    }

    /// Whether a token is a personal access token, by its prefix.
    #[must_use]
    pub fn is_personal_access_token(&self, token: &str) -> bool {
        self.personal_access_token_prefixes.iter().any(|prefix| token.starts_with(prefix))
    }

    /// The trusted origin that a browser's `Origin` is (RFC 6454, section 6.2), if it is one.
    #[must_use]
    pub fn trusted_origin(&self, origin: &[u8]) -> Option<&str> {
        let known = |known: &&String| origin.eq_ignore_ascii_case(known.as_bytes());
        self.trusted_origins.iter().find(known).map(String::as_str)
    }
}
