//! Waits for a condition.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Calls `attempt` every 20 ms until it returns a value, and fails after `limit`. `what` names the condition in the error.
/// An error of `attempt` does not end the wait, and the last one is in the error.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begun = Instant::now();
    let mut last = None;
    while begun.elapsed() < limit {
        match attempt().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    match last {
        Some(error) => Err(error.context(format!("not within {limit:?}: {what}"))),
        None => bail!("not within {limit:?}: {what}"),
    }
}
