//! Executes a decision on the effective context, and reports it to access logs and metrics.

use std::net::SocketAddr;

use sandgate_engine::egress::Decision;
use sandgate_engine::egress::upstream::FilterState;
use sandgate_hostcalls::{Result, property, stream};

use crate::vm;

/// The original destination of the effective context's connection. `None` if Envoy does not report it.
pub(crate) fn destination() -> Option<SocketAddr> {
    address(&["destination", "address"])
}

/// The address that the effective context is connected to upstream, if it is connected.
pub(crate) fn peer() -> Option<SocketAddr> {
    address(&["upstream", "address"])
}

fn address(path: &[&str]) -> Option<SocketAddr> {
    let text = property(path).ok()??;
    std::str::from_utf8(&text).ok()?.parse().ok()
}

/// Sets filter state, in order.
///
/// # Errors
/// When the host refuses a call. The stream has no upstream that it could reach then.
pub(crate) fn set<'a>(states: impl IntoIterator<Item = FilterState<'a>>) -> Result<()> {
    states.into_iter().try_for_each(|(key, value)| stream::set_filter_state(key, &value))
}

/// Counts a decision, and shows it to access logs.
pub(crate) fn report(decision: &Decision) {
    // A decision takes effect even if the host refuses to show it.
    let _ = stream::set_property("sandgate_decision", decision.outcome.name());
    let _ = stream::set_property("sandgate_rule", &decision.rule.to_string());
    let _ = stream::set_property("sandgate_generation", &decision.generation.to_string());
    vm::count(decision);
}
