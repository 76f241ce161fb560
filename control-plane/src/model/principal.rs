//! Who may act where: organizations, projects, users, memberships and their credentials.

use sandgate_policy::gateway_api::CredentialKind;
use sandgate_policy::ids::{OrganizationId, ProjectId};

use super::Timestamp;
use crate::random::SecretHash;

/// Owns projects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Organization {
    /// `org_…`.
    pub id: String,
    /// Unique in the deployment.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Owns sandboxes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Project {
    /// `project_…`.
    pub id: String,
    /// Whose it is.
    pub organization_id: String,
    /// Name of that organization.
    pub organization_name: String,
    /// Unique in its organization.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A person.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// `user_…`.
    pub id: String,
    /// Mail address or name; unique in the deployment.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A user of a project.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Who.
    pub user: User,
    /// Where.
    pub project_id: String,
    /// Since when.
    pub created_at: Timestamp,
}

/// What a credential belongs to, which also says what kind it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Owner {
    /// An API key of one project.
    Project {
        /// Its id.
        project_id: String,
    },
    /// A user's token or session.
    User {
        /// Its id.
        user_id: String,
        /// [`CredentialKind::Session`] rather than [`CredentialKind::PersonalAccessToken`].
        session: bool,
    },
}

impl Owner {
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

/// A credential to be stored.
#[derive(Clone, Debug)]
pub struct NewCredential {
    /// `key_…`. Not secret.
    pub id: String,
    /// What it belongs to.
    pub owner: Owner,
    /// What its owner calls it.
    pub name: Option<String>,
    /// Of the secret.
    pub hash: SecretHash,
    /// When it ends; never, when absent.
    pub expires_at: Option<Timestamp>,
}

/// A stored credential, without anything secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credential {
    /// `key_…`. Not secret.
    pub id: String,
    /// What it belongs to.
    pub owner: Owner,
    /// What its owner calls it.
    pub name: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; never, when absent.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A credential that a caller showed, and where the caller says to act.
#[derive(Clone, Debug)]
pub struct CredentialQuery {
    /// How it was shown. A credential of another kind is not found.
    pub kind: CredentialKind,
    /// Of the secret.
    pub hash: SecretHash,
    /// The organization that the caller claims.
    pub organization_id: Option<OrganizationId>,
    /// The project that the caller claims.
    pub project_id: Option<ProjectId>,
}
