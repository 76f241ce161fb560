//! The command line: the server, and the management of organizations, projects, users and credentials.

mod admin;
mod audit;
mod backup;
mod bootstrap;
mod clean;
mod conformance;
mod explain;
mod https;
mod keys;
mod management;
mod output;
mod policy;
mod serve;
mod store;
mod tenants;
mod xds;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use self::output::Output;

/// Sandgate's control plane.
#[derive(Parser)]
#[command(name = "sandgate", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the control plane: the public API and the gateway API
    Serve(Box<serve::ServeArgs>),
    /// Manage organizations, which own projects
    #[command(subcommand)]
    Orgs(tenants::Orgs),
    /// Manage projects, which own sandboxes
    #[command(subcommand)]
    Projects(tenants::Projects),
    /// Manage the users of projects
    #[command(subcommand)]
    Members(tenants::Members),
    /// Manage API keys, personal access tokens and sessions
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Check network policies
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Print what a component needs to start
    #[command(subcommand)]
    Bootstrap(bootstrap::Bootstrap),
    /// Check a desired state of edges, and show which edges have it
    #[command(subcommand)]
    Xds(xds::Xds),
    /// Copy the store of a --data-dir to a file, while its server runs
    Backup(backup::Backup),
    /// Make a --data-dir from such a copy, or complete the restoration of a --database
    Restore(backup::Restore),
    /// Check a server of the gateway API, of your own platform or this one
    ///
    /// Prints a line for each check. Exit status: 0 if all passed, 1 if one failed, 3 if none failed and some could not run.
    /// Use a server for tests: the checks change the sandbox.
    Conformance(Box<conformance::Conformance>),
    /// Explain the decision about a request to a sandbox, or about a connection out of one
    ///
    /// `explain URL [CREDENTIAL]` decides as an edge does, and `explain SANDBOX DESTINATION` as a sidecar does, by the same
    /// functions. Neither sends anything, and the credential is not printed. Exit status: 0 if the answer is to allow, 3 if it is to
    /// deny, 1 after an error.
    Explain(Box<explain::Explain>),
    /// Show who changed exposed ports and network policies, of one sandbox or of all
    Audit(audit::Audit),
    /// Remove the sandboxes that a killed server with `--runtime namespaces` has left on this machine
    ///
    /// The next server with the same directory does the same at its start.
    Clean(clean::Clean),
    /// Moved to `sandgate-sidecar`, which takes the same options.
    #[command(hide = true, disable_help_flag = true)]
    Sidecar {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        _options: Vec<std::ffi::OsString>,
    },
    /// Print the OpenAPI document of an API
    #[command(subcommand)]
    Openapi(Openapi),
}

#[derive(Subcommand)]
enum Openapi {
    /// The API that ingress filters and sidecars call
    Gateway,
    /// The API that owners of sandboxes call
    Public,
    /// The API with which operators manage organizations, projects, members and keys
    Admin,
}

#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("SANDGATE_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,refinery_core=warn,deadpool=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match run(cli.command) {
        Ok(status) => status,
        Err(error) => {
            output::print_error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Policy(command) => return command.run(),
        Command::Conformance(command) => return command.run(),
        Command::Explain(command) => return command.run(),
        Command::Sidecar { .. } => {
            output::print_error(&anyhow::anyhow!(
                "the sidecar is a program of its own; run `sandgate-sidecar` with the same options"
            ));
            return Ok(ExitCode::from(2));
        }
        Command::Serve(args) => args.run(),
        Command::Orgs(command) => command.run(),
        Command::Projects(command) => command.run(),
        Command::Members(command) => command.run(),
        Command::Keys(command) => command.run(),
        Command::Bootstrap(command) => command.run(),
        Command::Xds(command) => command.run(),
        Command::Audit(command) => command.run(),
        Command::Backup(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Clean(command) => command.run(),
        Command::Openapi(Openapi::Gateway) => {
            Output::plain(&crate::gateway::openapi::description()?)
        }
        Command::Openapi(Openapi::Admin) => Output::plain(&crate::admin::openapi::description()?),
        Command::Openapi(Openapi::Public) => Output::plain(&crate::api::openapi::description()?),
    }?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn every_option_of_serve_is_documented() {
        let page = include_str!("../../docs/configuration.md");
        let cli = Cli::command();
        let serve = cli.find_subcommand("serve").unwrap();
        let options: Vec<_> = serve.get_arguments().filter_map(clap::Arg::get_long).collect();
        assert!(options.contains(&"data-dir"), "{options:?}");
        for option in options {
            assert!(page.contains(&format!("`--{option}`")), "`--{option}` is missing");
        }
    }
}
