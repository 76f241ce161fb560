//! `make bench`: measures Sandgate beside a bare Envoy and what its users would use instead.
//!
//! `run` starts everything in a network namespace of its own if it is root, and on loopback otherwise. Its raw data are
//! `docs/benchmarks/data.json`, from which `docs/benchmarks.md` and the plots are written.
//!
//! `propagation`, `xds` and `store` measure fleets, and write `docs/benchmarks-fleet.md` from their raw data.

mod bootstrap;
mod cache;
mod dns;
mod egress;
mod fleet_report;
mod ingress;
mod latency;
mod load;
mod machine;
mod part;
mod progress;
mod propagation;
mod proxy;
mod report;
mod run;
mod scale;
mod serve;
mod statistics;
mod store;
mod waiting;
mod ways;
mod webhook;
mod world;
mod xds;

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
    /// Write the report and the sentences in the README again, from the raw data.
    Report,
    /// Measure the time from an owner's change to its enforcement in a fleet.
    Propagation(propagation::Options),
    /// Measure one xDS server with many nodes.
    Xds(xds::Options),
    /// Measure the stores with few and with many sandboxes.
    Store(store::Options),
    /// Write docs/benchmarks-fleet.md again, from the raw data of the last runs.
    FleetReport,
    /// Be the xDS server. `xds` starts it.
    #[command(hide = true)]
    XdsServer(xds::ServerOptions),
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
    match &arguments.command {
        Command::Run(_) => {
            machine::enter_namespace()?;
            machine::allow_open_files()?;
            machine::stay_on_the_core_of_the_load()?;
        }
        Command::Propagation(_) | Command::Xds(_) | Command::Store(_) => {
            machine::allow_open_files()?;
        }
        Command::Report | Command::FleetReport | Command::XdsServer(_) | Command::Serve { .. } => {}
    }
    let runtime = match &arguments.command {
        // As in `sandgate serve`.
        Command::XdsServer(_) => {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?
        }
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
    };
    runtime.block_on(async {
        match arguments.command {
            Command::Run(options) => run::run(&options).await,
            Command::Report => run::report_again(),
            Command::Propagation(options) => propagation::measure(&options).await,
            Command::Xds(options) => xds::measure(&options).await,
            Command::Store(options) => store::measure(&options).await,
            Command::FleetReport => fleet_report::write(),
            Command::XdsServer(options) => xds::serve(&options).await,
            Command::Serve { role, addresses, upstream } => {
                serve::serve(role, &addresses, upstream).await
            }
        }
    })
}
