//! The network policy of a sandbox, for its sidecar: a long poll that is answered as soon as the policy changes.
//!
//! `since` and `revision` are opaque to callers. A poll without `since`, or with a `since` of another store, is answered
//! immediately.
//!
//! There are as many sidecars as sandboxes, and each has a connection and a pending poll. Both have their own limits, so
//! that the number of sidecars does not affect gateways.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use sandgate_policy::gateway_api::{ErrorBody, SandboxNetworkPolicy};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{Gateway, bearer};
use crate::http::{ApiError, Connection, LimitReached, RequestPermits};
use crate::model::{Sandbox, SandboxId};

/// The longest wait, even if `wait_ms` is greater.
const MAX_WAIT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
pub(super) struct PollParameters {
    since: Option<String>,
    #[serde(default)]
    wait_ms: u64,
}

/// Returns the network policy of a sandbox for its sidecar, as soon as it differs from the one of `since`, or after the
/// wait.
#[utoipa::path(
    get,
    path = "/gateway/v1/sandboxes/{sandbox}/network-policy",
    tag = "gateway",
    params(
        ("sandbox" = String, Path, description = "The canonical id of the sandbox."),
        (
            "since" = Option<String>, Query,
            description = "The `revision` of the policy that the sidecar enforces."
        ),
        (
            "wait_ms" = Option<u64>, Query,
            description = "The maximum wait for a change, in milliseconds. A greater value than 60000 means 60000."
        ),
    ),
    security(("gateway_token" = []), ("sidecar_token" = [])),
    responses(
        (
            status = 200,
            description = "The current policy. `revision` equals `since` if nothing changed.",
            body = SandboxNetworkPolicy
        ),
        (
            status = 404,
            description = "The sandbox does not exist, or is terminated. Its sidecar must deny all connections.",
            body = ErrorBody
        ),
        (
            status = 401,
            description = "The request has neither a valid gateway token nor the sidecar token of this sandbox.",
            body = ErrorBody
        ),
        (status = 429, description = "The sidecars of this sandbox have too many requests in flight.", body = ErrorBody),
        (
            status = 503,
            description = "The store is not available, or too many sidecars are connected.",
            body = ErrorBody
        ),
    )
)]
pub(super) async fn follow(
    State(gateway): State<Gateway>,
    Path(sandbox): Path<String>,
    connection: Option<Extension<Arc<Connection>>>,
    permits: RequestPermits,
    headers: HeaderMap,
    Query(poll): Query<PollParameters>,
) -> Result<Json<SandboxNetworkPolicy>, ApiError> {
    let id = authenticate_sidecar(&gateway, &sandbox, connection, &permits, &headers)?;
    let id = id.ok_or_else(not_found)?;
    let deadline = Instant::now() + Duration::from_millis(poll.wait_ms).min(MAX_WAIT);
    let propagation = gateway.sandboxes.propagation();
    let mut waiter = propagation.subscribe_to_sandbox(&id);
    let mut stopping = gateway.stopping.clone();
    let mut contact = propagation.contact();
    loop {
        let found = propagation.while_in_contact(gateway.sandboxes.find(id.to_ref())).await?;
        let sandbox = found.ok_or_else(not_found)?;
        let revision = revision(gateway.sandboxes.db().epoch(), &sandbox);
        let must_answer = Instant::now() >= deadline || *stopping.borrow();
        if poll.since.as_ref() != Some(&revision) || must_answer {
            let (sandbox_id, network_policy) = (sandbox.id, sandbox.network_policy);
            return Ok(Json(SandboxNetworkPolicy { sandbox_id, revision, network_policy }));
        }
        tokio::select! {
            _ = timeout_at(deadline, waiter.changed()) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
            _ = contact.wait_for(|in_contact| !*in_contact) => {}
        }
    }
}

/// Checks that a call comes from the sidecar of this sandbox, and counts it as one of sidecars. Returns `None` if the text is
/// not the id of any sandbox.
pub(super) fn authenticate_sidecar(
    gateway: &Gateway,
    sandbox: &str,
    connection: Option<Extension<Arc<Connection>>>,
    permits: &RequestPermits,
    headers: &HeaderMap,
) -> Result<Option<SandboxId>, ApiError> {
    // Before any lookup, so that a sidecar can't find out whether another sandbox exists.
    let allowed =
        bearer(headers).is_some_and(|token| gateway.tokens.accepts_for_sandbox(token, sandbox));
    if !allowed {
        let message = "send `Authorization: Bearer <token>` with a gateway token, or with the sidecar \
             token of this sandbox (`sandgate keys sidecar`)";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message));
    }
    permits.count_for("sandbox", sandbox)?;
    if let Some(Extension(connection)) = connection {
        connection.move_to(&gateway.sidecar_connections).map_err(|LimitReached| too_many())?;
    }
    permits.wait()?;
    Ok(SandboxId::parse(sandbox).ok())
}

fn revision(epoch: &str, sandbox: &Sandbox) -> String {
    format!("{epoch}.{}", sandbox.network_policy_revision)
}

fn too_many() -> ApiError {
    let message = "too many sidecars are connected; see `--sidecars`";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message)
        .retry_after(Duration::from_secs(1))
}

fn not_found() -> ApiError {
    let message = "there is no such sandbox; the path must have its canonical id";
    ApiError::new(StatusCode::NOT_FOUND, "SANDBOX_NOT_FOUND", message)
}
