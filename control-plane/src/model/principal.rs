//! Organizations, projects, users, memberships and credentials.

use sandgate_policy::gateway_api::CredentialKind;
use sandgate_policy::ids::{OrganizationId, ProjectId};

use super::Timestamp;
use crate::random::SecretHash;

/// An organization, which owns projects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Organization {
    /// `org_…`.
    pub id: String,
    /// Unique in the deployment.
    pub name: String,
    /// The time of its creation.
    pub created_at: Timestamp,
}

/// A project, which owns sandboxes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Project {
    /// `project_…`.
    pub id: String,
    pub organization_id: String,
    /// The name of its organization.
    pub organization_name: String,
    /// Unique in its organization.
    pub name: String,
    /// The time of its creation.
    pub created_at: Timestamp,
}

/// A person.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// `user_…`.
    pub id: String,
    /// Their mail address or name, which is unique in the deployment.
    pub name: String,
    /// The time of its creation.
    pub created_at: Timestamp,
}

/// A user of a project.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    pub user: User,
    pub project_id: String,
    /// The time since which the user is a member.
    pub created_at: Timestamp,
}

/// The owner of a credential, which determines its kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Owner {
    /// An API key of one project.
    Project { project_id: String },
    /// A user's token or session.
    User {
        user_id: String,
        /// Whether it is a [`CredentialKind::Session`] instead of a [`CredentialKind::PersonalAccessToken`].
        session: bool,
    },
}

impl Owner {
    /// The id of the project or user.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Project { project_id } => project_id,
            Self::User { user_id, .. } => user_id,
        }
    }

    /// The kind of the credential.
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        match self {
            Self::Project { .. } => CredentialKind::ApiKey,
            Self::User { session: false, .. } => CredentialKind::PersonalAccessToken,
            Self::User { session: true, .. } => CredentialKind::Session,
        }
    }
}

/// A credential to store.
#[derive(Clone, Debug)]
pub struct NewCredential {
    /// `key_…`. Not secret.
    pub id: String,
    pub owner: Owner,
    /// The owner's name for it.
    pub name: Option<String>,
    /// The hash of its secret.
    pub hash: SecretHash,
    /// The time of its expiry. Without one, it never expires.
    pub expires_at: Option<Timestamp>,
}

/// A stored credential, without its secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credential {
    /// `key_…`. Not secret.
    pub id: String,
    pub owner: Owner,
    /// The owner's name for it.
    pub name: Option<String>,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The time of its expiry. Without one, it never expires.
    pub expires_at: Option<Timestamp>,
    /// The time of its revocation.
    pub revoked_at: Option<Timestamp>,
}

/// A credential that a caller presents, and the context that the caller claims.
#[derive(Clone, Debug)]
pub struct CredentialQuery {
    /// The kind by which it is presented. A credential of another kind is not found.
    pub kind: CredentialKind,
    /// The hash of its secret.
    pub hash: SecretHash,
    /// The organization that the caller claims.
    pub organization_id: Option<OrganizationId>,
    /// The project that the caller claims.
    pub project_id: Option<ProjectId>,
}
