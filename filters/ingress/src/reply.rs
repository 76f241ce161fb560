//! Local replies: denials as JSON, as an HTML page, or as a gRPC status, and answers to CORS preflights.

use sandgate_hostcalls::{Result, stream};
use sandgate_policy::gateway_api::ErrorBody;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::recipient::{DenialFormat, Recipient, RequestId};

/// Sends a denial. `retry_after` overrides the denial's own, in seconds.
pub(crate) fn deny(denial: Denial, to: &Recipient, retry_after: Option<u32>) -> Result<()> {
    let retry_after = retry_after.or(denial.retry_after()).map(|seconds| seconds.to_string());
    let mut headers = vec![("cache-control", "no-store"), ("x-content-type-options", "nosniff")];
    headers.extend(to.headers());
    match denial {
        // RFC 9110, section 11.6.1, and RFC 6750, section 3.1.
        Denial::Unauthenticated => headers.push(("www-authenticate", "Bearer")),
        Denial::InvalidCredentials => {
            headers.push(("www-authenticate", "Bearer error=\"invalid_token\""));
        }
        _ => {}
    }
    if let Some(seconds) = &retry_after {
        headers.push(("retry-after", seconds));
    }
    let body = match to.format() {
        // Envoy turns a local reply to a gRPC request into its status, and the body into the message.
        DenialFormat::Grpc => format!("{}: {}", denial.code(), denial.message()),
        DenialFormat::Html => {
            headers.push(("content-type", "text/html; charset=utf-8"));
            headers
                .push(("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"));
            page(denial, to.request_id())
        }
        DenialFormat::Json => {
            headers.push(("content-type", "application/json"));
            let body = ErrorBody { error: denial.message(), code: denial.code().to_owned() };
            serde_json::to_string(&body).unwrap_or_default()
        }
    };
    stream::reply(denial.status(), &headers, body.as_bytes())
}

/// A short HTML page. The only part of the request in it is the id, which contains no character with a meaning in HTML.
fn page(denial: Denial, request_id: Option<&RequestId>) -> String {
    let (status, code, message) = (denial.status(), denial.code(), denial.message());
    let message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let id = request_id.map(|id| format!("<br><code>{}</code>", id.as_str())).unwrap_or_default();
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{status} {code}</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em}}\
         code{{color:#666}}</style><h1>{status}</h1><p>{message}</p><p><code>{code}</code>{id}</p></html>\n"
    )
}

/// Answers the preflight of a trusted origin (Fetch standard, "CORS protocol").
pub(crate) fn preflight(origin: &str, head: Head<'_>) -> Result<()> {
    let requested = head
        .first("access-control-request-headers")
        .and_then(|value| std::str::from_utf8(value).ok())
        .filter(|value| value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_, ".contains(&b)))
        .unwrap_or("authorization, content-type");
    let headers = [
        ("access-control-allow-origin", origin),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("access-control-allow-headers", requested),
        ("access-control-max-age", "600"),
        ("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ];
    stream::reply(204, &headers, b"")
}
