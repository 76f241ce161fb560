//! The configuration of the egress filter: one policy generation of a sandbox.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::denied_addresses::DeniedAddresses;
use super::facts::{ConnectionFacts, Destination, ShownName, VirtualMeaning};
use super::guardrail::{VIRTUAL_V4, VIRTUAL_V6};
use super::network_policy::NetworkPolicy;
use super::operator::OperatorSettings;
use super::policy::Policy;
use super::verdict::{Route, Verdict};

/// The format version that this code reads.
pub const VERSION: u32 = 1;
/// The maximum number of virtual addresses in a configuration.
const VIRTUAL_MAX: usize = 8_192;

/// The JSON that the sidecar's agent writes and that Envoy passes to the filter.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEgressConfig {
    /// The format version of this document: [`VERSION`].
    pub version: u32,
    /// The policy generation.
    pub generation: u64,
    /// One policy, or two policies during an update. If there are two, both must allow.
    pub policies: Vec<NetworkPolicy>,
    /// The operator's settings.
    #[serde(default)]
    pub operator: OperatorSettings,
    /// The meaning of each virtual address that the DNS proxy answers.
    #[serde(default)]
    pub virtual_addresses: BTreeMap<IpAddr, VirtualMeaning>,
    /// The known addresses of denied names.
    #[serde(default, skip_serializing_if = "DeniedAddresses::is_empty")]
    pub denied_addresses: DeniedAddresses,
}

/// A checked and compiled configuration.
#[derive(Clone, Debug)]
pub struct EgressConfig {
    generation: u64,
    policies: Intersection,
    virtual_addresses: BTreeMap<IpAddr, VirtualMeaning>,
}

/// The reason why a configuration is not valid.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The document is not JSON, or does not have the expected structure.
    #[error("the egress configuration is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// A field has a value that is not valid.
    #[error("the egress configuration's `{field}` {problem}")]
    Field {
        /// The name of the field.
        field: &'static str,
        /// What is wrong with the value, and what is expected.
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
    /// [`ConfigError`], which names the field.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        serde_json::from_slice::<RawEgressConfig>(json)?.try_into()
    }

    /// The policy generation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The policies. All of them must allow.
    #[must_use]
    pub fn policies(&self) -> &Intersection {
        &self.policies
    }

    /// The meaning of an original destination. An address in a virtual range that has no meaning
    /// (any more) is an ordinary address, which a guardrail denies.
    #[must_use]
    pub fn destination(&self, address: IpAddr) -> Destination {
        let address = address.to_canonical();
        match self.virtual_addresses.get(&address) {
            Some(meaning) => Destination::Virtual(meaning.clone()),
            None => Destination::Address(address),
        }
    }

    /// Decides about a connection or a request by its original destination and the names that it
    /// shows.
    pub fn decide(&self, original: SocketAddr, sni: ShownName, host: ShownName) -> Verdict {
        let destination = self.destination(original.ip());
        let port = Some(original.port());
        self.policies.decide(&ConnectionFacts { destination: &destination, port, sni, host })
    }
}

/// One or two policies, all of which must allow. An update replaces the old policy by the
/// intersection of the old and the new one, and then the intersection by the new one. While an
/// update is in progress, only what both policies allow is allowed.
#[derive(Clone, Debug)]
pub struct Intersection {
    first: Policy,
    second: Option<Policy>,
}

impl Intersection {
    /// The intersection of two policies, or one policy alone.
    #[must_use]
    pub fn new(first: Policy, second: Option<Policy>) -> Self {
        Self { first, second }
    }

    /// The one or two policies.
    pub fn members(&self) -> impl Iterator<Item = &Policy> {
        std::iter::once(&self.first).chain(&self.second)
    }

    /// Calls [`Policy::decide`] of all policies. Returns the first denial, or else a permit. If one
    /// policy allows only by name, the permit is by name.
    pub fn decide(&self, facts: &ConnectionFacts<'_>) -> Verdict {
        let first = self.first.decide(facts);
        let (Some(second), Verdict::Allow(permit)) = (&self.second, &first) else { return first };
        match (permit.route(), second.decide(facts)) {
            (Route::ByName(_), Verdict::Allow(_)) => first,
            (_, second) => second,
        }
    }

    /// Whether [`Policy::needs_names`] is true for any of the policies.
    #[must_use]
    pub fn needs_names(&self, address: IpAddr, port: u16) -> bool {
        self.members().any(|policy| policy.needs_names(address, Some(port)))
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
            Policy::new(network, &raw.operator).with_denied_addresses(&raw.denied_addresses)
        };
        let policies = match raw.policies.as_slice() {
            [only] => Intersection::new(compile(only), None),
            [old, new] => Intersection::new(compile(old), Some(compile(new))),
            others => {
                let problem = format!("has {} members; expected one or two", others.len());
                return Err(wrong("policies", problem));
            }
        };
        check_virtual(&raw.virtual_addresses)?;
        Ok(Self { generation: raw.generation, policies, virtual_addresses: raw.virtual_addresses })
    }
}

fn check_virtual(table: &BTreeMap<IpAddr, VirtualMeaning>) -> Result<(), ConfigError> {
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
        let problem =
            format!("contains {address}; expected an address of {VIRTUAL_V4} or {VIRTUAL_V6}");
        return Err(wrong(field, problem));
    }
    // A DNS answer has one virtual address per family, so a name must not have two.
    let mut meanings = BTreeSet::new();
    for (address, meaning) in table {
        if !meanings.insert((address.is_ipv4(), meaning)) {
            let problem =
                format!("contains {address} for `{meaning}`, which already has another address");
            return Err(wrong(field, problem));
        }
    }
    Ok(())
}
