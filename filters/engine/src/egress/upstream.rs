//! The filter state by which Envoy's TCP proxy and forward proxy choose the upstream of a permitted stream. Without it, a
//! connection is reset and a request has no upstream that it could reach.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use sandgate_policy::egress::{Permit, Route};

const CLUSTER: &str = "envoy.tcp_proxy.cluster";
const HOST: &str = "envoy.upstream.dynamic_host";
const PORT: &str = "envoy.upstream.dynamic_port";
const ORIGINAL_ADDRESS: &str = "envoy.network.transport_socket.original_dst_address";
/// Clusters of `envoy/sidecar.yaml`.
const ORIGINAL_DESTINATION_CLUSTER: &str = "original_destination";
const BY_NAME_CLUSTER: &str = "by_name";

/// A name and a value.
pub type FilterState<'a> = (&'static str, Cow<'a, str>);

/// The filter state of a permitted connection, in the order in which the host sets it. `sni` is the server name that Envoy
/// knows, or empty.
pub fn of_connection<'a>(
    permit: &'a Permit,
    destination: SocketAddr,
    sni: &[u8],
) -> impl Iterator<Item = FilterState<'a>> {
    // The cluster comes last: without a cluster, Envoy can only reset the connection.
    let states = match permit.route() {
        Route::Original(address) => {
            // Without this filter state, Envoy connects to the original destination. The two differ if
            // that is an IPv6 address that contains an IPv4 address.
            let other = (*address != destination.ip()).then(|| {
                let address = SocketAddr::new(*address, destination.port()).to_string();
                (ORIGINAL_ADDRESS, address.into())
            });
            [without_resolution(sni), other, Some((CLUSTER, ORIGINAL_DESTINATION_CLUSTER.into()))]
        }
        Route::ByName(name) => [
            Some((PORT, destination.port().to_string().into())),
            Some((HOST, name.as_str().into())),
            Some((CLUSTER, BY_NAME_CLUSTER.into())),
        ],
    };
    states.into_iter().flatten()
}

/// Stops Envoy from resolving the connection's server name, as it otherwise does, also for a denied connection. Without a
/// server name, Envoy resolves nothing: the name that a late ClientHello shows does not become the connection's.
#[must_use]
pub fn without_resolution(sni: &[u8]) -> Option<FilterState<'static>> {
    (!sni.is_empty()).then_some((HOST, "".into()))
}

/// The filter state of a permitted request, in the order in which the host sets it.
#[must_use]
pub fn of_request(permit: &Permit, destination: SocketAddr) -> [FilterState<'_>; 2] {
    let host = match permit.route() {
        Route::Original(IpAddr::V4(v4)) => v4.to_string().into(),
        Route::Original(IpAddr::V6(v6)) => format!("[{v6}]").into(),
        Route::ByName(name) => name.as_str().into(),
    };
    // The host comes last: without a host, the request has no upstream that it could reach.
    [(PORT, destination.port().to_string().into()), (HOST, host)]
}
