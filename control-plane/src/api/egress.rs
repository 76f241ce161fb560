//! The enforcement of network policies, as the operator has set it for the deployment.

use axum::http::StatusCode;
use clap::ValueEnum;
use sandgate_policy::egress::NetworkPolicy;

use crate::http::ApiError;

/// Whether sidecars enforce the network policies of sandboxes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum EgressEnforcement {
    /// Each sandbox has a sidecar.
    Enforced,
    /// There are no sidecars.
    #[value(name = "none")]
    Absent,
}

impl EgressEnforcement {
    /// Refuses a policy that nothing would enforce: accepting it would promise an isolation that does not exist.
    pub(super) fn check(self, policy: &NetworkPolicy) -> Result<(), ApiError> {
        let field = match self {
            Self::Enforced => return Ok(()),
            Self::Absent if !policy.allow_internet_access => "allow_internet_access",
            Self::Absent if !policy.allow_out.is_empty() => "allow_out",
            Self::Absent if !policy.deny_out.is_empty() => "deny_out",
            Self::Absent => return Ok(()),
        };
        Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "NETWORK_POLICY_UNSUPPORTED",
            format!(
                "`network.{field}`: this deployment does not enforce network policies, so it accepts only \
                 the default policy (`allow_internet_access` true, no `allow_out`, no `deny_out`); its \
                 operator can run sidecars and set `--egress enforced`"
            ),
        ))
    }
}
