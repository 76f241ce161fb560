//! A complete response.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

/// A response that was read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("not JSON: {} {}", self.status, self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The status and the `code` of an error body, like `403 PORT_NOT_EXPOSED`. Fails if the body has another form.
    pub fn denial(&self) -> Result<String> {
        let body = self.json()?;
        let sentence = body.get("error").and_then(Value::as_str).unwrap_or_default();
        ensure!(!sentence.is_empty(), "an error body without a sentence: {body}");
        let content_type = self.header("content-type").unwrap_or_default();
        ensure!(content_type == "application/json", "an error body of type `{content_type}`");
        let code = body.get("code").and_then(Value::as_str).unwrap_or("(no code)");
        Ok(format!("{} {code}", self.status.as_u16()))
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Fails unless the status is 200; returns the body as JSON.
    pub fn ok(&self) -> Result<Value> {
        ensure!(self.status == StatusCode::OK, "{} {}", self.status, self.text());
        self.json()
    }
}
