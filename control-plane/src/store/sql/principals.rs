//! Organizations, projects, users and their memberships in SQL. [`super::credentials`] has the queries of
//! credentials.

use sandgate_policy::gateway_api::{Change, Identity};

use super::owners::{find_project, find_user, require_project};
use super::{Database, Session, audit, changes, credentials, pages, rows, values};
use crate::model::{
    Credential, CredentialQuery, Member, NewCredential, OperatorChange, Organization, Project,
    Timestamp, User,
};
use crate::store::{
    AuditCursor, AuditPage, Author, Committed, Place, Principals, Record, Result, StoreError,
};

impl<D: Database> Principals for D {
    fn create_organization(&self, id: &str, name: &str, by: Author<'_>) -> Result<Organization> {
        self.write(|tx| {
            let inserted = tx.execute(
                "INSERT INTO organizations VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                values![id, name, by.at.millis()],
            )?;
            refuse_duplicate(inserted, "an organization", name)?;
            audit::record_operator(tx, by, "create organization", id, "")?;
            Ok(Organization { id: id.to_owned(), name: name.to_owned(), created_at: by.at })
        })
    }

    fn organizations(&self) -> Result<Vec<Organization>> {
        self.read(|tx| {
            let sql = "SELECT id, name, created_at FROM organizations ORDER BY created_at, id";
            tx.all(sql, values![], rows::organization)
        })
    }

    fn organizations_after(
        &self,
        after: Option<&Place>,
        limit: usize,
    ) -> Result<Vec<Organization>> {
        self.read(|tx| pages::organizations(tx, after, limit))
    }

    fn organization_named(&self, name: &str) -> Result<Option<Organization>> {
        self.read(|tx| {
            let sql = "SELECT id, name, created_at FROM organizations WHERE name = ?1";
            tx.first(sql, values![name], rows::organization)
        })
    }

    fn create_project(
        &self,
        id: &str,
        organization_id: &str,
        name: &str,
        by: Author<'_>,
    ) -> Result<Project> {
        self.write(|tx| {
            let sql = "SELECT 1 FROM organizations WHERE id = ?1";
            let found = tx.first(sql, values![organization_id], |_| Ok(()))?;
            found.ok_or_else(|| StoreError::not_found(Record::Organization, organization_id))?;
            let inserted = tx.execute(
                "INSERT INTO projects VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                values![id, organization_id, name, by.at.millis()],
            )?;
            refuse_duplicate(inserted, "a project", name)?;
            audit::record_operator(tx, by, "create project", id, organization_id)?;
            require_project(tx, id)
        })
    }

    fn projects(&self) -> Result<Vec<Project>> {
        self.read(|tx| {
            let sql = format!("SELECT {} ORDER BY p.created_at, p.id", rows::PROJECT);
            tx.all(&sql, values![], rows::project)
        })
    }

