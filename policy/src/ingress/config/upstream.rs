//! How Envoy finds the upstream host of a permitted request.
//!
//! The filter passes the address of a permit to Envoy through filter states. A filter in front of it sets the same states to
//! an address to which no connection succeeds, the upstream of a request without a permit.

use serde::Deserialize;

/// The address with the port, for [`Upstream::DynamicForwardProxy`].
pub const DYNAMIC_HOST: &str = "envoy.upstream.dynamic_host";
/// The address with the port, for [`Upstream::OriginalDst`].
pub const ORIGINAL_DST_ADDRESS: &str = "envoy.network.transport_socket.original_dst_address";

/// The kind of the clusters that carry requests to sandboxes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Upstream {
    /// Envoy's dynamic forward proxy.
    #[default]
    DynamicForwardProxy,
    /// Envoy's original destination clusters.
    OriginalDst,
}
