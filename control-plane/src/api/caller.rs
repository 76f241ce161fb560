//! Who calls the public API, and for which project.
//!
//! An API key, or a personal access token with the two `X-Forwarded-…` headers. No cookies: a
//! browser adds those by itself, and other sites' pages could make it call this API.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use sandgate_policy::gateway_api::{CredentialKind, Identity};
use sandgate_policy::ids::{InvalidId, OrganizationId, PrincipalId, ProjectId};

use super::Api;
use crate::http::{ApiError, RequestSlot};
use crate::model::{CredentialQuery, Timestamp};
use crate::random::SecretHash;

/// Bytes of a credential that are looked at.
const MAX_SECRET: usize = 8_192;

/// A caller with a valid credential, and the one project that it acts in.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The key's id or the user's.
    pub(crate) principal: PrincipalId,
    /// Of the project.
    pub(crate) organization_id: OrganizationId,
    /// What is seen and changed.
    pub(crate) project_id: ProjectId,
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let secret = bearer(&parts.headers)?;
        let organization = one_id(&parts.headers, "x-forwarded-organization-id")?;
        let project = one_id(&parts.headers, "x-forwarded-project-id")?;
        let personal = api.personal_access_token_prefix.matches(secret);
        if personal && (organization.is_none() || project.is_none()) {
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "PROJECT_CONTEXT_REQUIRED",
                "a personal access token needs the headers X-Forwarded-Organization-Id and \
                 X-Forwarded-Project-Id",
            ));
        }
        let query = CredentialQuery {
            kind: if personal {
                CredentialKind::PersonalAccessToken
            } else {
                CredentialKind::ApiKey
            },
            hash: SecretHash::of(secret),
            organization_id: organization,
            project_id: project,
        };
        let asked = query.clone();
        let found =
            api.sandboxes.db().read(move |store| store.identify(&asked, Timestamp::now())).await?;
        let identity = found.ok_or_else(|| {
            let message = "the credential is not valid: unknown, expired or revoked";
            ApiError::new(StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS", message)
        })?;
        let caller = acting_in(identity, &query)?;
        // Only who is known is counted: nobody can use up the share of another project.
        RequestSlot::from_request_parts(parts, api)
            .await?
            .count_for("project", caller.project_id.as_str())?;
        Ok(caller)
    }
}

/// The project that a credential acts in, which must be the one that the caller names, if any.
fn acting_in(identity: Identity, claimed: &CredentialQuery) -> Result<Caller, ApiError> {
    match identity.project_ids.into_iter().next() {
        Some(project_id)
            if claimed.project_id.as_ref().is_none_or(|claim| *claim == project_id)
                && claimed
                    .organization_id
                    .as_ref()
                    .is_none_or(|claim| *claim == identity.organization_id) =>
        {
            Ok(Caller {
                principal: identity.principal,
                organization_id: identity.organization_id,
                project_id,
            })
        }
        _ => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "PROJECT_FORBIDDEN",
            "the credential does not give access to the project that X-Forwarded-Organization-Id \
             and X-Forwarded-Project-Id name",
        )),
    }
}

/// The one bearer token of a request.
fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let unauthenticated =
        |message: &str| ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message);
    let value = one(headers, header::AUTHORIZATION.as_str())?.ok_or_else(|| {
        unauthenticated("send `Authorization: Bearer <API key or personal access token>`")
    })?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > MAX_SECRET {
        return Err(unauthenticated("the Authorization header must be `Bearer <token>`"));
    }
    Ok(token)
}

/// An id in a header that may be sent at most once.
fn one_id<T: FromStr<Err = InvalidId>>(
    headers: &HeaderMap,
    name: &'static str,
) -> Result<Option<T>, ApiError> {
    let parse = |text: &str| {
        text.parse().map_err(|error| ApiError::invalid(format!("the header `{name}` {error}")))
    };
    one(headers, name)?.map(parse).transpose()
}

/// A header that may be sent at most once.
fn one<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::invalid(format!("the header `{name}` was sent more than once")));
    }
    let text = value.to_str().map_err(|_| {
        ApiError::invalid(format!("the header `{name}` holds characters that it can't have"))
    })?;
    Ok(Some(text.trim()))
}
