//! The DNS proxy between test resolvers and a test client, over real sockets: the documented behaviour, and attempts to
//! bypass it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the harness of these tests fails as they do"
)]

#[path = "dns/allowed.rs"]
mod allowed;
#[path = "dns/authority.rs"]
mod authority;
#[path = "dns/bounds.rs"]
mod bounds;
#[path = "dns/denied.rs"]
mod denied;
#[path = "dns/denied_names.rs"]
mod denied_names;
#[path = "dns/inner.rs"]
mod inner;
#[path = "dns/malformed.rs"]
mod malformed;
#[path = "dns/open.rs"]
mod open;
#[path = "dns/rig.rs"]
mod rig;
#[path = "dns/slow.rs"]
mod slow;
