//! The calls that list and create organizations.

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
use crate::model::Organization;
use crate::random::prefixed_id;
use crate::store::StoreError;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrganization {
    /// Unique in the deployment; 1 to 200 characters on one line.
    name: String,
}

/// An organization, which owns projects.
#[derive(Serialize, ToSchema)]
pub(super) struct OrganizationInfo {
    id: String,
    name: String,
    /// In milliseconds since 1970.
    created_at: i64,
}

/// A page of organizations.
#[derive(Serialize, ToSchema)]
pub(super) struct Organizations {
    organizations: Vec<OrganizationInfo>,
    /// Present if there are more.
    next_cursor: Option<String>,
}

fn info(value: Organization) -> OrganizationInfo {
    let Organization { id, name, created_at } = value;
    OrganizationInfo { id, name, created_at: created_at.millis() }
}

/// Lists organizations in the order of their creation.
#[utoipa::path(
    get,
    path = "/admin/v1/organizations",
    tag = "admin",
    operation_id = "list_organizations",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "The maximum number of entries. The default is 1000."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ),
    responses((status = 200, description = "A page.", body = Organizations))
)]
pub(super) async fn list(State(admin): State<Admin>, query: Query) -> HandlerResult {
    query.only(false, false)?;
    let (limit, after) = (query.limit()?, query.after()?);
    let found = admin.db().read(move |store| store.organizations_after(after.as_ref(), limit + 1));
    let (found, next_cursor) = page(found.await?, limit, |it| cursor(it.created_at, &it.id));
    let organizations = found.into_iter().map(info).collect();
    Ok(Json(Organizations { organizations, next_cursor }).into_response())
}

/// Creates an organization. If there is one of this name, returns it: a repeated call changes nothing.
#[utoipa::path(
    post,
    path = "/admin/v1/organizations",
    tag = "admin",
    operation_id = "create_organization",
    request_body = NewOrganization,
    responses(
        (status = 201, description = "The new organization.", body = OrganizationInfo),
        (status = 200, description = "The organization of this name, which existed.", body = OrganizationInfo),
        (status = 413, description = "The body is too long.", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(admin): State<Admin>,
    operator: Operator,
    body: Body,
) -> HandlerResult {
    let new: NewOrganization = read_json(body).await?;
    let name = label("name", &new.name)?.to_owned();
    let id = prefixed_id("org").map_err(no_randomness)?;
    let made = admin.db().write_unannounced(Writer::Server, {
        let name = name.clone();
        move |store| {
            let made = store.create_organization(&id, &name, operator.author())?;
            operator.log("create organization", &made.id, "");
            Ok(made)
        }
    });
    match made.await {
        Ok(made) => Ok((StatusCode::CREATED, Json(info(made))).into_response()),
        Err(error @ StoreError::AlreadyExists { .. }) => {
            let found = admin.db().read(move |store| store.organization_named(&name)).await?;
            let found = found.ok_or_else(|| ApiError::from(error))?;
            Ok(Json(info(found)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}
