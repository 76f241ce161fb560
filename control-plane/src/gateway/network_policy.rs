//! A sidecar's policy: a long poll that answers as soon as the policy of its sandbox is another one.
//!
//! `since` and `revision` are opaque to callers. A call without `since`, or with one of another
//! store, is answered at once.
//!
//! There are as many sidecars as sandboxes, each with a connection and a held call. They have places of
//! their own for both, so that however many there are, edges are answered.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use sandgate_policy::gateway_api::{ErrorBody, SandboxNetworkPolicy};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{Gateway, bearer};
use crate::http::{ApiError, Connection, LimitReached, RequestSlot};
use crate::model::{Sandbox, SandboxId};

/// The longest wait, whatever `wait_ms` says.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What a caller may say.
#[derive(Deserialize)]
pub(super) struct Poll {
    since: Option<String>,
    #[serde(default)]
    wait_ms: u64,
}

/// A sandbox's network policy, for its sidecar; held until it is another one than that of `since`, or
/// the wait is over.
#[utoipa::path(
    get,
    path = "/gateway/v1/sandboxes/{sandbox}/network-policy",
    tag = "gateway",
    params(
        ("sandbox" = String, Path, description = "Canonical id."),
        (
            "since" = Option<String>, Query,
            description = "The `revision` of the last answer whose policy is being enforced."
        ),
        (
            "wait_ms" = Option<u64>, Query,
            description = "How long to hold the answer; at most 60000."
        ),
    ),
    security(("gateway_token" = []), ("sidecar_token" = [])),
    responses(
        (
            status = 200,
            description = "The policy as it is now. `revision` is `since` when nothing changed.",
            body = SandboxNetworkPolicy
        ),
        (
            status = 404,
            description = "There is no such sandbox, or it is terminated: nothing of it may connect to anything.",
            body = ErrorBody
        ),
        (
            status = 401,
            description = "No valid gateway token, nor the sidecar token of this sandbox.",
            body = ErrorBody
        ),
        (status = 429, description = "Sidecars of this sandbox ask too much at once.", body = ErrorBody),
        (
            status = 503,
            description = "The store can't be used now, or too many sidecars are connected.",
            body = ErrorBody
        ),
    )
)]
pub(super) async fn follow(
    State(gateway): State<Gateway>,
    Path(sandbox): Path<String>,
    connection: Option<Extension<Arc<Connection>>>,
    slot: RequestSlot,
    headers: HeaderMap,
    Query(poll): Query<Poll>,
) -> Result<Json<SandboxNetworkPolicy>, ApiError> {
    // Before anything is looked up: a sidecar learns nothing of other sandboxes, not even of which
    // there are.
    let allowed =
        bearer(&headers).is_some_and(|token| gateway.tokens.accepts_for_sandbox(token, &sandbox));
    if !allowed {
        let message = "a network policy needs `Authorization: Bearer <token>` with a gateway token, \
             or the sidecar token of this sandbox (`sandgate keys sidecar`)";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message));
    }
    slot.count_for("sandbox", &sandbox)?;
    if let Some(Extension(connection)) = connection {
        connection.move_to(&gateway.sidecars).map_err(|LimitReached| too_many())?;
    }
    slot.wait()?;
    let id = SandboxId::parse(&sandbox).map_err(|_| no_sandbox())?;
    let deadline = Instant::now() + Duration::from_millis(poll.wait_ms).min(LONGEST_WAIT);
    let mut waiter = gateway.sandboxes.changes().of_sandbox(&id);
    let mut stopping = gateway.stopping.clone();
    loop {
        let sandbox = gateway.sandboxes.find(id.to_ref()).await?.ok_or_else(no_sandbox)?;
        let revision = revision(gateway.sandboxes.db().epoch(), &sandbox);
        let time_is_up = Instant::now() >= deadline || *stopping.borrow();
        if poll.since.as_ref() != Some(&revision) || time_is_up {
            let (sandbox_id, network_policy) = (sandbox.id, sandbox.network);
            return Ok(Json(SandboxNetworkPolicy { sandbox_id, revision, network_policy }));
        }
        tokio::select! {
            _ = timeout_at(deadline, waiter.changed()) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }
}

fn revision(epoch: &str, sandbox: &Sandbox) -> String {
    format!("{epoch}.{}", sandbox.network_revision)
}

fn too_many() -> ApiError {
    let message = "too many sidecars are connected; see `--sidecars`";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message)
        .retry_after(Duration::from_secs(1))
}

fn no_sandbox() -> ApiError {
    let message = "there is no such sandbox; a network policy is asked for by the canonical id";
    ApiError::new(StatusCode::NOT_FOUND, "SANDBOX_NOT_FOUND", message)
}
