//! The query of a list, and the page and the cursor of the next one that it gives.

use axum::extract::{FromRequestParts, Query as QueryOf};
use axum::http::request::Parts;
use serde::Deserialize;

use crate::http::ApiError;
use crate::model::Timestamp;
use crate::store::Place;

/// The most entries of a page, and the default.
const PAGE: usize = 1_000;

/// The parameters of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    limit: Option<String>,
    cursor: Option<String>,
    pub(super) organization_id: Option<String>,
    pub(super) project_id: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = QueryOf::<Self>::from_request_parts(parts, state).await;
        query.map(|QueryOf(query)| query).map_err(|_| {
            ApiError::invalid(
                "a list has the parameters `limit` and `cursor` and its filter, each at most once",
            )
        })
    }
}

impl Query {
    /// The most entries of the page.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = &self.limit else { return Ok(PAGE) };
        let limit = text.parse().ok().filter(|limit| (1..=PAGE).contains(limit));
        limit.ok_or_else(|| {
            ApiError::invalid(format!("`limit` must be a whole number from 1 to {PAGE}"))
        })
    }

    /// The entry after which the page begins, of a list in the order of creation.
    pub(super) fn after(&self) -> Result<Option<Place>, ApiError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let place = cursor.split_once('.').and_then(|(time, id)| {
            let created_at = Timestamp::from_millis(time.parse().ok()?);
            is_id(id).then(|| Place { created_at, id: id.to_owned() })
        });
        place.map(Some).ok_or_else(wrong_cursor)
    }

    /// The entry after which the page begins, of members: the ids of the project and the user.
    pub(super) fn after_member(&self) -> Result<Option<(String, String)>, ApiError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let ids = cursor.split_once('.').filter(|(project, user)| is_id(project) && is_id(user));
        ids.map(|(project, user)| Some((project.to_owned(), user.to_owned())))
            .ok_or_else(wrong_cursor)
    }

    /// Refuses filters that a list does not have: a list of everything would be a wrong answer.
    pub(super) fn only(&self, by_organization: bool, by_project: bool) -> Result<(), ApiError> {
        let refused = [
            ("organization_id", self.organization_id.is_some() && !by_organization),
            ("project_id", self.project_id.is_some() && !by_project),
        ];
        match refused.into_iter().find(|(_, is_refused)| *is_refused) {
            Some((name, _)) => Err(ApiError::invalid(format!("this list has no filter `{name}`"))),
            None => Ok(()),
        }
    }
}

fn wrong_cursor() -> ApiError {
    ApiError::invalid("`cursor` must be the `next_cursor` of an earlier response")
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The cursor after an entry of a list in the order of creation.
pub(super) fn cursor(created_at: Timestamp, id: &str) -> String {
    format!("{}.{id}", created_at.millis())
}

/// Removes the entry that shows that there is another page. `found` was read with `limit + 1`.
pub(super) fn page<T>(
    mut found: Vec<T>,
    limit: usize,
    cursor: impl Fn(&T) -> String,
) -> (Vec<T>, Option<String>) {
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(cursor);
    (found, next)
}
