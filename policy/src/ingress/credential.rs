//! Step 2: the one credential of a request.
//!
//! Contract: "Verified against sandbox-proxy, the proxy accepts these auth modes: API key
//! `Authorization: Bearer <api-key>`; Personal access token `Authorization: Bearer tl_pat...` plus
//! `X-Forwarded-Organization-Id` and `X-Forwarded-Project-Id`; Session cookie `tl.session_token` or
//! legacy `tl-session`, plus the same forwarded organization/project context."
//!
//! Exactly one place is used, the first of [`CredentialSource`] that holds something; what it holds is then
//! good or bad, and nothing else is tried.

use sha2::{Digest, Sha256};

use super::config::IngressConfig;
use super::cookie::{LEGACY_SESSION_COOKIE, SESSION_COOKIE, session_cookie};
use super::denial::Denial;
use super::head::Head;
use super::project_context::ProjectContext;
use crate::gateway_api::{CredentialKind, IntrospectRequest};

/// The gateway's own credential header: an app keeps its `Authorization` when callers use this.
pub const GATEWAY_AUTHORIZATION: &str = "x-sandgate-authorization";

/// Longer than any token that is issued; bounds what is hashed and sent on.
const SECRET_MAX: usize = 8_192;

/// A secret that a caller showed. No `Debug`, no `Display`: it can't get into a log.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, to be sent to the control plane and to nobody else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Visible ASCII without commas, as a bearer token (RFC 6750) and a cookie value are.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let good = !bytes.is_empty()
            && bytes.len() <= SECRET_MAX
            && bytes
                .iter()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b',' | b';' | b'"' | b'\\'));
        let text = std::str::from_utf8(bytes).ok().filter(|_| good)?;
        Some(Self(text.to_owned()))
    }
}

/// Where a credential was shown, in the order in which places are looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CredentialSource {
    /// `X-Sandgate-Authorization: Bearer`.
    GatewayHeader,
    /// `Authorization: Bearer` with a platform prefix.
    PlatformBearer,
    /// Cookie `tl.session_token`, else `tl-session`. A browser adds it by itself.
    Cookie,
    /// `Authorization: Bearer` with anything else. On a public port it is the app's own.
    OtherBearer,
}

/// Cache key of a credential: a hash, so that a filter's memory holds no secrets.
pub type CredentialKey = [u8; 32];

/// A credential, not yet known to be good. No `Debug`: it holds a secret.
#[derive(Clone)]
pub struct Credential {
    kind: CredentialKind,
    secret: Secret,
    context: Option<ProjectContext>,
    source: CredentialSource,
}

impl Credential {
    /// Finds the credential of a request; `None` when it shows none.
    ///
    /// # Errors
    /// A [`Denial`] for a duplicated credential header, for a credential that can't be one, and for
    /// a PAT or session without organization and project.
    pub fn extract(head: Head<'_>, config: &IngressConfig) -> Result<Option<Self>, Denial> {
        let gateway = one_bearer(head, GATEWAY_AUTHORIZATION)?;
        let bearer = one_bearer(head, "authorization")?;
        let (source, secret) = match (gateway, bearer) {
            (Some(Bearer::Token(token)), _) => {
                (CredentialSource::GatewayHeader, Secret::parse(token))
            }
            (Some(Bearer::OtherScheme), _) => (CredentialSource::GatewayHeader, None),
            (None, Some(Bearer::Token(token))) if config.is_platform_secret(token) => {
                (CredentialSource::PlatformBearer, Secret::parse(token))
            }
            (None, other) => match session(head)? {
                Some(value) => (CredentialSource::Cookie, Secret::parse(value)),
                None => match other {
                    Some(Bearer::Token(token)) => {
                        (CredentialSource::OtherBearer, Secret::parse(token))
                    }
                    Some(Bearer::OtherScheme) | None => return Ok(None),
                },
            },
        };
        let secret = secret.ok_or(Denial::InvalidCredentials)?;
        let kind = match source {
            CredentialSource::Cookie => CredentialKind::Session,
            _ if config.is_personal_access_token(secret.expose()) => {
                CredentialKind::PersonalAccessToken
            }
            _ => CredentialKind::ApiKey,
        };
        let context = match kind {
            // A key belongs to one project. Clients send the context next to it all the same.
            CredentialKind::ApiKey => None,
            CredentialKind::PersonalAccessToken | CredentialKind::Session => {
                Some(ProjectContext::extract(head)?)
            }
        };
        Ok(Some(Self { kind, secret, context, source }))
    }

    /// Where it was shown.
    #[must_use]
    pub fn source(&self) -> CredentialSource {
        self.source
    }

    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Key under which what is known of this credential, in this context, is kept.
    #[must_use]
    pub fn key(&self) -> CredentialKey {
        let (organization, project) = match &self.context {
            Some(context) => (context.organization_id().as_str(), context.project_id().as_str()),
            None => ("", ""),
        };
        let mut hash = Sha256::new();
        hash.update([self.kind as u8]);
        for part in [self.secret.expose(), organization, project] {
            // Lengths keep the parts apart: ("ab", "c") is not ("a", "bc").
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().into()
    }

    /// The question to the control plane.
    #[must_use]
    pub fn introspect_request(&self) -> IntrospectRequest {
        IntrospectRequest {
            kind: self.kind,
            secret: self.secret.expose().to_owned(),
            organization_id: self.context.as_ref().map(|c| c.organization_id().clone()),
            project_id: self.context.as_ref().map(|c| c.project_id().clone()),
        }
    }
}

enum Bearer<'a> {
    Token(&'a [u8]),
    OtherScheme,
}

/// The value of a credential header, which may stand once.
///
/// Envoy joins repeated `Authorization` headers with a comma, so a second bearer inside of one
/// value counts as a second header.
fn one_bearer<'a>(head: Head<'a>, name: &'a str) -> Result<Option<Bearer<'a>>, Denial> {
    let repeated = || Denial::InvalidRequest("a credential header stands more than once");
    let Some(value) = head.single(name).map_err(|_| repeated())? else { return Ok(None) };
    let second = value.split(|b| *b == b',').skip(1).any(|part| bearer_token(part).is_some());
    match bearer_token(value) {
        _ if second => Err(repeated()),
        Some(token) if token.contains(&b',') => Err(repeated()),
        Some(token) => Ok(Some(Bearer::Token(token))),
        None => Ok(Some(Bearer::OtherScheme)),
    }
}

/// What follows `Bearer`, whose case does not matter (RFC 9110, section 11.1).
pub(crate) fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let (scheme, rest) = value.split_at_checked(6)?;
    let separated = rest.is_empty() || rest.starts_with(b" ") || rest.starts_with(b"\t");
    (scheme.eq_ignore_ascii_case(b"bearer") && separated).then(|| rest.trim_ascii())
}

/// The session cookie's value: the current name before the legacy one.
fn session<'a>(head: Head<'a>) -> Result<Option<&'a [u8]>, Denial> {
    let twice = |_| Denial::InvalidRequest("a session cookie stands more than once");
    let current = session_cookie(head, SESSION_COOKIE).map_err(twice)?;
    let legacy = session_cookie(head, LEGACY_SESSION_COOKIE).map_err(twice)?;
    Ok(current.or(legacy))
}
