//! The calls of the platform API that the `tl` command line client makes before each of its commands.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::caller::Caller;
use super::query::QueryParameters;
use crate::http::ApiError;

/// The identity of a credential.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyInfo {
    /// The id of the API key, or of the user.
    id: String,
    /// The organization that owns the project.
    organization_id: String,
    /// The project that the credential acts in.
    project_id: String,
}

/// A project and its organization.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProjectInfo {
    /// The project's id.
    id: String,
    /// The project's name.
    name: String,
    /// The organization that owns the project.
    organization_id: String,
    /// The name of that organization.
    organization_name: String,
}

/// Returns the identity of the credential, and the project that it acts in.
#[utoipa::path(
    post,
    path = "/platform/v1/keys/introspect",
    tag = "platform",
    operation_id = "introspect_key",
    responses((status = 200, description = "The credential is valid.", body = KeyInfo))
)]
pub(super) async fn introspect(
    caller: Caller,
    parameters: QueryParameters,
) -> Result<Json<KeyInfo>, ApiError> {
    parameters.none()?;
    Ok(Json(KeyInfo {
        id: caller.principal.into(),
        organization_id: caller.organization_id.into(),
        project_id: caller.project_id.into(),
    }))
}

/// Returns the names of the caller's project and of its organization.
#[utoipa::path(
    get,
    path = "/platform/v1/organizations/{organization}/projects/{project}",
    tag = "platform",
    operation_id = "get_project",
    params(
        ("organization" = String, Path, description = "The id."),
        ("project" = String, Path, description = "The id."),
    ),
    responses((status = 200, description = "The project.", body = ProjectInfo))
)]
pub(super) async fn project(
    State(api): State<Api>,
    caller: Caller,
    parameters: QueryParameters,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<ProjectInfo>, ApiError> {
    parameters.none()?;
    let Path((organization, project)) =
        path.map_err(|_| ApiError::invalid("the path is not UTF-8"))?;
    let not_found = || {
        let message = "the credential gives access to no such project";
        ApiError::new(StatusCode::NOT_FOUND, "PROJECT_NOT_FOUND", message)
    };
    if caller.organization_id != *organization || caller.project_id != *project {
        return Err(not_found());
    }
    let found = api.sandboxes.db().read(move |store| store.project(&project)).await?;
    let project = found.ok_or_else(not_found)?;
    Ok(Json(ProjectInfo {
        id: project.id,
        name: project.name,
        organization_id: project.organization_id,
        organization_name: project.organization_name,
    }))
}
