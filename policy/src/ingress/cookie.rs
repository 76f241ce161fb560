//! The platform's session cookies, in requests and in what a sandbox sets.

use super::head::{Head, Repeated};

/// Session cookie of the platform.
pub const SESSION_COOKIE: &str = "tl.session_token";
/// Its older name.
pub const LEGACY_SESSION_COOKIE: &str = "tl-session";

fn is_session_name(name: &[u8]) -> bool {
    [SESSION_COOKIE, LEGACY_SESSION_COOKIE].iter().any(|known| name == known.as_bytes())
}

/// Pairs of all `Cookie` headers, as they stand.
fn pairs<'a>(head: Head<'a>) -> impl Iterator<Item = &'a [u8]> {
    head.all("cookie").flat_map(|value| value.split(|b| *b == b';')).map(<[u8]>::trim_ascii)
}

fn split(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|b| *b == b'=') {
        Some(at) => {
            let (name, value) = pair.split_at(at);
            (name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii())
        }
        // A server may read a nameless cookie as a name or as a value: it is taken as a name here.
        None => (pair, b""),
    }
}

/// The value of the cookie `name`.
///
/// # Errors
/// [`Repeated`] when it stands more than once.
pub(crate) fn session_cookie<'a>(head: Head<'a>, name: &str) -> Result<Option<&'a [u8]>, Repeated> {
    let mut values = pairs(head).map(split).filter(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v);
    let first = values.next();
    if values.next().is_some() { Err(Repeated) } else { Ok(first) }
}

/// The `Cookie` header without session cookies and without cookies whose value `is_secret`: `None`
/// when it holds none and can stay as it is, and an empty value when nothing is left of it.
pub(crate) fn without_secrets(
    head: Head<'_>,
    is_secret: impl Fn(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let mut found = false;
    let mut kept: Vec<&[u8]> = Vec::new();
    for pair in pairs(head).filter(|pair| !pair.is_empty()) {
        let (name, value) = split(pair);
        // `=tl-session=x` is a nameless cookie to some parsers and the session to others.
        let hidden = name.is_empty() && is_session_name(split(value).0);
        let shown = if pair.contains(&b'=') { value } else { pair };
        if is_session_name(name) || hidden || is_secret(shown) {
            found = true;
        } else {
            kept.push(pair);
        }
    }
    found.then(|| kept.join(&b"; "[..]))
}

/// The cookie as a sandbox at `host` may set it: `None` when it is one of the platform's names, or
/// for another domain than its own host.
///
/// A parent domain would be shared with every other sandbox, and a browser refuses any other. The
/// own host is what holds without a `Domain` too, and so loses it: behind a bare domain the host
/// is the parent of all sandboxes, and with a `Domain` each of them would receive the cookie.
pub(crate) fn settable(set_cookie: &[u8], host: &str) -> Option<Vec<u8>> {
    let mut parts = set_cookie.split(|b| *b == b';');
    let pair = parts.next().unwrap_or_default();
    let (name, _) = split(pair.trim_ascii());
    // Browsers send a nameless cookie as its bare value, which may look like any other cookie.
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
