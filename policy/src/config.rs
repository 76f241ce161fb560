//! The ingress filter's configuration: its wire form, and the checked form that the filter uses.
//!
//! The wire form is strict: a field that is not known is an error, so that a typo can't switch a
//! protection off in silence. [`IngressConfig::try_from`] checks what types can't say.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use crate::budget::Shares;
use crate::host::{Domain, normalize};

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
fn pat_prefixes() -> Vec<String> {
    vec!["tl_pat".into()]
}
fn authority() -> String {
    "gateway.sandgate.internal".into()
}
fn lookup_timeout_ms() -> u32 {
    2_000
}

/// Bounds in time (milliseconds) and number. The defaults are the design's.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long what exists is believed while the change feed works.
    pub positive_ttl_ms: u32,
    /// How long what does not exist is believed.
    pub negative_ttl_ms: u32,
    /// How long anything is believed while the change feed does not work.
    pub no_feed_ttl_ms: u32,
    /// How old a known route may be while the control plane can't be asked.
    pub stale_sandbox_ms: u32,
    /// How old a known credential may be while the control plane can't be asked.
    pub stale_credential_ms: u32,
    /// Entries in each of the two caches of a VM.
    pub cache_entries: usize,
    /// Requests of a VM that wait for an answer.
    pub waiters: usize,
    /// Those of them that wait for a resume of one project's sandboxes: the rest is for others.
    pub resume_waiters_per_project: usize,
    /// Lookups of a VM under way at once.
    pub lookups_in_flight: usize,
    /// Requests to one sandbox in flight through one VM (one Envoy worker thread), of all classes
    /// together; [`Shares`] says how many of them each class may have.
    pub requests_per_sandbox: usize,
    /// When all places for anonymous requests are taken, a stream on which nothing was sent for this
    /// long gives way to a new request.
    pub anonymous_silence_ms: u32,
    /// How long a request waits for a resume when its client does not say.
    pub resume_wait_ms: u32,
    /// How often requests to public ports may resume one sandbox: once in this time.
    pub public_resume_interval_ms: u32,
    /// How long the change feed's call is held by the control plane.
    pub feed_wait_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            positive_ttl_ms: 30_000,
            negative_ttl_ms: 2_000,
            no_feed_ttl_ms: 5_000,
            stale_sandbox_ms: 300_000,
            stale_credential_ms: 60_000,
            cache_entries: 10_000,
            waiters: 1_000,
            resume_waiters_per_project: 250,
            lookups_in_flight: 256,
            requests_per_sandbox: 1_000,
            anonymous_silence_ms: 60_000,
            resume_wait_ms: 30_000,
            public_resume_interval_ms: 10_000,
            feed_wait_ms: 25_000,
        }
    }
}

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

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not the JSON that is expected.
    #[error("the ingress configuration is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// A value that can't be used.
    #[error("the ingress configuration's `{field}` {problem}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it, and what is expected.
        problem: String,
    },
}

fn wrong(field: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Field { field, problem: problem.into() }
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
    pub fn is_api_host(&self, authority: &[u8]) -> bool {
        normalize(authority)
            .is_some_and(|host| self.api_hosts.iter().any(|api| api.as_str() == host))
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

    /// How many of one sandbox's places each class of requests may take.
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

impl TryFrom<RawIngressConfig> for IngressConfig {
    type Error = ConfigError;

    fn try_from(raw: RawIngressConfig) -> Result<Self, ConfigError> {
        if raw.version != 1 {
            return Err(wrong("version", format!("is {}; this filter reads 1", raw.version)));
        }
        if raw.control_plane.cluster.is_empty() {
            return Err(wrong("control_plane.cluster", "is empty; name an Envoy cluster"));
        }
        let authority = &raw.control_plane.authority;
        let in_authority = |b: u8| {
            b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']')
        };
        if authority.is_empty() || !authority.bytes().all(in_authority) {
            let problem = format!(
                "is `{}`; expected a host with an optional port, like `gateway.sandgate.internal`",
                authority.escape_debug()
            );
            return Err(wrong("control_plane.authority", problem));
        }
        if raw.control_plane.timeout_ms == 0 {
            return Err(wrong("control_plane.timeout_ms", "is 0; a lookup needs a time limit"));
        }
        check_prefixes(&raw)?;
        check_limits(&raw.limits)?;
        let shares = check_shares(&raw.limits)?;
        if raw.sandbox_cidrs.is_empty() {
            return Err(wrong("sandbox_cidrs", "is empty; without it no sandbox can be reached"));
        }
        if let Some(origin) = raw.trusted_origins.iter().find(|origin| !is_origin(origin)) {
            let problem = format!(
                "holds `{origin}`; expected an origin as browsers send it, like `https://app.example.com`"
            );
            return Err(wrong("trusted_origins", problem));
        }
        let domains = check_domains(&raw.domains)?;
        Ok(Self {
            api_hosts: check_api_hosts(&raw.api_hosts, &domains)?,
            domains,
            control_plane: raw.control_plane,
            sandbox_cidrs: raw.sandbox_cidrs,
            platform_prefixes: raw.platform_prefixes,
            personal_access_token_prefixes: raw.personal_access_token_prefixes,
            trusted_origins: raw.trusted_origins,
            limits: raw.limits,
            shares,
        })
    }
}

/// A scheme and a host, and a port unless it is the scheme's own: any other text would be compared
/// in vain.
fn is_origin(text: &str) -> bool {
    let (host, own_port) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(host), _) => (host, ":443"),
        (None, Some(host)) => (host, ":80"),
        (None, None) => return false,
    };
    let in_host = |b: u8| b.is_ascii_graphic() && !b"/*?#@,\\\"".contains(&b);
    !host.is_empty() && host.bytes().all(in_host) && !host.ends_with(own_port)
}

