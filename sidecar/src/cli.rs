//! The command line of `sandgate-sidecar`: parses the options, installs the log, and runs the agent until a signal
//! arrives.

mod arguments;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use self::arguments::Arguments;
use crate::agent;

/// The longest wait for writes in progress when the agent ends.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// Runs the program. Exits with status 1 if the agent can't start, and with status 2 if an option is wrong.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("SANDGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done if standard error is closed.
            let _ = writeln!(io::stderr().lock(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings = arguments.settings()?;
    // One thread: the kernel kills Envoy when the thread that started it ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result: anyhow::Result<()> = runtime.block_on(async {
        // The handlers are installed before anything is set up, so that no signal ends the program without cleaning up.
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let end = CancellationToken::new();
        let received = end.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
            tracing::info!("stopping");
            received.cancel();
        });
        agent::run(settings, end).await?;
        Ok(())
    });
    // A write to standard output runs on a thread of its own, and does not end if nothing reads it.
    runtime.shutdown_timeout(LAST_WRITES);
    result
}
