//! The change feed: a long poll that names the cache entries that are outdated.
//!
//! `since` and `revision` have the form `<epoch>.<number>`, which is opaque to callers. A `since` of another store, or
//! one that is older than the change log, gets a reset.

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

/// The longest wait, even if `wait_ms` is greater.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The maximum number of changes in one response. A caller that is further behind polls again.
const MAX_CHANGES: usize = 1_000;

#[derive(Deserialize)]
pub(super) struct PollParameters {
    since: Option<String>,
    #[serde(default)]
    wait_ms: u64,
    watcher: Option<String>,
}

/// Returns the changes after a revision, as soon as there are any, or none after the wait.
#[utoipa::path(
    get,
    path = "/gateway/v1/changes",
    tag = "gateway",
    params(
        (
            "since" = Option<String>, Query,
            description = "The `revision` of the previous response. It confirms that the caller has applied \
                all changes up to this revision."
        ),
        (
            "wait_ms" = Option<u64>, Query,
            description = "The maximum wait for a change, in milliseconds. A greater value than 60000 means 60000."
        ),
        (
            "watcher" = Option<String>, Query,
            description = "A name that no other caller uses. An owner's call is answered when all named \
                callers have applied its change, or after 500 ms."
        ),
    ),
    responses(
        (status = 200, description = "The changes.", body = Changes),
        (status = 400, description = "A parameter is not as described; the error names it.", body = ErrorBody),
        (status = 429, description = "There are already as many named callers as allowed.", body = ErrorBody),
        (status = 401, description = "The request has no valid gateway token.", body = ErrorBody),
        (status = 503, description = "The store is not available.", body = ErrorBody),
    )
)]
pub(super) async fn poll(
    State(gateway): State<Gateway>,
    Query(parameters): Query<PollParameters>,
) -> Result<Json<Changes>, ApiError> {
    let (feed, epoch) = (gateway.sandboxes.propagation(), gateway.sandboxes.db().epoch());
    let since = parameters.since.as_deref().and_then(|text| parse(epoch, text));
    let _open = open(&gateway, parameters.watcher.as_deref(), since)?;
    let deadline = Instant::now() + Duration::from_millis(parameters.wait_ms).min(MAX_WAIT);
    let mut newer = feed.subscribe();
    let mut stopping = gateway.stopping.clone();
    let mut contact = feed.contact();
    loop {
        newer.mark_unchanged();
        match feed.while_in_contact(feed.since(since, MAX_CHANGES)).await? {
            ChangesSince::Known(revision, list) => {
                let must_answer = Instant::now() >= deadline || *stopping.borrow();
                if !list.is_empty() || must_answer {
                    let revision = format(epoch, revision);
                    return Ok(Json(Changes { revision, reset: false, changes: list }));
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
            _ = contact.wait_for(|in_contact| !*in_contact) => {}
        }
    }
}

/// Registers the watcher, if the caller has a name. The result must live as long as the poll.
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
        gateway.sandboxes.propagation().open_poll(name, since.unwrap_or(0)).map_err(|error| {
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
    fn a_revision_of_another_store_is_unknown() {
        assert_eq!(parse("abc", &format("abc", 42)), Some(42));
        for foreign in ["", "42", "abc", "abc.", "abc.x", "abd.42", "abcd.42", "abc.-1", "abc.42.1"]
        {
            assert_eq!(parse("abc", foreign), None, "{foreign}");
        }
    }
}
