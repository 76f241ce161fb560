//! A policy generation, compiled for each of the three enforcers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use sandgate_policy::egress::config::{EgressConfig, RawEgressConfig, VERSION};
use sandgate_policy::egress::{
    DeniedAddresses, NetworkPolicy, OperatorSettings, Policy, VirtualMeaning,
};

use crate::dns;
use crate::nftables::layout::Ports;
use crate::nftables::render;
use crate::packet_log::RefusalRules;
use crate::virtual_addresses::VirtualAddresses;

/// The policy of a generation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum GenerationPolicy {
    /// The intersection of the old and the new policy. An update applies it in all enforcers before any of them applies
    /// the new policy alone.
    Intersection(NetworkPolicy, NetworkPolicy),
    Single(NetworkPolicy),
}

/// A compiled generation.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    /// The configuration of Envoy's filter: JSON on one line.
    pub(crate) filter_config: String,
    pub(crate) dns: dns::Generation,
    /// The nftables transaction.
    pub(crate) nft_transaction: String,
    /// Whether the new policy names a domain, so that connections may need inspection that did not need it before.
    pub(crate) has_domains: bool,
    /// The rules by which the agent explains refused packets.
    pub(crate) refusal_rules: Arc<RefusalRules>,
    pub(crate) virtual_addresses: BTreeMap<IpAddr, VirtualMeaning>,
}

/// The filter would reject the configuration. Its parts were validated when they were parsed, so this is a bug.
#[derive(Debug, thiserror::Error)]
#[error("the filter would reject the policy: {0}")]
pub(crate) struct InvalidGeneration(String);

impl Generation {
    /// Compiles a generation.
    ///
    /// # Errors
    ///
    /// If the filter would reject the configuration. The filter parses it with the same function.
    pub(crate) fn compile(
        number: u64,
        policy: &GenerationPolicy,
        operator: &OperatorSettings,
        addresses: &mut VirtualAddresses,
        denied: &DeniedAddresses,
        ports: &Ports,
    ) -> Result<Self, InvalidGeneration> {
        let (first, second) = match policy {
            GenerationPolicy::Intersection(old, new) => (old, Some(new)),
            GenerationPolicy::Single(policy) => (policy, None),
        };
        let policies: Vec<&NetworkPolicy> = std::iter::once(first).chain(second).collect();
        let virtual_addresses = addresses.table(&policies);
        let raw = RawEgressConfig {
            version: VERSION,
            generation: number,
            policies: policies.into_iter().cloned().collect(),
            operator: operator.clone(),
            virtual_addresses: virtual_addresses.clone(),
            denied_addresses: denied.clone(),
        };
        let filter_config =
            serde_json::to_string(&raw).map_err(|error| InvalidGeneration(error.to_string()))?;
        EgressConfig::from_json(filter_config.as_bytes())
            .map_err(|error| InvalidGeneration(error.to_string()))?;
        let compile =
            |policy| Arc::new(Policy::new(policy, operator).with_denied_addresses(denied));
        let (first, second) = (compile(first), second.map(compile));
        let compiled: Vec<&Policy> =
            std::iter::once(&first).chain(&second).map(std::convert::AsRef::as_ref).collect();
        let nft_transaction = render::generation(&compiled, ports);
        let refusal_rules = Arc::new(RefusalRules::new(number, &compiled));
        let has_domains = compiled.last().is_some_and(|policy| policy.has_domains());
        let dns = dns::Generation::new(number, first, second, virtual_addresses.clone());
        Ok(Self {
            number,
            filter_config,
            dns,
            nft_transaction,
            has_domains,
            refusal_rules,
            virtual_addresses,
        })
    }
}
