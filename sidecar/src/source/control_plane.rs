//! Gets the policy from the control plane, by a long poll of its gateway API
//! (`/gateway/v1/sandboxes/{sandbox}/network-policy`, docs/openapi/gateway.json).
//!
//! While the control plane is unreachable, the current policy stays. If the control plane responds that the sandbox
//! does not exist, the policy denies everything.

mod report;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode, Url};
use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::gateway_api::{MARKER_HEADER, MARKER_VALUE, SandboxNetworkPolicy};
use tokio::time::Instant;

use super::SourceSender;
use super::tls::{InvalidTls, Tls};

/// How long the control plane may hold a request if the policy does not change.
const POLL_WAIT: Duration = Duration::from_secs(25);
/// The additional time before the request times out.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(10);
/// The delay before a retry. It doubles with each failure in a row. The minimum is also the delay after a response that
/// came early although nothing has changed.
const MIN_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// The maximum size of a response, in bytes. A policy of 1,000 entries with the longest names is smaller.
const MAX_RESPONSE: usize = 1 << 20;
/// The number of tokens in the file that the agent tries: the old one and the new one, while they are rotated.
const MAX_TOKENS: usize = 2;

/// The policy of one sandbox at the control plane.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    url: Url,
    sandbox: String,
    token_file: PathBuf,
    client: Client,
}

/// The source can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidControlPlane {
    /// The URL is not valid.
    #[error("`{0}` is not a URL that starts with http:// or https:// and has a host")]
    Url(String),
    /// The HTTP client can't be created, for example because the system has no CA certificates.
    #[error("the HTTP client can't be created: {0}")]
    Client(#[from] reqwest::Error),
    #[error(transparent)]
    Tls(#[from] InvalidTls),
}

impl ControlPlane {
    /// Creates a source. `url` is the base URL of the gateway API, `sandbox` is a canonical id, and the token file is
    /// read for each request, so that the token can be replaced.
    ///
    /// # Errors
    ///
    /// If the URL is not valid, or the HTTP client can't be created.
    pub fn new(
        url: &str,
        sandbox: String,
        token_file: PathBuf,
        tls: &Tls,
    ) -> Result<Self, InvalidControlPlane> {
        // Fails only if a provider is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let invalid = || InvalidControlPlane::Url(url.to_owned());
        let mut policy_url: Url = url.parse().map_err(|_| invalid())?;
        if !matches!(policy_url.scheme(), "http" | "https") {
            return Err(invalid());
        }
        tls.require_https(&policy_url)?;
        policy_url.path_segments_mut().map_err(|()| invalid())?.pop_if_empty().extend([
            "gateway",
            "v1",
            "sandboxes",
            &sandbox,
            "network-policy",
        ]);
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(POLL_WAIT + TIMEOUT_MARGIN)
            // Environment variables must not select a proxy for the agent's own requests.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        let client = tls.apply(client)?.build()?;
        Ok(Self { url: policy_url, sandbox, token_file, client })
    }

    /// Follows the policy. Never returns.
    pub async fn follow(self, sender: SourceSender) {
        let mut since: Option<String> = None;
        let mut backoff = MIN_BACKOFF;
        loop {
            let begun = Instant::now();
            match self.fetch(since.as_deref()).await {
                Ok(response) => {
                    let is_unchanged = since.as_ref() == Some(&response.revision);
                    since = Some(response.revision);
                    backoff = MIN_BACKOFF;
                    sender.publish(response.network_policy);
                    if is_unchanged && begun.elapsed() < MIN_BACKOFF {
                        tokio::time::sleep(MIN_BACKOFF).await;
                    }
                }
                Err(FetchError::NoSandbox) => {
                    since = None;
                    let problem = format!(
                        "the control plane has no sandbox `{}`; all traffic is denied",
                        self.sandbox
                    );
                    sender.publish_with_problem(deny_all(), problem);
                    tokio::time::sleep(MAX_BACKOFF).await;
                }
                Err(FetchError::Problem(problem)) => {
                    sender.publish_problem(problem);
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
            }
        }
    }

    async fn fetch(&self, since: Option<&str>) -> Result<SandboxNetworkPolicy, FetchError> {
        for token in self.tokens()? {
            let response = self.send(&token, since).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return self.parse(response).await;
            }
        }
        Err(problem(format!(
            "the control plane accepts no token of `{}`; write the output of `sandgate keys sidecar` to this file",
            self.token_file.display()
        )))
    }

    /// The tokens of the file.
    fn tokens(&self) -> Result<Vec<String>, FetchError> {
        let tokens = std::fs::read_to_string(&self.token_file).map_err(|error| {
            problem(format!(
                "the token file `{}` can't be read: {error}",
                self.token_file.display()
            ))
        })?;
        let lines = tokens.lines().map(str::trim);
        let tokens = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(tokens.take(MAX_TOKENS).map(str::to_owned).collect())
    }

    async fn send(&self, token: &str, since: Option<&str>) -> Result<Response, FetchError> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("wait_ms", &POLL_WAIT.as_millis().to_string());
        if let Some(since) = since {
            url.query_pairs_mut().append_pair("since", since);
        }
        let response = self.client.get(url).bearer_auth(token).send().await.map_err(failed)?;
        from_control_plane(response)
    }

    async fn parse(&self, mut response: Response) -> Result<SandboxNetworkPolicy, FetchError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_RESPONSE {
                return Err(problem("the control plane's response is too long".to_owned()));
            }
        }
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(FetchError::NoSandbox),
            status => {
                return Err(problem(format!(
                    "the control plane does not return the policy (status {status})"
                )));
            }
        }
        let policy: SandboxNetworkPolicy = serde_json::from_slice(&body).map_err(|error| {
            problem(format!("the control plane's policy is not valid: {error}"))
        })?;
        if policy.sandbox_id.as_str() != self.sandbox {
            return Err(problem("the control plane's policy is for another sandbox".to_owned()));
        }
        Ok(policy)
    }
}

enum FetchError {
    /// The sandbox does not exist.
    NoSandbox,
    /// Any other error.
    Problem(String),
}

/// Refuses a response without the marker header: it comes from another server, for example a proxy's error page.
fn from_control_plane(response: Response) -> Result<Response, FetchError> {
    if response.headers().get(MARKER_HEADER).is_none_or(|value| value != MARKER_VALUE) {
        let status = response.status();
        return Err(problem(format!(
            "the response does not come from the control plane (status {status})"
        )));
    }
    Ok(response)
}

fn failed(error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    problem(format!("the policy can't be fetched from the control plane: {error}"))
}

fn problem(text: String) -> FetchError {
    FetchError::Problem(text)
}

/// The policy of a sandbox that does not exist.
fn deny_all() -> NetworkPolicy {
    NetworkPolicy { allow_internet_access: false, ..NetworkPolicy::default() }
}
