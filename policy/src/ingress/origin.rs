//! Which browser requests may use a cookie, and which preflights are answered.
//!
//! A cookie is added by the browser, whichever site made the request; a header is not. So only a
//! cookie credential is held against the request's origin.

use super::config::IngressConfig;
use super::head::Head;

/// Whether a request with a cookie credential may have been made by another site, and could do
/// harm: an unsafe method, or an upgrade (which reads what no `Origin` check of the app protects).
#[must_use]
pub fn is_forgeable(head: Head<'_>, config: &IngressConfig) -> bool {
    // Safe methods: RFC 9110, section 9.2.1.
    let safe = matches!(head.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE");
    if safe && !head.is_upgrade() {
        return false;
    }
    match head.single("origin") {
        Ok(Some(origin)) => !(is_own(origin, head) || config.trusted_origin(origin).is_some()),
        Ok(None) => head.all("sec-fetch-site").any(|v| matches!(v, b"cross-site" | b"same-site")),
        Err(_) => true,
    }
}

/// A CORS preflight (Fetch standard, "CORS-preflight request").
#[must_use]
pub fn is_preflight(head: Head<'_>) -> bool {
    head.method() == b"OPTIONS"
        && head.first("origin").is_some()
        && head.first("access-control-request-method").is_some()
}

/// Whether `origin` is the host that the request goes to. The scheme is not compared: TLS may end
/// in front of the gateway.
fn is_own(origin: &[u8], head: Head<'_>) -> bool {
    let Some(authority) = head.first(":authority") else { return false };
    let (scheme, host) = match (origin.strip_prefix(b"https://"), origin.strip_prefix(b"http://")) {
        (Some(host), _) => (&b":443"[..], host),
        (None, Some(host)) => (&b":80"[..], host),
        (None, None) => return false,
    };
    let without_default =
        |text: &[u8]| text.strip_suffix(scheme).unwrap_or(text).to_ascii_lowercase();
    without_default(host) == without_default(authority)
}
