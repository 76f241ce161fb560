//! The DNS proxy's transparent mode in real network namespaces: `sandbox – gateway – internet`, nftables' `tproxy`, and
//! common stub resolvers (dig, glibc, musl).
//!
//! Building namespaces needs root, so the harness ignores tests that can't run. The program runs itself again inside
//! the namespaces, as the gateway's proxy and as the resolvers.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is how these tests fail"
)]

#[path = "dns/authority.rs"]
#[expect(dead_code, reason = "what it was asked is of interest to the other tests")]
mod authority;
#[path = "namespaces/harness.rs"]
mod harness;
#[path = "namespaces/inside.rs"]
mod inside;
#[path = "namespaces/network.rs"]
mod network;
#[path = "namespaces/tests.rs"]
mod tests;
#[path = "../../tests/harness/trial.rs"]
mod trial;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["inside", "gateway", resolver] => inside::proxy(resolver, &inside::GATEWAY, true),
        ["inside", "shared", resolver] => inside::proxy(resolver, &inside::SHARED, false),
        ["inside", "resolver", label, ref addresses @ ..] => inside::resolver(label, addresses),
        _ => harness::run(),
    }
}
