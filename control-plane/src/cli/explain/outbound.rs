//! Explains the decision about a connection out of a sandbox.

use std::path::Path;

use anyhow::Context as _;
use sandgate_policy::egress::{NetworkPolicy, OperatorSettings, Policy, QueryAction};
use sandgate_policy::ids::SandboxRef;

use super::Explanation;
use crate::cli::policy::{CheckedDestination, read};
use crate::store::Store;

pub(super) fn explain(
    store: &dyn Store,
    sandbox: &str,
    destination: &str,
    operator: Option<&Path>,
) -> anyhow::Result<Explanation> {
    let found = match SandboxRef::parse(sandbox) {
        Some(which) => store.sandbox(&which)?,
        None => None,
    };
    let found = found.with_context(|| format!("there is no sandbox `{sandbox}`"))?;
    let operator = match operator {
        Some(file) => read("--operator", file)?,
        None => OperatorSettings::default(),
    };
    let destination: CheckedDestination =
        destination.parse().with_context(|| format!("`{destination}` is not a destination"))?;
    let policy = Policy::new(&found.network_policy, &operator);
    let (is_allowed, rule) = destination.evaluate(&policy)?;
    let named = found.name.as_ref().map(|name| format!(" (`{name}`)")).unwrap_or_default();
    let mut steps = vec![
        ("sandbox", format!("{}{named}, {}", found.id, found.state.as_str())),
        ("policy", summary(&found.network_policy)),
        ("destination", destination.to_string()),
    ];
    if let Some(name) = destination.queried_name() {
        steps.push(("dns", query(&policy.evaluate_query(name))));
    }
    let decision = if is_allowed { "allow" } else { "deny" };
    Ok(Explanation { is_allowed, decision: decision.to_owned(), rule, steps })
}

fn summary(policy: &NetworkPolicy) -> String {
    let NetworkPolicy { allow_internet_access, allow_out, deny_out, .. } = policy;
    format!(
        "allow_internet_access {allow_internet_access}, {} entries in allow_out, {} in deny_out",
        allow_out.len(),
        deny_out.len()
    )
}

fn query(action: &QueryAction) -> String {
    match action {
        QueryAction::Forward => "a query for the name is forwarded".to_owned(),
        QueryAction::Deny(rule) => format!("a query for the name is denied ({rule})"),
        QueryAction::Virtual | QueryAction::VirtualWildcard => {
            "a query for the name gets an address that only the sidecar understands".to_owned()
        }
    }
}
