//! The other side of a sidecar's long poll: how the agent of one sandbox follows its policy.
//!
//! [`PolicyFeed::next`] is one call; [`PolicyFeed::follow`] repeats it for as long as the agent lives.
//! Nothing that goes wrong here changes what is enforced: the last good policy stays.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::gateway::{MARKER_HEADER, MARKER_VALUE, SandboxNetworkPolicy};

use crate::model::SandboxId;

/// How long the control plane is asked to hold a call.
const WAIT: Duration = Duration::from_secs(25);
/// How much longer a call may take than it is held.
const GRACE: Duration = Duration::from_secs(10);
/// Pauses after failures: the first, and the longest, which each doubles to.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Bytes of an answer: two full lists of the longest entries, and the rest.
const MAX_ANSWER: usize = 1_024 * 1_024;

/// What the control plane says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// The sandbox is not there (any more): it may connect to nothing.
    Gone,
    /// This is its policy.
    Policy(NetworkPolicy),
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFeedError {
    /// A policy that this program can't enforce.
    #[error("the control plane's answer can't be used: {0}")]
    Answer(String),
    /// The token is no good.
    #[error(
        "the control plane refused the token; it needs the sandbox's sidecar token (`sandgate keys sidecar`)"
    )]
    Token,
    /// Something else answered, or nothing.
    #[error("the control plane can't be asked: {0}")]
    Unavailable(String),
    /// The control plane's address.
    #[error(
        "`{0}` is not the URL of a gateway API: expected `http://` or `https://`, a host and perhaps a port"
    )]
    Url(String),
}

/// A sandbox's policy at a control plane. No `Debug`: it holds a token.
pub struct PolicyFeed {
    client: reqwest::Client,
    url: Url,
    token: String,
    since: Option<String>,
}

impl PolicyFeed {
    /// The policy of `sandbox` at the gateway API of `control_plane`. The client must follow no
    /// redirects, since it would take the token along.
    ///
    /// # Errors
    /// [`PolicyFeedError::Url`].
    pub fn new(
        client: reqwest::Client,
        control_plane: &str,
        sandbox: &SandboxId,
        token: String,
    ) -> Result<Self, PolicyFeedError> {
        let wrong = || PolicyFeedError::Url(control_plane.to_owned());
        let mut url: Url = control_plane.parse().map_err(|_| wrong())?;
        let is_origin = matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.username().is_empty();
        if !is_origin {
            return Err(wrong());
        }
        url.set_path(&format!("/gateway/v1/sandboxes/{sandbox}/network-policy"));
        Ok(Self { client, url, token, since: None })
    }

    /// Asks once: at once the first time, then when something changes. `None` when the wait ended
    /// without a change.
    ///
    /// # Errors
    /// [`PolicyFeedError`]; what was said before still holds.
    pub async fn next(&mut self) -> Result<Option<Said>, PolicyFeedError> {
        let mut url = self.url.clone();
        if let Some(since) = &self.since {
            let wait = WAIT.as_millis().to_string();
            url.query_pairs_mut().append_pair("since", since).append_pair("wait_ms", &wait);
        }
        let failed = |error: reqwest::Error| PolicyFeedError::Unavailable(describe(&error));
        let request = self.client.get(url).bearer_auth(&self.token).timeout(WAIT + GRACE);
        let mut response = request.send().await.map_err(failed)?;
        let marker = response.headers().get(MARKER_HEADER);
        if marker.is_none_or(|marker| marker != MARKER_VALUE) {
            let status = response.status().as_u16();
            let why = format!("status {status} without the header `{MARKER_HEADER}`");
            return Err(PolicyFeedError::Unavailable(why));
        }
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                self.since = None;
                return Ok(Some(Said::Gone));
            }
            StatusCode::UNAUTHORIZED => return Err(PolicyFeedError::Token),
            other => return Err(PolicyFeedError::Unavailable(format!("status {other}"))),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(PolicyFeedError::Answer(format!("more than {MAX_ANSWER} bytes")));
            }
        }
        let answer: SandboxNetworkPolicy = serde_json::from_slice(&body)
            .map_err(|error| PolicyFeedError::Answer(error.to_string()))?;
        let is_news = self.since.as_ref() != Some(&answer.revision);
        self.since = Some(answer.revision);
        Ok(is_news.then_some(Said::Policy(answer.network_policy)))
    }

    /// Asks for as long as it is polled, and hands on what is new. Failures are logged once each time
    /// that they begin, and tried again with a growing pause.
    pub async fn follow(mut self, mut tell: impl FnMut(Said)) {
        let mut pause = FIRST_PAUSE;
        let mut failing = false;
        let mut last = None;
        loop {
            match self.next().await {
                Ok(news) => {
                    (pause, failing) = (FIRST_PAUSE, false);
                    let gone = news == Some(Said::Gone);
                    if news.is_some() && news != last {
                        last.clone_from(&news);
                        news.into_iter().for_each(&mut tell);
                    }
                    if !gone {
                        continue;
                    }
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "the network policy stays as it is");
                    }
                    failing = true;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The error and its causes, without the URL.
fn describe(error: &reqwest::Error) -> String {
    let mut text =
        if error.is_timeout() { "no answer in time" } else { "no connection" }.to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
