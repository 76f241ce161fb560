//! Credentials: API keys, personal access tokens and sessions. A secret is in one response only, and never in a log.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use sandgate_policy::gateway_api::{CredentialKind, ErrorBody};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit::Operator;
use super::listing::{Query, cursor, page};
use super::{Admin, HandlerResult, label, no_randomness};
use crate::db::Writer;
use crate::http::{ApiError, read_empty, read_json};
use crate::model::{API_KEY_PREFIX, Credential, NewCredential, Owner, SESSION_PREFIX, Timestamp};
use crate::random::{NewSecret, prefixed_id};
use crate::store::{Record, StoreError};

/// The longest lifetime that can be asked for: ten years.
const MAX_LIFETIME: u64 = 10 * 365 * 24 * 60 * 60;
/// The characters of the part of an id after `key_` that a caller may choose.
const CHOSEN: std::ops::RangeInclusive<usize> = 16..=40;

#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    ApiKey,
    Pat,
    Session,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    kind: Kind,
    /// The project of an API key.
    project_id: Option<String>,
    /// The name or id of the user of a personal access token or session.
    user: Option<String>,
    /// For people; 1 to 200 characters on one line.
    name: Option<String>,
    /// The lifetime; without it, the credential never expires.
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_in_seconds: Option<u64>,
    /// `key_` and 16 to 40 characters of a-z and 0-9 that you choose. A repeated call with the same id gets 409 and makes no second
    /// credential. Without it, the server chooses one.
    id: Option<String>,
}

/// A credential, without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyInfo {
    id: String,
    kind: Kind,
    name: Option<String>,
    project_id: Option<String>,
    user_id: Option<String>,
    /// In milliseconds since 1970, as the other times.
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
}

/// A new credential. No other response has its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedKey {
    #[serde(flatten)]
    key: KeyInfo,
    secret: String,
}

/// A page of credentials.
#[derive(Serialize, ToSchema)]
pub(super) struct Keys {
    keys: Vec<KeyInfo>,
    /// Present if there are more.
    next_cursor: Option<String>,
}

fn info(value: Credential) -> KeyInfo {
    let kind = match value.owner.kind() {
        CredentialKind::ApiKey => Kind::ApiKey,
        CredentialKind::PersonalAccessToken => Kind::Pat,
        CredentialKind::Session => Kind::Session,
    };
    let (project_id, user_id) = match value.owner {
        Owner::Project { project_id } => (Some(project_id), None),
        Owner::User { user_id, .. } => (None, Some(user_id)),
    };
    KeyInfo {
        id: value.id,
        kind,
        name: value.name,
        project_id,
        user_id,
        created_at: value.created_at.millis(),
        expires_at: value.expires_at.map(Timestamp::millis),
        revoked_at: value.revoked_at.map(Timestamp::millis),
    }
}

/// Lists credentials in the order of their creation, revoked ones too.
#[utoipa::path(
    get,
    path = "/admin/v1/keys",
    tag = "admin",
    operation_id = "list_keys",
    params(
        ("project_id" = Option<String>, Query, description = "Lists only API keys of this project."),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "The maximum number of entries. The default is 1000."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ),
    responses((status = 200, description = "A page.", body = Keys))
)]
pub(super) async fn list(State(admin): State<Admin>, query: Query) -> HandlerResult {
    query.only(false, true)?;
    let (limit, after) = (query.limit()?, query.after()?);
    let project = query.project_id;
    let found = admin
        .db()
        .read(move |store| store.credentials_after(after.as_ref(), project.as_deref(), limit + 1));
    let (found, next_cursor) = page(found.await?, limit, |it| cursor(it.created_at, &it.id));
    let keys = found.into_iter().map(info).collect();
    Ok(Json(Keys { keys, next_cursor }).into_response())
}

