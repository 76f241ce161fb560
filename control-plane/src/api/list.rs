//! Listing sandboxes, in pages.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use sandgate_policy::gateway_api::SandboxState;

use super::access::Caller;
use super::info::{SandboxInfo, SandboxList};
use super::parameters::{Parameters, is_whole};
use super::target::Target;
use super::{Answer, Api};
use crate::http::ApiError;
use crate::model::state_named;
use crate::store::{ListFilter, Page};

/// Sandboxes in one answer, unless fewer are asked for. Some clients read one page only.
const PAGE: usize = 1_000;
/// Bytes of ports and kept fields in one answer; a page ends before it has more.
const PAGE_SIZE: usize = 1_024 * 1_024;

/// The project's sandboxes in the order in which they were made, in pages. A page may end before
/// `limit` where sandboxes are large; as long as there is a `next_cursor`, there are more.
#[utoipa::path(
    get,
    path = "/sandboxes",
    tag = "sandboxes",
    operation_id = "list_sandboxes",
    params(
        ("status" = Option<SandboxState>, Query, description = "Only those in this state."),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most so many; 1000 if left out."),
        ("cursor" = Option<String>, Query, pattern = "^[0-9]{1,18}$", description = "The `next_cursor` of the page before."),
    ),
    responses((status = 200, description = "A page.", body = SandboxList))
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    parameters: Parameters,
) -> Answer {
    let [status, limit, cursor] = parameters.only(["status", "limit", "cursor"])?;
    let limit = limit.map_or(Ok(PAGE), |text| page(&text))?;
    let filter = ListFilter {
        state: status.map(|word| state(&word)).transpose()?,
        after: cursor.map_or(Ok(0), |text| place(&text))?,
        limit,
        size: PAGE_SIZE,
    };
    let project = caller.project_id;
    let Page { sandboxes: found, more } =
        api.sandboxes.db().read(move |store| store.list_sandboxes(&project, &filter)).await?;
    let next_cursor = found.last().filter(|_| more).map(|sandbox| sandbox.sequence.to_string());
    let show = |sandbox| SandboxInfo::new(sandbox, &target.namespace, &target.urls);
    let sandboxes = found.iter().map(show).collect();
    Ok(Json(SandboxList { sandboxes, next_cursor }).into_response())
}

fn state(word: &str) -> Result<SandboxState, ApiError> {
    state_named(word).ok_or_else(|| {
        ApiError::invalid(
            "`status` must be pending, running, snapshotting, suspending, suspended or terminated",
        )
    })
}

fn page(text: &str) -> Result<usize, ApiError> {
    let number = text.parse().ok().filter(|limit| is_whole(text) && (1..=PAGE).contains(limit));
    number.ok_or_else(|| {
        ApiError::invalid(format!("`limit` must be a whole number from 1 to {PAGE}"))
    })
}

fn place(text: &str) -> Result<i64, ApiError> {
    text.parse()
        .ok()
        .filter(|_| is_whole(text))
        .ok_or_else(|| ApiError::invalid("`cursor` must be the `next_cursor` of an earlier answer"))
}
