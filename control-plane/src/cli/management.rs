//! The parts that all management commands share.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use crate::serve::is_served;
use crate::store::{ChangeLog as _, Revision, SqliteStore};

/// The maximum wait until all gateways have applied a change.
const APPLY_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The time between two looks at the store.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The options of every management command.
#[derive(Args)]
pub(super) struct ManagementOptions {
    /// Directory of the store; a server may be running on it
    #[arg(long, value_name = "DIR", env = "SANDGATE_DATA_DIR")]
    pub(super) data_dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Checks a name that people read. `what` is the subject of the error.
pub(super) fn parse_label<'t>(what: &str, text: &'t str) -> anyhow::Result<&'t str> {
    let text = text.trim();
    if text.is_empty() || text.len() > 200 || text.chars().any(char::is_control) {
        anyhow::bail!("{what} must be 1 to 200 characters on one line");
    }
    Ok(text)
}

/// Waits until all gateways have applied a change, if a server runs. A key that `revoke` reports as revoked no
/// longer works.
pub(super) fn wait_until_applied(
    store: &SqliteStore,
    data_dir: &Path,
    revision: Revision,
) -> anyhow::Result<()> {
    let start = Instant::now();
    while is_served(data_dir) && store.applied()? < revision {
        if start.elapsed() >= APPLY_TIMEOUT {
            tracing::warn!(
                "not every gateway has applied the change yet; the others apply it soon"
            );
            break;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}
