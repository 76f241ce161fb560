//! The answer to calls that there are not. Tensorlake's clients know more calls than this control plane:
//! snapshots, pools, file systems, secrets. They take every 404 for a sandbox that does not exist.

use axum::http::{Method, StatusCode, Uri};

use crate::http::ApiError;

/// Where Tensorlake's API has its calls, apart from those below a namespace.
const OF_TENSORLAKE: [&str; 6] =
    ["archived-sandboxes", "platform", "sandbox-pools", "sandboxes", "snapshots", "v1"];

/// 501 for what could be a call of Tensorlake's API, and 404 for anything else.
pub(super) async fn answer(method: Method, uri: Uri) -> ApiError {
    let path = uri.path();
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if OF_TENSORLAKE.contains(&first) {
        let message = format!(
            "`{method} {path}` is not supported: this control plane has sandboxes, their ports and \
             their network policies, and no snapshots, pools, file systems, secrets or logs",
        );
        return ApiError::new(StatusCode::NOT_IMPLEMENTED, "NOT_SUPPORTED", message);
    }
    ApiError::nothing_at(&uri)
}
