//! The few calls of the platform API that the command line client makes before every command.

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

/// Who a credential is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyInfo {
    /// The key's id, or the user's.
    id: String,
    /// Of the project.
    organization_id: String,
    /// In which it acts.
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
    /// Whose it is.
    organization_id: String,
    /// Name of that organization.
    organization_name: String,
}

/// Who the credential is, and in which project it acts.
#[utoipa::path(
    post,
    path = "/platform/v1/keys/introspect",
    tag = "platform",
    operation_id = "introspect_key",
    responses((status = 200, description = "It is valid.", body = KeyInfo))
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

/// The names of the caller's project and its organization.
#[utoipa::path(
    get,
    path = "/platform/v1/organizations/{organization}/projects/{project}",
    tag = "platform",
    operation_id = "get_project",
    params(
        ("organization" = String, Path, description = "Its id."),
        ("project" = String, Path, description = "Its id."),
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
    let none = || {
        let message = "there is no such project that this credential may see";
        ApiError::new(StatusCode::NOT_FOUND, "PROJECT_NOT_FOUND", message)
    };
    if caller.organization_id != *organization || caller.project_id != *project {
        return Err(none());
    }
    let found = api.sandboxes.db().read(move |store| store.project(&project)).await?;
    let project = found.ok_or_else(none)?;
    Ok(Json(ProjectInfo {
        id: project.id,
        name: project.name,
        organization_id: project.organization_id,
        organization_name: project.organization_name,
    }))
}
