//! `sandgate conformance`: checks a server of the gateway API, of any platform, from outside.
//!
//! Each check has a sentence that says what the server must do. A server that fails one of them lets an ingress filter or a
//! sidecar use outdated state, wait without need, or deny what it should allow.
//!
//! The modules: `client` calls the server, `access` checks who is served, `lookups` the calls about sandboxes and credentials,
//! `feed` the long poll, `changes` what the feed reports when something changes, and `policies` the calls of sidecars.

mod access;
mod changes;
mod client;
mod feed;
mod lookups;
mod policies;

use std::future::Future;

use sandgate_policy::gateway_api::CredentialKind;

pub use self::client::{Client, TIMEOUT};

/// The server, and what the operator has prepared for the checks.
pub struct Target {
    pub client: Client,
    /// The id or the name of a sandbox that runs. It should have a name.
    pub sandbox: String,
    /// A credential that is valid for the sandbox's project.
    pub credential: Option<String>,
    pub credential_kind: CredentialKind,
    /// Whether the server has network policies.
    pub has_policies: bool,
    /// A shell command that changes the sandbox in a way that a lookup shows, and ends when the change is acknowledged. Its
    /// variable `NUMBER` is another one each time.
    pub change: Option<String>,
    /// A shell command that gives the sandbox another address, or stops and starts it.
    pub relocate: Option<String>,
    /// A shell command that revokes the credential.
    pub revoke: Option<String>,
}

/// Why a check has not passed.
#[derive(Debug)]
pub enum Problem {
    Failed(String),
    /// The operator has not prepared what the check needs.
    NotRun(String),
}

/// What a check returns.
type Outcome = Result<(), Problem>;

/// A failure with its reason.
fn fail<T>(reason: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Failed(reason.into()))
}

/// Fails with the reason unless `holds`.
fn require(holds: bool, reason: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { fail(reason()) }
}

/// What an option of the command has not provided.
fn needed<'a>(value: Option<&'a String>, option: &str) -> Result<&'a str, Problem> {
    value.map(String::as_str).ok_or_else(|| Problem::NotRun(format!("it needs `{option}`")))
}

/// Runs the checks one after the other, and counts them.
pub struct Checks<'a> {
    report: &'a mut dyn FnMut(&str, &Outcome),
    pub passed: usize,
    pub failed: usize,
    pub not_run: usize,
}

impl<'a> Checks<'a> {
    /// `report` gets each sentence with its outcome.
    pub fn new(report: &'a mut dyn FnMut(&str, &Outcome)) -> Self {
        Self { report, passed: 0, failed: 0, not_run: 0 }
    }

    async fn check(&mut self, sentence: &str, outcome: impl Future<Output = Outcome>) {
        let outcome = outcome.await;
        (self.report)(sentence, &outcome);
        match outcome {
            Ok(()) => self.passed += 1,
            Err(Problem::Failed(_)) => self.failed += 1,
            Err(Problem::NotRun(_)) => self.not_run += 1,
        }
    }
}

/// Runs all checks. Those that change something come last.
pub async fn run(target: &Target, checks: &mut Checks<'_>) {
    access::run(target, checks).await;
    lookups::run(target, checks).await;
    feed::run(target, checks).await;
    policies::run(target, checks).await;
    changes::run(target, checks).await;
}
