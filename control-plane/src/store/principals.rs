//! What the store keeps of organizations, projects, users and credentials.

use sandgate_policy::gateway_api::Identity;

use super::{Committed, Result};
use crate::model::{
    Credential, CredentialQuery, Member, NewCredential, Organization, Project, Timestamp, User,
};

/// Organizations, projects, users and credentials.
pub trait Principals {
    /// Makes an organization.
    ///
    /// # Errors
    /// The name is taken, or the store can't be written.
    fn create_organization(&self, id: &str, name: &str, now: Timestamp) -> Result<Organization>;

    /// All organizations, oldest first.
    ///
    /// # Errors
    /// The store can't be read.
    fn organizations(&self) -> Result<Vec<Organization>>;

    /// Makes a project.
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

    /// Makes `user` a member of a project, and a user with `new_user_id` if there is none of that
    /// name. Being one already is fine.
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

    /// Members, of one project or of all.
    ///
    /// # Errors
    /// The store can't be read.
    fn members(&self, project_id: Option<&str>) -> Result<Vec<Member>>;

    /// The user of that name or id.
    ///
    /// # Errors
    /// The store can't be read.
    fn user(&self, name_or_id: &str) -> Result<Option<User>>;

    /// Stores a credential.
    ///
    /// # Errors
    /// No such owner, or the store can't be written.
    fn create_credential(&self, new: &NewCredential, now: Timestamp) -> Result<Credential>;

    /// All credentials, revoked ones too, oldest first.
    ///
    /// # Errors
    /// The store can't be read.
    fn credentials(&self) -> Result<Vec<Credential>>;

    /// Revokes a credential. Doing it twice is fine.
    ///
    /// # Errors
    /// No such credential, or the store can't be written.
    fn revoke_credential(&self, id: &str, now: Timestamp) -> Result<Committed<Credential>>;

    /// Who a credential stands for and where it may act; `None` when it is unknown, of another
    /// kind, revoked or expired.
    ///
    /// # Errors
    /// The store can't be read.
    fn identify(&self, query: &CredentialQuery, now: Timestamp) -> Result<Option<Identity>>;
}
