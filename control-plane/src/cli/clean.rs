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
        // A server that starts meanwhile would lose its new sandboxes.
        let _no_server = StoreLocation::DataDir(path.clone()).lock().with_context(|| {
            format!(
                "{folder} can't be cleaned; a server removes its sandboxes itself when it stops"
            )
        })?;
        Ok(remove_remains(&path)?)
    }
}
