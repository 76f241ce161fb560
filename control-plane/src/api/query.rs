//! Query parameters. An unknown, duplicate or wrong parameter is an error that names the parameter.

use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use super::Api;
use crate::http::{ApiError, MAX_WHOLE_NUMBER};

/// The number of characters of a parameter's name that an error repeats.
const MAX_SHOWN: usize = 64;
/// The wait for suspend and resume, unless `wait_ms` sets another one.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// The longest wait, even if `wait_ms` is greater.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(60);

/// The query parameters of a request, not parsed yet.
pub(super) struct QueryParameters(Vec<(String, String)>);

impl FromRequestParts<Api> for QueryParameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, api).await;
        let Query(pairs) = query.map_err(|_| {
            ApiError::invalid("the query is not of the form `name=value&name=value`")
        })?;
        Ok(Self(pairs))
    }
}

impl QueryParameters {
    /// The values of the parameters `known`, in the same order.
    ///
    /// # Errors
    /// The request has another parameter, or one of these twice.
    pub(super) fn only<const N: usize>(
        self,
        known: [&'static str; N],
    ) -> Result<[Option<String>; N], ApiError> {
        let mut others = self.0;
        let found = known.map(|name| {
            let index = others.iter().position(|(sent, _)| sent == name)?;
            Some(others.remove(index).1)
        });
        let Some((name, _)) = others.first() else { return Ok(found) };
        let shown: String = name.chars().take(MAX_SHOWN).collect();
        Err(ApiError::invalid(if known.contains(&name.as_str()) {
            format!("`{shown}` is in the query more than once")
        } else {
            format!("`{shown}` is not a query parameter of this call")
        }))
    }

    /// Refuses any parameter.
    ///
    /// # Errors
    /// The request has a parameter.
    pub(super) fn none(self) -> Result<(), ApiError> {
        self.only([]).map(|[]| ())
    }

    /// The value of `wait_ms`, at most [`MAX_WAIT`].
    ///
    /// # Errors
    /// `wait_ms` is not a whole number, or the request has another parameter.
    pub(super) fn wait(self) -> Result<Duration, ApiError> {
        let [text] = self.only(["wait_ms"])?;
        let Some(text) = text else { return Ok(DEFAULT_WAIT) };
        let millis = text
            .parse()
            .ok()
            .filter(|millis| is_whole_number(&text) && *millis <= MAX_WHOLE_NUMBER);
        let millis = millis.ok_or_else(|| {
            ApiError::invalid("`wait_ms` must be a whole number of milliseconds, such as 30000")
        })?;
        Ok(Duration::from_millis(millis).min(MAX_WAIT))
    }
}

/// The value of `limit`, from 1 to `most`.
pub(super) fn parse_limit(text: &str, most: usize) -> Result<usize, ApiError> {
    text.parse()
        .ok()
        .filter(|limit| is_whole_number(text) && (1..=most).contains(limit))
        .ok_or_else(|| {
            ApiError::invalid(format!("`limit` must be a whole number from 1 to {most}"))
        })
}

/// The value of `cursor`. A caller who changes a cursor gets another part of the same list.
pub(super) fn parse_cursor<T: FromStr>(text: &str) -> Result<T, ApiError> {
    text.parse().ok().filter(|_| is_whole_number(text)).ok_or_else(|| {
        ApiError::invalid("`cursor` must be the `next_cursor` of an earlier response")
    })
}

/// Whether the text consists of digits. `str::parse` accepts a sign too.
pub(super) fn is_whole_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
