//! Sends reports of denials (`/gateway/v1/sandboxes/{sandbox}/denials`).

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::CONNECTION;
use sandgate_policy::denials::{Denials, OutboundDenial};

use super::{ControlPlane, FetchError, from_control_plane, problem};

/// The time limit of a report. Nothing waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);

impl ControlPlane {
    /// Sends a report. Returns the status of the control plane's response.
    ///
    /// # Errors
    ///
    /// The reason for which there is none.
    pub(crate) async fn report(
        &self,
        denials: &Denials<OutboundDenial>,
    ) -> Result<StatusCode, String> {
        self.send_report(denials).await.map_err(|error| match error {
            FetchError::NoSandbox => "no such sandbox".to_owned(),
            FetchError::Problem(problem) => problem,
        })
    }

    async fn send_report(
        &self,
        denials: &Denials<OutboundDenial>,
    ) -> Result<StatusCode, FetchError> {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop().push("denials");
        }
        for token in self.tokens()? {
            // The control plane counts the connections of sidecars, and the poll holds one.
            let request = self.client.post(url.clone()).header(CONNECTION, "close");
            let request = request.bearer_auth(token).json(denials);
            let sent = request.timeout(TIMEOUT).send().await;
            let response = sent.map_err(|error| problem(error.without_url().to_string()))?;
            let status = from_control_plane(response)?.status();
            if status != StatusCode::UNAUTHORIZED {
                return Ok(status);
            }
        }
        Ok(StatusCode::UNAUTHORIZED)
    }
}
