//! The calls on sandboxes.

use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use sandgate_policy::gateway::SandboxState;
use sandgate_policy::host::SandboxRef;
use serde_json::json;
use tokio::time::Instant;

use super::access::Caller;
use super::requests::{CreateRequest, parse_patch};
use super::{Api, info};
use crate::fleet::{ResumeError, ResumePolicy, SuspendError};
use crate::http::{ApiError, read_object};
use crate::model::{NewSandbox, Sandbox, SandboxId, state_named};
use crate::store::{ListFilter, Revision};

/// The namespace of the paths without one.
const DEFAULT_NAMESPACE: &str = "default";
/// Sandboxes in one answer, unless fewer are asked for. Some clients read one page only.
const PAGE: usize = 1_000;
/// How long suspend and resume are waited for, unless `wait_ms` says otherwise.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// The longest wait, whatever `wait_ms` says.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

type Answer = Result<Response, ApiError>;

/// The path's namespace and sandbox.
pub(super) struct Target {
    namespace: String,
    sandbox: Option<String>,
}

impl FromRequestParts<Api> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let mut path = Path::<HashMap<String, String>>::from_request_parts(parts, api)
            .await
            .map_err(|_| ApiError::invalid("the path is not UTF-8"))?;
        let namespace = path.remove("namespace").unwrap_or_else(|| DEFAULT_NAMESPACE.into());
        Ok(Self { namespace, sandbox: path.remove("sandbox") })
    }
}

impl Target {
    /// The sandbox, if it is the caller's.
    async fn find(&self, api: &Api, caller: &Caller) -> Result<Sandbox, ApiError> {
        let which = self.sandbox.as_deref().and_then(SandboxRef::parse);
        let found = match which {
            Some(which) => api.fleet.find(which).await?,
            None => None,
        };
        found
            .filter(|sandbox| sandbox.project_id == caller.project_id)
            .ok_or_else(ApiError::no_sandbox)
    }
}

impl Api {
    /// Waits until the gateways have seen a change, so that it holds when it is answered.
    async fn seen(&self, revision: Revision) {
        if !self.watchers.confirmed(revision).await {
            tracing::warn!(revision, "a gateway is slow to apply a change");
        }
    }

    fn show(&self, status: StatusCode, sandbox: &Sandbox, target: &Target) -> Response {
        (status, Json(info::info(sandbox, &target.namespace, &self.urls))).into_response()
    }
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    body: Body,
) -> Answer {
    let request = CreateRequest::parse(read_object(body).await?)?;
    let id = SandboxId::generate().map_err(|error| {
        tracing::error!(%error, "no sandbox can be created");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "NO_RANDOMNESS", error.to_string())
    })?;
    let new = NewSandbox {
        id: id.clone(),
        name: request.name,
        project_id: caller.project_id,
        exposed_ports: request.exposed_ports,
        allow_unauthenticated_access: request.allow_unauthenticated_access,
        auto_resume: request.auto_resume,
        spec: request.spec,
        principal: caller.principal,
    };
    let made = api.fleet.create(new).await?;
    // Gateways may remember for a moment that the name did not exist.
    api.seen(made.revision).await;
    if !request.wait {
        let mut body = info::created(&made.value, &target.namespace, &api.urls);
        body.insert("state".into(), json!("pending"));
        return Ok((StatusCode::ACCEPTED, Json(body)).into_response());
    }
    let deadline = Instant::now() + LONGEST_WAIT;
    let settled = |state| state != SandboxState::Pending;
    match api.fleet.wait_until(&id, deadline, settled).await? {
        None => Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "SANDBOX_NOT_STARTED",
            "the sandbox could not be started; the control plane's log says why",
        )),
        Some(sandbox) => {
            let mut body = info::created(&sandbox, &target.namespace, &api.urls);
            let late = sandbox.state == SandboxState::Pending;
            if late {
                body.insert("status".into(), json!("timeout"));
            }
            let status = if late { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::OK };
            Ok((status, Json(body)).into_response())
        }
    }
}

