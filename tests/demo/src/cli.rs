//! The command line.

mod connect;
mod grpc;
mod input;
mod serve;
mod ws;

use std::future::Future;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// A demo sandbox, and WebSocket and gRPC clients to try one with
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a demo sandbox: HTTP, WebSocket echo, gRPC and the management API on one address
    #[command(after_help = sandgate_demo::server::NOTE)]
    Serve(serve::Args),
    /// Open a WebSocket, send messages and print what comes back
    Ws(ws::Args),
    /// Call a gRPC service
    #[command(subcommand)]
    Grpc(grpc::Command),
}

impl Cli {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(args) => block_on(serve::run(args)),
            Command::Ws(args) => block_on(ws::run(args)),
            Command::Grpc(command) => block_on(grpc::run(command)),
        }
    }
}

/// Runs on one thread, because many sandboxes may run on one machine.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}
