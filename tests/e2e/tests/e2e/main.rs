//! End-to-end tests of the ingress path, with one file for each area. The library runs the stack.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests may fail like the tests that call them"
)]

/// The shared table of HTTP requests and responses, and clients and servers at the level of bytes.
#[path = "../../../http/exchange.rs"]
mod http_exchange;
#[path = "../../../http/frames.rs"]
mod http_frames;
#[path = "../../../http/table.rs"]
mod http_table;
#[path = "../../../http/wire.rs"]
mod http_wire;

mod frames;
mod scripted;
mod support;

/// Nothing is forwarded unless the filter permits it, and never out of the sandboxes' network.
mod black_hole;
/// Connections and streams end without data loss and without delay.
mod closing;
/// An outage of the control plane.
mod control_plane_down;
/// TLS between edge and control plane.
mod control_plane_tls;
/// CORS headers of denials.
mod cors;
/// Every method of authentication. No credential reaches a sandbox.
mod credentials;
/// Every row of the decision table.
mod decisions;
/// Edge and control plane finish requests in flight before they exit.
mod draining;
/// Responses of Envoy itself.
mod envoy_responses;
/// The owner's events of denied requests.
mod events;
/// Exposing and unexposing ports takes effect immediately.
mod exposure;
/// Headers and trailers that the edge removes.
mod fields;
/// A public port that one client floods still serves other clients.
mod floods;
/// Forwarding headers.
mod forwarding;
/// Connections are not reused for another sandbox at the same address.
mod generations;
/// gRPC: unary and streaming calls.
mod grpc;
/// Unusual HTTP requests and responses.
mod http;
/// Limits of headers, cookies and streams.
mod limits;
/// The size of the access log.
mod log_lines;
/// Reports of a configuration without the guards.
mod missing_guards;
/// Access log, metrics, and secrets.
mod operation;
/// Shortage of memory and connections.
mod overload;
/// Public ports.
mod public_ports;
/// The configuration of the filter is replaced while Envoy runs.
mod replacement;
/// Statuses that a sandbox must not send.
mod replicas;
mod responses;
/// With `original_dst`, a restored destination is not an upstream.
mod restored_destination;
/// Resuming suspended sandboxes.
mod resume;
/// Retries.
mod retries;
/// Rotation of the gateway token.
mod rotation;
/// Routing by host. Requests are not rewritten.
mod routing;
/// Bodies are streamed.
mod streaming;
/// TLS, and the rotation of certificates.
mod tls;
/// Informational responses and trailers.
mod unusual_messages;
/// Upgrades under load.
mod upgrade;
/// WebSocket over HTTP/1.1.
mod websocket;
/// WebSocket over HTTP/2.
mod websocket_http2;
/// HTTP/2 windows: a client that does not read does not block others.
mod windows;
/// What the workers of one Envoy share.
mod workers;
/// Edges that get their configuration from the control plane.
mod xds;
