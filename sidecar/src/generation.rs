//! One generation of the policy, in the form that each of the three enforcers takes.

use std::sync::Arc;

use sandgate_policy::egress::config::{EgressConfig, RawEgressConfig, VERSION};
use sandgate_policy::egress::{DeniedAddresses, NetworkPolicy, Operator, Policy};

use crate::dns;
use crate::nftables::layout::Ports;
use crate::nftables::render;
use crate::refusals::Lists;
use crate::virtual_addresses::VirtualAddresses;

/// What is to be in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum InForce {
    /// What neither policy forbids: so an update tightens everywhere before it loosens anywhere.
    Both(NetworkPolicy, NetworkPolicy),
    /// One policy.
    Only(NetworkPolicy),
}

/// A generation, compiled.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Which one.
    pub number: u64,
    /// For Envoy's filter: JSON on one line.
    pub filter: String,
    /// For the DNS proxy.
    pub dns: dns::Generation,
    /// For nftables: a transaction.
    pub rules: String,
    /// Whether the newest policy names a domain: connections may have to be inspected that were not before.
    pub names_matter: bool,
    /// What these rules are called, for those who are told of refusals.
    pub lists: Arc<Lists>,
}

/// The filter would refuse it. It never should: its parts were checked when they were parsed.
#[derive(Debug, thiserror::Error)]
#[error("the filter would refuse the policy: {0}")]
pub struct Unusable(String);

impl Generation {
    /// Compiles what is to be in force.
    ///
    /// # Errors
    ///
    /// Where the filter's own check says no, which is asked here before Envoy is.
    pub fn compile(
        number: u64,
        in_force: &InForce,
        operator: &Operator,
        names: &mut VirtualAddresses,
        denied: &DeniedAddresses,
        ports: &Ports,
    ) -> Result<Self, Unusable> {
        let (first, second) = match in_force {
            InForce::Both(old, new) => (old, Some(new)),
            InForce::Only(policy) => (policy, None),
        };
        let members: Vec<&NetworkPolicy> = std::iter::once(first).chain(second).collect();
        let virtual_addresses = names.table(&members);
        let raw = RawEgressConfig {
            version: VERSION,
            generation: number,
            policies: members.into_iter().cloned().collect(),
            operator: operator.clone(),
            virtual_addresses: virtual_addresses.clone(),
            denied_addresses: denied.clone(),
        };
        let filter = serde_json::to_string(&raw).map_err(|error| Unusable(error.to_string()))?;
        EgressConfig::from_json(filter.as_bytes()).map_err(|error| Unusable(error.to_string()))?;
        let compile =
            |policy| Arc::new(Policy::new(policy, operator).with_denied_addresses(denied));
        let (first, second) = (compile(first), second.map(compile));
        let compiled: Vec<&Policy> =
            std::iter::once(&first).chain(&second).map(std::convert::AsRef::as_ref).collect();
        let rules = render::generation(&compiled, ports);
        let lists = Arc::new(Lists::new(number, &compiled));
        let names_matter = compiled.last().is_some_and(|policy| policy.has_domains());
        let dns = dns::Generation::new(number, first, second, virtual_addresses);
        Ok(Self { number, filter, dns, rules, lists, names_matter })
    }
}
