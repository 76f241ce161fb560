//! The organization and the project that a personal access token or a session claims to act in.

use crate::ids::{OrganizationId, ProjectId};

use super::denial::Denial;
use super::head::Head;

/// The header of the organization. A sandbox receives it with a verified value only.
pub const ORGANIZATION_HEADER: &str = "x-forwarded-organization-id";
/// The header of the project. A sandbox receives it with a verified value only.
pub const PROJECT_HEADER: &str = "x-forwarded-project-id";

/// A claimed organization and project. Both are well-formed but not verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProjectContext {
    organization_id: OrganizationId,
    project_id: ProjectId,
}

impl ProjectContext {
    /// Reads the context of a request.
    ///
    /// Contract: "For browser WebSocket clients that cannot set custom `X-Forwarded-*` headers, the
    /// proxy also accepts `organizationId` and `projectId` in the query string." Only a WebSocket
    /// upgrade's query counts.
    ///
    /// # Errors
    /// A [`Denial`], if either is missing, repeated, or malformed, or if header and query differ.
    pub fn extract(head: Head<'_>) -> Result<Self, Denial> {
        let query = if head.is_websocket() { query(head) } else { b"" };
        Ok(Self {
            organization_id: one(head, ORGANIZATION_HEADER, query, b"organizationId")?,
            project_id: one(head, PROJECT_HEADER, query, b"projectId")?,
        })
    }

    /// The claimed organization.
    #[must_use]
    pub fn organization_id(&self) -> &OrganizationId {
        &self.organization_id
    }

    /// The claimed project.
    #[must_use]
    pub fn project_id(&self) -> &ProjectId {
        &self.project_id
    }
}

fn one<'a, T: TryFrom<String>>(
    head: Head<'a>,
    name: &'a str,
    query: &[u8],
    key: &[u8],
) -> Result<T, Denial> {
    let repeated = Denial::InvalidRequest("the organization or project is given more than once");
    let header = head.single(name).map_err(|_| repeated)?.map(<[u8]>::to_vec);
    let mut parameters = parameters(query, key);
    let parameter = parameters.next();
    if parameters.next().is_some() {
        return Err(repeated);
    }
    let value = match (header, parameter) {
        (Some(header), Some(parameter)) if header != parameter => {
            return Err(Denial::InvalidRequest(
                "the organization or project of header and query differ",
            ));
        }
        (Some(value), _) | (None, Some(value)) => value,
        (None, None) => return Err(Denial::ProjectContextRequired),
    };
    let id = String::from_utf8(value).ok().and_then(|text| T::try_from(text).ok());
    id.ok_or(Denial::InvalidRequest("the organization or project is not an id"))
}

fn query<'a>(head: Head<'a>) -> &'a [u8] {
    let path = head.first(":path").unwrap_or_default();
    let target = path.split(|b| *b == b'#').next().unwrap_or_default();
    let mut parts = target.splitn(2, |b| *b == b'?');
    parts.next();
    parts.next().unwrap_or_default()
}

/// The decoded values of `key` in a query string.
fn parameters<'a>(query: &'a [u8], key: &'a [u8]) -> impl Iterator<Item = Vec<u8>> + 'a {
    query.split(|b| *b == b'&').filter_map(move |pair| {
        let mut parts = pair.splitn(2, |b| *b == b'=');
        let name = percent_decode(parts.next().unwrap_or_default());
        (name == key).then(|| percent_decode(parts.next().unwrap_or_default()))
    })
}

/// Decodes `%XX` (RFC 3986, section 2.1). An invalid escape remains unchanged; no id contains `%`, so it is refused
/// later.
fn percent_decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let escape = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = escape {
            out.push(high << 4 | low);
            rest = after.get(2..).unwrap_or_default();
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
