//! The operator's settings for the outbound connections of all sandboxes.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, InvalidEntry, Target};
use super::list::{self, InvalidListEntry};

/// The order in which the two lists of a policy are evaluated.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleOrder {
    /// `allow_out` before `deny_out`.
    #[default]
    AllowFirst,
    /// `deny_out` before `allow_out`.
    DenyFirst,
}

/// The operator's settings. An unknown key is an error; a missing key has its default.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct OperatorSettings {
    /// The order in which the two lists of a policy are evaluated.
    pub rule_order: RuleOrder,
    /// Guardrails in addition to [`super::guardrail::FIXED`]: the edges, the control plane, the
    /// sandboxes themselves. No policy allows them.
    pub protected: Vec<IpNet>,
    /// Ranges that count as globally routable although [`super::global`] says otherwise.
    pub also_global: Vec<IpNet>,
}

impl OperatorSettings {
    /// The settings that deny what either of two settings denies, and possibly more. The agent
    /// applies them during the change from one to the other, so that the change never allows a
    /// destination that only one of them allows.
    #[must_use]
    pub fn stricter(&self, other: &Self) -> Self {
        let deny_first = [self, other].iter().any(|one| one.rule_order == RuleOrder::DenyFirst);
        let mut protected = self.protected.clone();
        protected.extend(other.protected.iter().filter(|range| !self.protected.contains(range)));
        // Two ranges are either disjoint, or one contains the other.
        let common = |one: &IpNet, other: &IpNet| {
            let inner = if one.prefix_len() >= other.prefix_len() { one } else { other };
            (one.contains(&inner.network()) && other.contains(&inner.network())).then_some(*inner)
        };
        let pairs = self
            .also_global
            .iter()
            .flat_map(|one| other.also_global.iter().filter_map(move |other| common(one, other)));
        Self {
            rule_order: if deny_first { RuleOrder::DenyFirst } else { RuleOrder::AllowFirst },
            protected,
            also_global: pairs.collect(),
        }
    }
}

/// The wire format, with unparsed ranges.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    rule_order: RuleOrder,
    #[serde(default)]
    protected: Vec<String>,
    #[serde(default)]
    also_global: Vec<String>,
}

impl TryFrom<Raw> for OperatorSettings {
    type Error = InvalidListEntry;

    fn try_from(raw: Raw) -> Result<Self, InvalidListEntry> {
        Ok(Self {
            rule_order: raw.rule_order,
            protected: list::parse("protected", &raw.protected, range)?,
            also_global: list::parse("also_global", &raw.also_global, range)?,
        })
    }
}

/// Parses an entry that must be an address or a range: the operator's settings have no domains
/// and no ports.
fn range(text: &str) -> Result<IpNet, InvalidEntry> {
    match Entry::parse(text)? {
        Entry { target: Target::Domain(_), .. } => Err(InvalidEntry::Domain),
        Entry { ports: Some(_), .. } => Err(InvalidEntry::NoPorts),
        Entry { target: Target::Address(range), ports: None } => Ok(range),
    }
}
