//! The platform's session cookies, in requests and in responses of sandboxes.

use super::head::{Head, Repeated};

/// The name of the platform's session cookie.
pub const SESSION_COOKIE: &str = "tl.session_token";
/// The legacy name of the platform's session cookie.
pub const LEGACY_SESSION_COOKIE: &str = "tl-session";

fn is_session_name(name: &[u8]) -> bool {
    [SESSION_COOKIE, LEGACY_SESSION_COOKIE].iter().any(|known| name == known.as_bytes())
}

/// The pairs of all `Cookie` headers, unchanged.
fn pairs<'a>(head: Head<'a>) -> impl Iterator<Item = &'a [u8]> {
    head.all("cookie").flat_map(|value| value.split(|b| *b == b';')).map(<[u8]>::trim_ascii)
}

fn split(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|b| *b == b'=') {
        Some(at) => {
            let (name, value) = pair.split_at(at);
            (name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii())
        }
        // A server may read a pair without `=` as a name or as a value. It counts as a name here.
        None => (pair, b""),
    }
}

/// The value of the cookie `name`.
///
/// # Errors
/// [`Repeated`], if the cookie occurs more than once.
pub(crate) fn session_cookie<'a>(head: Head<'a>, name: &str) -> Result<Option<&'a [u8]>, Repeated> {
    let mut values = pairs(head).map(split).filter(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v);
    let first = values.next();
    if values.next().is_some() { Err(Repeated) } else { Ok(first) }
}

/// The `Cookie` header without session cookies and without cookies whose value `is_secret`. `None` if there are no such
/// cookies, so that the header needs no change. An empty value if no other cookies remain.
pub(crate) fn without_secrets(
    head: Head<'_>,
    is_secret: impl Fn(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let is_removed = |pair: &&[u8]| {
        let (name, value) = split(pair);
        // Some parsers read `=tl-session=x` as a nameless cookie, others as the session cookie.
        let hidden = name.is_empty() && is_session_name(split(value).0);
        let shown = if pair.contains(&b'=') { value } else { pair };
        is_session_name(name) || hidden || is_secret(shown)
    };
    let cookies = || pairs(head).filter(|pair| !pair.is_empty());
    // Most requests have no such cookie.
    cookies().any(|pair| is_removed(&pair)).then(|| {
        let kept: Vec<&[u8]> = cookies().filter(|pair| !is_removed(pair)).collect();
        kept.join(&b"; "[..])
    })
}

/// A `Set-Cookie` value as the sandbox at `host` may set it. `None` if the cookie has a name of the platform, or if its
/// `Domain` is not `host`.
///
/// A parent domain would share the cookie with all other sandboxes. Without `Domain`, a cookie belongs to `host` only,
/// so a `Domain` that equals `host` is removed: on a bare domain, `host` is the parent of all sandboxes, and with
/// `Domain` each of them would receive the cookie.
pub(crate) fn settable(set_cookie: &[u8], host: &str) -> Option<Vec<u8>> {
    let mut parts = set_cookie.split(|b| *b == b';');
    let pair = parts.next().unwrap_or_default();
    let (name, _) = split(pair.trim_ascii());
    // Browsers send a nameless cookie as its value only, which may look like any other cookie.
    if name.is_empty() || is_session_name(name) {
        return None;
    }
    let mut kept = vec![pair];
    for attribute in parts {
        let (key, domain) = split(attribute.trim_ascii());
        if !key.eq_ignore_ascii_case(b"domain") {
            kept.push(attribute);
            continue;
        }
        let domain = domain.strip_prefix(b".").unwrap_or(domain);
        if !domain.is_empty() && !domain.eq_ignore_ascii_case(host.as_bytes()) {
            return None;
        }
    }
    Some(kept.join(&b";"[..]))
}
