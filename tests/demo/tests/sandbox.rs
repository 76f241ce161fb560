//! The demo sandbox over real sockets: the behaviour that tests of a gateway require.

#[path = "sandbox/cli.rs"]
mod cli;
#[path = "sandbox/commands.rs"]
mod commands;
#[path = "sandbox/files.rs"]
mod files;
#[path = "sandbox/grpc.rs"]
mod grpc;
#[path = "sandbox/http.rs"]
mod http;
#[path = "sandbox/http2.rs"]
mod http2;
#[path = "sandbox/management.rs"]
mod management;
#[path = "sandbox/streams.rs"]
mod streams;
#[path = "sandbox/support.rs"]
mod support;
#[path = "sandbox/tunnel.rs"]
mod tunnel;
#[path = "sandbox/websocket.rs"]
mod websocket;
