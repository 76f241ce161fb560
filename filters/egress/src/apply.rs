//! Carries a decision out on the effective context, and shows it to access logs.

use std::net::SocketAddr;

use sandgate_hostcalls::{Result, property, stream};
use sandgate_policy::egress::config::EgressConfig;
use sandgate_policy::egress::{Permit, Route, Rule};

use crate::vm::{self, Protocol};

/// Filter state that Envoy's proxies are steered by.
const CLUSTER: &str = "envoy.tcp_proxy.cluster";
const UPSTREAM_HOST: &str = "envoy.upstream.dynamic_host";
const UPSTREAM_PORT: &str = "envoy.upstream.dynamic_port";
const ORIGINAL_ADDRESS: &str = "envoy.network.transport_socket.original_dst_address";
/// The clusters of `envoy/sidecar.yaml`.
const TO_ADDRESS: &str = "original_destination";
const TO_NAME: &str = "by_name";

/// The address and port that the sandbox connected to. `None` when the proxy does not say.
pub(crate) fn destination() -> Option<SocketAddr> {
    address(&["destination", "address"])
}

/// The address and port that the effective context is connected to upstream, where it is.
pub(crate) fn peer() -> Option<SocketAddr> {
    address(&["upstream", "address"])
}

fn address(path: &[&str]) -> Option<SocketAddr> {
    let text = property(path).ok()??;
    std::str::from_utf8(&text).ok()?.parse().ok()
}

/// Points a permitted connection at its upstream.
///
/// # Errors
/// When the host refuses any of it; what was set leads nowhere then.
pub(crate) fn permit_connection(permit: &Permit, destination: SocketAddr) -> Result<()> {
    // Last: without a cluster the connection can only be reset.
    match permit.route() {
        Route::Original(address) => {
            no_name()?;
            let address = SocketAddr::new(*address, destination.port());
            stream::set_filter_state(ORIGINAL_ADDRESS, &address.to_string())?;
            stream::set_filter_state(CLUSTER, TO_ADDRESS)
        }
        Route::ByName(name) => {
            stream::set_filter_state(UPSTREAM_PORT, &destination.port().to_string())?;
            stream::set_filter_state(UPSTREAM_HOST, name.as_str())?;
            stream::set_filter_state(CLUSTER, TO_NAME)
        }
    }
}

/// No name is to be resolved for this connection: without this, the proxy would look its SNI up.
///
/// # Errors
/// When the host refuses.
pub(crate) fn no_name() -> Result<()> {
    stream::set_filter_state(UPSTREAM_HOST, "")
}

/// Points a permitted request at its upstream.
///
/// # Errors
/// When the host refuses any of it; the request is in the black hole then.
pub(crate) fn permit_request(permit: &Permit, destination: SocketAddr) -> Result<()> {
    stream::set_filter_state(UPSTREAM_PORT, &destination.port().to_string())?;
    // Last: until the host is set, the request can only go into the black hole.
    match permit.route() {
        Route::Original(std::net::IpAddr::V4(v4)) => {
            stream::set_filter_state(UPSTREAM_HOST, &v4.to_string())
        }
        Route::Original(std::net::IpAddr::V6(v6)) => {
            stream::set_filter_state(UPSTREAM_HOST, &format!("[{v6}]"))
        }
        Route::ByName(name) => stream::set_filter_state(UPSTREAM_HOST, name.as_str()),
    }
}

/// Counts a decision, and shows it to access logs.
pub(crate) fn decided(protocol: Protocol, allowed: bool, rule: &Rule, config: &EgressConfig) {
    show(if allowed { "allow" } else { "deny" }, rule, config);
    vm::with(|vm| {
        if let Some(metrics) = vm.metrics() {
            metrics.decision(protocol, allowed, rule);
        }
    });
}

/// The same for one that was let out, and is ended now.
pub(crate) fn closed(protocol: Protocol, rule: &Rule, config: &EgressConfig) {
    show("closed", rule, config);
    vm::with(|vm| {
        if let Some(metrics) = vm.metrics() {
            metrics.closed(protocol);
        }
    });
}

/// Failing to show a decision is no reason to refuse.
fn show(decision: &str, rule: &Rule, config: &EgressConfig) {
    let _ = stream::set_property("sandgate_decision", decision);
    let _ = stream::set_property("sandgate_rule", &rule.to_string());
    let _ = stream::set_property("sandgate_generation", &config.generation().to_string());
}

/// Counts a call that the host refused.
pub(crate) fn host_error() {
    vm::with(|vm| {
        if let Some(metrics) = vm.metrics() {
            metrics.host_error();
        }
    });
}
