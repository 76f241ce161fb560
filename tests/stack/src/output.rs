//! Progress output, and the signals that stop a program.

use std::path::Path;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::artifacts::root;

/// Prints a line of progress to the standard error.
pub fn say(line: &str) {
    eprintln!("==> {line}");
}

/// A path relative to the repository's root, quoted for the shell.
#[must_use]
pub fn relative(path: &Path) -> String {
    let shown = path.strip_prefix(root()).unwrap_or(path).display().to_string();
    shlex::try_quote(&shown).map_or(shown.clone(), std::borrow::Cow::into_owned)
}

/// Waits for SIGINT, SIGTERM or SIGHUP. From its creation on, these signals do not end the process.
pub struct Interrupt([Signal; 3]);

impl Interrupt {
    /// Starts to listen for the signals.
    pub fn new() -> Result<Self> {
        let listen = |kind| signal(kind);
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    /// Returns when a signal was received.
    pub async fn received(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
