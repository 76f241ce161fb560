//! The commands behind the Makefile's targets. `cargo xtask --help` lists them.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod process;
mod tree;
mod wasm;

/// The development commands of Sandgate
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the Envoy filters into target/filters/
    Wasm,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Wasm => wasm::build(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
