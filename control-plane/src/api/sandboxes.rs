//! The calls that create, show, change and delete sandboxes.

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use sandgate_policy::gateway_api::{ErrorBody, SandboxState};
use tokio::time::{Instant, timeout_at};

use super::caller::Caller;
use super::errors::not_started;
use super::query::{MAX_WAIT, QueryParameters};
use super::requests::{CreateSandbox, PatchSandbox};
use super::responses::{CreatedSandbox, SandboxInfo};
use super::target::Target;
use super::{Api, HandlerResult, PrivateToPublic};
use crate::http::{ApiError, RequestPermits, read_json};
use crate::model::SandboxPatch;
use crate::random;
use crate::runtime::Failure;
use crate::sandboxes::Starting;

/// Creates a sandbox, and waits until it runs.
#[utoipa::path(
    post,
    path = "/sandboxes",
    tag = "sandboxes",
    operation_id = "create_sandbox",
    request_body = CreateSandbox,
    responses(
        (status = 200, description = "The sandbox runs.", body = CreatedSandbox),
        (status = 202, description = "With `wait` false: the sandbox is starting.", body = CreatedSandbox),
        (status = 409, description = "`NAME_TAKEN`: the name is not available. `PROJECT_FULL`: the project stores the maximum amount of data.", body = ErrorBody),
        (status = 422, description = "`SANDBOX_REFUSED`: the platform refuses to run the sandbox; the error has the reason.", body = ErrorBody),
        (status = 504, description = "The sandbox does not run yet, and `status` is `timeout`. Get the sandbox to see its state.", body = CreatedSandbox),
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    permits: RequestPermits,
    target: Target,
    parameters: QueryParameters,
    body: Body,
) -> HandlerResult {
    parameters.none()?;
    let request: CreateSandbox = read_json(body).await?;
    let waits = request.waits();
    let id = random::sandbox_id().map_err(|error| {
        tracing::error!(%error, "no sandbox can be created");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "NO_RANDOMNESS", error.to_string())
    })?;
    let new = request.into_new_sandbox(id.clone(), caller.project_id, caller.principal)?;
    api.egress.check(&new.network_policy)?;
    if waits {
        // Before the sandbox is created, so that a refusal has no effect.
        permits.wait()?;
    }
    let Starting { created, started } = api.sandboxes.create(new).await?;
    // A gateway may have cached that the name did not exist.
    api.sandboxes.propagation().wait_until_applied(created.revision).await;
    if !waits {
        return Ok(CreatedSandbox::new(&created.value, &target).accepted());
    }
    let start = timeout_at(Instant::now() + MAX_WAIT, started).await;
    if let Ok(Ok(Err(failure))) = start {
        return Err(not_started("started", &failure));
    }
    let found = api.sandboxes.find(id.to_ref()).await?;
    let sandbox = found.ok_or_else(|| {
        let reason = "it was deleted in the meantime".to_owned();
        not_started("started", &Failure { refused: false, reason })
    })?;
    let created = CreatedSandbox::new(&sandbox, &target);
    let is_pending = sandbox.state == SandboxState::Pending;
    Ok(if is_pending { created.timed_out() } else { created.running() })
}

/// Returns a sandbox by its id or its name.
#[utoipa::path(
    get,
    path = "/sandboxes/{sandbox}",
    tag = "sandboxes",
    operation_id = "get_sandbox",
    params(("sandbox" = String, Path, description = "The id or the name of the sandbox.")),
    responses((status = 200, description = "The sandbox.", body = SandboxInfo))
)]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    parameters: QueryParameters,
) -> HandlerResult {
    parameters.none()?;
    let sandbox = target.find(&api, &caller).await?;
    Ok(SandboxInfo::new(&sandbox, &target).into_response(StatusCode::OK))
}

/// Changes a sandbox. An absent field keeps its value, and null sets the default.
#[utoipa::path(
    patch,
    path = "/sandboxes/{sandbox}",
    tag = "sandboxes",
    operation_id = "patch_sandbox",
    params(("sandbox" = String, Path, description = "The id or the name of the sandbox.")),
    request_body = PatchSandbox,
    responses(
        (status = 200, description = "The changed sandbox. Every connected gateway has applied the change, or 500 ms have passed. Live streams to a port that is no longer permitted are closed shortly after that.", body = SandboxInfo),
        (
            status = 409,
            description = "`NAME_TAKEN`: the name is not available. `AUTO_RESUME_NEEDS_NAME`: a \
                sandbox without a name is never suspended, so `auto_resume` can't be switched off. \
                `PUBLIC_NOT_CONFIRMED`: ports that need a credential would become public, and this \
                deployment requires a confirmation. `PROJECT_FULL`: the project stores the maximum amount of data.",
            body = ErrorBody
        ),
    )
)]
pub(super) async fn patch(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    parameters: QueryParameters,
    body: Body,
) -> HandlerResult {
    parameters.none()?;
    let sandbox = target.find(&api, &caller).await?;
    let request: PatchSandbox = read_json(body).await?;
    // Some clients send the flag with every change of ports. With `PrivateToPublic::Confirm`, such a patch must not make
    // private ports public.
    let must_confirm = api.private_to_public == PrivateToPublic::Confirm;
    let keep_private = must_confirm && request.sets_ports_and_public_flag();
    let patch = SandboxPatch { keep_private, ..request.try_into()? };
    if let Some(policy) = &patch.network_policy {
        api.egress.check(policy)?;
    }
    let patched = api.sandboxes.patch(&sandbox, patch, caller.principal.into()).await?;
    api.sandboxes.propagation().wait_until_applied(patched.revision).await;
    let info = SandboxInfo::new(&patched.value.after, &target)
        .with_ports_made_public(&patched.value.ports_made_public());
    Ok(info.into_response(StatusCode::OK))
}

/// Deletes a sandbox.
#[utoipa::path(
    delete,
    path = "/sandboxes/{sandbox}",
    tag = "sandboxes",
    operation_id = "delete_sandbox",
    params(("sandbox" = String, Path, description = "The id or the name of the sandbox.")),
    responses((status = 200, description = "The sandbox is deleted. The response shows its last values, with the status `terminated`.", body = SandboxInfo))
)]
pub(super) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    parameters: QueryParameters,
) -> HandlerResult {
    parameters.none()?;
    let sandbox = target.find(&api, &caller).await?;
    let ended = api.sandboxes.delete(&sandbox, caller.principal.into()).await?;
    let ended = ended.ok_or_else(ApiError::no_sandbox)?;
    api.sandboxes.propagation().wait_until_applied(ended.revision).await;
    Ok(SandboxInfo::new(&ended.value, &target).into_response(StatusCode::OK))
}

/// Answers 404 for every sandbox, because deleted sandboxes are not kept. A client calls this when it did not find a
/// sandbox.
#[utoipa::path(
    get,
    path = "/archived-sandboxes/{sandbox}",
    tag = "sandboxes",
    operation_id = "get_archived_sandbox",
    params(("sandbox" = String, Path, description = "The id or the name of the sandbox.")),
    responses()
)]
pub(super) async fn archived(
    caller: Caller,
    target: Target,
    parameters: QueryParameters,
) -> ApiError {
    // Only extracted so that an invalid request gets the same errors as on the other calls.
    drop((caller, target, parameters));
    let message = "there is no such sandbox in this project; deleted ones are not kept";
    ApiError::new(StatusCode::NOT_FOUND, "SANDBOX_NOT_FOUND", message)
}
