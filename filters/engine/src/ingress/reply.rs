//! Local replies: denials as JSON, as an HTML page, or as a gRPC status, and answers to CORS preflights.

use std::borrow::Cow;

use sandgate_policy::gateway_api::ErrorBody;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::recipient::{DenialFormat, RequestId};

use crate::ingress::effect::DenialReply;

/// A response that the filter sends itself.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Names and values, in order.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    pub body: String,
    /// Whether the recipient reads a gRPC status, which Envoy makes out of the reply.
    pub is_grpc: bool,
}

impl Reply {
    /// The reply that denies a request.
    #[must_use]
    pub fn denial(denial: &DenialReply) -> Self {
        let DenialReply { denial, recipient: to, retry_after } = denial;
        let retry_after = retry_after.or(denial.retry_after());
        let mut headers: Vec<(&'static str, Cow<'static, str>)> = vec![
            ("cache-control", "no-store".into()),
            ("x-content-type-options", "nosniff".into()),
        ];
        headers.extend(to.headers().map(|(name, value)| (name, value.to_owned().into())));
        match denial {
            // RFC 9110, section 11.6.1, and RFC 6750, section 3.1.
            Denial::Unauthenticated => headers.push(("www-authenticate", "Bearer".into())),
            Denial::InvalidCredentials => {
                headers.push(("www-authenticate", "Bearer error=\"invalid_token\"".into()));
            }
            _ => {}
        }
        if let Some(seconds) = retry_after {
            headers.push(("retry-after", seconds.to_string().into()));
        }
        let body = match to.format() {
            // Envoy turns a local reply to a gRPC request into its status, and the body into the message.
            DenialFormat::Grpc => format!("{}: {}", denial.code(), denial.message()),
            DenialFormat::Html => {
                headers.push(("content-type", "text/html; charset=utf-8".into()));
                let policy = "default-src 'none'; style-src 'unsafe-inline'";
                headers.push(("content-security-policy", policy.into()));
                page(*denial, to.request_id())
            }
            DenialFormat::Json => {
                headers.push(("content-type", "application/json".into()));
                let body = ErrorBody { error: denial.message(), code: denial.code().to_owned() };
                serde_json::to_string(&body).unwrap_or_default()
            }
        };
        let is_grpc = to.format() == DenialFormat::Grpc;
        Self { status: denial.status(), headers, body, is_grpc }
    }

    /// The answer to the preflight of a trusted origin (Fetch standard, "CORS protocol").
    #[must_use]
    pub fn preflight(origin: &str, head: Head<'_>) -> Self {
        let requested = head
            .first("access-control-request-headers")
            .and_then(|value| std::str::from_utf8(value).ok())
            .filter(|value| {
                value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_, ".contains(&b))
            })
            .unwrap_or("authorization, content-type");
        let headers = vec![
            ("access-control-allow-origin", origin.to_owned().into()),
            ("access-control-allow-credentials", "true".into()),
            ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".into()),
            ("access-control-allow-headers", requested.to_owned().into()),
            ("access-control-max-age", "600".into()),
            (
                "vary",
                "Origin, Access-Control-Request-Method, Access-Control-Request-Headers".into(),
            ),
        ];
        Self { status: 204, headers, body: String::new(), is_grpc: false }
    }
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
