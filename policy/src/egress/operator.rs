//! What the operator of the gateway says about every sandbox's way out.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, InvalidEntry};

/// Which list of a policy is looked at first.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleOrder {
    /// `allow_out` before `deny_out`. Contract: "`allow_out` rules are evaluated before `deny_out`".
    #[default]
    AllowFirst,
    /// `deny_out` before `allow_out`.
    DenyFirst,
}

/// The operator's settings. Strict; a key that is missing has its default.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Operator {
    /// Which list of a policy is looked at first.
    pub rule_order: RuleOrder,
    /// Guardrails, besides those of [`super::guardrail`]: the edges, the control plane, the
    /// sandboxes themselves. No sandbox reaches them, whatever its owner says.
    pub protected: Vec<IpNet>,
    /// Ranges that count as globally routable although [`super::global`] says otherwise.
    pub also_global: Vec<IpNet>,
}

impl Operator {
    /// What neither of two settings forbids, and perhaps less: in force while one takes the place of the
    /// other, so that nothing is allowed on the way that only one of them allows.
    #[must_use]
    pub fn stricter(&self, other: &Self) -> Self {
        let deny_first = [self, other].iter().any(|one| one.rule_order == RuleOrder::DenyFirst);
        let mut protected = self.protected.clone();
        protected.extend(other.protected.iter().filter(|range| !self.protected.contains(range)));
        // Two ranges have nothing in common, or one lies in the other.
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

/// The wire form, before its ranges are understood.
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

/// What is wrong with the operator's settings, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidOperator {
    /// A domain: guardrails are about addresses.
    #[error("`{field}[{index}]` (`{shown}`) is not an IP address or range")]
    Domain {
        /// The list.
        field: &'static str,
        /// Where in the list, from 0.
        index: usize,
        /// The entry.
        shown: String,
    },
    /// Not an address or range.
    #[error("`{field}[{index}]` (`{shown}`) {problem}")]
    Entry {
        /// The list.
        field: &'static str,
        /// Where in the list, from 0.
        index: usize,
        /// The entry, escaped.
        shown: String,
        /// What is wrong with it, and what to write.
        problem: InvalidEntry,
    },
}

impl TryFrom<Raw> for Operator {
    type Error = InvalidOperator;

    fn try_from(raw: Raw) -> Result<Self, InvalidOperator> {
        Ok(Self {
            rule_order: raw.rule_order,
            protected: parse("protected", &raw.protected)?,
            also_global: parse("also_global", &raw.also_global)?,
        })
    }
}

fn parse(field: &'static str, entries: &[String]) -> Result<Vec<IpNet>, InvalidOperator> {
    let parse_one = |(index, text): (usize, &String)| {
        let shown = text.escape_debug().to_string();
        match Entry::parse(text) {
            Ok(Entry::Address(range)) => Ok(range),
            Ok(Entry::Domain(_)) => Err(InvalidOperator::Domain { field, index, shown }),
            Err(problem) => Err(InvalidOperator::Entry { field, index, shown, problem }),
        }
    };
    entries.iter().enumerate().map(parse_one).collect()
}