fn check_domains(raw: &[String]) -> Result<Vec<Domain>, ConfigError> {
    let parsed: Result<Vec<Domain>, _> = raw.iter().map(|text| Domain::parse(text)).collect();
    let domains =
        parsed.map_err(|error| wrong("domains", format!("holds a bad entry: {error}")))?;
    if domains.is_empty() {
        return Err(wrong("domains", "is empty; name the domain that sandboxes are reached under"));
    }
    for (at, domain) in domains.iter().enumerate() {
        // Nested domains would give one host two meanings.
        let other =
            domains.iter().enumerate().find(|(i, other)| *i != at && other.covers(domain.as_str()));
        if let Some((_, other)) = other {
            return Err(wrong(
                "domains",
                format!("holds `{domain}`, which `{other}` covers already"),
            ));
        }
    }
    Ok(domains)
}

fn check_api_hosts(raw: &[String], domains: &[Domain]) -> Result<Vec<Domain>, ConfigError> {
    let parsed: Result<Vec<Domain>, _> = raw.iter().map(|text| Domain::parse(text)).collect();
    let hosts =
        parsed.map_err(|error| wrong("api_hosts", format!("holds a bad entry: {error}")))?;
    for host in &hosts {
        // It would be a sandbox's host as well.
        if let Some(domain) = domains.iter().find(|domain| domain.covers(host.as_str())) {
            return Err(wrong(
                "api_hosts",
                format!("holds `{host}`, which the domain `{domain}` covers already"),
            ));
        }
    }
    Ok(hosts)
}

fn check_prefixes(raw: &RawIngressConfig) -> Result<(), ConfigError> {
    // Every token has an empty prefix, and none has one with a space or a separator: the first
    // would take the app's own bearers for ours, the other would miss ours in silence.
    let separators = b",;:=\"'\\";
    let in_prefix = |b: u8| b.is_ascii_graphic() && !separators.contains(&b);
    let bad = |prefix: &&String| prefix.is_empty() || !prefix.bytes().all(in_prefix);
    if let Some(prefix) = raw.platform_prefixes.iter().find(bad) {
        let problem = format!(
            "holds `{prefix}`; expected the visible ASCII that secrets start with, like `tl_`"
        );
        return Err(wrong("platform_prefixes", problem));
    }
    let unknown = raw
        .personal_access_token_prefixes
        .iter()
        .find(|pat| !raw.platform_prefixes.iter().any(|prefix| pat.starts_with(prefix.as_str())));
    match unknown {
        Some(pat) => Err(wrong(
            "personal_access_token_prefixes",
            format!("holds `{pat}`, which starts with none of `platform_prefixes`"),
        )),
        None => Ok(()),
    }
}

fn check_limits(limits: &Limits) -> Result<(), ConfigError> {
    let zero = [
        ("limits.cache_entries", limits.cache_entries == 0),
        ("limits.waiters", limits.waiters == 0),
        ("limits.resume_waiters_per_project", limits.resume_waiters_per_project == 0),
        ("limits.lookups_in_flight", limits.lookups_in_flight == 0),
    ];
    if let Some((field, _)) = zero.into_iter().find(|(_, is_zero)| *is_zero) {
        return Err(wrong(field, "is 0; nothing would pass"));
    }
    if limits.feed_wait_ms == 0 {
        let problem = "is 0; the control plane would be asked for changes without a pause";
        return Err(wrong("limits.feed_wait_ms", problem));
    }
    Ok(())
}

fn check_shares(limits: &Limits) -> Result<Shares, ConfigError> {
    let places = limits.requests_per_sandbox;
    Shares::of(places).ok_or_else(|| {
        let least = Shares::MIN;
        let problem = format!(
            "is {places}; expected at least {least}, one for each class of requests: management, authenticated, anonymous"
        );
        wrong("limits.requests_per_sandbox", problem)
    })
}
