//! The promises of the ingress path, one file for each. See the library for how they are run.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests may fail like the tests that call them"
)]

/// The common table of what HTTP passes, and HTTP byte by byte.
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

/// Nothing is forwarded unless the filter says so, and never out of the sandboxes' network.
mod black_hole;
/// Connections and streams end without a loss, and at once.
mod closing;
/// The control plane goes away and comes back.
mod control_plane_down;
/// Every way to show a credential, and what a sandbox sees of it.
mod credentials;
/// A public port that somebody fills with requests still serves the others.
mod crowds;
/// Every row of the decision table.
mod decisions;
/// Edge and control plane stop in good order.
mod draining;
/// Ports open and close at once.
mod exposure;
/// Headers and trailers that do not cross the edge.
mod fields;
/// What apps are told of the client.
mod forwarding;
/// Addresses are handed from sandbox to sandbox, connections are not.
mod generations;
/// gRPC in all its streaming forms.
mod grpc;
/// What HTTP passes.
mod http;
/// Bounds, and what honest clients and apps experience at them.
mod limits;
/// What the access log holds, whatever clients send.
mod log_lines;
/// What apps and clients say where a filter does not usually look.
mod odd_places;
/// What operators see, and what nobody sees.
mod operation;
/// Memory and connections run short.
mod overload;
/// What Envoy answers itself.
mod own_answers;
/// Ports without authentication.
mod public_ports;
/// Who may read denials.
mod readers;
/// Statuses that a sandbox must not send.
mod responses;
/// Suspended sandboxes wake up, once.
mod resume;
/// Which requests are sent again.
mod retries;
/// The gateway's token changes hands.
mod rotation;
/// Hosts lead to sandboxes, and nothing of a request is rewritten.
mod routing;
/// Bodies pass without being collected.
mod streaming;
/// TLS, and certificates that change.
mod tls;
/// WebSocket both ways.
mod websocket;
/// WebSocket over HTTP/2.
mod websocket_http2;
/// HTTP/2 windows: who does not read stops nobody else.
mod windows;
