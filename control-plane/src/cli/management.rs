//! The parts that all management commands share.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;

use super::admin::AdminClient;
use super::store::StoreOrServer;
use crate::model;
use crate::store::{Author, COMMAND_LINE, Revision, Store};

/// The maximum wait until all gateways have applied a change.
const APPLY_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The time between two looks at the store.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The most connections of a command to a database.
const CONNECTIONS: usize = 2;

/// The options of every management command.
#[derive(Args)]
pub(super) struct ManagementOptions {
    #[command(flatten)]
    store: StoreOrServer,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl ManagementOptions {
    /// The server to ask, instead of a store.
    pub(super) fn server(&self) -> anyhow::Result<Option<AdminClient>> {
        self.store.admin.client()
    }

    /// Opens the store. Servers may be running on it.
    pub(super) fn open_store(&self) -> anyhow::Result<Box<dyn Store>> {
        if self.store.admin.admin_url.is_some() {
            anyhow::bail!("this command needs the store: use --data-dir or --database");
        }
        self.store.location(CONNECTIONS)?.open()
    }

    /// Waits until all gateways have applied a change, if a server runs. A key that `revoke` reports as revoked no
    /// longer works.
    pub(super) fn wait_until_applied(
        &self,
        store: &dyn Store,
        revision: Revision,
    ) -> anyhow::Result<()> {
        let location = self.store.location(CONNECTIONS)?;
        let start = Instant::now();
        while location.may_be_served() && store.applied()? < revision {
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
}

/// The author of a change without a server.
pub(super) fn by_command_line() -> Author<'static> {
    Author::now(COMMAND_LINE)
}

/// Checks a name that people read. `what` is the subject of the error.
pub(super) fn parse_label<'t>(what: &str, text: &'t str) -> anyhow::Result<&'t str> {
    model::parse_label(text)
        .with_context(|| format!("{what} must be 1 to 200 characters on one line"))
}
