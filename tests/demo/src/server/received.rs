//! The record of a received request. All HTTP responses contain it.
//!
//! The record lacks two facts, because the HTTP parser does not keep them: the letter case of
//! HTTP/1.1 header names, and the order of headers with different names when a name is repeated
//! (values of a repeated name are listed together, in their order).

use http::request::Parts;
use hyper::Version;
use hyper::header::{HOST, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::Identity;
use super::answer::Answer;
use super::listener::Connection;

/// Creates the record, with all facts of the request except its body.
pub(super) fn received(request: &Parts, connection: Connection, identity: &Identity) -> Answer {
    Answer::default()
        .with("sandbox", sandbox(identity))
        .with("method", request.method.as_str())
        .with("target", target(request))
        .with("host", host(request))
        .with("version", format!("{:?}", request.version))
        .with("headers", headers(&request.headers))
        .with("peer", connection.peer.to_string())
        .with("connection", connection.number)
}

/// `{"id":…,"name":…}`.
pub(super) fn sandbox(identity: &Identity) -> Value {
    json!({ "id": identity.id, "name": identity.name })
}

/// The request target byte for byte: the path and query, or the absolute form if the client sent
/// that. (HTTP/2 sends scheme and authority in separate fields.)
fn target(request: &Parts) -> String {
    if request.version < Version::HTTP_2 {
        return request.uri.to_string();
    }
    request.uri.path_and_query().map_or(String::new(), ToString::to_string)
}

/// `:authority`, or the authority of an absolute-form target, or else the `Host` header.
pub(super) fn host(request: &Parts) -> Option<String> {
    match request.uri.authority() {
        Some(authority) => Some(authority.to_string()),
        None => request.headers.get(HOST).map(text),
    }
}

/// All headers as `[[name, value], …]`.
pub(super) fn headers(headers: &HeaderMap) -> Value {
    headers.iter().map(|(name, value)| json!([name.as_str(), text(value)])).collect()
}

/// The value as text. If it is not UTF-8, its bytes are escaped, as in `caf\xe9`.
fn text(value: &HeaderValue) -> String {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().escape_ascii().to_string(),
    }
}
