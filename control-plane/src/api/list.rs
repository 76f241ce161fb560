//! The call that lists sandboxes, in pages.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use sandgate_policy::gateway_api::SandboxState;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error as ValueError;

use super::caller::Caller;
use super::query::{QueryParameters, parse_cursor, parse_limit};
use super::responses::{SandboxInfo, SandboxList};
use super::target::Target;
use super::{Api, HandlerResult};
use crate::http::ApiError;
use crate::store::{ListFilter, Page};

/// The number of sandboxes of a page, unless `limit` is smaller. Some clients read only one page.
const PAGE_ITEMS: usize = 1_000;
/// The maximum number of bytes of ports, kept fields and network policies of a page.
const PAGE_BYTES: usize = 1_024 * 1_024;

/// Lists the sandboxes of the project in the order of their creation, in pages. A page of large sandboxes can end
/// before `limit`. There are more sandboxes as long as the response has a `next_cursor`.
#[utoipa::path(
    get,
    path = "/sandboxes",
    tag = "sandboxes",
    operation_id = "list_sandboxes",
    params(
        ("status" = Option<SandboxState>, Query, description = "Lists only sandboxes in this state."),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "The maximum number of sandboxes of the page. The default is 1000."),
        ("cursor" = Option<String>, Query, pattern = "^[0-9]{1,18}$", description = "The `next_cursor` of the previous page."),
    ),
    responses((status = 200, description = "A page of sandboxes.", body = SandboxList))
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    parameters: QueryParameters,
) -> HandlerResult {
    let [status, limit, cursor] = parameters.only(["status", "limit", "cursor"])?;
    let filter = ListFilter {
        state: status.map(|status| parse_state(&status)).transpose()?,
        after: cursor.map_or(Ok(0), |cursor| parse_cursor(&cursor))?,
        limit: limit.map_or(Ok(PAGE_ITEMS), |limit| parse_limit(&limit, PAGE_ITEMS))?,
        size: PAGE_BYTES,
    };
    let project = caller.project_id;
    let Page { sandboxes: found, more } = api
        .sandboxes
        .db()
        .read(move |store| store.list_sandboxes(project.as_str(), &filter))
        .await?;
    let next_cursor = found.last().filter(|_| more).map(|sandbox| sandbox.sequence.to_string());
    let sandboxes = found.iter().map(|sandbox| SandboxInfo::new(sandbox, &target)).collect();
    Ok(Json(SandboxList { sandboxes, next_cursor }).into_response())
}

fn parse_state(text: &str) -> Result<SandboxState, ApiError> {
    SandboxState::deserialize(text.into_deserializer()).map_err(|_: ValueError| {
        ApiError::invalid(
            "`status` must be pending, running, snapshotting, suspending, suspended or terminated",
        )
    })
}
