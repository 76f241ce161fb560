//! Step 6: what must not cross the gateway, in either direction.
//!
//! A sandbox never receives a platform secret that can be recognized, nor anything that looks as
//! if the platform had said it. What it answers can't plant the platform's cookies.

use crate::config::IngressConfig;
use crate::context::{ORGANIZATION_HEADER, PROJECT_HEADER};
use crate::cookie::{settable, without_secrets};
use crate::credential::{Credential, Place, bearer_token};
use crate::head::{Head, Headers};
use crate::host::normalize;
use crate::ingress::Caller;

/// A change to a header map.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HeaderChange {
    /// Remove every value of this name, which is as it came.
    Remove(String),
    /// Replace every value of this name.
    Set(String, Vec<u8>),
    /// Add one more value.
    Add(String, Vec<u8>),
}

/// Prefixes of headers that only the platform may set.
const INTERNAL_PREFIXES: [&str; 4] =
    ["x-tensorlake-sandbox-", "x-tensorlake-route-hint", "x-sandgate-", "x-envoy-"];

/// Headers in which a proxy tells apps of the client. A client's own word for it reaches none of them:
/// Envoy has replaced these two, and what it does not set is removed.
const SET_BY_ENVOY: [&str; 2] = ["x-forwarded-for", "x-forwarded-proto"];
const FORWARDING_PREFIX: &str = "x-forwarded-";
/// The same by other names: RFC 7239's, and those of well-known proxies.
const FORWARDING: [&str; 6] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
];

/// A bare platform secret in a header or cookie that is none of the usual ones is at least this
/// long; words that only start like one (the locale `tl_PH`) are shorter.
const BARE_SECRET_MIN: usize = 20;

/// Many servers read `_` and `-` in header names as the same (CGI, WSGI), so both are judged alike.
fn canonical(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// What to change in a request before a sandbox gets it.
///
/// `used` is the credential that the decision rested on and `caller` whom it stands for: both
/// `None` on a public port.
#[must_use]
pub fn clean_request(
    head: Head<'_>,
    config: &IngressConfig,
    used: Option<&Credential>,
    caller: Option<&Caller>,
) -> Vec<HeaderChange> {
    let mut changes = Vec::new();
    for (name, value) in head.iter().filter(|(name, _)| !name.starts_with(':')) {
        let canonical = canonical(name);
        let internal = INTERNAL_PREFIXES.iter().any(|prefix| canonical.starts_with(prefix));
        // By the name as it came: `x_forwarded_for` is not what Envoy has set.
        let claimed = !SET_BY_ENVOY.contains(&name)
            && (canonical.starts_with(FORWARDING_PREFIX)
                || FORWARDING.contains(&canonical.as_str()));
        if internal || claimed || is_secret(&canonical, value, config, used) {
            let removal = HeaderChange::Remove(name.to_owned());
            if !changes.contains(&removal) {
                changes.push(removal);
            }
        }
    }
    if let Some(rest) = without_secrets(head, |value| is_bare_secret(value, config, used)) {
        changes.push(HeaderChange::Remove("cookie".into()));
        if !rest.is_empty() {
            changes.push(HeaderChange::Add("cookie".into(), rest));
        }
    }
    // A proxy in the sandbox drops what `Connection` names: it must not name what was just verified,
    // and Envoy, which drops such headers itself, leaves the list of an upgrade as it is.
    if head.first("upgrade").is_some() && head.all("connection").any(names_more) {
        changes.push(HeaderChange::Set("connection".into(), b"Upgrade".to_vec()));
    }
    if let Some(caller) = caller {
        let mut set = |name: &str, value: &str| {
            changes.push(HeaderChange::Set(name.into(), value.as_bytes().to_vec()));
        };
        set(ORGANIZATION_HEADER, &caller.organization_id);
        set(PROJECT_HEADER, &caller.project_id);
    }
    changes
}

/// Whether a `Connection` header names more than the upgrade itself.
fn names_more(value: &[u8]) -> bool {
    let items = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    items.filter(|item| !item.is_empty()).any(|item| !item.eq_ignore_ascii_case(b"upgrade"))
}

/// What to change in the trailers of a request: nothing in there was verified.
#[must_use]
pub fn clean_trailers(
    trailers: Head<'_>,
    config: &IngressConfig,
    used: Option<&Credential>,
) -> Vec<HeaderChange> {
    clean_request(trailers, config, used, None)
}

fn is_secret(name: &str, value: &[u8], config: &IngressConfig, used: Option<&Credential>) -> bool {
    let in_bearer =
        |used: &Credential| matches!(used.place(), Place::PlatformBearer | Place::OtherBearer);
    let token = bearer_token(value).unwrap_or(value).trim_ascii();
    match name {
        // Judged one by one: the name of the first may start like a secret.
        "cookie" => false,
        "authorization" if used.is_some_and(in_bearer) => true,
        // Joined or wrapped in another scheme, it is a secret all the same.
        "authorization" | "proxy-authorization" => value
            .split(|b| matches!(b, b' ' | b'\t' | b',' | b'=' | b':' | b';' | b'"' | b'\''))
            .chain([token])
            .any(|word| is_used(word, used) || config.is_platform_secret(word)),
        _ => is_bare_secret(token, config, used),
    }
}

/// Whether a value is a secret as a whole, with or without quotes or `Bearer`.
fn is_bare_secret(value: &[u8], config: &IngressConfig, used: Option<&Credential>) -> bool {
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    let value = value.strip_suffix(b"\"").unwrap_or(value);
    let value = bearer_token(value).unwrap_or(value).trim_ascii();
    is_used(value, used) || (value.len() >= BARE_SECRET_MIN && config.is_platform_secret(value))
}

fn is_used(value: &[u8], used: Option<&Credential>) -> bool {
    used.is_some_and(|used| value == used.secret().expose().as_bytes())
}

/// What to change in a request to the lifecycle API: it judges credentials and context by itself.
#[must_use]
pub fn clean_api_request(head: Head<'_>) -> Vec<HeaderChange> {
    let internal = |name: &str| {
        let canonical = canonical(name);
        canonical.starts_with("x-sandgate-") || canonical.starts_with("x-envoy-")
    };
    head.iter()
        .filter(|(name, _)| internal(name))
        .map(|(name, _)| HeaderChange::Remove(name.to_owned()))
        .collect()
}

/// What to change in a sandbox's answer before the client gets it. `authority` is the request's.
#[must_use]
pub fn clean_response(headers: &Headers, authority: &[u8]) -> Vec<HeaderChange> {
    let mut changes: Vec<HeaderChange> = headers
        .iter()
        .filter(|(name, _)| canonical(name).starts_with("x-sandgate-"))
        .map(|(name, _)| HeaderChange::Remove(name.clone()))
        .collect();
    let host = normalize(authority).unwrap_or_default();
    let cookies: Vec<&Vec<u8>> =
        headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value).collect();
    let kept: Vec<Vec<u8>> = cookies.iter().filter_map(|cookie| settable(cookie, &host)).collect();
    if !cookies.into_iter().eq(&kept) {
        changes.push(HeaderChange::Remove("set-cookie".into()));
        changes
            .extend(kept.into_iter().map(|cookie| HeaderChange::Add("set-cookie".into(), cookie)));
    }
    changes
}