/// Creates a credential. The response is the only one with its secret.
#[utoipa::path(
    post,
    path = "/admin/v1/keys",
    tag = "admin",
    operation_id = "create_key",
    request_body = NewKey,
    responses(
        (status = 201, description = "The credential, with its secret.", body = CreatedKey),
        (status = 404, description = "There is no such project or user.", body = ErrorBody),
        (status = 409, description = "`KEY_EXISTS`: there is a credential with this id.", body = ErrorBody),
        (status = 413, description = "The body is too long.", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(admin): State<Admin>,
    operator: Operator,
    body: Body,
) -> HandlerResult {
    let new: NewKey = read_json(body).await?;
    let id = match new.id.as_deref() {
        Some(id) => chosen_id(id)?,
        None => prefixed_id("key").map_err(no_randomness)?,
    };
    let name = new.name.as_deref().map(|name| label("name", name)).transpose()?;
    let prefix = match new.kind {
        Kind::ApiKey => API_KEY_PREFIX.to_owned(),
        Kind::Pat => admin.personal_access_token_prefix.of_new_token(),
        Kind::Session => SESSION_PREFIX.to_owned(),
    };
    let now = Timestamp::now();
    let expires_at = new.expires_in_seconds.map(|seconds| expiry(now, seconds)).transpose()?;
    let owner = owner(&admin, new.kind, new.project_id, new.user).await?;
    let secret = NewSecret::generate(&prefix).map_err(no_randomness)?;
    let (name, hash) = (name.map(str::to_owned), secret.hash());
    let new = NewCredential { id: id.clone(), owner, name, hash, expires_at };
    let made = admin.db().write_unannounced(Writer::Server, move |store| {
        let made = store.create_credential(&new, operator.author())?;
        operator.log("create key", &made.id, made.owner.id());
        Ok(made)
    });
    let made = made.await.map_err(|error| match error {
        StoreError::AlreadyExists { .. } => {
            let message = format!(
                "the credential `{id}` exists, and its secret was shown when it was created; if it is lost, revoke the \
                 credential and create another one"
            );
            ApiError::new(StatusCode::CONFLICT, "KEY_EXISTS", message)
        }
        other => other.into(),
    })?;
    let body = CreatedKey { key: info(made), secret: secret.reveal().to_owned() };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

fn chosen_id(id: &str) -> Result<String, ApiError> {
    let is_valid = id.strip_prefix("key_").is_some_and(|rest| {
        CHOSEN.contains(&rest.len())
            && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    });
    let message = "`id` must be `key_` and 16 to 40 characters of a-z and 0-9";
    is_valid.then(|| id.to_owned()).ok_or_else(|| ApiError::invalid(message))
}

fn expiry(now: Timestamp, seconds: u64) -> Result<Timestamp, ApiError> {
    if (1..=MAX_LIFETIME).contains(&seconds) {
        return Ok(now.plus(Duration::from_secs(seconds)));
    }
    Err(ApiError::invalid(format!("`expires_in_seconds` must be from 1 to {MAX_LIFETIME}")))
}

async fn owner(
    admin: &Admin,
    kind: Kind,
    project: Option<String>,
    user: Option<String>,
) -> Result<Owner, ApiError> {
    match (kind, project, user) {
        (Kind::ApiKey, Some(project_id), None) => Ok(Owner::Project { project_id }),
        (Kind::Pat | Kind::Session, None, Some(name)) => {
            let which = name.clone();
            let found = admin.db().read(move |store| store.user(&which)).await?;
            let user = found.ok_or(StoreError::NotFound { what: Record::User, id: name })?;
            Ok(Owner::User { user_id: user.id, session: matches!(kind, Kind::Session) })
        }
        (Kind::ApiKey, ..) => Err(ApiError::invalid(
            "an API key belongs to a project: send `project_id` without `user`",
        )),
        (Kind::Pat | Kind::Session, ..) => Err(ApiError::invalid(
            "a token or session belongs to a user, and is valid in all projects of the user: send `user` without `project_id`",
        )),
    }
}

/// Revokes a credential. It stops working at once; a repeated call changes nothing.
#[utoipa::path(
    delete,
    path = "/admin/v1/keys/{key}",
    tag = "admin",
    operation_id = "revoke_key",
    params(("key" = String, Path, description = "The id of the credential.")),
    responses(
        (status = 200, description = "The revoked credential.", body = KeyInfo),
        (status = 404, description = "There is no such credential.", body = ErrorBody),
    )
)]
pub(super) async fn revoke(
    State(admin): State<Admin>,
    operator: Operator,
    Path(key): Path<String>,
    body: Body,
) -> HandlerResult {
    read_empty(body).await?;
    let revoked = admin
        .db()
        .write(Writer::Server, move |store| {
            let revoked = store.revoke_credential(&key, operator.author())?;
            operator.log("revoke key", &revoked.value.id, revoked.value.owner.id());
            Ok(revoked)
        })
        .await?;
    admin.propagation.wait_until_applied(revoked.revision).await;
    Ok(Json(info(revoked.value)).into_response())
}
