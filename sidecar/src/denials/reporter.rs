//! Sends the reports.

use std::time::Duration;

use reqwest::StatusCode;
use tokio::time::MissedTickBehavior;

use super::DenialReport;
use crate::source::ControlPlane;

/// The interval between two reports.
const INTERVAL: Duration = Duration::from_secs(2);
/// The interval after a report that was not taken.
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_secs(20);

/// Sends reports regularly. Never returns.
pub(crate) async fn run(control_plane: ControlPlane, report: DenialReport) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(denials) = report.take() else { continue };
        match control_plane.report(&denials).await {
            Ok(status) if status.is_success() => continue,
            // The control plane knows no reports, or does not accept this one. Another attempt would not change that.
            Ok(status @ (StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST)) => {
                tracing::debug!(%status, "the control plane takes no report of denials");
            }
            Ok(status) => {
                tracing::debug!(%status, "a report of denials was refused; trying again");
                report.put_back(denials);
            }
            Err(error) => {
                tracing::debug!("a report of denials was not sent; trying again: {error}");
                report.put_back(denials);
            }
        }
        tokio::time::sleep(INTERVAL_AFTER_FAILURE).await;
    }
}
