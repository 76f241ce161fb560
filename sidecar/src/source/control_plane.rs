//! The policy from the control plane, by a long poll of its gateway API
//! (`/gateway/v1/sandboxes/{sandbox}/network-policy`, docs/openapi/gateway.json).
//!
//! While the control plane can't be asked, what is in force stays: an outage opens nothing and cuts nobody off.
//! That there is no such sandbox (any more) is an answer, and means that nothing may leave.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode, Url};
use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::gateway_api::{MARKER_HEADER, MARKER_VALUE, SandboxNetworkPolicy};

use super::Offers;

/// How long the control plane is asked to hold its answer, and how much longer is waited for it.
const WAIT: Duration = Duration::from_secs(25);
const SLACK: Duration = Duration::from_secs(10);
/// How long after a failure it is asked again: at first, and at most.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A policy of 1,000 entries of the longest names is smaller.
const MOST_BYTES: usize = 1 << 20;
/// Tokens of the file that are tried: the old one and the new one.
const MOST_TOKENS: usize = 2;

/// Whom to ask, about which sandbox.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    calls: Url,
    sandbox: String,
    token_file: PathBuf,
    client: Client,
}

/// The control plane can't be called.
#[derive(Debug, thiserror::Error)]
pub enum InvalidControlPlane {
    /// Not a URL of HTTP.
    #[error("`{0}` is no URL that starts with http:// or https:// and has a host")]
    Url(String),
    /// The HTTP client has no way to check certificates, for one.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

impl ControlPlane {
    /// One at `url`, asked about a sandbox by its canonical id, with the token that a file holds (read for
    /// each call, so that it can be replaced).
    ///
    /// # Errors
    ///
    /// Where the URL is none.
    pub fn new(
        url: &str,
        sandbox: String,
        token_file: PathBuf,
    ) -> Result<Self, InvalidControlPlane> {
        // Fails only where there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let invalid = || InvalidControlPlane::Url(url.to_owned());
        let mut calls: Url = url.parse().map_err(|_| invalid())?;
        if !matches!(calls.scheme(), "http" | "https") {
            return Err(invalid());
        }
        calls.path_segments_mut().map_err(|()| invalid())?.pop_if_empty().extend([
            "gateway",
            "v1",
            "sandboxes",
            &sandbox,
            "network-policy",
        ]);
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(WAIT + SLACK)
            // The way out of the sandbox must not depend on a proxy that an environment variable names.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { calls, sandbox, token_file, client })
    }

    /// Follows the policy for ever.
    pub async fn follow(self, offers: Offers) {
        let mut since: Option<String> = None;
        let mut pause = AGAIN_AFTER.0;
        loop {
            match self.ask(since.as_deref()).await {
                Ok(answer) => {
                    since = Some(answer.revision);
                    pause = AGAIN_AFTER.0;
                    offers.good(answer.network_policy);
                }
                Err(Refusal::NoSandbox) => {
                    since = None;
                    offers.good(nothing());
                    tokio::time::sleep(AGAIN_AFTER.1).await;
                }
                Err(Refusal::Problem(problem)) => {
                    offers.bad(problem);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(AGAIN_AFTER.1);
                }
            }
        }
    }

    async fn ask(&self, since: Option<&str>) -> Result<SandboxNetworkPolicy, Refusal> {
        let tokens = std::fs::read_to_string(&self.token_file).map_err(|error| {
            problem(format!(
                "the token file `{}` can't be read: {error}",
                self.token_file.display()
            ))
        })?;
        // A file may hold two while they are rotated, and either may be the one that is good.
        let tokens = tokens.lines().map(str::trim).filter(|token| !token.is_empty());
        for token in tokens.take(MOST_TOKENS) {
            let answer = self.call(token, since).await?;
            if answer.status() != StatusCode::UNAUTHORIZED {
                return self.understand(answer).await;
            }
        }
        Err(problem(format!(
            "the control plane takes no token of `{}`; write what `sandgate keys sidecar` prints into it",
            self.token_file.display()
        )))
    }

    /// An answer of a control plane, and of nothing that stands in for it.
    async fn call(&self, token: &str, since: Option<&str>) -> Result<Response, Refusal> {
        let mut url = self.calls.clone();
        url.query_pairs_mut().append_pair("wait_ms", &WAIT.as_millis().to_string());
        if let Some(since) = since {
            url.query_pairs_mut().append_pair("since", since);
        }
        let answer = self.client.get(url).bearer_auth(token).send().await.map_err(failed)?;
        if answer.headers().get(MARKER_HEADER).is_none_or(|value| value != MARKER_VALUE) {
            let status = answer.status();
            return Err(problem(format!(
                "what answers for the control plane is something else (status {status})"
            )));
        }
        Ok(answer)
    }

    async fn understand(&self, mut answer: Response) -> Result<SandboxNetworkPolicy, Refusal> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST_BYTES {
                return Err(problem("the control plane's answer is too long".to_owned()));
            }
        }
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(Refusal::NoSandbox),
            status => {
                return Err(problem(format!(
                    "the control plane refuses to say the policy (status {status})"
                )));
            }
        }
        let said: SandboxNetworkPolicy = serde_json::from_slice(&body).map_err(|error| {
            problem(format!("the control plane's policy can't be enforced: {error}"))
        })?;
        if said.sandbox_id != self.sandbox {
            return Err(problem("the control plane's policy is another sandbox's".to_owned()));
        }
        Ok(said)
    }
}

enum Refusal {
    /// The control plane says that there is no such sandbox.
    NoSandbox,
    /// It did not say anything that can be used.
    Problem(String),
}

fn failed(error: reqwest::Error) -> Refusal {
    let error = error.without_url();
    problem(format!("the control plane can't be asked for the policy: {error}"))
}

fn problem(text: String) -> Refusal {
    Refusal::Problem(text)
}

/// The policy of what should not be there: no way out.
fn nothing() -> NetworkPolicy {
    NetworkPolicy { allow_internet_access: false, ..NetworkPolicy::default() }
}