    fn projects_after(
        &self,
        after: Option<&Place>,
        organization_id: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Project>> {
        self.read(|tx| pages::projects(tx, after, organization_id, limit))
    }

    fn project_named(&self, organization_id: &str, name: &str) -> Result<Option<Project>> {
        self.read(|tx| {
            let sql =
                format!("SELECT {} WHERE p.organization_id = ?1 AND p.name = ?2", rows::PROJECT);
            tx.first(&sql, values![organization_id, name], rows::project)
        })
    }

    fn project(&self, id: &str) -> Result<Option<Project>> {
        self.read(|tx| find_project(tx, id))
    }

    fn add_member(
        &self,
        new_user_id: &str,
        user: &str,
        project_id: &str,
        by: Author<'_>,
    ) -> Result<Committed<Member>> {
        self.write(|tx| {
            require_project(tx, project_id)?;
            let user = match find_user(tx, user)? {
                Some(user) => user,
                None => {
                    let row = values![new_user_id, user, by.at.millis()];
                    tx.execute("INSERT INTO users VALUES (?1, ?2, ?3)", row)?;
                    User { id: new_user_id.to_owned(), name: user.to_owned(), created_at: by.at }
                }
            };
            let inserted = tx.execute(
                "INSERT INTO memberships VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                values![&user.id, project_id, by.at.millis()],
            )?;
            let revision = match inserted {
                0 => changes::current(tx)?,
                _ => {
                    audit::record_operator(tx, by, "add member", &user.id, project_id)?;
                    changes::append(tx, &Change::Principal { id: rows::parse_id(&user.id)? })?
                }
            };
            Ok(Committed { value: require_member(tx, &user, project_id)?, revision })
        })
    }

    fn remove_member(
        &self,
        user: &str,
        project_id: &str,
        by: Author<'_>,
    ) -> Result<Committed<Member>> {
        self.write_on_full_disk(|tx| {
            let user =
                find_user(tx, user)?.ok_or_else(|| StoreError::not_found(Record::User, user))?;
            let member = require_member(tx, &user, project_id)?;
            tx.execute(
                "DELETE FROM memberships WHERE user_id = ?1 AND project_id = ?2",
                values![&user.id, project_id],
            )?;
            audit::record_operator(tx, by, "remove member", &user.id, project_id)?;
            let revision =
                changes::append(tx, &Change::Principal { id: rows::parse_id(&user.id)? })?;
            Ok(Committed { value: member, revision })
        })
    }

    fn members(&self, project_id: Option<&str>) -> Result<Vec<Member>> {
        self.read(|tx| {
            let sql = format!(
                "SELECT {} WHERE CAST(?1 AS TEXT) IS NULL OR m.project_id = ?1 \
                 ORDER BY m.project_id, u.name",
                rows::MEMBER
            );
            tx.all(&sql, values![project_id], rows::member)
        })
    }

    fn members_after(
        &self,
        after: Option<(&str, &str)>,
        project_id: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Member>> {
        self.read(|tx| pages::members(tx, after, project_id, limit))
    }

    fn user(&self, name_or_id: &str) -> Result<Option<User>> {
        self.read(|tx| find_user(tx, name_or_id))
    }

    fn create_credential(&self, new: &NewCredential, by: Author<'_>) -> Result<Credential> {
        self.write(|tx| credentials::create(tx, new, by))
    }

    fn credentials(&self) -> Result<Vec<Credential>> {
        self.read(credentials::all)
    }

    fn credentials_after(
        &self,
        after: Option<&Place>,
        project_id: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Credential>> {
        self.read(|tx| pages::credentials(tx, after, project_id, limit))
    }

    fn credentials_expiring(&self, now: Timestamp, end: Timestamp) -> Result<u64> {
        self.read(|tx| {
            let sql = "SELECT count(*) FROM credentials \
                WHERE revoked_at IS NULL AND expires_at > ?1 AND expires_at <= ?2";
            let values = values![now.millis(), end.millis()];
            let count = tx.first(sql, values, |row| row.get::<i64>(0))?;
            Ok(u64::try_from(count.unwrap_or_default()).unwrap_or_default())
        })
    }

    fn revoke_credential(&self, id: &str, by: Author<'_>) -> Result<Committed<Credential>> {
        self.write_on_full_disk(|tx| credentials::revoke(tx, id, by))
    }

    fn operator_changes(&self, from: AuditCursor) -> Result<AuditPage<OperatorChange>> {
        let columns = rows::OPERATOR_CHANGE;
        audit::page(self, "operator_changes", columns, None, from, rows::operator_change)
    }

    fn identify(&self, query: &CredentialQuery, now: Timestamp) -> Result<Option<Identity>> {
        self.read(|tx| credentials::identify(tx, query, now))
    }
}

fn require_member(tx: &Session<'_>, user: &User, project_id: &str) -> Result<Member> {
    let sql = format!("SELECT {} WHERE u.id = ?1 AND m.project_id = ?2", rows::MEMBER);
    let found = tx.first(&sql, values![&user.id, project_id], rows::member)?;
    found.ok_or_else(|| StoreError::not_found(Record::Membership, project_id))
}

fn refuse_duplicate(inserted: u64, what: &'static str, name: &str) -> Result<()> {
    if inserted == 0 {
        return Err(StoreError::AlreadyExists { what, name: name.to_owned() });
    }
    Ok(())
}
