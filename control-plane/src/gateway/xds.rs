//! What the xDS server knows of its nodes, for `sandgate xds nodes`; and the metrics. Not a part of the API that a platform
//! implements.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::json;

use super::Gateway;
use crate::http::ApiError;

pub(super) async fn nodes(State(gateway): State<Gateway>) -> Result<impl IntoResponse, ApiError> {
    let nodes = gateway.xds_nodes.ok_or_else(no_server)?;
    Ok(Json(json!({ "nodes": nodes.list() })))
}

pub(super) async fn metrics(State(gateway): State<Gateway>) -> Result<impl IntoResponse, ApiError> {
    gateway.metrics.response()
}

fn no_server() -> ApiError {
    let message = "this control plane serves no xDS; start it with `--xds-listen`";
    ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
}
