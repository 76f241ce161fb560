//! `sandgate clean`: removes what a killed server has left on this machine.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::runtime::remove_remains;
use crate::serve::StoreLocation;

/// The options of `sandgate clean`.
#[derive(Args)]
pub(super) struct Clean {
    /// Directory of the store of that server
    #[arg(long, value_name = "DIR", env = "SANDGATE_DATA_DIR")]
    data_dir: PathBuf,
}

impl Clean {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let folder = self.data_dir.display();
        let path = std::fs::canonicalize(&self.data_dir)
            .with_context(|| format!("--data-dir {folder} can't be used"))?;
        anyhow::ensure!(
            !StoreLocation::DataDir(path.clone()).may_be_served(),
            "a server runs with the data directory {folder}; stop it, and it removes its sandboxes itself"
        );
        Ok(remove_remains(&path)?)
    }
}
