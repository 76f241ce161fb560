//! `sandgate-demo`: runs a demo sandbox, or tries one as a WebSocket or gRPC client.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandgate-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
