//! Query parameters. As with fields: each is known, comes once, and a wrong one is named.

use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use super::Api;
use super::fields::MAX_WHOLE;
use crate::http::ApiError;

/// Characters of a parameter's name that an error repeats.
const SHOWN: usize = 64;
/// How long suspend and resume are waited for, unless `wait_ms` says otherwise.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// The longest wait, whatever `wait_ms` says.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The parameters of a request, as they were sent.
pub(super) struct Parameters(Vec<(String, String)>);

impl FromRequestParts<Api> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, api).await;
        let Query(pairs) = query.map_err(|_| {
            ApiError::invalid("the query is not of the form `name=value&name=value`")
        })?;
        Ok(Self(pairs))
    }
}

impl Parameters {
    /// The values of `known`, in that order.
    ///
    /// # Errors
    /// There is another parameter, or one comes twice.
    pub(super) fn only<const N: usize>(
        self,
        known: [&'static str; N],
    ) -> Result<[Option<String>; N], ApiError> {
        let mut left = self.0;
        let found = known.map(|name| {
            let place = left.iter().position(|(sent, _)| sent == name)?;
            Some(left.remove(place).1)
        });
        let Some((name, _)) = left.first() else { return Ok(found) };
        let shown: String = name.chars().take(SHOWN).collect();
        Err(ApiError::invalid(if known.contains(&name.as_str()) {
            format!("`{shown}` is in the query more than once")
        } else {
            format!("`{shown}` is not a query parameter of this call")
        }))
    }

    /// There are none.
    ///
    /// # Errors
    /// There is one.
    pub(super) fn none(self) -> Result<(), ApiError> {
        self.only([]).map(|[]| ())
    }

    /// How long the caller wants to wait, with a bound.
    ///
    /// # Errors
    /// `wait_ms` is no number, or there is another parameter.
    pub(super) fn wait(self) -> Result<Duration, ApiError> {
        let [text] = self.only(["wait_ms"])?;
        let Some(text) = text else { return Ok(DEFAULT_WAIT) };
        let millis = text.parse().ok().filter(|millis| is_whole(&text) && *millis <= MAX_WHOLE);
        let millis = millis.ok_or_else(|| {
            ApiError::invalid("`wait_ms` must be a whole number of milliseconds, such as 30000")
        })?;
        Ok(Duration::from_millis(millis).min(LONGEST_WAIT))
    }
}

/// Digits only: `parse` would take a sign too.
pub(super) fn is_whole(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
