//! `sandgate audit`: the log of changes to what can be reached, and to network policies.

use anyhow::Context as _;
use clap::Args;
use sandgate_policy::ids::SandboxRef;
use serde_json::{Value, json};

use super::management::ManagementOptions;
use super::output::Output;
use crate::model::{ExposedPorts, NetworkChange, PortChange, SandboxId};
use crate::serve::open_store;
use crate::store::{AuditCursor, AuditPage, Result, Sandboxes as _, SqliteStore};

/// Which sandbox.
#[derive(Args)]
pub(super) struct Audit {
    /// Its id, also after it was deleted, or its name; all sandboxes if left out
    sandbox: Option<String>,
    #[command(flatten)]
    options: ManagementOptions,
}

impl Audit {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let store = open_store(&self.options.data_dir)?;
        let id = self.sandbox.map(|sandbox| find(&store, &sandbox)).transpose()?;
        Output::new(self.options.json).lists(|lists| {
            lists.begin("port_changes")?;
            each(
                |from| store.port_changes(id.as_ref(), from),
                |line| lists.print(&of_ports(line)),
            )?;
            lists.begin("network_changes")?;
            each(
                |from| store.network_changes(id.as_ref(), from),
                |line| lists.print(&of_network(line)),
            )
        })
    }
}

/// Reads a log page by page, because it may be larger than the memory.
fn each<T>(
    page: impl Fn(AuditCursor) -> Result<AuditPage<T>>,
    mut print: impl FnMut(&T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut from = Some(AuditCursor::default());
    while let Some(place) = from {
        let AuditPage { lines, next } = page(place)?;
        lines.iter().try_for_each(&mut print)?;
        from = next;
    }
    Ok(())
}

fn find(store: &SqliteStore, sandbox: &str) -> anyhow::Result<SandboxId> {
    if let Ok(id) = SandboxId::parse(sandbox) {
        return Ok(id);
    }
    let found = match SandboxRef::parse(sandbox) {
        Some(name) => store.sandbox(&name)?,
        None => None,
    };
    let found = found.with_context(|| {
        format!("there is no sandbox `{sandbox}`; a deleted one is found by its id only")
    })?;
    Ok(found.id)
}

fn of_ports(change: &PortChange) -> Value {
    let side = |(ports, public): &(ExposedPorts, bool)| json!({ "exposed_ports": ports.as_slice(), "allow_unauthenticated_access": public });
    json!({
        "at": change.at.millis(),
        "sandbox_id": change.sandbox_id,
        "project_id": change.project_id,
        "principal": change.principal,
        "before": side(&change.before),
        "after": side(&change.after),
    })
}

fn of_network(change: &NetworkChange) -> Value {
    json!({
        "at": change.at.millis(),
        "sandbox_id": change.sandbox_id,
        "project_id": change.project_id,
        "principal": change.principal,
        "difference": change.difference,
    })
}
