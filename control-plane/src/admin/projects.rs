//! The calls that list and create projects.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use sandgate_policy::gateway_api::ErrorBody;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::Operator;
use super::listing::{Query, cursor, page};
use super::{Admin, HandlerResult, label, no_randomness};
use crate::db::Writer;
use crate::http::{ApiError, read_json};
use crate::model::Project;
use crate::random::prefixed_id;
use crate::store::StoreError;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewProject {
    organization_id: String,
    /// Unique in the organization; 1 to 200 characters on one line.
    name: String,
}

/// A project, which owns sandboxes.
#[derive(Serialize, ToSchema)]
pub(super) struct ProjectInfo {
    id: String,
    name: String,
    organization_id: String,
    /// In milliseconds since 1970.
    created_at: i64,
}

/// A page of projects.
#[derive(Serialize, ToSchema)]
pub(super) struct Projects {
    projects: Vec<ProjectInfo>,
    /// Present if there are more.
    next_cursor: Option<String>,
}

fn info(value: Project) -> ProjectInfo {
    let Project { id, organization_id, name, created_at, .. } = value;
    ProjectInfo { id, name, organization_id, created_at: created_at.millis() }
}

/// Lists projects in the order of their creation.
#[utoipa::path(
    get,
    path = "/admin/v1/projects",
    tag = "admin",
    operation_id = "list_projects",
    params(
        ("organization_id" = Option<String>, Query, description = "Lists only projects of this organization."),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "The maximum number of entries. The default is 1000."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ),
    responses((status = 200, description = "A page.", body = Projects))
)]
pub(super) async fn list(State(admin): State<Admin>, query: Query) -> HandlerResult {
    query.only(true, false)?;
    let (limit, after) = (query.limit()?, query.after()?);
    let organization = query.organization_id;
    let found = admin.db().read(move |store| {
        store.projects_after(after.as_ref(), organization.as_deref(), limit + 1)
    });
    let (found, next_cursor) = page(found.await?, limit, |it| cursor(it.created_at, &it.id));
    let projects = found.into_iter().map(info).collect();
    Ok(Json(Projects { projects, next_cursor }).into_response())
}

/// Creates a project. If the organization has one of this name, returns it: a repeated call changes nothing.
#[utoipa::path(
    post,
    path = "/admin/v1/projects",
    tag = "admin",
    operation_id = "create_project",
    request_body = NewProject,
    responses(
        (status = 201, description = "The new project.", body = ProjectInfo),
        (status = 200, description = "The project of this name, which existed.", body = ProjectInfo),
        (status = 404, description = "There is no such organization.", body = ErrorBody),
        (status = 413, description = "The body is too long.", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(admin): State<Admin>,
    operator: Operator,
    body: Body,
) -> HandlerResult {
    let new: NewProject = read_json(body).await?;
    let name = label("name", &new.name)?.to_owned();
    let organization = new.organization_id;
    let id = prefixed_id("project").map_err(no_randomness)?;
    let made = admin.db().write_unannounced(Writer::Server, {
        let (organization, name) = (organization.clone(), name.clone());
        move |store| {
            let made = store.create_project(&id, &organization, &name, operator.author())?;
            operator.log("create project", &made.id, &made.organization_id);
            Ok(made)
        }
    });
    match made.await {
        Ok(made) => Ok((StatusCode::CREATED, Json(info(made))).into_response()),
        Err(error @ StoreError::AlreadyExists { .. }) => {
            let found = admin.db().read(move |store| store.project_named(&organization, &name));
            let found = found.await?.ok_or_else(|| ApiError::from(error))?;
            Ok(Json(info(found)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}
