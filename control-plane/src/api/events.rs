//! The call that lists the events of a sandbox, in pages.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Caller;
use super::query::{QueryParameters, parse_cursor, parse_limit};
use super::target::Target;
use super::{Api, HandlerResult};
use crate::model::{Event, EventDetail};
use crate::store::EventPage;

/// The number of events of a page, unless `limit` is smaller. A page takes at most 2 MiB.
const PAGE_ITEMS: usize = 500;

/// A page of the events of a sandbox.
#[derive(Serialize, ToSchema)]
pub(super) struct EventList {
    /// The events, newest first. Several equal denials within ten minutes are one event, at the place of the first one.
    events: Vec<EventInfo>,
    /// The `cursor` of the next page, which has older events; null on the last page.
    next_cursor: Option<String>,
}

/// An event of a sandbox.
#[derive(Serialize, ToSchema)]
struct EventInfo {
    /// Identifies the event within its sandbox.
    id: String,
    /// When it happened, or the first of several equal denials; milliseconds since the Unix epoch. A denial is reported
    /// some seconds later, and this is the time of the report.
    at: i64,
    /// The time of the last of several equal denials; milliseconds since the Unix epoch.
    last_at: i64,
    /// The number of equal denials; 1 for other events.
    count: u64,
    #[serde(flatten)]
    detail: EventDetail,
}

/// Lists the events of a sandbox, newest first: denied requests, denied connections and DNS queries, changes of ports and
/// of the network policy, suspends and resumes. The newest 200 changes, 200 suspends and resumes, and 500 denials in each
/// direction are kept, for 30 days, and hardly longer than the sandbox. In ten minutes, 50 different denials in each direction have
/// events of their own; all others are the count of an event of the type `more_inbound_denied` or `more_outbound_denied`.
#[utoipa::path(
    get,
    path = "/sandboxes/{sandbox}/events",
    tag = "sandboxes",
    operation_id = "list_events",
    params(
        ("sandbox" = String, Path, description = "The id or the name of the sandbox."),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "The maximum number of events of the page. The default is 500."),
        ("cursor" = Option<String>, Query, pattern = "^[0-9]{1,18}$", description = "The `next_cursor` of the previous page."),
    ),
    responses((status = 200, description = "A page of events.", body = EventList))
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    target: Target,
    parameters: QueryParameters,
) -> HandlerResult {
    let [limit, cursor] = parameters.only(["limit", "cursor"])?;
    let limit = limit.map_or(Ok(PAGE_ITEMS), |limit| parse_limit(&limit, PAGE_ITEMS))?;
    // The store has signed numbers, and a cursor has no sign.
    let before = cursor.map(|cursor| parse_cursor::<i64>(&cursor)).transpose()?;
    let before = before.map(i64::unsigned_abs);
    let sandbox = target.find(&api, &caller).await?;
    let EventPage { events, more } =
        api.sandboxes.db().read(move |store| store.events(&sandbox.id, before, limit)).await?;
    let next_cursor = events.last().filter(|_| more).map(|event| event.number.to_string());
    let events = events.into_iter().map(EventInfo::from).collect();
    Ok(Json(EventList { events, next_cursor }).into_response())
}

impl From<Event> for EventInfo {
    fn from(Event { number, at, last_at, count, detail }: Event) -> Self {
        let id = number.to_string();
        Self { id, at: at.millis(), last_at: last_at.millis(), count, detail }
    }
}
