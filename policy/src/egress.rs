//! Egress: where a sandbox may connect to, decided by one function.
//!
//! The way of a connection out of a sandbox, each step a module:
//!
//! 1. [`network_policy`]: what the sandbox's owner said, of [`entry`]s: ranges and [`name`]s.
//! 2. [`operator`]: what no owner can override: guardrails, and the order of the rules.
//! 3. [`policy`]: both, compiled to lookups, with the [`denied_addresses`] that the agent knows;
//!    [`policy::Policy::decide`] is the only maker of a [`verdict::Permit`].
//! 4. [`facts`]: what is known of a connection: where it goes, and the names that it shows.
//! 5. [`verdict`]: where it may go, or the [`rule`] that forbids it.
//! 6. [`query`] and [`address_rules`]: the same policy for DNS, and for what has no names.
//! 7. [`config`]: the wasm filter's configuration, which carries all of this to Envoy.
//!
//! Rules, first match wins (design, section 4):
//!
//! 1. a guardrail has the address: deny;
//! 2. `allow_out` has the address, or a name: allow;
//! 3. `deny_out` has the address, or a name, or there is no name and the address is known to be that of a
//!    denied name: deny;
//! 4. `allow_internet_access`, and the address is globally routable: allow;
//! 5. deny.
//!
//! The operator may swap 2 and 3.

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
pub mod query;
mod ranges;
pub mod rule;
pub mod verdict;

pub use address_rules::{Action, AddressRule, AddressRules};
pub use denied_addresses::DeniedAddresses;
pub use entry::{Entry, InvalidEntry};
pub use facts::{Destination, Facts, NameFact, Virtual};
pub use name::{DomainPattern, InvalidName, Name};
pub use network_policy::{InvalidNetworkPolicy, NetworkPolicy};
pub use operator::{Operator, RuleOrder};
pub use policy::Policy;
pub use query::Lookup;
pub use rule::Rule;
pub use verdict::{Denial, Permit, Route, Verdict};
