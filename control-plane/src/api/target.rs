//! What the path of a call names.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use sandgate_policy::ids::SandboxRef;

use super::access::Caller;
use super::info::SandboxInfo;
use super::{Api, PublicUrls};
use crate::http::ApiError;
use crate::model::Sandbox;

/// The namespace of the paths without one.
const DEFAULT_NAMESPACE: &str = "default";

/// The path's namespace and sandbox, and the URLs to show to the caller.
pub(super) struct Target {
    pub(super) namespace: String,
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
    /// The sandbox, if it is the caller's.
    pub(super) async fn find(&self, api: &Api, caller: &Caller) -> Result<Sandbox, ApiError> {
        let which = self.sandbox.as_deref().and_then(SandboxRef::parse);
        let found = match which {
            Some(which) => api.sandboxes.find(which).await?,
            None => None,
        };
        found
            .filter(|sandbox| sandbox.project_id == caller.project_id)
            .ok_or_else(ApiError::no_sandbox)
    }
}

impl Api {
    /// An answer with a sandbox in it.
    pub(super) fn show(&self, status: StatusCode, sandbox: &Sandbox, target: &Target) -> Response {
        (status, Json(SandboxInfo::new(sandbox, &target.namespace, &target.urls))).into_response()
    }
}
