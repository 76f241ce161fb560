//! The changes to header fields and trailers that cross the gateway, in both directions.
//!
//! A sandbox receives no recognizable platform secret, and no field that looks as if the platform had set it. A
//! response can't set the platform's cookies or control the proxies in front of the edge. Trailers can't replace header
//! fields.

pub(crate) mod names;

use super::Caller;
use super::authority::HostName;
use super::config::IngressConfig;
use super::cookie::{settable, without_secrets};
use super::credential::{Credential, CredentialSource, bearer_token};
use super::head::Head;
use super::project_context::{ORGANIZATION_HEADER, PROJECT_HEADER};

use self::names::{
    CLAIMS, INTERNAL_TO_API, NOT_FROM_CLIENTS, NOT_IN_TRAILERS, Name, SET_BY_ENVOY, STEERING,
};

/// A change to a header map.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HeaderChange {
    /// Remove every value of this name, which is in the spelling in which it was received.
    Remove(String),
    /// Replace every value of this name.
    Set(&'static str, Vec<u8>),
    /// Add one more value.
    Add(&'static str, Vec<u8>),
}

/// The minimum length of a value outside the usual credential headers that counts as a platform secret. Ordinary values
/// with the same prefix, such as the locale `tl_PH`, are shorter.
const BARE_SECRET_MIN: usize = 20;

/// The number of changes that most requests need besides removals: the fields with the caller's context.
const FURTHER_CHANGES: usize = 2;

/// The changes to the headers of a request to a sandbox.
///
/// `verified` is the verified credential that must not reach the sandbox, and `caller` is its verified sender. Both are
/// `None` if no credential was verified.
#[must_use]
pub fn clean_request(
    head: Head<'_>,
    config: &IngressConfig,
    verified: Option<&Credential>,
    caller: Option<&Caller<'_>>,
) -> Vec<HeaderChange> {
    let mut changes = removals(head, |name, value| {
        // The exact names come first, because each request has them and their prefix is on the list.
        (!SET_BY_ENVOY.contains(&name.as_received()) && NOT_FROM_CLIENTS.contains(name))
            || is_secret(name, value, config, verified)
    });
    if let Some(rest) = without_secrets(head, |value| is_bare_secret(value, config, verified)) {
        changes.push(HeaderChange::Remove("cookie".into()));
        if !rest.is_empty() {
            changes.push(HeaderChange::Add("cookie", rest));
        }
    }
    // A proxy in the sandbox removes the fields that `Connection` names. These must not be fields with verified values.
    if head.first("upgrade").is_some() {
        changes.extend(reduce_connection(head));
    }
    if let Some(caller) = caller {
        let mut set = |name, value: &str| {
            changes.push(HeaderChange::Set(name, value.as_bytes().to_vec()));
        };
        set(ORGANIZATION_HEADER, caller.organization_id.as_str());
        set(PROJECT_HEADER, caller.project_id.as_str());
    }
    changes
}

/// Reduces the `Connection` of an upgrade to the upgrade itself, where it names more. The next proxy removes the
/// fields that `Connection` names. Envoy removes the header from all other requests and responses.
pub(crate) fn reduce_connection(head: Head<'_>) -> Option<HeaderChange> {
    let names_more = |value: &[u8]| {
        let items = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
        items.filter(|item| !item.is_empty()).any(|item| !item.eq_ignore_ascii_case(b"upgrade"))
    };
    let set = || HeaderChange::Set("connection", b"Upgrade".to_vec());
    head.all("connection").any(names_more).then(set)
}

/// The changes to the trailers of a request. No trailer is verified, so no trailer may replace a verified header.
#[must_use]
pub fn clean_request_trailers(
    trailers: Head<'_>,
    config: &IngressConfig,
    verified: Option<&Credential>,
) -> Vec<HeaderChange> {
    removals(trailers, |name, value| {
        NOT_FROM_CLIENTS.contains(name)
            || NOT_IN_TRAILERS.contains(name)
            || is_secret(name, value, config, verified)
    })
}

/// The changes to the trailers of a response.
#[must_use]
pub fn clean_response_trailers(trailers: Head<'_>) -> Vec<HeaderChange> {
    removals(trailers, |name, _| {
        STEERING.contains(name) || CLAIMS.contains(name) || NOT_IN_TRAILERS.contains(name)
    })
}

/// The removal of every forbidden field.
fn removals(head: Head<'_>, forbidden: impl Fn(Name<'_>, &[u8]) -> bool) -> Vec<HeaderChange> {
    let fields = head.fields().filter(|(name, value)| forbidden(Name::new(name), value));
    let mut names: Vec<&str> = fields.map(|(name, _)| name).collect();
    // Removes each name once, however many fields have it, because a sandbox chooses the number of fields.
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Vec::new();
    }
    // With room for the changes that follow, so that the list need not grow.
    let mut changes = Vec::with_capacity(names.len().saturating_add(FURTHER_CHANGES));
    changes.extend(names.into_iter().map(|name| HeaderChange::Remove(name.to_owned())));
    changes
}

