//! The part of the store by which the servers that share it know of each other. They are called replicas.

use super::{Result, Revision};
use crate::model::SandboxId;

/// The replicas of a store. A replica is live while it regularly calls
/// [`ChangeLog::record_applied`](super::ChangeLog::record_applied).
pub trait Replicas {
    /// Whether several servers may use the store at once.
    fn is_shared(&self) -> bool;

    /// Makes this replica live, unless another live one has another setting of whether sidecars enforce network policies.
    /// Returns whether it is.
    ///
    /// # Errors
    /// The store can't be written, or it has begun another history since it was opened.
    fn join(&self, egress_is_enforced: bool) -> Result<bool>;

    /// The newest revision that all other live replicas have recorded; `None` if there are no others.
    ///
    /// # Errors
    /// The store can't be read.
    fn others_applied(&self) -> Result<Option<Revision>>;

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
