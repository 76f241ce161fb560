//! Executes a decision on the effective context, and reports it to access logs and metrics.

use std::net::{IpAddr, SocketAddr};

use sandgate_engine::egress::{Decision, Outcome};
use sandgate_hostcalls::{Result, property, stream};
use sandgate_policy::egress::{Permit, Route};

use crate::vm;

/// Filter state by which Envoy's TCP proxy and forward proxy choose the upstream.
const CLUSTER: &str = "envoy.tcp_proxy.cluster";
const UPSTREAM_HOST: &str = "envoy.upstream.dynamic_host";
const UPSTREAM_PORT: &str = "envoy.upstream.dynamic_port";
const ORIGINAL_ADDRESS: &str = "envoy.network.transport_socket.original_dst_address";
/// Clusters of `envoy/sidecar.yaml`.
const ORIGINAL_DESTINATION_CLUSTER: &str = "original_destination";
const BY_NAME_CLUSTER: &str = "by_name";

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

/// Sets the upstream of a permitted connection. `sni` is the server name that Envoy knows, or empty.
///
/// # Errors
/// When the host refuses a call. The connection has no upstream then.
pub(crate) fn permit_connection(
    permit: &Permit,
    destination: SocketAddr,
    sni: &[u8],
) -> Result<()> {
    // The cluster comes last: without a cluster, Envoy can only reset the connection.
    match permit.route() {
        Route::Original(address) => {
            disable_resolution(sni)?;
            // Without this filter state, Envoy connects to the original destination. The two differ if
            // that is an IPv6 address that contains an IPv4 address.
            if *address != destination.ip() {
                let address = SocketAddr::new(*address, destination.port());
                stream::set_filter_state(ORIGINAL_ADDRESS, &address.to_string())?;
            }
            stream::set_filter_state(CLUSTER, ORIGINAL_DESTINATION_CLUSTER)
        }
        Route::ByName(name) => {
            stream::set_filter_state(UPSTREAM_PORT, &destination.port().to_string())?;
            stream::set_filter_state(UPSTREAM_HOST, name.as_str())?;
            stream::set_filter_state(CLUSTER, BY_NAME_CLUSTER)
        }
    }
}

/// Stops Envoy from resolving the connection's server name, as it otherwise does. Without a server name,
/// Envoy resolves nothing: the name that a late ClientHello shows does not become the connection's.
///
/// # Errors
/// When the host refuses the call.
pub(crate) fn disable_resolution(sni: &[u8]) -> Result<()> {
    if sni.is_empty() {
        return Ok(());
    }
    stream::set_filter_state(UPSTREAM_HOST, "")
}

/// Sets the upstream of a permitted request.
///
/// # Errors
/// When the host refuses a call. Connecting to the request's upstream always fails then.
pub(crate) fn permit_request(permit: &Permit, destination: SocketAddr) -> Result<()> {
    stream::set_filter_state(UPSTREAM_PORT, &destination.port().to_string())?;
    // The host comes last: without a host, the request has no upstream that it could reach.
    match permit.route() {
        Route::Original(IpAddr::V4(v4)) => stream::set_filter_state(UPSTREAM_HOST, &v4.to_string()),
        Route::Original(IpAddr::V6(v6)) => {
            stream::set_filter_state(UPSTREAM_HOST, &format!("[{v6}]"))
        }
        Route::ByName(name) => stream::set_filter_state(UPSTREAM_HOST, name.as_str()),
    }
}

/// Counts a decision, and shows it to access logs.
pub(crate) fn report(decision: &Decision) {
    let outcome = match decision.outcome {
        Outcome::Allowed => "allow",
        Outcome::Denied => "deny",
        Outcome::Closed => "closed",
    };
    // A decision takes effect even if the host refuses to show it.
    let _ = stream::set_property("sandgate_decision", outcome);
    let _ = stream::set_property("sandgate_rule", &decision.rule.to_string());
    let _ = stream::set_property("sandgate_generation", &decision.generation.to_string());
    vm::count(decision);
}
