//! Reports of the operator's platform about sandboxes that it stopped or moved without a call of the control plane.
//!
//! ```text
//! POST /runtime/v1/reports
//! {"sandbox_id": "…", "placement": 7, "was_at": "10.1.2.3",
//!  "state": "running" | "suspended" | "terminated", "address": "10.1.2.4"}
//! ```
//!
//! The signature is that of the webhook's calls, with the same secret. The response is `{"applied": true}`
//! when all connected gateways have invalidated the old address, or after 500 ms; the platform can then give the address
//! to another sandbox. The response to a report about a placement that has ended is `{"applied": false}` with the
//! reason.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Gateway;
use crate::http::{ApiError, parse_json, read_bytes};
use crate::model::{SandboxId, Timestamp};
use crate::runtime::SigningKey;
use crate::sandboxes::{ReportError, ReportOutcome, ReportedEvent};

/// The maximum difference of the two clocks in seconds. The placement protects against replays within this time.
const MAX_AGE: u64 = 300;

/// The settings that reports are checked against.
pub struct Platform {
    /// Verifies the signatures of reports.
    pub key: SigningKey,
    /// The only addresses that the platform may give sandboxes.
    pub sandbox_cidrs: Vec<IpNet>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    sandbox_id: String,
    placement: u64,
    was_at: IpAddr,
    state: ReportedState,
    #[serde(default)]
    address: Option<IpAddr>,
}

/// The states in the webhook's responses.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReportedState {
    Running,
    Suspended,
    Terminated,
}

#[derive(Serialize)]
pub(super) struct ReportResponse {
    /// Whether the report changed anything.
    applied: bool,
    /// Why the report changed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The placement in which the sandbox runs now, if it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<u64>,
}

pub(super) async fn report(
    State((gateway, platform)): State<(Gateway, Arc<Platform>)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReportResponse>, ApiError> {
    let body = read_bytes(body).await?;
    if !is_authentic(&platform.key, &headers, &body, Timestamp::now()) {
        let message = "send `X-Sandgate-Timestamp`, which differs from the current time by at most five minutes, and \
                       `X-Sandgate-Signature`, which signs it and the body with the webhook's secret";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message));
    }
    let report: Report = parse_json(&body)?;
    let id = SandboxId::parse(&report.sandbox_id)
        .map_err(|_| ApiError::invalid("`sandbox_id` must be the id of a sandbox"))?;
    let event = event(&report, &platform.sandbox_cidrs)?;
    let reported = gateway.sandboxes.apply_report(id, report.placement, report.was_at, event);
    let response = match reported.await.map_err(into_api_error)? {
        ReportOutcome::Applied { revision, placement } => {
            gateway.sandboxes.propagation().wait_until_applied(revision).await;
            ReportResponse { applied: true, reason: None, placement }
        }
        ReportOutcome::Ignored(ignored) => ReportResponse {
            applied: false,
            reason: Some(ignored.to_string()),
            placement: ignored.placement(),
        },
    };
    Ok(Json(response))
}

fn event(report: &Report, sandbox_cidrs: &[IpNet]) -> Result<ReportedEvent, ApiError> {
    match (report.state, report.address) {
        (ReportedState::Running, Some(address)) => {
            if !sandbox_cidrs.iter().any(|network| network.contains(&address)) {
                return Err(ApiError::invalid(format!(
                    "`address` ({address}) is in none of the ranges of `--sandbox-cidr`"
                )));
            }
            Ok(ReportedEvent::Moved(address))
        }
        (ReportedState::Running, None) => {
            Err(ApiError::invalid("`address` is missing; it is required if `state` is `running`"))
        }
        (ReportedState::Suspended, None) => Ok(ReportedEvent::Suspended),
        (ReportedState::Terminated, None) => Ok(ReportedEvent::Terminated),
        (ReportedState::Suspended | ReportedState::Terminated, Some(_)) => {
            Err(ApiError::invalid("`address` is only allowed if `state` is `running`"))
        }
    }
}

fn into_api_error(error: ReportError) -> ApiError {
    match error {
        ReportError::Busy => ApiError::new(StatusCode::CONFLICT, "SANDBOX_BUSY", error.to_string())
            .retry_after(Duration::from_secs(1)),
        ReportError::Store(error) => error.into(),
    }
}

/// Whether a holder of the secret has signed this body recently.
fn is_authentic(key: &SigningKey, headers: &HeaderMap, body: &[u8], now: Timestamp) -> bool {
    let header = |name| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    };
    let Some(timestamp) = header("x-sandgate-timestamp") else { return false };
    let Some(signature) = header("x-sandgate-signature") else { return false };
    let is_number = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let Some(seconds) = timestamp.parse::<u64>().ok().filter(|_| is_number) else { return false };
    key.verifies(seconds, body, signature) && now.seconds().abs_diff(seconds) <= MAX_AGE
}
