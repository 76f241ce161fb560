//! Authenticates the caller of the public API, and determines the project.
//!
//! The credential is an API key, or a personal access token with the two `X-Forwarded-…` headers. Cookies are not
//! accepted: browsers send them automatically, so pages of other sites could call this API.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use sandgate_policy::gateway_api::{CredentialKind, Identity};
use sandgate_policy::ids::{InvalidId, OrganizationId, PrincipalId, ProjectId};

use super::Api;
use crate::http::{ApiError, RequestPermits};
use crate::model::{CredentialQuery, Timestamp};
use crate::random::SecretHash;

/// The maximum number of bytes of a credential.
const MAX_SECRET: usize = 8_192;

/// A caller with a valid credential for one project.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The id of the API key, or of the user.
    pub(crate) principal: PrincipalId,
    pub(crate) organization_id: OrganizationId,
    pub(crate) project_id: ProjectId,
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let secret = bearer(&parts.headers)?;
        let organization = single_id(&parts.headers, "x-forwarded-organization-id")?;
        let project = single_id(&parts.headers, "x-forwarded-project-id")?;
        let is_personal = api.personal_access_token_prefix.matches(secret);
        if is_personal && (organization.is_none() || project.is_none()) {
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "PROJECT_CONTEXT_REQUIRED",
                "a personal access token needs the headers X-Forwarded-Organization-Id and \
                 X-Forwarded-Project-Id",
            ));
        }
        let query = CredentialQuery {
            kind: if is_personal {
                CredentialKind::PersonalAccessToken
            } else {
                CredentialKind::ApiKey
            },
            hash: SecretHash::of(secret),
            organization_id: organization,
            project_id: project,
        };
        let lookup = query.clone();
        let found =
            api.sandboxes.db().read(move |store| store.identify(&lookup, Timestamp::now())).await?;
        let identity = found.ok_or_else(|| {
            let message = "the credential is unknown, expired or revoked";
            ApiError::new(StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS", message)
        })?;
        let caller = authorize(identity, &query)?;
        // Counted only now, so that an unauthenticated caller can't use up the requests of a project.
        RequestPermits::from_request_parts(parts, api)
            .await?
            .count_for("project", caller.project_id.as_str())?;
        Ok(caller)
    }
}

/// Checks that the identity may act in the project that the headers name, if they name one.
fn authorize(identity: Identity, claimed: &CredentialQuery) -> Result<Caller, ApiError> {
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

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let unauthenticated =
        |message: &str| ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message);
    let value = single(headers, header::AUTHORIZATION.as_str())?.ok_or_else(|| {
        unauthenticated("send `Authorization: Bearer <API key or personal access token>`")
    })?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > MAX_SECRET {
        return Err(unauthenticated(
            "the Authorization header must have the form `Bearer <token>`",
        ));
    }
    Ok(token)
}

/// An id in a header that may be sent at most once.
fn single_id<T: FromStr<Err = InvalidId>>(
    headers: &HeaderMap,
    name: &'static str,
) -> Result<Option<T>, ApiError> {
    let parse = |text: &str| {
        text.parse().map_err(|error| ApiError::invalid(format!("the header `{name}` {error}")))
    };
    single(headers, name)?.map(parse).transpose()
}

/// The value of a header that a request has at most once.
fn single<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::invalid(format!(
            "the request has the header `{name}` more than once"
        )));
    }
    let text = value.to_str().map_err(|_| {
        ApiError::invalid(format!("the header `{name}` has characters that are not allowed"))
    })?;
    Ok(Some(text.trim()))
}
