//! The calls of the ingress filter: resolve, introspect and resume.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sandgate_policy::gateway_api::{
    CredentialKind, ErrorBody, IntrospectRequest, Introspection, ResumeRequest, Sandbox,
};
use sandgate_policy::ids::SandboxRef;

use super::Gateway;
use crate::http::{ApiError, read_json};
use crate::model::{CredentialQuery, Timestamp};
use crate::random::SecretHash;
use crate::sandboxes::{ResumeError, ResumePolicy};

/// The longest wait, even if `wait_ms` is greater.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Returns a sandbox by its id or its name.
#[utoipa::path(
    get,
    path = "/gateway/v1/sandboxes/{sandbox}",
    tag = "gateway",
    params(("sandbox" = String, Path, description = "The id or the name of the sandbox.")),
    responses(
        (status = 200, description = "The sandbox.", body = Sandbox),
        (status = 404, description = "The sandbox does not exist, or is terminated.", body = ErrorBody),
        (status = 401, description = "The request has no valid gateway token.", body = ErrorBody),
        (status = 503, description = "The store is not available.", body = ErrorBody),
    )
)]
pub(super) async fn resolve(
    State(gateway): State<Gateway>,
    Path(sandbox): Path<String>,
) -> Result<Json<Sandbox>, ApiError> {
    Ok(Json(find(&gateway, &sandbox).await?))
}

/// Returns the identity of a credential, and the projects that it may act in.
#[utoipa::path(
    post,
    path = "/gateway/v1/credentials/introspect",
    tag = "gateway",
    request_body = IntrospectRequest,
    responses(
        (status = 200, description = "The identity. Without `identity`, the credential is not valid.", body = Introspection),
        (status = 400, description = "The body is not as described; the error names the field.", body = ErrorBody),
        (status = 401, description = "The request has no valid gateway token.", body = ErrorBody),
        (status = 503, description = "The store is not available.", body = ErrorBody),
    )
)]
pub(super) async fn introspect(
    State(gateway): State<Gateway>,
    body: Body,
) -> Result<Json<Introspection>, ApiError> {
    let request: IntrospectRequest = read_json(body).await?;
    let in_context = request.organization_id.is_some() && request.project_id.is_some();
    if request.kind != CredentialKind::ApiKey && !in_context {
        return Err(ApiError::invalid(
            "`organization_id` and `project_id` are required with this `kind`",
        ));
    }
    let query = CredentialQuery {
        kind: request.kind,
        hash: SecretHash::of(&request.secret),
        organization_id: request.organization_id,
        project_id: request.project_id,
    };
    let db = gateway.sandboxes.db();
    let identity = db.read(move |store| store.identify(&query, Timestamp::now())).await?;
    gateway.sandboxes.propagation().metrics().looked_up(identity.is_some());
    Ok(Json(Introspection { identity }))
}

/// Resumes a suspended sandbox, and waits until it runs. Concurrent calls share one resume.
#[utoipa::path(
    post,
    path = "/gateway/v1/sandboxes/{sandbox}/resume",
    tag = "gateway",
    params(("sandbox" = String, Path, description = "The id or the name of the sandbox.")),
    request_body = ResumeRequest,
    responses(
        (status = 200, description = "The sandbox after the wait, in any state.", body = Sandbox),
        (status = 400, description = "The body is not as described; the error names the field.", body = ErrorBody),
        (status = 404, description = "The sandbox does not exist, or is terminated.", body = ErrorBody),
        (
            status = 409,
            description = "The sandbox can't be resumed: it has no name, or `auto_resume` is off.",
            body = ErrorBody
        ),
        (
            status = 429,
            description = "Requests with `public` have resumed the sandbox recently.",
            body = ErrorBody,
            headers(("retry-after" = u64, description = "Seconds until the next attempt."))
        ),
        (status = 401, description = "The request has no valid gateway token.", body = ErrorBody),
        (status = 503, description = "The store is not available.", body = ErrorBody),
    )
)]
pub(super) async fn resume(
    State(gateway): State<Gateway>,
    Path(sandbox): Path<String>,
    body: Body,
) -> Result<Json<Sandbox>, ApiError> {
    let request: ResumeRequest = read_json(body).await?;
    let wait = Duration::from_millis(request.wait_ms).min(MAX_WAIT);
    let policy = if request.public { ResumePolicy::PublicRequest } else { ResumePolicy::Request };
    let found = find(&gateway, &sandbox).await?;
    let id = found.id;
    let mut stopping = gateway.stopping.clone();
    let resumed = tokio::select! {
        resumed = gateway.sandboxes.resume(id.clone(), policy, wait) => Some(resumed),
        _ = stopping.wait_for(|stopping| *stopping) => None,
    };
    let Some(resumed) = resumed else {
        return Ok(Json(find(&gateway, id.as_str()).await?));
    };
    let message = |error: &ResumeError| error.to_string();
    match resumed {
        Ok(sandbox) => Ok(Json(sandbox.to_gateway())),
        Err(ResumeError::NotFound) => Err(not_found()),
        Err(error @ (ResumeError::NotResumable(_) | ResumeError::Failed(_))) => {
            Err(ApiError::new(StatusCode::CONFLICT, "SANDBOX_NOT_RUNNING", message(&error)))
        }
        Err(error @ ResumeError::TooSoon(left)) => {
            let too_many = StatusCode::TOO_MANY_REQUESTS;
            Err(ApiError::new(too_many, "TOO_MANY_REQUESTS", message(&error)).retry_after(left))
        }
        Err(ResumeError::Store(error)) => Err(error.into()),
    }
}

async fn find(gateway: &Gateway, sandbox: &str) -> Result<Sandbox, ApiError> {
    let db = gateway.sandboxes.db();
    let found = match SandboxRef::parse(sandbox) {
        Some(which) => db.read(move |store| store.gateway_sandbox(&which)).await?,
        None => None,
    };
    found.ok_or_else(not_found)
}

fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "SANDBOX_NOT_FOUND", "there is no such sandbox")
}
