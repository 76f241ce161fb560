//! Lines of the audit log. The size of a line is bounded: a list of ports is bounded itself, and a line
//! about a network policy does not contain the policy. It contains the first entries that were added and
//! removed, and the digests of both policies.

use std::collections::BTreeSet;

use sandgate_policy::egress::{Entry, NetworkPolicy};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{ExposedPorts, Timestamp};
use crate::random;

/// The most bytes of added entries of a list that a line shows, and of removed entries.
const SHOWN: usize = 512;

/// A line of the audit log about exposed ports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PortChange {
    /// The time of the change.
    pub at: Timestamp,
    pub sandbox_id: String,
    pub project_id: String,
    /// The principal who made the change.
    pub principal: String,
    /// The exposed ports and `allow_unauthenticated_access` before. Empty and false for a new sandbox.
    pub before: (ExposedPorts, bool),
    /// The exposed ports and `allow_unauthenticated_access` after.
    pub after: (ExposedPorts, bool),
}

/// A line of the audit log about a network policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NetworkChange {
    /// The time of the change.
    pub at: Timestamp,
    pub sandbox_id: String,
    pub project_id: String,
    /// The principal who made the change.
    pub principal: String,
    /// The difference. A new sandbox is compared with the default policy.
    pub difference: PolicyDifference,
}

/// A line of the audit log about organizations, projects, members and credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OperatorChange {
    /// The time of the change.
    pub at: Timestamp,
    /// Who made the change: an admin token, by its fingerprint, or the command line.
    pub principal: String,
    /// What was done, such as `create key`.
    pub action: String,
    /// The id of what was changed.
    pub subject: String,
    /// The id of what the subject belongs to; empty for an organization.
    pub of: String,
}

/// How two network policies differ.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyDifference {
    pub before: PolicySummary,
    pub after: PolicySummary,
    /// How the lists `allow_out` differ.
    pub allow_out: ListDifference,
    /// How the lists `deny_out` differ.
    pub deny_out: ListDifference,
}

/// A network policy without its entries.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicySummary {
    /// The value of the policy.
    pub allow_internet_access: bool,
    /// The number of entries of `allow_out`.
    pub allow_out: usize,
    /// The number of entries of `deny_out`.
    pub deny_out: usize,
    /// SHA-256 of the policy as JSON, without spaces and with the keys in this order:
    /// `allow_internet_access`, `allow_out`, `deny_out`.
    pub sha256: String,
}

/// How two lists of entries differ.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ListDifference {
    /// The first entries that were added.
    pub added: Vec<String>,
    /// The first entries that were removed.
    pub removed: Vec<String>,
    /// The number of other entries that were added or removed.
    pub not_shown: usize,
}

impl PolicyDifference {
    /// Compares two policies.
    ///
    /// # Errors
    /// A policy can't be written as JSON.
    pub fn between(before: &NetworkPolicy, after: &NetworkPolicy) -> serde_json::Result<Self> {
        Ok(Self {
            before: PolicySummary::of(before)?,
            after: PolicySummary::of(after)?,
            allow_out: ListDifference::between(&before.allow_out, &after.allow_out),
            deny_out: ListDifference::between(&before.deny_out, &after.deny_out),
        })
    }
}

impl PolicySummary {
    fn of(policy: &NetworkPolicy) -> serde_json::Result<Self> {
        let digest = Sha256::digest(serde_json::to_vec(policy)?);
        Ok(Self {
            allow_internet_access: policy.allow_internet_access,
            allow_out: policy.allow_out.len(),
            deny_out: policy.deny_out.len(),
            sha256: random::hex(&digest),
        })
    }
}

impl ListDifference {
    fn between(before: &[Entry], after: &[Entry]) -> Self {
        let (before, after): (BTreeSet<_>, BTreeSet<_>) =
            (before.iter().collect(), after.iter().collect());
        let (added, more_added) = shown(after.difference(&before));
        let (removed, more_removed) = shown(before.difference(&after));
        Self { added, removed, not_shown: more_added + more_removed }
    }
}

/// The first entries, and the number of the others.
fn shown<'e>(entries: impl Iterator<Item = &'e &'e Entry>) -> (Vec<String>, usize) {
    let (mut shown, mut size, mut others) = (Vec::new(), 0, 0);
    for entry in entries {
        let text = String::from((*entry).clone());
        size += text.len();
        if size <= SHOWN {
            shown.push(text);
        } else {
            others += 1;
        }
    }
    (shown, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: impl IntoIterator<Item = String>) -> NetworkPolicy {
        let allow_out = allow.into_iter().map(|text| Entry::parse(&text).unwrap()).collect();
        NetworkPolicy { allow_out, ..NetworkPolicy::default() }
    }

    #[test]
    fn a_difference_has_the_added_and_the_removed_entries() {
        let before = policy(["a.example".to_owned(), "b.example".to_owned()]);
        let after = policy(["b.example".to_owned(), "10.0.0.0/8".to_owned()]);
        let difference = PolicyDifference::between(&before, &after).unwrap();
        assert_eq!(difference.allow_out.added, ["10.0.0.0/8"]);
        assert_eq!(difference.allow_out.removed, ["a.example"]);
        assert_eq!((difference.allow_out.not_shown, difference.after.allow_out), (0, 2));
        assert_eq!(difference.deny_out, ListDifference::default());
        assert_ne!(difference.before.sha256, difference.after.sha256);
        // `printf '{"allow_internet_access":true,"allow_out":[],"deny_out":[]}' | sha256sum`
        let same = PolicyDifference::between(&policy([]), &policy([])).unwrap();
        assert_eq!(same.after.sha256, DEFAULT_SHA256);
    }

    const DEFAULT_SHA256: &str = "f4a01d9c4c1700ee7a6f4c825ab63ffa5edc70df479c70d336c69847f3f886e9";

    #[test]
    fn the_size_of_a_difference_is_bounded() {
        let names = |word: &str| {
            let label = word.repeat(60);
            policy((0..1_000).map(|n| format!("{n}.{label}.{label}.{label}.example")))
        };
        let difference = PolicyDifference::between(&names("a"), &names("b")).unwrap();
        let text = serde_json::to_string(&difference).unwrap();
        assert!(text.len() < 3_000, "{} bytes", text.len());
        let list = difference.allow_out;
        assert_eq!(list.added.len() + list.removed.len() + list.not_shown, 2_000);
        assert!(!list.added.is_empty() && !list.removed.is_empty());
    }
}
