//! The response to unknown calls. Tensorlake's clients have calls that this control plane does not support, such as
//! snapshots, pools, file systems and secrets. Those calls get a 501, because a client reports a 404 as a missing
//! sandbox.

use axum::http::{Method, StatusCode, Uri};

use crate::http::ApiError;

/// The first segments of the paths of Tensorlake's API.
const TENSORLAKE_PREFIXES: [&str; 6] =
    ["archived-sandboxes", "platform", "sandbox-pools", "sandboxes", "snapshots", "v1"];

/// Answers 501 to a path that may belong to Tensorlake's API, and 404 to any other path.
pub(super) async fn answer(method: Method, uri: Uri) -> ApiError {
    let path = uri.path();
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if TENSORLAKE_PREFIXES.contains(&first) {
        let message = format!(
            "`{method} {path}` is not supported: this control plane has sandboxes, their ports and \
             their network policies, and no snapshots, pools, file systems, secrets or logs",
        );
        return ApiError::new(StatusCode::NOT_IMPLEMENTED, "NOT_SUPPORTED", message);
    }
    ApiError::unknown_path(&uri)
}
