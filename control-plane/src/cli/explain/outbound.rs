//! Explains the decision about a connection out of a sandbox.

use std::path::Path;

use anyhow::Context as _;
use sandgate_policy::egress::{NetworkPolicy, OperatorSettings, Policy, QueryAction};
use sandgate_policy::ids::SandboxRef;

use super::{Answer, Explanation};
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
    let has_operator = operator.is_some();
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
    let mut depends_on_address = false;
    if let Some(name) = destination.queried_name() {
        let action = policy.evaluate_query(name);
        // Only then the sandbox connects to an address of the name, which has rules of its own.
        depends_on_address =
            is_allowed && destination.has_no_address() && matches!(action, QueryAction::Forward);
        steps.push(("dns", query(&action)));
    }
    steps.push(("not seen", not_seen(&destination, has_operator)));
    let (answer, decision) = if depends_on_address {
        let decision = "allow, unless the address that the sandbox connects to is denied; explain `NAME@ADDRESS`";
        (Answer::DependsOnAddress, decision)
    } else if is_allowed {
        (Answer::Allow, "allow")
    } else {
        (Answer::Deny, "deny")
    };
    Ok(Explanation { answer, decision: decision.to_owned(), rule, steps })
}

/// What only the sidecar knows. It may deny what the policy allows.
fn not_seen(destination: &CheckedDestination, has_operator: bool) -> String {
    let mut parts = vec!["the sidecar's own addresses and the guardrails of its command line"];
    if !has_operator {
        parts.push("the operator's settings (`--operator`)");
    }
    if destination.has_no_address() {
        parts.push("the addresses of the name");
    }
    parts.push("the addresses of denied names");
    parts.join("; ")
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
