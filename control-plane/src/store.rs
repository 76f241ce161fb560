//! What is kept, as one trait that every database implements and one contract suite tests
//! (`tests/suite/contract.rs`).
//!
//! The trait is synchronous: a transaction is then plain code, and [`crate::db::Db`] runs it on
//! threads that may block. Each change gets a *revision* in the transaction that makes it, and an
//! entry in a bounded change log, from which the filters learn what to forget.

mod error;
mod limits;
mod principals;
mod sandboxes;
mod sqlite;

use sandgate_policy::gateway_api::Change;

pub use error::StoreError;
pub use limits::{Limits, NAME_HOLD, SPEC_MAX};
pub use principals::Principals;
pub(crate) use sandboxes::opened_ports;
pub use sandboxes::{AuditPage, AuditPlace, ListFilter, Page, Patched, Sandboxes, Transitioned};
pub use sqlite::SqliteStore;

use crate::model::Timestamp;

/// Who ended a sandbox that nobody deleted, in the audit log.
pub const SYSTEM: &str = "system";

/// Number of a change; grows with every change in the deployment.
pub type Revision = u64;
/// What a call to the store ends in.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Everything that is kept.
pub trait Store: ChangeLog + Principals + Sandboxes + Upkeep + Send + Sync + 'static {}
impl<T: ChangeLog + Principals + Sandboxes + Upkeep + Send + Sync + 'static> Store for T {}

/// What a change made, and the revision at which it is visible.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed<T> {
    /// What was made.
    pub value: T,
    /// A gateway that has applied this revision has applied the change.
    pub revision: Revision,
}

/// What happened after a revision.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangesSince {
    /// These changes, up to and with this revision.
    Known(Revision, Vec<Change>),
    /// The log does not reach back that far, or the revision was never given out.
    Unknown(Revision),
}

/// The order of changes.
pub trait ChangeLog {
    /// Random, unique to this store: a revision of another store means nothing here.
    fn epoch(&self) -> &str;

    /// The newest revision.
    ///
    /// # Errors
    /// The store can't be read.
    fn revision(&self) -> Result<Revision>;

    /// Whether another connection, of this process or another, may have written since the last
    /// call. Cheap; called every few hundred milliseconds.
    ///
    /// # Errors
    /// The store can't be read.
    fn written_elsewhere(&self) -> Result<bool>;

    /// Up to `limit` changes after `since`.
    ///
    /// # Errors
    /// The store can't be read.
    fn changes_since(&self, since: Revision, limit: usize) -> Result<ChangesSince>;

    /// Records that all gateways have applied `revision`, for other processes that wait for that. Has no
    /// effect if a newer one is recorded.
    ///
    /// # Errors
    /// The store can't be written.
    fn record_applied(&self, revision: Revision) -> Result<()>;

    /// The newest revision that all gateways are known to have applied.
    ///
    /// # Errors
    /// The store can't be read.
    fn applied(&self) -> Result<Revision>;
}

/// Regular work on the store. A call is one short step, so other writes do not wait long.
pub trait Upkeep {
    /// Removes lines of the audit log that are older than the limits allow. Returns whether there may be
    /// more such lines.
    ///
    /// # Errors
    /// The store can't be written.
    fn prune_audit(&self, now: Timestamp) -> Result<bool>;

    /// Gives unused space of the store's file back to the disk. Returns whether there is more of it.
    ///
    /// # Errors
    /// The store can't be written.
    fn give_back_space(&self) -> Result<bool>;
}
