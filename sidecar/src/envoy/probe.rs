//! Which generation Envoy's worker decides by: the filter itself says so.

use std::time::Duration;

use serde::Deserialize;

use super::local_http::ask;

/// How often it is asked while it is waited for.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Answer {
    generation: u64,
}

/// Waits until the filters decide by a generation. Never, where Envoy does not take it: bound it.
pub async fn until(port: u16, generation: u64) {
    while current(port).await != Some(generation) {
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The generation that is in force, if Envoy answers.
pub async fn current(port: u16) -> Option<u64> {
    let (status, body) = ask(port, "/generation", LIMIT).await.ok()?;
    let answer: Answer = (status == 200).then(|| serde_json::from_str(&body).ok())??;
    Some(answer.generation)
}
