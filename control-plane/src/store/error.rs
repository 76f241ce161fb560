//! Why the store refused or failed.

use std::error::Error;

/// Why a call to the store has no result.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another one has this name.
    #[error("there is already {what} named `{name}`")]
    AlreadyExists {
        /// With its article: `an organization`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Switching `auto_resume` off without a name.
    #[error(
        "`auto_resume` can be switched off only for a sandbox with a name; one without is never suspended"
    )]
    AutoResumeNeedsName,
    /// What is stored can't have been written by this program.
    #[error("the store holds {0}; it is damaged or was changed by another program")]
    Corrupt(String),
    /// A sandbox name that is used, or held for another project. The same words in all cases, so
    /// that they don't tell one customer about another.
    #[error("the name `{0}` is not available; choose another one")]
    NameTaken(String),
    /// The database was written by a newer program.
    #[error(
        "the store has format {found}, and this program knows formats up to {known}; use a newer `sandgate`"
    )]
    Newer {
        /// In the database.
        found: i64,
        /// Of this program.
        known: i64,
    },
    /// There is no such thing.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Which.
        id: String,
    },
    /// The database does not answer.
    #[error("the store failed: {0}")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

impl StoreError {
    /// There is no `what` with this id.
    pub(crate) fn not_found(what: &'static str, id: impl Into<String>) -> Self {
        Self::NotFound { what, id: id.into() }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(Box::new(error))
    }
}
