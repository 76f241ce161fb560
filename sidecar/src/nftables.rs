//! The firewall of a sandbox: `table inet sandgate`, and in gateway mode also `table arp sandgate`.
//!
//! It evaluates traffic that no proxy handles (UDP, ICMP), redirects TCP to Envoy and DNS to the
//! agent, and evaluates Envoy's own connections once more. [`render`] renders the rules of a policy
//! generation, and [`apply`] passes them to `nft` in one transaction, which the kernel applies
//! completely or not at all. Frequent operations don't run a program: [`alive`], [`counters`] and
//! [`nflog`] use netlink.
//!
//! All outbound traffic depends on the set `alive`, whose elements the agent renews (see
//! [`alive`]). If the agent dies, the elements expire, and the rules deny all traffic.

pub(crate) mod alive;
pub(crate) mod apply;
pub(crate) mod counters;
mod first_match;
mod fixed;
mod kernel;
pub mod layout;
mod neighbours;
pub(crate) mod nflog;
pub(crate) mod packet;
mod policy_rules;
pub(crate) mod refuse_chains;
pub mod render;
mod template;

pub(crate) use apply::Nft;
pub use layout::Layout;
pub use refuse_chains::PacketLog;
