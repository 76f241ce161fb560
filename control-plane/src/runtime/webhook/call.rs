//! One signed call to the operator's platform, and what its answer means.

use std::net::IpAddr;

use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use super::WebhookSettings;
use crate::model::{Sandbox, Spec, Timestamp};
use crate::runtime::RuntimeError;

/// Bytes of an answer; what is asked for takes less than a hundred.
const MAX_ANSWER: usize = 64 * 1_024;
/// What says that the platform will not do it, for a reason that is the sandbox's. Other errors of
/// the 4xx class say that the two don't understand one another, which is the operator's to repair.
const REFUSALS: [StatusCode; 2] = [StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY];
/// What may have passed a moment later, like every 5xx.
const PASSING: [StatusCode; 3] =
    [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
/// Characters of a refusal that owners see.
const MAX_WORDS: usize = 500;

/// What the platform is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    /// Run a new sandbox.
    Start,
    /// Stop it so that it can be resumed.
    Suspend,
    /// Run it again.
    Resume,
    /// End it.
    Stop,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Stop => "stop",
        }
    }
}

/// No `Debug`: it holds tokens.
#[derive(Serialize)]
struct Request<'a> {
    action: Action,
    idempotency_key: &'a str,
    sandbox: Subject<'a>,
}

#[derive(Serialize)]
struct Subject<'a> {
    id: &'a str,
    placement: u64,
    name: Option<&'a str>,
    organization_id: &'a str,
    project_id: &'a str,
    spec: &'a Spec,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    sidecar_tokens: &'a [String],
}

/// What the platform says about the sandbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Still at work.
    Pending,
    /// Its ports can be reached.
    Running,
    /// It is stopped and can be resumed.
    Suspended,
    /// It is gone.
    Terminated,
}

/// The platform's answer. It may say more than we read.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) state: State,
    #[serde(default)]
    pub(super) address: Option<IpAddr>,
}

impl Answer {
    pub(super) fn unexpected(self, action: Action) -> RuntimeError {
        let Self { state, .. } = self;
        RuntimeError::failed(format!("the webhook answered {state:?} to `{}`", action.name()))
    }
}

/// What the platform may say when it refuses.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// How an attempt went.
pub(super) enum Attempt {
    /// With an answer.
    Answered(Answer),
    /// It makes no sense to try again: the platform says no.
    Refused {
        /// For the log.
        why: String,
        /// What the platform says to the owner.
        to_owner: Option<String>,
    },
    /// It makes no sense to try again: what the platform says can't be understood.
    Failed(String),
    /// Perhaps next time.
    TryAgain(String),
}

/// Calls once.
pub(super) async fn attempt(
    client: &reqwest::Client,
    settings: &WebhookSettings,
    action: Action,
    sandbox: &Sandbox,
    sidecar_tokens: &[String],
) -> Attempt {
    // Each resume has its own placement, even after a failed one. After a refused suspension, the sandbox is
    // in the same placement, but in another generation.
    let idempotency_key =
        format!("{}-{}-{}-{}", sandbox.id, action.name(), sandbox.placement, sandbox.generation);
    let request = Request {
        action,
        idempotency_key: &idempotency_key,
        sandbox: Subject {
            id: sandbox.id.as_str(),
            placement: sandbox.placement,
            name: sandbox.name.as_ref().map(crate::model::SandboxName::as_str),
            organization_id: &sandbox.organization_id,
            project_id: &sandbox.project_id,
            spec: &sandbox.spec,
            sidecar_tokens,
        },
    };
    let body = match serde_json::to_vec(&request) {
        Ok(body) => body,
        Err(error) => return Attempt::Failed(error.to_string()),
    };
    let timestamp = Timestamp::now().seconds();
    let sent = client
        .post(settings.url.clone())
        .header("content-type", "application/json")
        .header("idempotency-key", &idempotency_key)
        .header("x-sandgate-timestamp", timestamp)
        .header("x-sandgate-signature", settings.key.sign(timestamp, &body))
        .body(body)
        .send()
        .await;
    match sent {
        // Without the URL, which may hold a secret of the operator's.
        Err(error) => Attempt::TryAgain(format!(
            "the webhook can't be reached: {}",
            reason(&error.without_url())
        )),
        Ok(response) => judge(response, action).await,
    }
}

async fn judge(response: reqwest::Response, action: Action) -> Attempt {
    let status = response.status();
    if status == StatusCode::NOT_FOUND && action == Action::Stop {
        return Attempt::Answered(Answer { state: State::Terminated, address: None });
    }
    if status.is_server_error() || PASSING.contains(&status) {
        return Attempt::TryAgain(format!("the webhook answered {status}"));
    }
    if REFUSALS.contains(&status) {
        let to_owner = read(response).await.ok().and_then(|body| words(&body));
        let why = match &to_owner {
            Some(words) => format!("the webhook answered {status}: {words}"),
            None => format!("the webhook answered {status}"),
        };
        return Attempt::Refused { why, to_owner };
    }
    if !status.is_success() {
        return Attempt::Failed(format!("the webhook answered {status}"));
    }
    match read(response).await {
        Ok(body) => match serde_json::from_slice(&body) {
            Ok(answer) => Attempt::Answered(answer),
            Err(error) => Attempt::Failed(format!(
                "the webhook's answer is not JSON with `state` and `address`: {error}"
            )),
        },
        Err(why) => Attempt::TryAgain(why),
    }
}

/// `{"error": "…"}`, as text that can't do harm in a log or a terminal.
fn words(body: &[u8]) -> Option<String> {
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    let plain = refusal.error.chars().map(|c| if c.is_control() { ' ' } else { c });
    let words = plain.take(MAX_WORDS).collect::<String>().trim().to_owned();
    (!words.is_empty()).then_some(words)
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| {
            format!("the webhook's answer broke off: {}", reason(&error.without_url()))
        })?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("the webhook's answer is longer than {MAX_ANSWER} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
}

/// The innermost cause says what happened: the outer ones say "error sending request".
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
