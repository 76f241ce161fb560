//! Calls of the gateway API.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode, Url};
use sandgate_policy::gateway_api::{Changes, ErrorBody, MARKER_HEADER, MARKER_VALUE, Sandbox};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Outcome, Problem, fail, require};

/// The longest time that a server may take in addition to the wait that a call asks for.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The longest time of a call.
pub const TIMEOUT: Duration = Duration::from_secs(60).saturating_add(PATIENCE);

/// A client of one server. Has no `Debug`, because the token is secret.
pub struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// A response.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) took: Duration,
    call: String,
    has_marker: bool,
    body: Vec<u8>,
}

impl Client {
    /// `url` is the base of the API, without `/gateway`. `http` follows no redirect, and has the timeout [`TIMEOUT`].
    #[must_use]
    pub fn new(http: reqwest::Client, url: &Url, token: String) -> Self {
        Self { http, url: url.as_str().trim_end_matches('/').to_owned(), token }
    }

    /// Sends a call with the `Authorization` headers that are given.
    pub(super) async fn send(
        &self,
        authorization: &[String],
        method: Method,
        path: &str,
        body: Option<&str>,
    ) -> Result<Answer, Problem> {
        let call = format!("{method} {path}");
        let began = Instant::now();
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        for value in authorization {
            request = request.header("authorization", value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        let failed = |error: reqwest::Error| Problem::Failed(format!("{call}: {error}"));
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let marker = response.headers().get(MARKER_HEADER);
        let has_marker = marker.is_some_and(|value| value == MARKER_VALUE);
        let body = response.bytes().await.map_err(failed)?.to_vec();
        Ok(Answer { status, took: began.elapsed(), call, has_marker, body })
    }

    /// The `Authorization` header of this client.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, Problem> {
        self.send(&[self.bearer()], Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Answer, Problem> {
        self.send(&[self.bearer()], Method::POST, path, Some(&body.to_string())).await
    }

    /// The sandbox with this id or name.
    pub(super) async fn sandbox(&self, which: &str) -> Result<Sandbox, Problem> {
        self.get(&format!("/gateway/v1/sandboxes/{which}")).await?.ok()
    }

    /// Polls the change feed, and how long that took.
    pub(super) async fn poll(
        &self,
        since: Option<&str>,
        wait: Duration,
        watcher: Option<&str>,
    ) -> Result<(Changes, Duration), Problem> {
        let mut path = format!("/gateway/v1/changes?wait_ms={}", wait.as_millis());
        for (name, value) in [("since", since), ("watcher", watcher)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={value}"));
            }
        }
        let answer = self.get(&path).await?;
        let took = answer.took;
        Ok((answer.ok()?, took))
    }

    /// The newest revision.
    pub(super) async fn revision(&self) -> Result<String, Problem> {
        Ok(self.poll(None, Duration::ZERO, None).await?.0.revision)
    }
}

impl Answer {
    /// Fails unless the response has the status, the marker, and, for an error, the two fields.
    pub(super) fn has_status(&self, status: u16) -> Outcome {
        require(self.status.as_u16() == status, || {
            format!("{} got {} and not {status}: {}", self.call, self.status, self.text())
        })?;
        self.has_marker()?;
        if self.status.is_success() {
            return Ok(());
        }
        match serde_json::from_slice::<ErrorBody>(&self.body) {
            Ok(_) => Ok(()),
            Err(error) => fail(format!(
                "the error response to {} has no `error` and `code`: {error}: {}",
                self.call,
                self.text()
            )),
        }
    }

    pub(super) fn has_marker(&self) -> Outcome {
        require(self.has_marker, || {
            format!("the response to {} lacks `{MARKER_HEADER}: {MARKER_VALUE}`", self.call)
        })
    }

    /// The body of a successful response.
    pub(super) fn ok<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.has_status(200)?;
        serde_json::from_slice(&self.body).or_else(|error| {
            fail(format!(
                "the response to {} is not as described: {error}: {}",
                self.call,
                self.text()
            ))
        })
    }

    /// The beginning of the body, for people.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(200).collect()
    }
}
