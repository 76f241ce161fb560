//! SQLite has one server: its lock file (`serve.lock`) excludes others.

use super::SqliteStore;
use crate::model::SandboxId;
use crate::store::{Replicas, Result, Revision};

impl Replicas for SqliteStore {
    fn is_shared(&self) -> bool {
        false
    }

    fn join(&self, _: bool) -> Result<bool> {
        Ok(true)
    }

    fn others_applied(&self) -> Result<Option<Revision>> {
        Ok(None)
    }

    fn claim(&self, _: &SandboxId) -> Result<bool> {
        Ok(true)
    }

    fn release(&self, _: &SandboxId) -> Result<()> {
        Ok(())
    }

    fn own_claims(&self) -> Result<Vec<SandboxId>> {
        Ok(Vec::new())
    }

    fn forget_ended(&self) -> Result<()> {
        Ok(())
    }

    fn leave(&self) -> Result<()> {
        Ok(())
    }
}
