//! The part of a request's path and headers that every call on sandboxes needs: the namespace, the sandbox, and the
//! URLs to show to the caller.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use sandgate_policy::ids::SandboxRef;

use super::caller::Caller;
use super::{Api, PublicUrls};
use crate::http::ApiError;
use crate::model::Sandbox;

/// The namespace of the paths that don't have one.
const DEFAULT_NAMESPACE: &str = "default";

/// The target of a request.
pub(super) struct Target {
    /// The namespace of the path. Responses repeat it.
    pub(super) namespace: String,
    /// The URLs to show to this caller.
    pub(super) urls: PublicUrls,
    sandbox: Option<String>,
}

impl FromRequestParts<Api> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let mut path = Path::<HashMap<String, String>>::from_request_parts(parts, api)
            .await
            .map_err(|_| ApiError::invalid("the path is not UTF-8"))?;
        let namespace = path.remove("namespace").unwrap_or_else(|| DEFAULT_NAMESPACE.into());
        let urls = api.urls.for_caller(&parts.headers);
        Ok(Self { namespace, urls, sandbox: path.remove("sandbox") })
    }
}

impl Target {
    /// The sandbox that the path names by its id or its name.
    ///
    /// # Errors
    /// The project of the caller has no such sandbox.
    pub(super) async fn find(&self, api: &Api, caller: &Caller) -> Result<Sandbox, ApiError> {
        let sandbox = self.sandbox.as_deref().and_then(SandboxRef::parse);
        let found = match sandbox {
            Some(sandbox) => api.sandboxes.find(sandbox).await?,
            None => None,
        };
        found
            .filter(|sandbox| sandbox.project_id == caller.project_id)
            .ok_or_else(ApiError::no_sandbox)
    }
}
