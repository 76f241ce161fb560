//! Checks what the types of the wire form can't express.

use crate::ingress::domain::Domain;

use super::IngressConfig;
use super::error::{ConfigError, wrong};
use super::limits::{check_limits, check_shares};
use super::raw::RawIngressConfig;

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
            upstream: raw.upstream,
            sandbox_cidrs: raw.sandbox_cidrs,
            platform_prefixes: raw.platform_prefixes,
            personal_access_token_prefixes: raw.personal_access_token_prefixes,
            trusted_origins: raw.trusted_origins,
            limits: raw.limits,
            shares,
        })
    }
}

/// Whether the text is an origin as browsers send it: a scheme, a host, and a port unless it is the default port of the
/// scheme. Any other text would never equal an `Origin` header.
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
        parsed.map_err(|error| wrong("domains", format!("has an invalid entry: {error}")))?;
    if domains.is_empty() {
        return Err(wrong("domains", "is empty; name the domain that sandboxes are reached under"));
    }
    for (at, domain) in domains.iter().enumerate() {
        // With nested domains, a host would have two meanings.
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
        parsed.map_err(|error| wrong("api_hosts", format!("has an invalid entry: {error}")))?;
    for host in &hosts {
        // The host would also be the host of a sandbox.
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
    // An empty prefix would match every token, also those of the apps. A prefix with a space or a separator would never
    // match, so the platform's tokens would not be recognized.
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
