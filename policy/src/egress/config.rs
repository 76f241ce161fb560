//! The egress filter's configuration: one generation of a sandbox's policy, for Envoy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::denied_addresses::DeniedAddresses;
use super::facts::{Destination, Facts, NameFact, Virtual};
use super::guardrail::{VIRTUAL_V4, VIRTUAL_V6};
use super::network_policy::NetworkPolicy;
use super::operator::Operator;
use super::policy::Policy;
use super::verdict::{Route, Verdict};

/// Format of the document that this code reads.
pub const VERSION: u32 = 1;
/// Virtual addresses that one document may have.
const VIRTUAL_MAX: usize = 8_192;

/// The JSON that the sidecar's agent writes and Envoy hands to the filter.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEgressConfig {
    /// Format of this document; [`VERSION`].
    pub version: u32,
    /// Which update of the policy this is.
    pub generation: u64,
    /// One policy; or two while an update is on its way, and then both must allow.
    pub policies: Vec<NetworkPolicy>,
    /// The operator's settings.
    #[serde(default)]
    pub operator: Operator,
    /// What the addresses that the DNS proxy made up stand for.
    #[serde(default)]
    pub virtual_addresses: BTreeMap<IpAddr, Virtual>,
    /// The addresses that denied names have, as far as they are known.
    #[serde(default, skip_serializing_if = "DeniedAddresses::is_empty")]
    pub denied_addresses: DeniedAddresses,
}

/// A configuration that has been checked and compiled.
#[derive(Clone, Debug)]
pub struct EgressConfig {
    generation: u64,
    policies: Conjunction,
    virtual_addresses: BTreeMap<IpAddr, Virtual>,
}

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not the JSON that is expected.
    #[error("the egress configuration is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// A value that can't be used.
    #[error("the egress configuration's `{field}` {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it, and what is expected.
        problem: String,
    },
}

fn wrong(field: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Field { field, problem: problem.into() }
}

impl EgressConfig {
    /// Parses, checks and compiles the JSON of a filter's configuration.
    ///
    /// # Errors
    /// [`ConfigError`], naming the field.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        serde_json::from_slice::<RawEgressConfig>(json)?.try_into()
    }

    /// Which update of the policy this is.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The policies, all of which must allow.
    #[must_use]
    pub fn policies(&self) -> &Conjunction {
        &self.policies
    }

    /// What an original destination stands for. An address of the virtual ranges that stands for
    /// nothing (any more) is an address, which a guardrail has.
    #[must_use]
    pub fn destination(&self, address: IpAddr) -> Destination {
        let address = address.to_canonical();
        match self.virtual_addresses.get(&address) {
            Some(means) => Destination::Virtual(means.clone()),
            None => Destination::Address(address),
        }
    }

    /// Decides about a connection or a request by its original destination and the names in sight.
    pub fn decide(&self, address: IpAddr, sni: NameFact, host: NameFact) -> Verdict {
        let destination = self.destination(address);
        self.policies.decide(&Facts { destination: &destination, sni, host })
    }
}

/// One or two policies, all of which must allow. An update goes from the old policy to both, and
/// from both to the new one, so that nothing is allowed on the way that neither allows.
#[derive(Clone, Debug)]
pub struct Conjunction {
    first: Policy,
    second: Option<Policy>,
}

impl Conjunction {
    /// Of one or two policies.
    #[must_use]
    pub fn new(first: Policy, second: Option<Policy>) -> Self {
        Self { first, second }
    }

    /// Each of the policies.
    pub fn members(&self) -> impl Iterator<Item = &Policy> {
        std::iter::once(&self.first).chain(&self.second)
    }

    /// [`Policy::decide`] of all of them: the first denial, or a permit. Where one of them allows
    /// by name only, the permit is by name.
    pub fn decide(&self, facts: &Facts<'_>) -> Verdict {
        let first = self.first.decide(facts);
        let (Some(second), Verdict::Allow(permit)) = (&self.second, &first) else { return first };
        match (permit.route(), second.decide(facts)) {
            (Route::ByName(_), Verdict::Allow(_)) => first,
            (_, second) => second,
        }
    }

    /// [`Policy::needs_names`] of any of them.
    #[must_use]
    pub fn needs_names(&self, address: IpAddr) -> bool {
        self.members().any(|policy| policy.needs_names(address))
    }
}

impl TryFrom<RawEgressConfig> for EgressConfig {
    type Error = ConfigError;

    fn try_from(raw: RawEgressConfig) -> Result<Self, ConfigError> {
        if raw.version != VERSION {
            let problem = format!("is {}; this filter reads {VERSION}", raw.version);
            return Err(wrong("version", problem));
        }
        let compile = |network: &NetworkPolicy| {
            Policy::new(network, &raw.operator).knowing(&raw.denied_addresses)
        };
        let policies = match raw.policies.as_slice() {
            [only] => Conjunction::new(compile(only), None),
            [old, new] => Conjunction::new(compile(old), Some(compile(new))),
            others => {
                let problem = format!("has {} members; expected one or two", others.len());
                return Err(wrong("policies", problem));
            }
        };
        check_virtual(&raw.virtual_addresses)?;
        Ok(Self { generation: raw.generation, policies, virtual_addresses: raw.virtual_addresses })
    }
}

fn check_virtual(table: &BTreeMap<IpAddr, Virtual>) -> Result<(), ConfigError> {
    let field = "virtual_addresses";
    if table.len() > VIRTUAL_MAX {
        let problem = format!("has {} members; at most {VIRTUAL_MAX} are allowed", table.len());
        return Err(wrong(field, problem));
    }
    let is_virtual = |address: &IpAddr| match address {
        IpAddr::V4(v4) => VIRTUAL_V4.contains(v4),
        IpAddr::V6(v6) => VIRTUAL_V6.contains(v6),
    };
    if let Some(address) = table.keys().find(|address| !is_virtual(address)) {
        let problem = format!("holds {address}; expected one of {VIRTUAL_V4} or {VIRTUAL_V6}");
        return Err(wrong(field, problem));
    }
    // Two addresses of a family for one name would be two answers to one question.
    let mut seen = BTreeSet::new();
    for (address, means) in table {
        if !seen.insert((address.is_ipv4(), means)) {
            let problem = format!("holds {address} for `{means}`, which has another already");
            return Err(wrong(field, problem));
        }
    }
    Ok(())
}
