//! The part of the store by which the servers that share it know of each other. They are called replicas.

use super::{Result, Revision};
use crate::model::SandboxId;

/// The replicas of a store. A replica is live while it regularly calls
/// [`ChangeLog::record_applied`](super::ChangeLog::record_applied).
pub trait Replicas {
    /// Whether several servers may use the store at once.
    fn is_shared(&self) -> bool;

    /// The number of other live replicas that have not recorded `revision`.
    ///
    /// # Errors
    /// The store can't be read.
    fn others_behind(&self, revision: Revision) -> Result<u64>;

    /// Claims the right to call the runtime for a sandbox. Returns whether this replica has it now. A claim lasts until
    /// it is released, or until its replica is no longer live. A replica that has not been live for a while gets no
    /// claim of another one: after an outage of the database, the others have to show first that they are live.
    ///
    /// # Errors
    /// The store can't be written.
    fn claim(&self, id: &SandboxId) -> Result<bool>;

    /// Releases a claim of this replica.
    ///
    /// # Errors
    /// The store can't be written.
    fn release(&self, id: &SandboxId) -> Result<()>;

    /// The sandboxes that this replica has claimed.
    ///
    /// # Errors
    /// The store can't be read.
    fn own_claims(&self) -> Result<Vec<SandboxId>>;

    /// Forgets replicas that ended long ago, and their claims.
    ///
    /// # Errors
    /// The store can't be written.
    fn forget_ended(&self) -> Result<()>;

    /// Removes this replica and its claims. Nobody waits for it any more.
    ///
    /// # Errors
    /// The store can't be written.
    fn leave(&self) -> Result<()>;
}
