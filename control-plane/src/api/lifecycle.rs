//! The calls that suspend and resume a sandbox.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts as _, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use sandgate_policy::gateway_api::{ErrorBody, SandboxState};

use super::caller::Caller;
use super::errors::not_started;
use super::query::QueryParameters;
use super::responses::SandboxInfo;
use super::target::Target;
use super::{Api, HandlerResult};
use crate::http::{ApiError, RequestPermits, read_empty};
use crate::model::Sandbox;
use crate::sandboxes::{ResumeError, ResumePolicy, SuspendError};

/// Suspends a sandbox, and waits until it is suspended. A suspended sandbox can be resumed.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandbox}/suspend",
    tag = "sandboxes",
    operation_id = "suspend_sandbox",
    params(
        ("sandbox" = String, Path, description = "The id or the name of the sandbox."),
        (
            "wait_ms" = Option<u64>, Query, maximum = 9_007_199_254_740_991_u64,
            description = "The maximum wait in milliseconds. The default is 30000; a greater value than 60000 means 60000."
        ),
    ),
    responses(
        (status = 200, description = "The sandbox is suspended.", body = SandboxInfo),
        (status = 202, description = "The sandbox is not suspended yet; `status` is its current state.", body = SandboxInfo),
        (status = 409, description = "`SANDBOX_NOT_RUNNING`: the sandbox is changing to another state.", body = ErrorBody),
        (status = 422, description = "`SANDBOX_REFUSED`: the platform refused, and the sandbox continues to run.", body = ErrorBody),
    )
)]
pub(super) async fn suspend(
    State(api): State<Api>,
    StateChange { sandbox, wait, target }: StateChange,
) -> HandlerResult {
    let sandbox = api.sandboxes.suspend(sandbox.id, wait).await.map_err(|error| {
        let (status, code) = match error {
            SuspendError::Ephemeral => (StatusCode::BAD_REQUEST, "SANDBOX_NOT_SUSPENDABLE"),
            SuspendError::NotRunning(_) => (StatusCode::CONFLICT, "SANDBOX_NOT_RUNNING"),
            SuspendError::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "SANDBOX_REFUSED"),
            SuspendError::Unconfirmed(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "SUSPENSION_NOT_CONFIRMED")
            }
            SuspendError::NotFound => return ApiError::no_sandbox(),
            SuspendError::Store(error) => return error.into(),
        };
        ApiError::new(status, code, error.to_string())
    })?;
    let propagation = api.sandboxes.propagation();
    propagation.wait_until_applied(propagation.newest()).await;
    Ok(response(&sandbox, SandboxState::Suspended, &target))
}

/// Resumes a suspended sandbox, and waits until it runs.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandbox}/resume",
    tag = "sandboxes",
    operation_id = "resume_sandbox",
    params(
        ("sandbox" = String, Path, description = "The id or the name of the sandbox."),
        (
            "wait_ms" = Option<u64>, Query, maximum = 9_007_199_254_740_991_u64,
            description = "The maximum wait in milliseconds. The default is 30000; a greater value than 60000 means 60000."
        ),
    ),
    responses(
        (status = 200, description = "The sandbox runs.", body = SandboxInfo),
        (status = 202, description = "The sandbox does not run yet; `status` is its current state.", body = SandboxInfo),
        (status = 422, description = "`SANDBOX_REFUSED`: the platform refuses to run the sandbox; the error has the reason.", body = ErrorBody),
    )
)]
pub(super) async fn resume(
    State(api): State<Api>,
    StateChange { sandbox, wait, target }: StateChange,
) -> HandlerResult {
    let resumed = api.sandboxes.resume(sandbox.id, ResumePolicy::Owner, wait).await;
    let sandbox = resumed.map_err(|error| match error {
        ResumeError::NotFound => ApiError::no_sandbox(),
        ResumeError::NotResumable(_) | ResumeError::TooSoon(_) => {
            ApiError::new(StatusCode::BAD_REQUEST, "SANDBOX_NOT_RESUMABLE", error.to_string())
        }
        ResumeError::Failed(failure) => not_started("resumed", &failure),
        ResumeError::Store(error) => error.into(),
    })?;
    let propagation = api.sandboxes.propagation();
    propagation.wait_until_applied(propagation.newest()).await;
    Ok(response(&sandbox, SandboxState::Running, &target))
}

/// The parameters of a call that changes the state of a sandbox and waits for it. The extractor already moved the
/// request to the waiting requests ([`RequestPermits::wait`]).
pub(super) struct StateChange {
    sandbox: Sandbox,
    wait: Duration,
    target: Target,
}

impl FromRequest<Api> for StateChange {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, api).await?;
        let permits = RequestPermits::from_request_parts(&mut parts, api).await?;
        let target = Target::from_request_parts(&mut parts, api).await?;
        let wait = QueryParameters::from_request_parts(&mut parts, api).await?.wait()?;
        read_empty(body).await?;
        let sandbox = target.find(api, &caller).await?;
        permits.wait()?;
        Ok(Self { sandbox, wait, target })
    }
}

/// 200 if the sandbox has the wanted state; otherwise 202, and the caller can poll the state.
fn response(sandbox: &Sandbox, wanted: SandboxState, target: &Target) -> Response {
    let status = if sandbox.state == wanted { StatusCode::OK } else { StatusCode::ACCEPTED };
    SandboxInfo::new(sandbox, target).into_response(status)
}