pub(super) async fn get(State(api): State<Api>, caller: Caller, target: Target) -> Answer {
    let sandbox = target.find(&api, &caller).await?;
    Ok(api.show(StatusCode::OK, &sandbox, &target))
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let state = match query.get("status").map(String::as_str) {
        None | Some("") => None,
        Some(word) => Some(state_named(word).ok_or_else(|| {
            ApiError::invalid(
                "`status` must be pending, running, snapshotting, suspending, suspended or terminated",
            )
        })?),
    };
    let limit = match query.get("limit") {
        None => PAGE,
        Some(text) => {
            text.parse().ok().filter(|limit| (1..=PAGE).contains(limit)).ok_or_else(|| {
                ApiError::invalid(format!("`limit` must be a whole number from 1 to {PAGE}"))
            })?
        }
    };
    let after = match query.get("cursor") {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            ApiError::invalid("`cursor` must be the `next_cursor` of an earlier answer")
        })?,
    };
    // One more than asked for, to know whether there are more.
    let filter = ListFilter { state, after, limit: limit + 1 };
    let project = caller.project_id;
    let mut found =
        api.fleet.db().read(move |store| store.list_sandboxes(&project, &filter)).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|sandbox| sandbox.sequence.to_string());
    let sandboxes: Vec<_> =
        found.iter().map(|sandbox| info::info(sandbox, &target.namespace, &api.urls)).collect();
    Ok(Json(json!({ "sandboxes": sandboxes, "next_cursor": next })).into_response())
}

pub(super) async fn patch(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    body: Body,
) -> Answer {
    let sandbox = target.find(&api, &caller).await?;
    let patch = parse_patch(read_object(body).await?)?;
    let patched = api.fleet.patch(sandbox.id, patch, caller.principal).await?;
    api.seen(patched.revision).await;
    Ok(api.show(StatusCode::OK, &patched.value.after, &target))
}

pub(super) async fn delete(State(api): State<Api>, caller: Caller, target: Target) -> Answer {
    let sandbox = target.find(&api, &caller).await?;
    let ended = api.fleet.delete(sandbox.id, caller.principal).await?;
    let ended = ended.ok_or_else(ApiError::no_sandbox)?;
    api.seen(ended.revision).await;
    Ok(api.show(StatusCode::OK, &ended.value, &target))
}

pub(super) async fn suspend(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let wait = wait(&query)?;
    let sandbox = target.find(&api, &caller).await?;
    let sandbox = api.fleet.suspend(sandbox.id, wait).await.map_err(|error| match error {
        SuspendError::Ephemeral => {
            ApiError::new(StatusCode::BAD_REQUEST, "SANDBOX_NOT_SUSPENDABLE", error.to_string())
        }
        SuspendError::NotRunning(_) => {
            ApiError::new(StatusCode::CONFLICT, "SANDBOX_NOT_RUNNING", error.to_string())
        }
        SuspendError::NotFound => ApiError::no_sandbox(),
        SuspendError::Store(error) => error.into(),
    })?;
    api.seen(api.fleet.db().feed().newest()).await;
    Ok(api.show(reached(&sandbox, SandboxState::Suspended), &sandbox, &target))
}

pub(super) async fn resume(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let wait = wait(&query)?;
    let sandbox = target.find(&api, &caller).await?;
    let resumed = api.fleet.resume(sandbox.id, ResumePolicy::Owner, wait).await;
    let sandbox = resumed.map_err(|error| match error {
        ResumeError::NotFound => ApiError::no_sandbox(),
        ResumeError::NotResumable(_) | ResumeError::TooSoon(_) => {
            ApiError::new(StatusCode::BAD_REQUEST, "SANDBOX_NOT_RESUMABLE", error.to_string())
        }
        ResumeError::Failed => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SANDBOX_NOT_STARTED", error.to_string())
        }
        ResumeError::Store(error) => error.into(),
    })?;
    api.seen(api.fleet.db().feed().newest()).await;
    Ok(api.show(reached(&sandbox, SandboxState::Running), &sandbox, &target))
}

/// 200: done. 202: the caller may ask for the state until it is.
fn reached(sandbox: &Sandbox, wanted: SandboxState) -> StatusCode {
    if sandbox.state == wanted { StatusCode::OK } else { StatusCode::ACCEPTED }
}

fn wait(query: &HashMap<String, String>) -> Result<Duration, ApiError> {
    let Some(text) = query.get("wait_ms") else { return Ok(DEFAULT_WAIT) };
    let millis: u64 = text
        .parse()
        .map_err(|_| ApiError::invalid("`wait_ms` must be a whole number of milliseconds"))?;
    Ok(Duration::from_millis(millis).min(LONGEST_WAIT))
}
