//! The change feed: a long poll that says what to forget.
//!
//! `since` and `revision` are `<epoch>.<number>`, opaque to callers. A `since` of another store, or
//! from before what the log still holds, is answered with a reset.

use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use sandgate_policy::gateway_api::{Changes, ErrorBody};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::Gateway;
use crate::changes::{self, MAX_NAME};
use crate::http::ApiError;
use crate::store::{ChangesSince, Revision};

/// The longest wait, whatever `wait_ms` says.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Changes in one answer. Who is further behind polls again.
const MAX_CHANGES: usize = 1_000;

/// What a caller may say.
#[derive(Deserialize)]
pub(super) struct Poll {
    since: Option<String>,
    #[serde(default)]
    wait_ms: u64,
    watcher: Option<String>,
}

/// What changed after a revision; held until there is something, or the wait is over.
#[utoipa::path(
    get,
    path = "/gateway/v1/changes",
    tag = "gateway",
    params(
        (
            "since" = Option<String>, Query,
            description = "The `revision` of the last answer. Polling with it says that everything \
                up to it has been forgotten."
        ),
        (
            "wait_ms" = Option<u64>, Query,
            description = "How long to hold the answer; at most 60000."
        ),
        (
            "watcher" = Option<String>, Query,
            description = "A name that this follower alone uses. Owners' calls wait a moment for \
                named followers, so that a closed port is closed when they are answered."
        ),
    ),
    responses(
        (status = 200, description = "What to forget.", body = Changes),
        (status = 400, description = "A parameter is not as described.", body = ErrorBody),
        (status = 429, description = "Too many followers.", body = ErrorBody),
        (status = 401, description = "No valid gateway token.", body = ErrorBody),
        (status = 503, description = "The store can't be used now.", body = ErrorBody),
    )
)]
pub(super) async fn changes(
    State(gateway): State<Gateway>,
    Query(poll): Query<Poll>,
) -> Result<Json<Changes>, ApiError> {
    let (changes, epoch) = (gateway.sandboxes.changes(), gateway.sandboxes.db().epoch());
    let since = poll.since.as_deref().and_then(|text| parse(epoch, text));
    let _open = open(&gateway, poll.watcher.as_deref(), since)?;
    let deadline = Instant::now() + Duration::from_millis(poll.wait_ms).min(LONGEST_WAIT);
    let mut newer = changes.subscribe();
    let mut stopping = gateway.stopping.clone();
    loop {
        newer.mark_unchanged();
        match changes.since(since, MAX_CHANGES).await? {
            ChangesSince::Known(revision, changes) => {
                let time_is_up = Instant::now() >= deadline || *stopping.borrow();
                if !changes.is_empty() || time_is_up {
                    let revision = format(epoch, revision);
                    return Ok(Json(Changes { revision, reset: false, changes }));
                }
            }
            ChangesSince::Unknown(newest) => {
                let revision = format(epoch, newest);
                return Ok(Json(Changes { revision, reset: true, changes: Vec::new() }));
            }
        }
        tokio::select! {
            _ = timeout_at(deadline, newer.changed()) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }
}

/// Notes who polls, if it has a name; the value that it returns must live as long as the poll.
fn open(
    gateway: &Gateway,
    watcher: Option<&str>,
    since: Option<Revision>,
) -> Result<Option<changes::Poll>, ApiError> {
    let Some(name) = watcher else { return Ok(None) };
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(ApiError::invalid(format!(
            "`watcher` must be 1 to {MAX_NAME} visible ASCII characters"
        )));
    }
    // A watcher without a revision of this store has applied nothing.
    let poll =
        gateway.sandboxes.changes().open_poll(name, since.unwrap_or(0)).map_err(|error| {
            let too_many = StatusCode::TOO_MANY_REQUESTS;
            ApiError::new(too_many, "TOO_MANY_WATCHERS", error.to_string())
                .retry_after(Duration::from_secs(2))
        })?;
    Ok(Some(poll))
}

fn format(epoch: &str, revision: Revision) -> String {
    format!("{epoch}.{revision}")
}

fn parse(epoch: &str, since: &str) -> Option<Revision> {
    since.strip_prefix(epoch)?.strip_prefix('.')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_means_something_only_in_its_own_store() {
        assert_eq!(parse("abc", &format("abc", 42)), Some(42));
        for foreign in ["", "42", "abc", "abc.", "abc.x", "abd.42", "abcd.42", "abc.-1", "abc.42.1"]
        {
            assert_eq!(parse("abc", foreign), None, "{foreign}");
        }
    }
}
