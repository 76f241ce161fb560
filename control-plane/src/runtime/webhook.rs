//! Sandboxes on the operator's own platform, which the control plane calls over HTTP. Each call is signed.
//!
//! Each call is a `POST` of JSON to one URL:
//!
//! ```text
//! {"action": "start" | "suspend" | "resume" | "stop", "idempotency_key": "…",
//!  "sandbox": {"id", "placement", "name", "organization_id", "project_id", "spec": {…},
//!  "sidecar_tokens": […]}}
//! ```
//!
//! with the headers `Idempotency-Key`, `X-Sandgate-Timestamp` (seconds) and `X-Sandgate-Signature`
//! (see [`signature`]). The response is 200 with `{"state": "running", "address": "10.1.2.3"}` for
//! start and resume, `{"state": "suspended"}` for suspend, `{"state": "terminated"}` for stop (a 404
//! means the same). While the platform is still at work, it answers `{"state": "pending"}`, and the control
//! plane repeats the call. All calls for one action on one sandbox have the same idempotency key, also after
//! a restart of the control plane.

mod call;
mod signature;

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;
use tokio::time::{Instant, sleep};

use self::call::{Action, Attempt, PlatformResponse, State};
pub use self::signature::{InvalidSecret, SigningKey};
use super::{Runtime, RuntimeError, RuntimeFuture};
use crate::gateway_tokens::Tokens;
use crate::model::Sandbox;

/// The pause after the first attempt. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The number of consecutive failures after which the action has failed.
const MAX_FAILURES: u32 = 5;

pub struct WebhookSettings {
    /// The URL that all calls go to.
    pub url: Url,
    /// Signs all calls.
    pub key: SigningKey,
    /// The certificate authorities for an `https` URL. If there are none, the system's are used.
    pub trusted: Vec<reqwest::Certificate>,
    /// The only addresses that the platform may give sandboxes.
    pub sandbox_cidrs: Vec<IpNet>,
    /// The longest time of one call.
    pub call_timeout: Duration,
    /// The longest time of one action, with all its calls.
    pub step_timeout: Duration,
}

/// Sandboxes on the operator's platform.
pub struct WebhookRuntime {
    settings: WebhookSettings,
    /// The gateway tokens, from which the tokens of sidecars are derived; only if sidecars enforce network
    /// policies.
    sidecars: Option<Tokens>,
    client: reqwest::Client,
}

impl WebhookRuntime {
    /// A runtime that calls one URL. With `sidecars`, a call to start or resume a sandbox has the tokens of its
    /// sidecar, which the platform must start before the sandbox.
    ///
    /// # Errors
    /// The HTTP client can't be made.
    pub fn new(settings: WebhookSettings, sidecars: Option<Tokens>) -> Result<Self, RuntimeError> {
        // An error means that the process already has a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder();
        if !settings.trusted.is_empty() {
            builder = builder.tls_certs_only(settings.trusted.iter().cloned());
        }
        let client = builder
            .timeout(settings.call_timeout)
            // A signed call must not go to another URL.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("sandgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(RuntimeError::failed)?;
        Ok(Self { settings, sidecars, client })
    }

    /// Repeats the call until the platform has done the action or failed, or until the time is over.
    async fn call_until_done(
        &self,
        action: Action,
        sandbox: &Sandbox,
    ) -> Result<PlatformResponse, RuntimeError> {
        let began = Instant::now();
        let sidecar_tokens = match (&self.sidecars, action) {
            (Some(tokens), Action::Start | Action::Resume) => tokens.for_sidecar(&sandbox.id),
            _ => Vec::new(),
        };
        let (mut pause, mut failures) = (FIRST_PAUSE, 0);
        loop {
            let attempt =
                call::attempt(&self.client, &self.settings, action, sandbox, &sidecar_tokens);
            match attempt.await {
                Attempt::Answered(PlatformResponse { state: State::Pending, .. }) => failures = 0,
                Attempt::Answered(response) => return Ok(response),
                Attempt::Refused { why, to_owner } => {
                    return Err(RuntimeError::Refused { why, to_owner });
                }
                Attempt::Failed(why) => return Err(RuntimeError::Failed(why)),
                Attempt::Retry(why) => {
                    failures += 1;
                    if failures >= MAX_FAILURES {
                        return Err(RuntimeError::Failed(why));
                    }
                    tracing::warn!(sandbox = %sandbox.id, %why, "the webhook failed; trying again");
                }
            }
            if began.elapsed() + pause >= self.settings.step_timeout {
                return Err(RuntimeError::TimedOut(self.settings.step_timeout));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn run(&self, action: Action, sandbox: &Sandbox) -> Result<IpAddr, RuntimeError> {
        let response = self.call_until_done(action, sandbox).await?;
        let address = match response {
            PlatformResponse { state: State::Running, address: Some(address) } => address,
            PlatformResponse { state: State::Running, address: None } => {
                return Err(RuntimeError::failed(
                    "the webhook answered `running` without an `address`",
                ));
            }
            other => return Err(other.unexpected(action)),
        };
        let is_allowed =
            self.settings.sandbox_cidrs.iter().any(|network| network.contains(&address));
        if is_allowed { Ok(address) } else { Err(RuntimeError::ForeignAddress(address)) }
    }

    async fn end(
        &self,
        action: Action,
        sandbox: &Sandbox,
        expected: State,
    ) -> Result<(), RuntimeError> {
        let response = self.call_until_done(action, sandbox).await?;
        if response.state == expected { Ok(()) } else { Err(response.unexpected(action)) }
    }
}

impl Runtime for WebhookRuntime {
    fn start<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr> {
        Box::pin(self.run(Action::Start, sandbox))
    }

    fn suspend<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()> {
        Box::pin(self.end(Action::Suspend, sandbox, State::Suspended))
    }

    fn resume<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr> {
        Box::pin(self.run(Action::Resume, sandbox))
    }

    fn stop<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()> {
        Box::pin(self.end(Action::Stop, sandbox, State::Terminated))
    }

    fn outlives_the_server(&self) -> bool {
        true
    }

    fn shut_down(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}
