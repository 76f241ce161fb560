//! `sandgate-demo serve`.

mod descendants;
mod user;
mod workshop;

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use sandgate_demo::server::{DemoSandbox, Identity, NOTE, Ports};
use tokio::signal::unix::{SignalKind, signal};

use super::input;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Listen on this IP address
    #[arg(long, value_name = "IP")]
    address: IpAddr,

    /// The sandbox's id, which every response contains
    #[arg(long)]
    id: String,

    /// The sandbox's name, which every response contains
    #[arg(long)]
    name: Option<String>,

    /// Exit when standard input ends, for example because the parent process exited
    #[arg(long)]
    exit_with_parent: bool,

    /// Port for HTTP/1.1 and HTTP/2 without TLS; 0 lets the system choose
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().http)]
    http_port: u16,

    /// Port for the WebSocket echo at /socket
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().websocket)]
    websocket_port: u16,

    /// Port for gRPC
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().grpc)]
    grpc_port: u16,

    /// Port for the management API
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().management)]
    management_port: u16,

    /// Run commands, and read and write files, for requests that name this project. The edge
    /// writes the caller's project into each request. Other users of the machine can read
    /// arguments, so prefer the variable
    #[arg(
        long,
        value_name = "PROJECT",
        env = "SANDGATE_DEMO_PROJECT",
        hide_env_values = true,
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    commands_for_project: Option<String>,

    /// Started as root, become this user before the first command. No other process should run as
    /// this user
    #[arg(long, value_name = "UID", default_value_t = user::DEFAULT, value_parser = user::parse)]
    uid: u32,

    /// The folder in which commands start. Without it, a temporary folder that is removed at the end
    #[arg(long, value_name = "PATH")]
    directory: Option<PathBuf>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    // Registered before `ready` is printed, so that no signal after it is missed.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let ports = Ports {
        http: args.http_port,
        websocket: args.websocket_port,
        grpc: args.grpc_port,
        management: args.management_port,
    };
    let identity = Identity { id: args.id, name: args.name };
    let sandbox = DemoSandbox::bind(args.address, ports, identity).await?;
    // Before any thread is started, because each thread has its own rights, and before any request
    // is read.
    let workshop = match args.commands_for_project {
        Some(project) => Some(workshop::open(project, args.uid, args.directory)?),
        None => None,
    };
    let sandbox = sandbox.with_commands(workshop.as_ref().map(workshop::Workshop::commands));
    if workshop.is_some() {
        eprintln!("sandgate-demo: {NOTE}");
    }
    eprintln!("sandgate-demo: {}", sandbox.addresses());
    // The parent process waits for this line.
    writeln!(std::io::stdout(), "ready").context("cannot write to standard output")?;
    let parent_gone = async {
        if args.exit_with_parent {
            // An error means that the reading thread has ended, which counts as the end of standard
            // input.
            let _: Result<(), _> = input::end().await;
        } else {
            std::future::pending().await
        }
    };
    // Like a real sandbox, the demo stops without draining its connections.
    tokio::select! {
        () = sandbox.serve() => {}
        () = workshop::reap(workshop.as_ref()) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = parent_gone => {}
    }
    if let Some(workshop) = workshop {
        workshop.close();
    }
    Ok(())
}
