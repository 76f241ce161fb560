//! Making, showing, changing and deleting sandboxes.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use sandgate_policy::gateway_api::{ErrorBody, SandboxState};
use tokio::time::{Instant, timeout_at};

use super::access::Caller;
use super::info::{CreatedSandbox, SandboxInfo};
use super::parameters::{LONGEST_WAIT, Parameters};
use super::requests::{CreateRequest, parse_patch};
use super::target::Target;
use super::{Answer, Api};
use crate::http::{ApiError, Slot, read_object};
use crate::model::{NewSandbox, SandboxId};
use crate::sandboxes::Starting;

/// Makes a sandbox, and waits until it runs.
#[utoipa::path(
    post,
    path = "/sandboxes",
    tag = "sandboxes",
    operation_id = "create_sandbox",
    request_body(content = ref("#/components/schemas/CreateSandbox"), content_type = "application/json"),
    responses(
        (status = 200, description = "It runs.", body = CreatedSandbox),
        (status = 202, description = "With `wait` false: it is being started.", body = CreatedSandbox),
        (status = 409, description = "`NAME_TAKEN`: the name is not available. `PROJECT_FULL`: the project stores as much as it may.", body = ErrorBody),
        (status = 422, description = "`SANDBOX_REFUSED`: the platform will not run it, and says why.", body = ErrorBody),
        (status = 504, description = "It does not run yet, `status` is `timeout`: ask for it again.", body = CreatedSandbox),
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    slot: Slot,
    target: Target,
    parameters: Parameters,
    body: Body,
) -> Answer {
    parameters.none()?;
    let request = CreateRequest::parse(read_object(body).await?, api.egress)?;
    let id = SandboxId::generate().map_err(|error| {
        tracing::error!(%error, "no sandbox can be created");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "NO_RANDOMNESS", error.to_string())
    })?;
    let new = NewSandbox {
        id: id.clone(),
        name: request.name,
        project_id: caller.project_id,
        exposed_ports: request.exposed_ports,
        allow_unauthenticated_access: request.allow_unauthenticated_access,
        auto_resume: request.auto_resume,
        network: request.network,
        spec: request.spec,
        principal: caller.principal,
    };
    if request.wait {
        // Before anything is made: who is refused here has lost nothing.
        slot.wait()?;
    }
    let Starting { made, started } = api.sandboxes.create(new).await?;
    // Gateways may remember for a moment that the name did not exist.
    api.sandboxes.changes().wait_until_applied(made.revision).await;
    let show = |sandbox| CreatedSandbox::new(sandbox, &target.namespace, &target.urls);
    if !request.wait {
        return Ok((StatusCode::ACCEPTED, Json(show(&made.value).accepted())).into_response());
    }
    let ended = timeout_at(Instant::now() + LONGEST_WAIT, started).await;
    if let Ok(Ok(Err(failure))) = ended {
        return Err(not_started("started", failure.refused, &failure.reason));
    }
    let found = api.sandboxes.find(id.to_ref()).await?;
    let sandbox = found.ok_or_else(|| not_started("started", false, "it was deleted meanwhile"))?;
    let created = show(&sandbox);
    Ok(if sandbox.state == SandboxState::Pending {
        (StatusCode::GATEWAY_TIMEOUT, Json(created.late())).into_response()
    } else {
        Json(created).into_response()
    })
}

/// A sandbox that does not run although somebody asked for that.
pub(super) fn not_started(what: &str, refused: bool, reason: &str) -> ApiError {
    let message = format!("the sandbox could not be {what}: {reason}");
    if refused {
        return ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "SANDBOX_REFUSED", message);
    }
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SANDBOX_NOT_STARTED", message)
}

/// A sandbox by its id or its name.
#[utoipa::path(
    get,
    path = "/sandboxes/{sandbox}",
    tag = "sandboxes",
    operation_id = "get_sandbox",
    params(("sandbox" = String, Path, description = "Id or name.")),
    responses((status = 200, description = "The sandbox.", body = SandboxInfo))
)]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    parameters: Parameters,
) -> Answer {
    parameters.none()?;
    let sandbox = target.find(&api, &caller).await?;
    Ok(api.show(StatusCode::OK, &sandbox, &target))
}

/// Changes a sandbox: what is absent is kept, null means the default.
#[utoipa::path(
    patch,
    path = "/sandboxes/{sandbox}",
    tag = "sandboxes",
    operation_id = "patch_sandbox",
    params(("sandbox" = String, Path, description = "Id or name.")),
    request_body(content = ref("#/components/schemas/PatchSandbox"), content_type = "application/json"),
    responses(
        (status = 200, description = "The sandbox, changed; every gateway knows.", body = SandboxInfo),
        (
            status = 409,
            description = "`NAME_TAKEN`: the name is not available. `AUTO_RESUME_NEEDS_NAME`: a \
                sandbox without a name is never suspended, so `auto_resume` can't be switched off. \
                `PUBLIC_NOT_CONFIRMED`: ports that need a credential would become public, and this \
                deployment wants that confirmed. `PROJECT_FULL`: the project stores as much as it may.",
            body = ErrorBody
        ),
    )
)]
pub(super) async fn patch(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    parameters: Parameters,
    body: Body,
) -> Answer {
    parameters.none()?;
    let sandbox = target.find(&api, &caller).await?;
    let patch = parse_patch(read_object(body).await?, api.egress, api.public_ports)?;
    let patched = api.sandboxes.patch(&sandbox, patch, caller.principal).await?;
    api.sandboxes.changes().wait_until_applied(patched.revision).await;
    let shown = SandboxInfo::new(&patched.value.after, &target.namespace, &target.urls);
    Ok(Json(shown.opened(&patched.value.opened_ports())).into_response())
}

/// Ends a sandbox for ever.
#[utoipa::path(
    delete,
    path = "/sandboxes/{sandbox}",
    tag = "sandboxes",
    operation_id = "delete_sandbox",
    params(("sandbox" = String, Path, description = "Id or name.")),
    responses((status = 200, description = "It is gone. Shown as it was, terminated.", body = SandboxInfo))
)]
pub(super) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    parameters: Parameters,
) -> Answer {
    parameters.none()?;
    let sandbox = target.find(&api, &caller).await?;
    let ended = api.sandboxes.delete(&sandbox, caller.principal).await?;
    let ended = ended.ok_or_else(ApiError::no_sandbox)?;
    api.sandboxes.changes().wait_until_applied(ended.revision).await;
    Ok(api.show(StatusCode::OK, &ended.value, &target))
}

/// What was deleted is not kept: 404 for every sandbox. A client asks here when it did not find a
/// sandbox among the living.
#[utoipa::path(
    get,
    path = "/archived-sandboxes/{sandbox}",
    tag = "sandboxes",
    operation_id = "get_archived_sandbox",
    params(("sandbox" = String, Path, description = "Id or name.")),
    responses()
)]
pub(super) async fn archived(caller: Caller, target: Target, parameters: Parameters) -> ApiError {
    // Nothing of them matters: there is nothing that the answer could tell about.
    drop((caller, target, parameters));
    let message = "there is no such sandbox in this project; deleted ones are not kept";
    ApiError::new(StatusCode::NOT_FOUND, "SANDBOX_NOT_FOUND", message)
}
