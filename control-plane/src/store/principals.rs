//! The part of the store that has organizations, projects, users and credentials.

use sandgate_policy::gateway_api::Identity;

use super::{AuditCursor, AuditPage, Committed, Result};
use crate::model::{
    Credential, CredentialQuery, Member, NewCredential, OperatorChange, Organization, Project,
    Timestamp, User,
};

/// A place in a list in the order of creation: after the entry with this time and id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    pub created_at: Timestamp,
    pub id: String,
}

/// Who makes an operator's change, and when. The audit log has a line for each change, in the same transaction.
#[derive(Clone, Copy, Debug)]
pub struct Author<'p> {
    /// The principal in the audit log.
    pub principal: &'p str,
    pub at: Timestamp,
}

impl<'p> Author<'p> {
    /// The author of a change that is made now.
    #[must_use]
    pub fn now(principal: &'p str) -> Self {
        Self { principal, at: Timestamp::now() }
    }
}

/// Organizations, projects, users and credentials.
pub trait Principals {
    /// Creates an organization.
    ///
    /// # Errors
    /// The name is taken, or the store can't be written.
    fn create_organization(&self, id: &str, name: &str, by: Author<'_>) -> Result<Organization>;

    /// All organizations, oldest first.
    ///
    /// # Errors
    /// The store can't be read.
    fn organizations(&self) -> Result<Vec<Organization>>;

    /// Up to `limit` organizations after a place, oldest first.
    ///
    /// # Errors
    /// The store can't be read.
    fn organizations_after(&self, after: Option<&Place>, limit: usize)
    -> Result<Vec<Organization>>;

    /// The organization with a name.
    ///
    /// # Errors
    /// The store can't be read.
    fn organization_named(&self, name: &str) -> Result<Option<Organization>>;

    /// Creates a project.
    ///
    /// # Errors
    /// No such organization, the name is taken in it, or the store can't be written.
    fn create_project(
        &self,
        id: &str,
        organization_id: &str,
        name: &str,
        by: Author<'_>,
    ) -> Result<Project>;

    /// All projects, oldest first.
    ///
    /// # Errors
    /// The store can't be read.
    fn projects(&self) -> Result<Vec<Project>>;

    /// Up to `limit` projects after a place, oldest first; of one organization, or of all.
    ///
    /// # Errors
    /// The store can't be read.
    fn projects_after(
        &self,
        after: Option<&Place>,
        organization_id: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Project>>;

    /// The project of an organization with a name.
    ///
    /// # Errors
    /// The store can't be read.
    fn project_named(&self, organization_id: &str, name: &str) -> Result<Option<Project>>;

    /// One project.
    ///
    /// # Errors
    /// The store can't be read.
    fn project(&self, id: &str) -> Result<Option<Project>>;

    /// Makes the user named `user` a member of a project. Creates the user with the id `new_user_id` if there is
    /// none of that name. Has no effect if the user is a member already.
    ///
    /// # Errors
    /// No such project, or the store can't be written.
    fn add_member(
        &self,
        new_user_id: &str,
        user: &str,
        project_id: &str,
        by: Author<'_>,
    ) -> Result<Committed<Member>>;

    /// Ends a membership.
    ///
    /// # Errors
    /// There is no such membership, or the store can't be written.
    fn remove_member(
        &self,
        user: &str,
        project_id: &str,
        by: Author<'_>,
    ) -> Result<Committed<Member>>;

    /// The members of one project, or of all.
    ///
    /// # Errors
    /// The store can't be read.
    fn members(&self, project_id: Option<&str>) -> Result<Vec<Member>>;

    /// Up to `limit` members after the one with these ids of a project and a user, in the order of both; of one project, or
    /// of all.
    ///
    /// # Errors
    /// The store can't be read.
    fn members_after(
        &self,
        after: Option<(&str, &str)>,
        project_id: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Member>>;

    /// The user with a name or an id.
    ///
    /// # Errors
    /// The store can't be read.
    fn user(&self, name_or_id: &str) -> Result<Option<User>>;

    /// Stores a credential.
    ///
    /// # Errors
    /// No such owner, the id is taken, or the store can't be written.
    fn create_credential(&self, new: &NewCredential, by: Author<'_>) -> Result<Credential>;

    /// All credentials, including revoked ones, oldest first.
    ///
    /// # Errors
    /// The store can't be read.
    fn credentials(&self) -> Result<Vec<Credential>>;

    /// Up to `limit` credentials after a place, including revoked ones, oldest first; the API keys of one project, or all
    /// credentials.
    ///
    /// # Errors
    /// The store can't be read.
    fn credentials_after(
        &self,
        after: Option<&Place>,
        project_id: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Credential>>;

    /// The number of credentials that are valid and expire after `now` and before `end`.
    ///
    /// # Errors
    /// The store can't be read.
    fn credentials_expiring(&self, now: Timestamp, end: Timestamp) -> Result<u64>;

    /// Revokes a credential. Has no effect if it is already revoked.
    ///
    /// # Errors
    /// No such credential, or the store can't be written.
    fn revoke_credential(&self, id: &str, by: Author<'_>) -> Result<Committed<Credential>>;

    /// A page of the log of operators' changes, oldest first.
    ///
    /// # Errors
    /// The store can't be read.
    fn operator_changes(&self, from: AuditCursor) -> Result<AuditPage<OperatorChange>>;

    /// The principal of a credential, and the projects in which it may act. Returns `None` if the credential is
    /// unknown, of another kind, revoked or expired, or if it is of a user and the query claims no project.
    ///
    /// # Errors
    /// The store can't be read.
    fn identify(&self, query: &CredentialQuery, now: Timestamp) -> Result<Option<Identity>>;
}
