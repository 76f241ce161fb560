//! `make bench`: measures Sandgate beside a bare Envoy and what its users would use instead.
//!
//! `run` starts everything in a network namespace of its own if it is root, and on loopback otherwise. Its raw data are
//! `docs/benchmarks/data.json`, from which `docs/benchmarks.md` and the plots are written.

mod bootstrap;
mod cache;
mod dns;
mod egress;
mod ingress;
mod latency;
mod load;
mod machine;
mod part;
mod progress;
mod proxy;
mod report;
mod run;
mod scale;
mod serve;
mod statistics;
mod waiting;
mod ways;
mod webhook;
mod world;

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and write the report.
    Run(run::Options),
    /// Write the report and the sentences in the README again, from the raw data of the last complete run.
    Report,
    /// Be one of the servers around Envoy. `run` starts them.
    #[command(hide = true)]
    Serve {
        role: serve::Role,
        addresses: Vec<SocketAddr>,
        #[arg(long)]
        upstream: Option<IpAddr>,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Command::Run(_) = &arguments.command {
        machine::enter_namespace()?;
        machine::allow_open_files()?;
        machine::stay_on_the_core_of_the_load()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.command {
            Command::Run(options) => run::run(&options).await,
            Command::Report => run::report_again(),
            Command::Serve { role, addresses, upstream } => {
                serve::serve(role, &addresses, upstream).await
            }
        }
    })
}
