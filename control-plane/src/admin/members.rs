//! The users of projects.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use sandgate_policy::gateway_api::ErrorBody;
use serde::Serialize;
use utoipa::ToSchema;

use super::audit::Operator;
use super::listing::{Query, page};
use super::{Admin, HandlerResult, label, no_randomness};
use crate::db::Writer;
use crate::http::read_empty;
use crate::model::Member;
use crate::random::prefixed_id;

/// A user of a project.
#[derive(Serialize, ToSchema)]
pub(super) struct MemberInfo {
    user_id: String,
    /// The mail address or name.
    user: String,
    project_id: String,
    /// Since when, in milliseconds since 1970.
    created_at: i64,
}

/// A page of members.
#[derive(Serialize, ToSchema)]
pub(super) struct Members {
    members: Vec<MemberInfo>,
    /// Present if there are more.
    next_cursor: Option<String>,
}

fn info(value: Member) -> MemberInfo {
    let Member { user, project_id, created_at } = value;
    MemberInfo { user_id: user.id, user: user.name, project_id, created_at: created_at.millis() }
}

/// Lists members, in the order of projects and users.
#[utoipa::path(
    get,
    path = "/admin/v1/members",
    tag = "admin",
    operation_id = "list_members",
    params(
        ("project_id" = Option<String>, Query, description = "Lists only members of this project."),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "The maximum number of entries. The default is 1000."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ),
    responses((status = 200, description = "A page.", body = Members))
)]
pub(super) async fn list(State(admin): State<Admin>, query: Query) -> HandlerResult {
    query.only(false, true)?;
    let (limit, after) = (query.limit()?, query.after_member()?);
    let project = query.project_id;
    let found = admin.db().read(move |store| {
        let after = after.as_ref().map(|(project, user)| (project.as_str(), user.as_str()));
        store.members_after(after, project.as_deref(), limit + 1)
    });
    let (found, next_cursor) =
        page(found.await?, limit, |it| format!("{}.{}", it.project_id, it.user.id));
    let members = found.into_iter().map(info).collect();
    Ok(Json(Members { members, next_cursor }).into_response())
}

/// Makes a user a member of a project. Creates the user if there is none of this name. A repeated call changes nothing.
#[utoipa::path(
    put,
    path = "/admin/v1/projects/{project}/members/{user}",
    tag = "admin",
    operation_id = "add_member",
    params(
        ("project" = String, Path, description = "The id of the project."),
        ("user" = String, Path, description = "The mail address or name of the user; 1 to 200 characters on one line."),
    ),
    responses(
        (status = 200, description = "The membership.", body = MemberInfo),
        (status = 404, description = "There is no such project.", body = ErrorBody),
    )
)]
pub(super) async fn add(
    State(admin): State<Admin>,
    operator: Operator,
    Path((project, user)): Path<(String, String)>,
    body: Body,
) -> HandlerResult {
    read_empty(body).await?;
    let user = label("user", &user)?.to_owned();
    let id = prefixed_id("user").map_err(no_randomness)?;
    let added = admin
        .db()
        .write(Writer::Server, move |store| {
            let added = store.add_member(&id, &user, &project, operator.author())?;
            operator.log("add member", &added.value.user.id, &added.value.project_id);
            Ok(added)
        })
        .await?;
    admin.propagation.wait_until_applied(added.revision).await;
    Ok(Json(info(added.value)).into_response())
}

/// Ends a membership. The user's tokens and sessions are no longer valid for the project.
#[utoipa::path(
    delete,
    path = "/admin/v1/projects/{project}/members/{user}",
    tag = "admin",
    operation_id = "remove_member",
    params(
        ("project" = String, Path, description = "The id of the project."),
        ("user" = String, Path, description = "The name or id of the user."),
    ),
    responses(
        (status = 200, description = "The former membership.", body = MemberInfo),
        (status = 404, description = "There is no such membership.", body = ErrorBody),
    )
)]
pub(super) async fn remove(
    State(admin): State<Admin>,
    operator: Operator,
    Path((project, user)): Path<(String, String)>,
    body: Body,
) -> HandlerResult {
    read_empty(body).await?;
    let removed = admin
        .db()
        .write(Writer::Server, move |store| {
            let removed = store.remove_member(&user, &project, operator.author())?;
            operator.log("remove member", &removed.value.user.id, &removed.value.project_id);
            Ok(removed)
        })
        .await?;
    admin.propagation.wait_until_applied(removed.revision).await;
    Ok(Json(info(removed.value)).into_response())
}
