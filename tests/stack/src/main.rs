//! Starts Sandgate on this machine. `make run` and `make try` call it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use sandgate_stack::local_run::internet::Site;
use sandgate_stack::local_run::{Settings, internet};
use sandgate_stack::{local_run, service, try_commands};

/// Starts Sandgate on this machine
///
/// SANDGATE_STATE_DIR names the folder of the state and the logs instead of .sandgate. SANDGATE_EDGE_PORT,
/// SANDGATE_EDGE_TLS_PORT, SANDGATE_API_PORT, SANDGATE_GATEWAY_PORT and SANDGATE_ADMIN_PORT choose other ports. As root,
/// SANDGATE_NAMESPACE_NETWORK (10.203.0.0/16) chooses another range for the sandboxes, and SANDGATE_INTERNET=host connects them
/// to this machine's network. Without root, SANDGATE_SANDBOX_NETWORK (127.64.0.0) chooses another /16 of loopback for them.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a control plane, two demo sandboxes, and Envoy until Ctrl-C; as root, each sandbox is behind a sidecar
    Run,
    /// Run every command that `run` prints and that docs/tour.md has, and check its output
    Try {
        /// Start a run for it on unused ports, stop it, start it again, and check that nothing is left
        #[arg(long)]
        own: bool,
    },
    /// Start a control plane with an owner, and Envoy, for a program in another language
    ///
    /// Prints one line of JSON when they are ready, and runs until its standard input ends.
    Start(service::Options),
    /// Serve the internet of the sandboxes; `run` starts it
    #[command(hide = true)]
    Internet {
        /// Address of the DNS server
        resolver: Ipv4Addr,
        /// Folder with `tls.crt` and `tls.key`
        tls: PathBuf,
        /// Sites, as NAME=ADDRESS
        sites: Vec<Site>,
    },
}

// One thread: the kernel stops a child when the thread that started it ends.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match execute(Arguments::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run => local_run::run(&Settings::from_environment()?).await?,
        Command::Try { own } => {
            let count = if own {
                let folder = tempfile::Builder::new().prefix("sandgate-try-").tempdir()?;
                try_commands::against_an_own_run(folder.path())?
            } else {
                try_commands::against_the_run_that_is_up()?
            };
            println!("printed commands: {} passed, {} failed", count.passed, count.failed);
            return Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Start(options) => service::serve(options).await?,
        Command::Internet { resolver, tls, sites } => {
            internet::serve(resolver, &tls, sites).await?
        }
    }
    Ok(ExitCode::SUCCESS)
}
