//! Suspend and resume.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts as _, Request, State};
use axum::http::StatusCode;
use sandgate_policy::gateway_api::{ErrorBody, SandboxState};

use super::access::Caller;
use super::info::SandboxInfo;
use super::parameters::Parameters;
use super::sandboxes::not_started;
use super::target::Target;
use super::{Answer, Api};
use crate::http::{ApiError, Slot, read_nothing};
use crate::model::Sandbox;
use crate::sandboxes::{ResumeError, ResumePolicy, SuspendError};

/// Stops a sandbox so that it can be resumed, and waits for that.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandbox}/suspend",
    tag = "sandboxes",
    operation_id = "suspend_sandbox",
    params(
        ("sandbox" = String, Path, description = "Id or name."),
        (
            "wait_ms" = Option<u64>, Query, maximum = 9_007_199_254_740_991_u64,
            description = "How long to wait: 30000 if left out, 60000 at most."
        ),
    ),
    responses(
        (status = 200, description = "It is suspended.", body = SandboxInfo),
        (status = 202, description = "It is not suspended yet; `status` says where it is.", body = SandboxInfo),
        (status = 409, description = "`SANDBOX_NOT_RUNNING`: it is on its way to another state.", body = ErrorBody),
        (status = 422, description = "`SANDBOX_REFUSED`: the platform refused; it runs on.", body = ErrorBody),
    )
)]
pub(super) async fn suspend(
    State(api): State<Api>,
    Step { sandbox, wait, target }: Step,
) -> Answer {
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
    let changes = api.sandboxes.changes();
    changes.wait_until_applied(changes.newest()).await;
    Ok(api.show(reached(&sandbox, SandboxState::Suspended), &sandbox, &target))
}

/// Makes a suspended sandbox run, and waits for that.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandbox}/resume",
    tag = "sandboxes",
    operation_id = "resume_sandbox",
    params(
        ("sandbox" = String, Path, description = "Id or name."),
        (
            "wait_ms" = Option<u64>, Query, maximum = 9_007_199_254_740_991_u64,
            description = "How long to wait: 30000 if left out, 60000 at most."
        ),
    ),
    responses(
        (status = 200, description = "It runs.", body = SandboxInfo),
        (status = 202, description = "It does not run yet; `status` says where it is.", body = SandboxInfo),
        (status = 422, description = "`SANDBOX_REFUSED`: the platform will not run it, and says why.", body = ErrorBody),
    )
)]
pub(super) async fn resume(State(api): State<Api>, Step { sandbox, wait, target }: Step) -> Answer {
    let resumed = api.sandboxes.resume(sandbox.id, ResumePolicy::Owner, wait).await;
    let sandbox = resumed.map_err(|error| match error {
        ResumeError::NotFound => ApiError::no_sandbox(),
        ResumeError::NotResumable(_) | ResumeError::TooSoon(_) => {
            ApiError::new(StatusCode::BAD_REQUEST, "SANDBOX_NOT_RESUMABLE", error.to_string())
        }
        ResumeError::Failed(failure) => not_started("resumed", failure.refused, &failure.reason),
        ResumeError::Store(error) => error.into(),
    })?;
    let changes = api.sandboxes.changes();
    changes.wait_until_applied(changes.newest()).await;
    Ok(api.show(reached(&sandbox, SandboxState::Running), &sandbox, &target))
}

/// What a call asks for that moves a sandbox on and waits for that. From here on it only waits.
pub(super) struct Step {
    sandbox: Sandbox,
    wait: Duration,
    target: Target,
}

impl FromRequest<Api> for Step {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, api).await?;
        let slot = Slot::from_request_parts(&mut parts, api).await?;
        let target = Target::from_request_parts(&mut parts, api).await?;
        let wait = Parameters::from_request_parts(&mut parts, api).await?.wait()?;
        read_nothing(body).await?;
        let sandbox = target.find(api, &caller).await?;
        slot.wait()?;
        Ok(Self { sandbox, wait, target })
    }
}

/// 200: done. 202: the caller may ask for the state until it is.
fn reached(sandbox: &Sandbox, wanted: SandboxState) -> StatusCode {
    if sandbox.state == wanted { StatusCode::OK } else { StatusCode::ACCEPTED }
}
