//! The field `network`: the network policy of a sandbox.

use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::egress::network_policy::ENTRIES_MAX;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::kept::json_size;
use crate::http::ApiError;

/// The maximum number of bytes of a policy as JSON. A thousand names of ordinary length in each list fit. The
/// store, the sidecar and the compiler of policies handle this size quickly.
const MAX_POLICY: usize = 64 * 1_024;

/// The destinations that the sandbox may connect to. An absent field has its default. If no sidecars enforce policies
/// (`--egress none`), another policy than the default is refused with `NETWORK_POLICY_UNSUPPORTED`.
#[derive(Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NetworkPolicy)]
pub(super) struct RequestedNetworkPolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = true)]
    allow_internet_access: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 1000)]
    allow_out: Option<Vec<NetworkPolicyEntry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 1000)]
    deny_out: Option<Vec<NetworkPolicyEntry>>,
}

const _: () = assert!(ENTRIES_MAX == 1_000, "also in the schema of `RequestedNetworkPolicy`");

/// An address, a range such as `10.0.0.0/8`, a name, or `*.example.com` for every name below `example.com`. A port or a
/// range of ports of TCP and UDP may follow: `example.com:443`, `10.0.0.0/8:8000-8100`, `[2001:db8::]/32:443`.
#[derive(Deserialize, PartialEq, Serialize, ToSchema)]
#[schema(min_length = 1)]
struct NetworkPolicyEntry(String);

impl TryFrom<RequestedNetworkPolicy> for NetworkPolicy {
    type Error = ApiError;

    fn try_from(policy: RequestedNetworkPolicy) -> Result<Self, ApiError> {
        // The size is checked before the entries are parsed, which takes longer.
        let size = json_size(&policy);
        if size > MAX_POLICY {
            return Err(ApiError::invalid(format!(
                "`network` takes {size} bytes; at most {MAX_POLICY} are allowed; combine addresses \
                 into ranges, or names into `*.` domains"
            )));
        }
        serde_json::to_value(policy)
            .and_then(serde_json::from_value)
            .map_err(|error| ApiError::invalid(format!("`network`: {error}")))
    }
}
