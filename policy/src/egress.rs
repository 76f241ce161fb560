//! Egress: decides which destinations a sandbox may reach. One function makes every decision.
//!
//! The modules, from the owner's policy to the decisions of the three enforcers:
//!
//! 1. [`network_policy`]: the owner's policy, two lists of [`entry`]s, which are address ranges or
//!    domain [`name`]s, with or without [`ports`].
//! 2. [`operator`]: the operator's settings, which no owner can override, with [`guardrail`]: the
//!    destinations that no policy allows, and [`global`]: the globally routable ranges.
//! 3. [`policy`]: both of them, compiled for fast lookups, with the [`denied_addresses`] that the
//!    agent knows, and with [`embedded`]: IPv4 addresses in IPv6 addresses.
//!    [`policy::Policy::decide`] is the only function that creates a [`verdict::Permit`].
//! 4. [`first_bytes`] and [`facts`]: the facts of a connection: its original destination and the
//!    names that it shows.
//! 5. [`verdict`]: the destination of a permitted connection, or the [`rule`] that denies it.
//! 6. [`query`] and [`address_rules`]: the same policy for DNS, and for traffic that shows no names.
//! 7. [`config`]: the configuration of Envoy's filter, which contains all of this.
//!
//! [`crate::request_line`] (outside this module): requests that are invalid whatever the policy
//! says.
//!
//! The rules, of which the first match decides (docs/network-policy.md):
//!
//! 1. A guardrail contains the address: deny.
//! 2. An entry of `allow_out` matches the address or a name, and the port: allow.
//! 3. An entry of `deny_out` matches the address or a name, and the port, or the connection shows no name and the address is
//!    a known address of a denied name: deny.
//! 4. `allow_internet_access` is set, and the address is globally routable: allow.
//! 5. Otherwise: deny.
//!
//! The operator may swap rules 2 and 3.

pub mod address_rules;
pub mod config;
pub mod denied_addresses;
pub mod embedded;
mod entries;
pub mod entry;
pub mod facts;
pub mod first_bytes;
pub mod global;
pub mod guardrail;
pub mod list;
pub mod name;
pub mod network_policy;
pub mod operator;
pub mod policy;
pub mod ports;
pub mod query;
mod ranges;
pub mod rule;
pub mod verdict;

pub use address_rules::{Action, AddressRule, AddressRules};
pub use denied_addresses::DeniedAddresses;
pub use entry::{Entry, InvalidEntry, Target};
pub use facts::{ConnectionFacts, Destination, ShownName, VirtualMeaning};
pub use name::{DomainPattern, InvalidName, Name};
pub use network_policy::{InvalidNetworkPolicy, NetworkPolicy};
pub use operator::{OperatorSettings, RuleOrder};
pub use policy::Policy;
pub use ports::{PortRange, Ports};
pub use query::QueryAction;
pub use rule::Rule;
pub use verdict::{Denial, Permit, Route, Verdict};
