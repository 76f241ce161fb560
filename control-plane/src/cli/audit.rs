//! `sandgate audit`: the log of changes of exposed ports, of network policies, and by operators.

use anyhow::Context as _;
use clap::Args;
use sandgate_policy::ids::SandboxRef;
use serde_json::{Value, json};

use super::management::ManagementOptions;
use super::output::Output;
use crate::model::{ExposedPorts, NetworkChange, OperatorChange, PortChange, SandboxId};
use crate::store::{AuditCursor, AuditPage, Result, Store};

/// The options of `sandgate audit`.
#[derive(Args)]
pub(super) struct Audit {
    /// Id of the sandbox, which can be a deleted one, or its name; default: all sandboxes
    sandbox: Option<String>,
    #[command(flatten)]
    options: ManagementOptions,
}

impl Audit {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let store = self.options.open_store()?;
        let id = self.sandbox.map(|sandbox| find(store.as_ref(), &sandbox)).transpose()?;
        Output::new(self.options.json).lists(|lists| {
            lists.begin("port_changes")?;
            for_each(
                |from| store.port_changes(id.as_ref(), from),
                |line| lists.print(&port_change(line)),
            )?;
            lists.begin("network_changes")?;
            for_each(
                |from| store.network_changes(id.as_ref(), from),
                |line| lists.print(&network_change(line)),
            )?;
            // An operator's change concerns no sandbox.
            if id.is_none() {
                lists.begin("operator_changes")?;
                for_each(
                    |from| store.operator_changes(from),
                    |line| lists.print(&operator_change(line)),
                )?;
            }
            Ok(())
        })
    }
}

/// Reads a log in pages, because it may be larger than the memory.
fn for_each<T>(
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

fn find(store: &dyn Store, sandbox: &str) -> anyhow::Result<SandboxId> {
    if let Ok(id) = SandboxId::parse(sandbox) {
        return Ok(id);
    }
    let found = match SandboxRef::parse(sandbox) {
        Some(name) => store.sandbox(&name)?,
        None => None,
    };
    let found = found.with_context(|| {
        format!("there is no sandbox `{sandbox}`; a deleted sandbox can only be found by its id")
    })?;
    Ok(found.id)
}

fn port_change(change: &PortChange) -> Value {
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

fn operator_change(change: &OperatorChange) -> Value {
    json!({
        "at": change.at.millis(),
        "principal": change.principal,
        "action": change.action,
        "subject": change.subject,
        "of": change.of,
    })
}

fn network_change(change: &NetworkChange) -> Value {
    json!({
        "at": change.at.millis(),
        "sandbox_id": change.sandbox_id,
        "project_id": change.project_id,
        "principal": change.principal,
        "difference": change.difference,
    })
}
