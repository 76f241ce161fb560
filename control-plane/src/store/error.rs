//! Errors of the store.

use std::error::Error;
use std::fmt;

use crate::model::join_ports;

/// Why a call of the store was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name is in use.
    #[error("there is already {what} named `{name}`")]
    AlreadyExists {
        /// The kind of thing, with its article: `an organization`.
        what: &'static str,
        name: String,
    },
    /// The project has the maximum number of sandboxes.
    #[error(
        "a project may have at most {0} sandboxes; delete sandboxes, or ask the operator to raise the maximum (`--sandboxes-per-project`)"
    )]
    TooManySandboxes(u64),
    /// The project stores the maximum number of bytes.
    #[error(
        "the sandboxes of the project would take more than {0} bytes of exposed ports, network policies and fields such as `metadata`; shorten them, delete sandboxes, or ask the operator to raise the maximum (`--stored-mib-per-project`)"
    )]
    ProjectFull(u64),
    /// The kept fields of one sandbox ([`crate::model::Sandbox::spec`]) are too large.
    #[error(
        "the fields `metadata`, `resources` and others of the sandbox would take more than {0} bytes together; shorten them"
    )]
    SpecTooLarge(usize),
    /// The maximum number of the project's writes is waiting.
    #[error("{0} changes of the project wait already; try again in a second")]
    Busy(usize),
    /// A sandbox without a name must keep `auto_resume`.
    #[error(
        "`auto_resume` can be switched off only for a sandbox with a name; one without is never suspended"
    )]
    AutoResumeNeedsName,
    /// The store contains a value that this program can't have written.
    #[error("the store holds {0}; it is damaged or was changed by another program")]
    Corrupt(String),
    /// The sandbox name is in use, or held for another project. The message is the same in both cases, so that it
    /// reveals nothing about other projects.
    #[error("the name `{0}` is not available; choose another one")]
    NameTaken(String),
    /// The database was written by a newer program.
    #[error(
        "the store has format {found}, and this program knows formats up to {known}; use a newer `sandgate`"
    )]
    Newer {
        /// The format of the database.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// The patch would make these private ports public, and does not confirm that.
    #[error(
        "the ports {} need a credential, and the change would make them public; to confirm that, send `{{\"allow_unauthenticated_access\": true}}` alone, without `exposed_ports`; to keep them private, leave `allow_unauthenticated_access` out or send false", join_ports(.0)
    )]
    WouldMakePublic(Vec<u16>),
    /// The disk has no space for a change that makes the store grow.
    #[error(
        "the disk of the store is full; free space on it (meanwhile you can revoke keys, remove members, close ports and delete sandboxes)"
    )]
    DiskFull,
    /// The thing does not exist.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// The kind of the record.
        what: Record,
        /// The id or the name that was looked up.
        id: String,
    },
    /// A live server uses the database, which a restore must not change below it.
    #[error(
        "a server uses the database; stop all of them, because they would continue with what they know"
    )]
    InUse,
    #[error("the store failed: {0}")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

/// A kind of record of the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Record {
    /// Owns projects.
    Organization,
    /// Owns sandboxes.
    Project,
    /// A person with tokens and sessions.
    User,
    /// Allows a user to act in a project.
    Membership,
    /// An API key, a personal access token, or a session.
    Credential,
    /// Belongs to a project.
    Sandbox,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Organization => "organization",
            Self::Project => "project",
            Self::User => "user",
            Self::Membership => "membership of project",
            Self::Credential => "credential",
            Self::Sandbox => "sandbox",
        })
    }
}

impl StoreError {
    pub(crate) fn not_found(what: Record, id: impl Into<String>) -> Self {
        Self::NotFound { what, id: id.into() }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(Box::new(error))
    }
}
