//! Reports of denials: of requests, by ingress filters, and of what a sandbox sends, by its sidecar. They become events of the
//! sandboxes. A platform need not serve these two calls.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use sandgate_policy::denials::{Denials, InboundReport, OutboundDenial};
use sandgate_policy::gateway_api::ErrorBody;

use super::Gateway;
use super::network_policy::authenticate_sidecar;
use crate::http::{ApiError, Connection, RequestPermits, read_json};

/// Reports denied requests to sandboxes. A report about a sandbox that does not exist has no effect.
#[utoipa::path(
    post,
    path = "/gateway/v1/denials",
    tag = "gateway",
    request_body = InboundReport,
    responses(
        (status = 204, description = "The report is taken. Its denials become events some seconds later."),
        (status = 400, description = "The body is not as described; the error names the field.", body = ErrorBody),
        (status = 401, description = "The request has no valid gateway token.", body = ErrorBody),
    )
)]
pub(super) async fn inbound(
    State(gateway): State<Gateway>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let report: InboundReport = read_json(body).await?;
    gateway.sandboxes.denials().add_inbound(report);
    Ok(StatusCode::NO_CONTENT)
}

/// Reports denied connections, packets and DNS queries of a sandbox.
#[utoipa::path(
    post,
    path = "/gateway/v1/sandboxes/{sandbox}/denials",
    tag = "gateway",
    params(("sandbox" = String, Path, description = "The canonical id of the sandbox.")),
    request_body = Denials<OutboundDenial>,
    security(("gateway_token" = []), ("sidecar_token" = [])),
    responses(
        (status = 204, description = "The report is taken. Its denials become events some seconds later, if the sandbox exists."),
        (status = 400, description = "The body is not as described; the error names the field.", body = ErrorBody),
        (
            status = 401,
            description = "The request has neither a valid gateway token nor the sidecar token of this sandbox.",
            body = ErrorBody
        ),
        (status = 429, description = "The sidecars of this sandbox have too many requests in flight.", body = ErrorBody),
        (status = 503, description = "Too many sidecars are connected.", body = ErrorBody),
    )
)]
pub(super) async fn outbound(
    State(gateway): State<Gateway>,
    Path(sandbox): Path<String>,
    connection: Option<Extension<Arc<Connection>>>,
    permits: RequestPermits,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let id = authenticate_sidecar(&gateway, &sandbox, connection, &permits, &headers)?;
    let report: Denials<OutboundDenial> = read_json(body).await?;
    if let Some(id) = id {
        gateway.sandboxes.denials().add_outbound(id, report);
    }
    Ok(StatusCode::NO_CONTENT)
}
