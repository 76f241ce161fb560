//! The few calls of the platform API that the command line client makes before every command.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Api;
use super::access::Caller;
use crate::fleet::Fleet;
use crate::http::ApiError;

/// Who the credential is.
pub(super) async fn introspect(caller: Caller) -> Response {
    Json(json!({
        "id": caller.principal,
        "organizationId": caller.organization_id,
        "projectId": caller.project_id,
    }))
    .into_response()
}

/// The names of the caller's project.
pub(super) async fn project(
    State(api): State<Api>,
    caller: Caller,
    Path((organization, project)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let none = || {
        let message = "there is no such project that this credential may see";
        ApiError::new(StatusCode::NOT_FOUND, "PROJECT_NOT_FOUND", message)
    };
    if organization != caller.organization_id || project != caller.project_id {
        return Err(none());
    }
    let found = api.fleet.db().read(move |store| store.project(&project)).await?;
    let project = found.ok_or_else(none)?;
    Ok(Json(json!({
        "id": project.id,
        "name": project.name,
        "organizationId": project.organization_id,
        "organizationName": project.organization_name,
    }))
    .into_response())
}

/// Whether the store answers.
pub(crate) async fn ready(fleet: Fleet) -> Result<&'static str, ApiError> {
    let asked = fleet.db().read(|store| store.revision());
    match tokio::time::timeout(Duration::from_secs(2), asked).await {
        Ok(Ok(_)) => Ok("ready\n"),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            let message = "the store does not answer";
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE", message))
        }
    }
}
