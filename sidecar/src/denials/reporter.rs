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

/// The longest time of the last report, which delays the end of the agent.
const LAST: Duration = Duration::from_secs(1);

/// Sends what is left, once.
pub(crate) async fn send_last(control_plane: &ControlPlane, report: &DenialReport) {
    let Some(denials) = report.take() else { return };
    match tokio::time::timeout(LAST, control_plane.report(&denials)).await {
        Ok(Ok(status)) if status.is_success() => {}
        _ => tracing::info!("the last denials of the sandbox were not reported"),
    }
}

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

#[cfg(test)]
mod tests {
    use sandgate_policy::denials::{OutboundDenial, Protocol};
    use sandgate_policy::gateway_api::{MARKER_HEADER, MARKER_VALUE};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::source::Tls;

    fn denied() -> DenialReport {
        let report = DenialReport::default();
        let (destination, rule) = ("late.test".to_owned(), "default deny".to_owned());
        report.add(OutboundDenial {
            destination,
            name: None,
            port: None,
            protocol: Protocol::Dns,
            rule,
        });
        report
    }

    async fn send_last_to(listener: &TcpListener) {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "token").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let sandbox = "a1b2c3d4e5f6g7h8i9j0k".to_owned();
        let control_plane = ControlPlane::new(&url, sandbox, token, &Tls::default()).unwrap();
        send_last(&control_plane, &denied()).await;
    }

    /// The attack: a program tries a destination and exits at once, with its sandbox.
    #[tokio::test]
    async fn the_end_of_the_agent_sends_what_was_denied_last() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}],\"more\":0}") {
                request.push(stream.read_u8().await.unwrap());
            }
            let answer =
                format!("HTTP/1.1 204 No Content\r\n{MARKER_HEADER}: {MARKER_VALUE}\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        };
        let (request, ()) = tokio::join!(answer, send_last_to(&listener));
        assert!(request.contains("/denials HTTP/1.1"), "{request}");
        assert!(request.contains("late.test"), "{request}");
    }

    /// The fault: the control plane does not answer. The test ends only if the agent does.
    #[tokio::test]
    async fn the_end_of_the_agent_does_not_wait_for_the_control_plane() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        send_last_to(&listener).await;
    }
}
