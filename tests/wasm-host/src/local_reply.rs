//! The reply that Envoy generates when a filter sends one.

use crate::headers::Headers;

/// A reply that the filter requests.
#[derive(Debug)]
pub struct LocalReply {
    pub status: u32,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub grpc_status: Option<i32>,
}

impl LocalReply {
    /// The headers and the body that Envoy sends to the client of `request`.
    pub fn generate(&self, request: &Headers) -> (Headers, String) {
        let head = request.first(b":method") == Some(b"HEAD");
        let body = String::from_utf8_lossy(&self.body).into_owned();
        let mut headers = Headers::new();
        headers.add(b":status", self.status.to_string().as_bytes());
        for (name, value) in self.headers.iter() {
            headers.add(name, value);
        }
        if is_grpc(request) {
            headers.replace(b":status", b"200");
            headers.replace(b"content-type", b"application/grpc");
            headers.remove(b"content-length");
            if headers.first(b"grpc-status").is_none() {
                let status = self.grpc_status.unwrap_or_else(|| grpc_status(self.status));
                headers.add(b"grpc-status", status.to_string().as_bytes());
            }
            if !body.is_empty() && !head {
                headers.replace(b"grpc-message", percent_encoded(&body).as_bytes());
            }
            return (headers, String::new());
        }
        if body.is_empty() {
            headers.remove(b"content-length");
            headers.remove(b"content-type");
        } else {
            headers.replace(b"content-length", body.len().to_string().as_bytes());
            if headers.first(b"content-type").is_none() {
                headers.add(b"content-type", b"text/plain");
            }
        }
        (headers, if head { String::new() } else { body })
    }
}

/// Whether the content type is exactly `application/grpc` or starts with `application/grpc+`.
/// Envoy accepts neither parameters nor upper case for gRPC.
fn is_grpc(request: &Headers) -> bool {
    request
        .first(b"content-type")
        .and_then(|value| value.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}

/// Encodes a gRPC message for a header. Printable ASCII except `%` stays unchanged.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The gRPC status for an HTTP status.
fn grpc_status(http: u32) -> i32 {
    match http {
        200 => 0,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}
