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
    /// Connections that it denies may not be closed yet.
    judging: bool,
}

/// Waits until the filters decide by a generation, and have closed what it denies. Never, where Envoy does not
/// take it: bound it.
pub async fn until(port: u16, generation: u64) {
    while !current(port).await.is_some_and(|is| is.generation == generation && !is.judging) {
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether Envoy answers.
pub async fn answers(port: u16) -> bool {
    current(port).await.is_some()
}

async fn current(port: u16) -> Option<Answer> {
    let (status, body) = ask(port, "/generation", LIMIT).await.ok()?;
    (status == 200).then(|| serde_json::from_str(&body).ok())?
}
