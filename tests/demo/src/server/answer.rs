//! JSON responses, formatted for reading in a terminal.

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

/// A body of any kind.
pub(super) type AnyBody = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// The members of a JSON object, in display order.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer(Vec<(&'static str, Value)>);

impl Answer {
    pub(super) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((key, value.into()));
        self
    }

    /// An error response.
    pub(super) fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::default().with("error", message.into()).with("code", code)
    }

    pub(super) fn into_response(self, status: StatusCode) -> Response<AnyBody> {
        respond(status, "application/json", self.to_string())
    }
}

/// Writes one member and one header per line, which keeps the output of `curl` short.
impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("{")?;
        for (index, (key, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}\n  {}: ", Value::from(*key))?;
            match value.as_array() {
                Some(items) if !items.is_empty() => {
                    f.write_str("[")?;
                    for (index, item) in items.iter().enumerate() {
                        let comma = if index == 0 { "" } else { "," };
                        write!(f, "{comma}\n    {item}")?;
                    }
                    f.write_str("\n  ]")?;
                }
                _ => write!(f, "{value}")?,
            }
        }
        f.write_str("\n}\n")
    }
}

/// A complete response.
pub(super) fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<AnyBody> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A body that is complete in memory.
pub(super) fn full(body: impl Into<Bytes>) -> AnyBody {
    Full::new(body.into()).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_is_json_with_the_members_in_order() {
        let answer = Answer::default()
            .with("method", "GET")
            .with("headers", json!([["a", "1"], ["a", "2\""]]))
            .with("empty", json!([]))
            .with("name", Value::Null);
        let text = answer.to_string();
        assert_eq!(
            text,
            "{\n  \"method\": \"GET\",\n  \"headers\": [\n    [\"a\",\"1\"],\n    \
             [\"a\",\"2\\\"\"]\n  ],\n  \"empty\": [],\n  \"name\": null\n}\n"
        );
        let parsed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["headers"][1][1], "2\"");
    }
}
