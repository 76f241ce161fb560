//! The firewall of one sandbox: `table inet sandgate`, and `table arp sandgate` before a gateway.
//!
//! It decides about what no proxy looks at (UDP, ICMP), sends TCP to Envoy and DNS to the agent, and judges
//! once more what Envoy dials. [`render`] makes text of a generation, [`apply`] hands it to `nft` in
//! one transaction: the kernel has all of it or nothing of it. What is done again and again needs no
//! program: [`alive`], [`counters`] and [`nflog`] ask the kernel itself.
//!
//! Every way out is gated by the set `alive`, whose elements the agent renews (see [`alive`]): when the
//! agent is gone, so is the way.

pub mod alive;
pub mod apply;
pub mod counters;
pub mod first_match;
mod gateway;
mod kernel;
pub mod layout;
pub mod neighbours;
pub mod nflog;
pub mod packet;
pub mod refusal;
pub mod render;
mod shared;

pub use apply::Nft;
pub use first_match::FirstMatch;
pub use layout::Layout;
