//! The store: one trait that every database implements, and that one contract test suite checks
//! (`tests/suite/contract.rs`).
//!
//! The trait is synchronous, so a transaction is plain code. [`crate::db::Db`] runs it on threads that may
//! block. A transaction that changes something gives the change a *revision*, and appends it to a bounded
//! change log, which tells gateways which cache entries are outdated.

mod error;
mod events;
mod limits;
mod postgres;
mod principals;
mod replicas;
mod sandboxes;
mod sql;
mod sqlite;

use sandgate_policy::gateway_api::Change;
use tokio::sync::watch;

pub use error::{Record, StoreError};
pub use events::{EventPage, Events, ReportedDenials};
pub use limits::{EventBounds, Limits, NAME_HOLD, SPEC_MAX};
pub use postgres::{PostgresSettings, PostgresStore};
pub use principals::{Author, Place, Principals};
pub use replicas::Replicas;
pub(crate) use sandboxes::ports_made_public;
pub use sandboxes::{AuditCursor, AuditPage, ListFilter, Page, Patched, Sandboxes, Transitioned};
pub use sqlite::{SqliteStore, back_up, make_restored};

use crate::model::Timestamp;

/// The principal in the audit log of what the command line changes without a server.
pub const COMMAND_LINE: &str = "command line";
/// The principal in the audit log if the control plane terminates a sandbox.
pub const SYSTEM: &str = "system";

/// The number of a change. Each change in the deployment has the next one.
pub type Revision = u64;
/// The result of a call of the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A database with everything that the control plane stores.
pub trait Store:
    ChangeLog + Events + Principals + Replicas + Sandboxes + Upkeep + Send + Sync + 'static
{
}
impl<T: ChangeLog + Events + Principals + Replicas + Sandboxes + Upkeep + Send + Sync + 'static>
    Store for T
{
}

/// The result of a committed change, and its revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed<T> {
    pub value: T,
    /// The revision of the change, or the newest one if nothing changed.
    pub revision: Revision,
}

/// The changes after a revision.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangesSince {
    /// The changes, and the revision of the last one.
    Known(Revision, Vec<Change>),
    /// The log does not reach back that far, or the revision does not exist. Contains the newest revision.
    Unknown(Revision),
}

/// The log of changes.
pub trait ChangeLog {
    /// A random text that is unique to this store. Revisions of different stores can't be compared.
    fn epoch(&self) -> &str;

    /// The newest revision.
    ///
    /// # Errors
    /// The store can't be read.
    fn revision(&self) -> Result<Revision>;

    /// The newest revision, for a regular call that must not wait for other calls.
    ///
    /// # Errors
    /// The store can't be read.
    fn poll_revision(&self) -> Result<Revision>;

    /// Whether another connection, of this process or another one, may have written since the last call. It is
    /// cheap enough to be called several times a second.
    ///
    /// # Errors
    /// The store can't be read.
    fn written_elsewhere(&self) -> Result<bool>;

    /// Changes with the commits of any process, if the database announces commits. It is a hint: an announcement may be
    /// lost, and there may be one without a commit.
    fn announced_commits(&self) -> Option<watch::Receiver<()>>;

    /// Up to `limit` changes after `since`.
    ///
    /// # Errors
    /// The store can't be read.
    fn changes_since(&self, since: Revision, limit: usize) -> Result<ChangesSince>;

    /// Records that all gateways of this process have applied `revision`, for other processes that wait for that. Has
    /// no effect if a newer one is recorded. In a shared store, it also shows that this process is live.
    ///
    /// # Errors
    /// The store can't be written.
    fn record_applied(&self, revision: Revision) -> Result<()>;

    /// The newest revision that the gateways of all live servers are known to have applied.
    ///
    /// # Errors
    /// The store can't be read.
    fn applied(&self) -> Result<Revision>;
}

/// The connections of a store to its database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PoolUse {
    pub open: u64,
    pub idle: u64,
    /// The calls that wait for a connection.
    pub awaited: u64,
}

/// Regular upkeep. Each call is one short transaction, so other writes do not wait long.
pub trait Upkeep {
    /// Removes lines of the audit log, and events, that are older than the limits allow, and events of sandboxes that do not
    /// exist any more. Returns whether there may be
    /// more of them.
    ///
    /// # Errors
    /// The store can't be written.
    fn prune_audit(&self, now: Timestamp) -> Result<bool>;

    /// Gives unused space of the store's file back to the disk. Returns whether there is more of it.
    ///
    /// # Errors
    /// The store can't be written.
    fn give_back_space(&self) -> Result<bool>;

    /// Begins a history that no edge has seen: after it, nothing that an edge or a sidecar has learnt from the store before is
    /// valid, and no revision, generation or placement is used twice. For a store whose latest changes are lost: one
    /// that was restored from a backup. Running sandboxes become pending, because they may be at other addresses now, and the
    /// next server asks the platform for them. This handle, and each other one that is open, keeps the former
    /// [`ChangeLog::epoch`], so open the store again.
    ///
    /// # Errors
    /// The store can't be written, or it is [`StoreError::InUse`].
    fn begin_history(&self, now: Timestamp) -> Result<()>;

    /// The connections, if there is a bound on them.
    fn pool(&self) -> Option<PoolUse> {
        None
    }
}
