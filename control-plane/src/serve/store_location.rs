//! Where the store is: in a directory of this machine, or in a database that several servers share.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use super::data_dir::{is_served, lock, open_store};
use crate::store::{Limits, PostgresSettings, PostgresStore, Store};

/// The place of a store.
#[derive(Clone)]
pub enum StoreLocation {
    /// A directory with a SQLite file. It has one server.
    DataDir(PathBuf),
    /// A PostgreSQL database. It may have several servers.
    Database(PostgresSettings),
}

impl StoreLocation {
    /// Opens the store. Creates it if it is missing.
    ///
    /// # Errors
    /// It can't be used.
    pub fn open(&self) -> anyhow::Result<Box<dyn Store>> {
        Ok(match self {
            Self::DataDir(dir) => Box::new(open_store(dir)?),
            Self::Database(settings) => Box::new(connect(settings)?),
        })
    }

    /// Opens the store for a server. The file is the lock by which a directory has one server only.
    ///
    /// # Errors
    /// It can't be used, or has a server.
    pub(super) fn open_to_serve(
        &self,
        limits: Limits,
    ) -> anyhow::Result<(Arc<dyn Store>, Option<File>)> {
        match self {
            Self::DataDir(dir) => {
                let store = open_store(dir)?.within(limits);
                let lock = lock(dir)?;
                if let Err(error) = store.make_shrinkable() {
                    tracing::warn!(%error, "the store's file could not be rewritten, so it does not shrink");
                }
                Ok((Arc::new(store), Some(lock)))
            }
            Self::Database(settings) => Ok((Arc::new(connect(settings)?.within(limits)), None)),
        }
    }

    /// The path of the data directory, if the store is in one. The directory must exist.
    ///
    /// # Errors
    /// The path can't be resolved.
    pub(super) fn data_dir(&self) -> anyhow::Result<Option<PathBuf>> {
        match self {
            Self::DataDir(dir) => std::fs::canonicalize(dir)
                .map(Some)
                .with_context(|| format!("the data directory {} can't be used", dir.display())),
            Self::Database(_) => Ok(None),
        }
    }

    /// Takes the lock of a data directory, as a server does. No server runs on it as long as the file is open.
    ///
    /// # Errors
    /// A server runs on it, or the lock can't be written.
    pub fn lock(&self) -> anyhow::Result<Option<File>> {
        match self {
            Self::DataDir(dir) => lock(dir).map(Some),
            Self::Database(_) => Ok(None),
        }
    }

    /// Whether a server may run on the store. If none runs on a database, nobody has to apply its changes, and the
    /// store says so.
    #[must_use]
    pub fn may_be_served(&self) -> bool {
        match self {
            Self::DataDir(dir) => is_served(dir),
            Self::Database(_) => true,
        }
    }
}

fn connect(settings: &PostgresSettings) -> anyhow::Result<PostgresStore> {
    PostgresStore::open(settings).context("the store in the database can't be opened")
}
