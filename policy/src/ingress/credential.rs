//! The only credential of a request.
//!
//! Contract: "Verified against sandbox-proxy, the proxy accepts these auth modes: API key
//! `Authorization: Bearer <api-key>`; Personal access token `Authorization: Bearer tl_pat...` plus
//! `X-Forwarded-Organization-Id` and `X-Forwarded-Project-Id`; Session cookie `tl.session_token` or
//! legacy `tl-session`, plus the same forwarded organization/project context."
//!
//! Only the first [`CredentialSource`] with a value is used. If its value is not valid, the request is denied, and no
//! other source is tried.

use sha2::{Digest, Sha256};

use super::byte_set::ByteSet;
use super::config::IngressConfig;
use super::cookie::{LEGACY_SESSION_COOKIE, SESSION_COOKIE, session_cookie};
use super::denial::Denial;
use super::head::Head;
use super::project_context::ProjectContext;
use crate::gateway_api::{CredentialKind, IntrospectRequest};

/// The gateway's own credential header. With it, a caller can leave `Authorization` to the app.
pub const GATEWAY_AUTHORIZATION: &str = "x-sandgate-authorization";

/// The maximum length of a secret, in bytes. It is longer than any issued token, and bounds what is hashed and sent to
/// the control plane.
const SECRET_MAX: usize = 8_192;

/// The characters that both a bearer token (RFC 6750) and a cookie value (RFC 6265) can have: all visible ones but `"`, `,`, `;`, and
/// `\`.
static SECRET_BYTES: ByteSet = ByteSet::new(
    b"!#$%&'()*+-./0123456789:<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~",
);

/// The secret of a credential. It has neither `Debug` nor `Display`, so that it can't be logged.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// The text of the secret. It may be sent to the control plane only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Accepts [`SECRET_BYTES`].
    fn parse(bytes: &[u8]) -> Option<Self> {
        let is_safe = |byte: &u8| SECRET_BYTES.contains(*byte);
        let good = !bytes.is_empty() && bytes.len() <= SECRET_MAX && bytes.iter().all(is_safe);
        let text = std::str::from_utf8(bytes).ok().filter(|_| good)?;
        Some(Self(text.to_owned()))
    }
}

/// The part of a request that a credential comes from. The first variant with a value is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CredentialSource {
    /// `X-Sandgate-Authorization: Bearer`.
    GatewayHeader,
    /// `Authorization: Bearer` with a platform prefix.
    PlatformBearer,
    /// The cookie `tl.session_token`, or else `tl-session`. A browser adds it without being asked by the page.
    Cookie,
    /// `Authorization: Bearer` with any other token. On a public port, it is a credential of the app.
    OtherBearer,
}

/// The cache key of a credential. It is a hash, so that the cache holds no secrets.
pub type CredentialKey = [u8; 32];

/// A well-formed credential, not yet verified. It has no `Debug`, because it holds a secret.
#[derive(Clone)]
pub struct Credential {
    kind: CredentialKind,
    secret: Secret,
    context: Option<ProjectContext>,
    source: CredentialSource,
}

impl Credential {
    /// The credential of a request. `None` if the request has none.
    ///
    /// # Errors
    /// A [`Denial`], if a credential header is repeated, if the credential is malformed, or if a personal access token
    /// or a session comes without an organization and a project.
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
            // An API key belongs to one project. Clients may send a context with it, which is ignored.
            CredentialKind::ApiKey => None,
            CredentialKind::PersonalAccessToken | CredentialKind::Session => {
                Some(ProjectContext::extract(head)?)
            }
        };
        Ok(Some(Self { kind, secret, context, source }))
    }

    /// The part of the request that the credential comes from.
    #[must_use]
    pub fn source(&self) -> CredentialSource {
        self.source
    }

    /// The secret of the credential.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The cache key of this credential in this context.
    #[must_use]
    pub fn key(&self) -> CredentialKey {
        let (organization, project) = match &self.context {
            Some(context) => (context.organization_id().as_str(), context.project_id().as_str()),
            None => ("", ""),
        };
        let mut hash = Sha256::new();
        hash.update([self.kind as u8]);
        for part in [self.secret.expose(), organization, project] {
            // The lengths separate the parts, so that ("ab", "c") and ("a", "bc") differ. They have two bytes, which are enough
            // for every part (SECRET_MAX, ID_MAX), so that an API key is hashed in one block of 64 bytes.
            hash.update(u16::try_from(part.len()).unwrap_or(u16::MAX).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().into()
    }

    /// The body of the introspection call for this credential.
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

/// The value of a credential header, which may occur once.
///
/// Envoy joins repeated `Authorization` headers with a comma, so a second bearer token in one value counts as a second
/// header.
fn one_bearer<'a>(head: Head<'a>, name: &'a str) -> Result<Option<Bearer<'a>>, Denial> {
    let repeated = || Denial::InvalidRequest("a credential header is sent more than once");
    let Some(value) = head.single(name).map_err(|_| repeated())? else { return Ok(None) };
    let is_list = value.contains(&b',');
    let mut others = value.split(|b| *b == b',').skip(1);
    match bearer_token(value) {
        _ if is_list && others.any(|part| bearer_token(part).is_some()) => Err(repeated()),
        Some(token) if is_list && token.contains(&b',') => Err(repeated()),
        Some(token) => Ok(Some(Bearer::Token(token))),
        None => Ok(Some(Bearer::OtherScheme)),
    }
}

/// The token after the scheme `Bearer`, which is case-insensitive (RFC 9110, section 11.1).
pub(crate) fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let (scheme, rest) = value.split_at_checked(6)?;
    let separated = rest.is_empty() || rest.starts_with(b" ") || rest.starts_with(b"\t");
    (scheme.eq_ignore_ascii_case(b"bearer") && separated).then(|| rest.trim_ascii())
}

/// The value of the session cookie. The current name takes precedence over the legacy name.
fn session<'a>(head: Head<'a>) -> Result<Option<&'a [u8]>, Denial> {
    let twice = |_| Denial::InvalidRequest("a session cookie is sent more than once");
    let current = session_cookie(head, SESSION_COOKIE).map_err(twice)?;
    let legacy = session_cookie(head, LEGACY_SESSION_COOKIE).map_err(twice)?;
    Ok(current.or(legacy))
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_consists_of_visible_characters_that_separate_nothing() {
        for byte in 0..=u8::MAX {
            let is_safe = byte.is_ascii_graphic() && !matches!(byte, b',' | b';' | b'"' | b'\\');
            assert_eq!(Secret::parse(&[b'a', byte, b'a']).is_some(), is_safe, "{byte}");
        }
    }
}
