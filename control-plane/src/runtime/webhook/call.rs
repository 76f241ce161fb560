//! One signed call to the operator's platform, and the meaning of its response.

use std::net::IpAddr;

use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use super::WebhookSettings;
use crate::model::{Sandbox, Spec, Timestamp};
use crate::runtime::RuntimeError;

/// The most bytes of a response. A useful one has less than a hundred.
const MAX_RESPONSE: usize = 64 * 1_024;
/// Statuses by which the platform refuses an action because of the sandbox. Other 4xx statuses mean that the
/// platform does not understand the call, which the operator has to repair.
const REFUSALS: [StatusCode; 2] = [StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY];
/// Statuses of failures that may be temporary, like all 5xx statuses.
const TEMPORARY: [StatusCode; 3] =
    [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
/// The most characters of a refusal's reason that owners see.
const MAX_REASON: usize = 500;

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Start,
    Suspend,
    Resume,
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

/// Has no `Debug`, because it contains tokens.
#[derive(Serialize)]
struct Request<'a> {
    action: Action,
    idempotency_key: &'a str,
    sandbox: SandboxBody<'a>,
}

#[derive(Serialize)]
struct SandboxBody<'a> {
    id: &'a str,
    placement: u64,
    name: Option<&'a str>,
    organization_id: &'a str,
    project_id: &'a str,
    spec: &'a Spec,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    sidecar_tokens: &'a [String],
}

/// The state of the sandbox in a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// The platform is still at work.
    Pending,
    /// The ports of the sandbox can be reached.
    Running,
    Suspended,
    Terminated,
}

/// The platform's response. Other fields are ignored.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct PlatformResponse {
    pub(super) state: State,
    #[serde(default)]
    pub(super) address: Option<IpAddr>,
}

impl PlatformResponse {
    pub(super) fn unexpected(self, action: Action) -> RuntimeError {
        let Self { state, .. } = self;
        RuntimeError::failed(format!("the webhook answered {state:?} to `{}`", action.name()))
    }
}

/// The body of a refusal.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// The result of one call.
pub(super) enum Attempt {
    Answered(PlatformResponse),
    /// The platform refused. This is final.
    Refused {
        /// The reason, for the log.
        why: String,
        /// The reason that the platform gives the owner.
        to_owner: Option<String>,
    },
    /// The response is invalid. This is final.
    Failed(String),
    /// The failure may be temporary.
    Retry(String),
}

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
        sandbox: SandboxBody {
            id: sandbox.id.as_str(),
            placement: sandbox.placement,
            name: sandbox.name.as_ref().map(crate::model::SandboxName::as_str),
            organization_id: sandbox.organization_id.as_str(),
            project_id: sandbox.project_id.as_str(),
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
        // The message omits the URL, which may contain a secret of the operator.
        Err(error) => {
            Attempt::Retry(format!("the webhook can't be reached: {}", cause(&error.without_url())))
        }
        Ok(response) => evaluate(response, action).await,
    }
}

async fn evaluate(response: reqwest::Response, action: Action) -> Attempt {
    let status = response.status();
    if status == StatusCode::NOT_FOUND && action == Action::Stop {
        return Attempt::Answered(PlatformResponse { state: State::Terminated, address: None });
    }
    if status.is_server_error() || TEMPORARY.contains(&status) {
        return Attempt::Retry(format!("the webhook answered {status}"));
    }
    if REFUSALS.contains(&status) {
        let to_owner = read(response).await.ok().and_then(|body| refusal_reason(&body));
        let why = match &to_owner {
            Some(reason) => format!("the webhook answered {status}: {reason}"),
            None => format!("the webhook answered {status}"),
        };
        return Attempt::Refused { why, to_owner };
    }
    if !status.is_success() {
        return Attempt::Failed(format!("the webhook answered {status}"));
    }
    match read(response).await {
        Ok(body) => match serde_json::from_slice(&body) {
            Ok(response) => Attempt::Answered(response),
            Err(error) => Attempt::Failed(format!(
                "the webhook's response is not JSON with `state` and `address`: {error}"
            )),
        },
        Err(why) => Attempt::Retry(why),
    }
}

/// The text of `{"error": "…"}` without control characters, so that it is harmless in a log or a terminal.
fn refusal_reason(body: &[u8]) -> Option<String> {
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    let plain = refusal.error.chars().map(|c| if c.is_control() { ' ' } else { c });
    let reason = plain.take(MAX_REASON).collect::<String>().trim().to_owned();
    (!reason.is_empty()).then_some(reason)
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| {
            format!("the webhook's response broke off: {}", cause(&error.without_url()))
        })?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > MAX_RESPONSE {
            return Err(format!("the webhook's response is longer than {MAX_RESPONSE} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
}

/// The innermost cause of an error. The outer ones are only "error sending request".
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
