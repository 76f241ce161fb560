//! Sandboxes on the operator's own platform, which is told what to do by signed HTTP calls.
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
//! (see [`signature`]). The answer is 200 with `{"state": "running", "address": "10.1.2.3"}` for
//! start and resume, `{"state": "suspended"}` for suspend, `{"state": "terminated"}` for stop (a 404
//! says the same). While the platform is still at work it answers `{"state": "pending"}`, and is
//! asked again with the same key. The key of one step of one sandbox is the same for every attempt
//! at it, also after a restart of the control plane.

mod call;
mod signature;

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::Url;
use tokio::time::{Instant, sleep};

use self::call::{Action, Answer, Attempt, State};
pub use self::signature::{InvalidSecret, SigningKey};
use super::{Runtime, RuntimeError, RuntimeFuture};
use crate::gateway::Tokens;
use crate::model::Sandbox;

/// First pause after a failed attempt; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Attempts in a row that may fail.
const MAX_FAILURES: u32 = 5;

/// How the platform is called.
pub struct WebhookSettings {
    /// Where.
    pub url: Url,
    /// Signs every call.
    pub key: SigningKey,
    /// Who may have signed the certificate of an `https` URL; whom the system trusts if empty.
    pub trusted: Vec<reqwest::Certificate>,
    /// The only addresses that the platform may give sandboxes.
    pub sandbox_cidrs: Vec<IpNet>,
    /// How long one call may take.
    pub call_timeout: Duration,
    /// How long one step may take, with all its calls.
    pub step_timeout: Duration,
}

/// Sandboxes on the operator's platform.
pub struct WebhookRuntime {
    settings: WebhookSettings,
    /// From which those of sidecars are made, where a sidecar is to enforce each network policy.
    sidecars: Option<Tokens>,
    client: reqwest::Client,
}

impl WebhookRuntime {
    /// A runtime that calls one URL. With `sidecars`, it hands each sandbox's sidecar tokens to the
    /// platform, which has to run a sidecar before the sandbox then.
    ///
    /// # Errors
    /// The HTTP client can't be made.
    pub fn new(settings: WebhookSettings, sidecars: Option<Tokens>) -> Result<Self, RuntimeError> {
        // An error means that a provider is chosen already, which does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder();
        if !settings.trusted.is_empty() {
            builder = builder.tls_certs_only(settings.trusted.iter().cloned());
        }
        let client = builder
            .timeout(settings.call_timeout)
            // A signed call is for this URL and no other.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("sandgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(RuntimeError::failed)?;
        Ok(Self { settings, sidecars, client })
    }

    /// Calls until the platform says that it is done, fails for good, or time is up.
    async fn step(&self, action: Action, sandbox: &Sandbox) -> Result<Answer, RuntimeError> {
        let began = Instant::now();
        let sidecar_tokens = match (&self.sidecars, action) {
            (Some(tokens), Action::Start | Action::Resume) => tokens.of_sidecar(&sandbox.id),
            _ => Vec::new(),
        };
        let (mut pause, mut failures) = (FIRST_PAUSE, 0);
        loop {
            let attempt =
                call::attempt(&self.client, &self.settings, action, sandbox, &sidecar_tokens);
            match attempt.await {
                Attempt::Answered(Answer { state: State::Pending, .. }) => failures = 0,
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Refused { why, to_owner } => {
                    return Err(RuntimeError::Refused { why, to_owner });
                }
                Attempt::Failed(why) => return Err(RuntimeError::Failed(why)),
                Attempt::TryAgain(why) => {
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
        let answer = self.step(action, sandbox).await?;
        let address = match answer {
            Answer { state: State::Running, address: Some(address) } => address,
            Answer { state: State::Running, address: None } => {
                return Err(RuntimeError::failed(
                    "the webhook answered `running` without an `address`",
                ));
            }
            other => return Err(other.unexpected(action)),
        };
        let known = self.settings.sandbox_cidrs.iter().any(|network| network.contains(&address));
        if known { Ok(address) } else { Err(RuntimeError::ForeignAddress(address)) }
    }

    async fn end(
        &self,
        action: Action,
        sandbox: &Sandbox,
        expected: State,
    ) -> Result<(), RuntimeError> {
        let answer = self.step(action, sandbox).await?;
        if answer.state == expected { Ok(()) } else { Err(answer.unexpected(action)) }
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
