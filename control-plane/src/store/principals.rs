//! The part of the store that has organizations, projects, users and credentials.

use sandgate_policy::gateway_api::Identity;

use super::{Committed, Result};
use crate::model::{
    Credential, CredentialQuery, Member, NewCredential, Organization, Project, Timestamp, User,
};

/// Organizations, projects, users and credentials.
pub trait Principals {
    /// Creates an organization.
    ///
    /// # Errors
    /// The name is taken, or the store can't be written.
    fn create_organization(&self, id: &str, name: &str, now: Timestamp) -> Result<Organization>;

    /// All organizations, oldest first.
    ///
    /// # Errors
    /// The store can't be read.
    fn organizations(&self) -> Result<Vec<Organization>>;

    /// Creates a project.
    ///
    /// # Errors
    /// No such organization, the name is taken in it, or the store can't be written.
    fn create_project(
        &self,
        id: &str,
        organization_id: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Project>;

    /// All projects, oldest first.
    ///
    /// # Errors
    /// The store can't be read.
    fn projects(&self) -> Result<Vec<Project>>;

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
        now: Timestamp,
    ) -> Result<Committed<Member>>;

    /// Ends a membership.
    ///
    /// # Errors
    /// There is no such membership, or the store can't be written.
    fn remove_member(&self, user: &str, project_id: &str) -> Result<Committed<Member>>;

    /// The members of one project, or of all.
    ///
    /// # Errors
    /// The store can't be read.
    fn members(&self, project_id: Option<&str>) -> Result<Vec<Member>>;

    /// The user with a name or an id.
    ///
    /// # Errors
    /// The store can't be read.
    fn user(&self, name_or_id: &str) -> Result<Option<User>>;

    /// Stores a credential.
    ///
    /// # Errors
    /// No such owner, or the store can't be written.
    fn create_credential(&self, new: &NewCredential, now: Timestamp) -> Result<Credential>;

    /// All credentials, including revoked ones, oldest first.
    ///
    /// # Errors
    /// The store can't be read.
    fn credentials(&self) -> Result<Vec<Credential>>;

    /// Revokes a credential. Has no effect if it is already revoked.
    ///
    /// # Errors
    /// No such credential, or the store can't be written.
    fn revoke_credential(&self, id: &str, now: Timestamp) -> Result<Committed<Credential>>;

    /// The principal of a credential, and the projects in which it may act. Returns `None` if the credential is
    /// unknown, of another kind, revoked or expired, or if it is of a user and the query claims no project.
    ///
    /// # Errors
    /// The store can't be read.
    fn identify(&self, query: &CredentialQuery, now: Timestamp) -> Result<Option<Identity>>;
}
