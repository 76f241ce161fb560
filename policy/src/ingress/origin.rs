//! Which browser requests may use a cookie, and which preflights are answered.
//!
//! A browser adds cookies whichever site caused the request, but it adds no credential headers. So only the use of a
//! cookie credential depends on the origin of the request.

use super::config::IngressConfig;
use super::head::Head;

/// Whether another site may have caused the request, and the request could do harm: its method is not safe, or it is an
/// upgrade (whose responses are readable unless the app checks `Origin`).
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

/// Whether the request is a CORS preflight (Fetch standard, "CORS-preflight request").
#[must_use]
pub fn is_preflight(head: Head<'_>) -> bool {
    head.method() == b"OPTIONS"
        && head.first("origin").is_some()
        && head.first("access-control-request-method").is_some()
}

/// Whether `origin` is the host of the request. The schemes are not compared, because TLS may be terminated in front of
/// the gateway.
fn is_own(origin: &[u8], head: Head<'_>) -> bool {
    let Ok(Some(authority)) = head.single(":authority") else { return false };
    let (scheme, host) = match (origin.strip_prefix(b"https://"), origin.strip_prefix(b"http://")) {
        (Some(host), _) => (&b":443"[..], host),
        (None, Some(host)) => (&b":80"[..], host),
        (None, None) => return false,
    };
    let without_default =
        |text: &[u8]| text.strip_suffix(scheme).unwrap_or(text).to_ascii_lowercase();
    without_default(host) == without_default(authority)
}
