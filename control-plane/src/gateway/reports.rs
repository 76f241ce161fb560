//! What the operator's platform reports: a sandbox that it ended or moved by itself.
//!
//! ```text
//! POST /runtime/v1/reports
//! {"sandbox_id": "…", "placement": 7, "was_at": "10.1.2.3",
//!  "state": "running" | "suspended" | "terminated", "address": "10.1.2.4"}
//! ```
//!
//! signed as the webhook's calls are, with the same secret. The answer is `{"applied": true}` once
//! no gateway sends anything to the old address, so that it can be given to another sandbox. The answer to
//! a report about a placement that has ended is `{"applied": false}` with the reason.

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

/// Seconds that the two clocks may differ. The placement protects against replays within this time.
const MAX_AGE: u64 = 300;

/// Who may report, and what.
pub struct Platform {
    /// Signs reports.
    pub key: SigningKey,
    /// The only addresses that the platform may give sandboxes.
    pub sandbox_cidrs: Vec<IpNet>,
}

/// A report as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    sandbox_id: String,
    placement: u64,
    was_at: IpAddr,
    state: Now,
    #[serde(default)]
    address: Option<IpAddr>,
}

/// The words of the webhook's answers.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Now {
    Running,
    Suspended,
    Terminated,
}

/// The answer.
#[derive(Serialize)]
pub(super) struct Taken {
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
) -> Result<Json<Taken>, ApiError> {
    let body = read_bytes(body).await?;
    if !is_genuine(&platform.key, &headers, &body, Timestamp::now()) {
        let message = "a report needs `X-Sandgate-Timestamp`, not older than five minutes, and \
                       `X-Sandgate-Signature` over it and the body, by the webhook's secret";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message));
    }
    let report: Report = parse_json(&body)?;
    let id = SandboxId::parse(&report.sandbox_id)
        .ok()
        .ok_or_else(|| ApiError::invalid("`sandbox_id` is no sandbox id"))?;
    let event = event(&report, &platform.sandbox_cidrs)?;
    let reported = gateway.sandboxes.apply_report(id, report.placement, report.was_at, event);
    let taken = match reported.await.map_err(refusal)? {
        ReportOutcome::Applied { revision, placement } => {
            gateway.sandboxes.changes().wait_until_applied(revision).await;
            Taken { applied: true, reason: None, placement }
        }
        ReportOutcome::Ignored(ignored) => Taken {
            applied: false,
            reason: Some(ignored.to_string()),
            placement: ignored.placement(),
        },
    };
    Ok(Json(taken))
}

fn event(report: &Report, sandbox_cidrs: &[IpNet]) -> Result<ReportedEvent, ApiError> {
    match (report.state, report.address) {
        (Now::Running, Some(address)) => {
            if !sandbox_cidrs.iter().any(|network| network.contains(&address)) {
                return Err(ApiError::invalid(format!(
                    "`address` {address} lies in none of the sandbox CIDRs"
                )));
            }
            Ok(ReportedEvent::Moved(address))
        }
        (Now::Running, None) => {
            Err(ApiError::invalid("`address` is missing: where does the sandbox run now?"))
        }
        (Now::Suspended, None) => Ok(ReportedEvent::Suspended),
        (Now::Terminated, None) => Ok(ReportedEvent::Terminated),
        (Now::Suspended | Now::Terminated, Some(_)) => {
            Err(ApiError::invalid("`address` is for `running` only; leave it out"))
        }
    }
}

fn refusal(error: ReportError) -> ApiError {
    match error {
        ReportError::Busy => ApiError::new(StatusCode::CONFLICT, "SANDBOX_BUSY", error.to_string())
            .retry_after(Duration::from_secs(1)),
        ReportError::Store(error) => error.into(),
    }
}

/// Whether somebody who knows the secret signed this body a moment ago.
fn is_genuine(key: &SigningKey, headers: &HeaderMap, body: &[u8], now: Timestamp) -> bool {
    let header = |name| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    };
    let Some(timestamp) = header("x-sandgate-timestamp") else { return false };
    let Some(signature) = header("x-sandgate-signature") else { return false };
    let digits = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let Some(seconds) = timestamp.parse::<u64>().ok().filter(|_| digits) else { return false };
    key.verifies(seconds, body, signature) && now.seconds().abs_diff(seconds) <= MAX_AGE
}
