//! The network policy of a sandbox, as owners send and see it.

use axum::http::StatusCode;
use sandgate_policy::egress::NetworkPolicy;
use serde_json::{Value, json};

use super::fields::size;
use crate::http::ApiError;

/// The most bytes of a policy as JSON. A thousand names of ordinary length in each list fit. The store, the
/// sidecar and the compiler of policies handle this size quickly.
const MAX_POLICY: usize = 64 * 1_024;

/// Whether what a sandbox sends goes through a sidecar that enforces its network policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Egress {
    /// Every sandbox is behind its sidecar.
    Enforced,
    /// There are no sidecars. Accepting a policy would be a promise of isolation that is not kept.
    None,
}

impl Egress {
    /// Reads a policy; keys that are absent or null have their default.
    pub(super) fn parse(self, field: &str, value: Value) -> Result<NetworkPolicy, ApiError> {
        let Value::Object(mut keys) = value else {
            return Err(ApiError::invalid(format!("`{field}` must be an object or null")));
        };
        keys.retain(|_, value| !value.is_null());
        // The size is checked before the entries are parsed, which takes longer.
        let size = size(&keys);
        if size > MAX_POLICY {
            return Err(ApiError::invalid(format!(
                "`{field}` takes {size} bytes; at most {MAX_POLICY} are allowed; combine addresses \
                 into ranges, or names into `*.` domains"
            )));
        }
        let policy: NetworkPolicy = serde_json::from_value(keys.into())
            .map_err(|error| ApiError::invalid(format!("`{field}`: {error}")))?;
        let refused = match self {
            Self::Enforced => None,
            Self::None if !policy.allow_internet_access => Some("allow_internet_access"),
            Self::None if !policy.allow_out.is_empty() => Some("allow_out"),
            Self::None if !policy.deny_out.is_empty() => Some("deny_out"),
            Self::None => None,
        };
        match refused {
            None => Ok(policy),
            Some(key) => Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "NETWORK_POLICY_UNSUPPORTED",
                format!(
                    "`{field}.{key}`: outbound rules are not enforced in this deployment, so only \
                     the default policy is accepted (`allow_internet_access` true, no `allow_out`, \
                     no `deny_out`); its operator can run sidecars and say `--egress enforced`"
                ),
            )),
        }
    }
}

/// The policy in an answer.
pub(super) fn show(policy: &NetworkPolicy) -> Value {
    json!({
        "allow_internet_access": policy.allow_internet_access,
        "allow_out": policy.allow_out,
        "deny_out": policy.deny_out,
    })
}