fn is_secret(
    name: Name<'_>,
    value: &[u8],
    config: &IngressConfig,
    verified: Option<&Credential>,
) -> bool {
    let in_bearer = |credential: &Credential| {
        matches!(
            credential.source(),
            CredentialSource::PlatformBearer | CredentialSource::OtherBearer
        )
    };
    // Cookies are evaluated one by one, because the name of the first may start like a secret.
    if name.is("cookie") {
        return false;
    }
    let is_authorization = name.is("authorization");
    if is_authorization && verified.is_some_and(in_bearer) {
        return true;
    }
    if is_authorization || name.is("proxy-authorization") {
        // The secret may be joined with other values, or be in another scheme.
        let token = bearer_token(value).unwrap_or(value).trim_ascii();
        return value
            .split(|b| matches!(b, b' ' | b'\t' | b',' | b'=' | b':' | b';' | b'"' | b'\''))
            .chain([token])
            .any(|word| is_verified(word, verified) || config.is_platform_secret(word));
    }
    // Most values are shorter than any secret.
    if value.len() < secret_min(verified) {
        return false;
    }
    let token = bearer_token(value).unwrap_or(value).trim_ascii();
    is_bare_secret(token, config, verified)
}

/// The length of the shortest value that may be a secret outside the usual credential headers.
fn secret_min(verified: Option<&Credential>) -> usize {
    verified.map_or(BARE_SECRET_MIN, |it| it.secret().expose().len().min(BARE_SECRET_MIN))
}

/// Whether the whole value is a secret, with or without quotes or `Bearer`.
fn is_bare_secret(value: &[u8], config: &IngressConfig, verified: Option<&Credential>) -> bool {
    if value.len() < secret_min(verified) {
        return false;
    }
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    let value = value.strip_suffix(b"\"").unwrap_or(value);
    let value = bearer_token(value).unwrap_or(value).trim_ascii();
    is_verified(value, verified)
        || (value.len() >= BARE_SECRET_MIN && config.is_platform_secret(value))
}

fn is_verified(value: &[u8], verified: Option<&Credential>) -> bool {
    verified.is_some_and(|verified| value == verified.secret().expose().as_bytes())
}

/// The changes to the headers of a request to the public API, which evaluates credentials and context itself.
#[must_use]
pub fn clean_api_request(head: Head<'_>) -> Vec<HeaderChange> {
    removals(head, |name, _| INTERNAL_TO_API.contains(name))
}

/// The changes to the headers of a sandbox's response. `host` is the request's.
#[must_use]
pub fn clean_response(head: Head<'_>, host: &HostName) -> Vec<HeaderChange> {
    let mut changes = removals(head, |name, _| STEERING.contains(name));
    if head.first("set-cookie").is_some() {
        let settable = |cookie| settable(cookie, host.as_str());
        let kept: Vec<Vec<u8>> = head.all("set-cookie").filter_map(settable).collect();
        if !head.all("set-cookie").eq(kept.iter().map(Vec::as_slice)) {
            changes.push(HeaderChange::Remove("set-cookie".to_owned()));
            changes.extend(kept.into_iter().map(|cookie| HeaderChange::Add("set-cookie", cookie)));
        }
    }
    changes
}
