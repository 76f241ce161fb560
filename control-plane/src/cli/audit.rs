//! `sandgate audit`: the log of changes of exposed ports, of network policies, and by operators.

use anyhow::Context as _;
use clap::Args;
use sandgate_policy::ids::SandboxRef;
use serde_json::{Value, json};

use super::management::ManagementOptions;
use super::output::Output;
use crate::model::{
    ExposedPorts, NetworkChange, OperatorChange, PolicyDifference, PortChange, SandboxId,
    join_ports,
};
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
            lists.heading(&columns("TIME", "SANDBOX", "PROJECT", "PRINCIPAL", "PORTS"))?;
            for_each(
                |from| store.port_changes(id.as_ref(), from),
                |line| lists.print_as(|| port_change(line), || port_text(line)),
            )?;
            lists.begin("network_changes")?;
            lists.heading("")?;
            lists.heading(&columns("TIME", "SANDBOX", "PROJECT", "PRINCIPAL", "NETWORK POLICY"))?;
            for_each(
                |from| store.network_changes(id.as_ref(), from),
                |line| lists.print_as(|| network_change(line), || network_text(line)),
            )?;
            // An operator's change concerns no sandbox.
            if id.is_none() {
                lists.begin("operator_changes")?;
                lists.heading("")?;
                lists.heading("TIME                      PRINCIPAL                 CHANGE")?;
                for_each(
                    |from| store.operator_changes(from),
                    |line| lists.print_as(|| operator_change(line), || operator_text(line)),
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

/// A line for people. Ids of sandboxes have 21 characters, and most others 20 to 24.
fn columns(time: &str, sandbox: &str, project: &str, principal: &str, change: &str) -> String {
    format!("{time:24}  {sandbox:21}  {project:24}  {principal:24}  {change}")
}

fn port_text(line: &PortChange) -> String {
    let side = |(ports, public): &(ExposedPorts, bool)| {
        let ports = if ports.is_empty() { "none".to_owned() } else { join_ports(ports.as_slice()) };
        format!("{ports} ({})", if *public { "public" } else { "private" })
    };
    let change = format!("{} -> {}", side(&line.before), side(&line.after));
    columns(&line.at.to_string(), &line.sandbox_id, &line.project_id, &line.principal, &change)
}

fn network_text(line: &NetworkChange) -> String {
    let PolicyDifference { before, after, allow_out, deny_out } = &line.difference;
    let mut changes = Vec::new();
    if before.allow_internet_access != after.allow_internet_access {
        changes.push(format!(
            "allow_internet_access {} -> {}",
            before.allow_internet_access, after.allow_internet_access
        ));
    }
    for (name, list) in [("allow_out", allow_out), ("deny_out", deny_out)] {
        let added = list.added.iter().map(|entry| format!("+{entry}"));
        let removed = list.removed.iter().map(|entry| format!("-{entry}"));
        let more = (list.not_shown > 0).then(|| format!("and {} more", list.not_shown));
        let all: Vec<_> = added.chain(removed).chain(more).collect();
        if !all.is_empty() {
            changes.push(format!("{name} {}", all.join(" ")));
        }
    }
    let change = changes.join("; ");
    columns(&line.at.to_string(), &line.sandbox_id, &line.project_id, &line.principal, &change)
}

fn operator_text(line: &OperatorChange) -> String {
    let OperatorChange { at, principal, action, subject, of } = line;
    let of = if of.is_empty() { String::new() } else { format!(" of {of}") };
    format!("{:24}  {principal:24}  {action} {subject}{of}", at.to_string())
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
