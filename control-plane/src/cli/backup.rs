//! `sandgate backup` and `restore`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::output::Output;
use super::store::StoreOptions;
use crate::model::Timestamp;
use crate::serve::{StoreLocation, back_up_data_dir, restore_data_dir};
use crate::store::StoreError;

/// The most connections of a command to a database.
const CONNECTIONS: usize = 2;
/// The time after which a server that has ended no longer counts as live, and some more.
const UNTIL_ENDED: Duration = Duration::from_secs(5);

/// `sandgate backup`.
#[derive(Args)]
pub(super) struct Backup {
    /// New file for the copy of the store; it has the hashes of all secrets
    #[arg(value_name = "FILE")]
    copy: PathBuf,
    /// Directory of the store; its server may be running
    #[arg(long, value_name = "DIR", env = "SANDGATE_DATA_DIR")]
    data_dir: PathBuf,
}

impl Backup {
    pub(super) fn run(self) -> anyhow::Result<()> {
        back_up_data_dir(&self.data_dir, &self.copy)
    }
}

/// `sandgate restore`.
#[derive(Args)]
pub(super) struct Restore {
    /// Copy of the store, for --data-dir, which must have none yet. For --database, run `pg_restore` before, and name no file
    #[arg(value_name = "FILE")]
    copy: Option<PathBuf>,
    #[command(flatten)]
    store: StoreOptions,
}

impl Restore {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let location = self.store.location(CONNECTIONS)?;
        match (&location, self.copy) {
            (StoreLocation::DataDir(dir), Some(copy)) => restore_data_dir(&copy, dir)?,
            (StoreLocation::DataDir(_), None) => {
                anyhow::bail!("name the copy that `sandgate backup` has made")
            }
            (StoreLocation::Database(_), Some(_)) => anyhow::bail!(
                "a database is restored by `pg_restore`; run this command without a file after it"
            ),
            (StoreLocation::Database(_), None) => begin_history(&location)?,
        }
        Output::plain("restored; start the server: edges and sidecars look everything up again\n")
    }
}

/// Begins a new history in a database that `pg_restore` has filled.
fn begin_history(location: &StoreLocation) -> anyhow::Result<()> {
    let store = location.open()?;
    let start = Instant::now();
    loop {
        match store.begin_history(Timestamp::now()) {
            // It may be a row of a server that has just ended.
            Err(StoreError::InUse) if start.elapsed() < UNTIL_ENDED => {
                std::thread::sleep(Duration::from_millis(100));
            }
            ended => return Ok(ended?),
        }
    }
}
