//! What the program sets up for commands, and removes after them.

use std::os::unix::fs::chown;
use std::path::PathBuf;

use anyhow::Context;
use nix::sys::prctl;
use nix::unistd::geteuid;
use sandgate_demo::server::{CommandSettings, Commands};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use super::{descendants, user};

/// The commands, and the folder in which they start.
#[derive(Debug)]
pub(super) struct Workshop {
    commands: Commands,
    /// Removed on drop.
    _temporary: Option<TempDir>,
}

/// Gives up all rights that commands don't have, and creates their folder.
pub(super) fn open(
    project: String,
    uid: u32,
    directory: Option<PathBuf>,
) -> anyhow::Result<Workshop> {
    if let Some(directory) = &directory {
        let shown = directory.display();
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {shown}"))?;
        if geteuid().is_root() {
            chown(directory, Some(uid), Some(uid))
                .with_context(|| format!("cannot give {shown} to user {uid}"))?;
        }
    }
    user::limit(uid)?;
    // Processes that lose their parent become children of this one, which can then end them.
    prctl::set_child_subreaper(true).context("cannot adopt orphans")?;
    let (directory, temporary) = match directory {
        Some(directory) => (std::path::absolute(directory)?, None),
        None => {
            let made = tempfile::Builder::new().prefix("sandgate-demo-").tempdir();
            let made = made.context("cannot create a temporary folder")?;
            (made.path().to_owned(), Some(made))
        }
    };
    let time_limit = CommandSettings::TIME_LIMIT;
    let commands = Commands::new(CommandSettings { project, directory, time_limit });
    Ok(Workshop { commands, _temporary: temporary })
}

impl Workshop {
    pub(super) fn commands(&self) -> Commands {
        self.commands.clone()
    }

    /// Ends everything that was started, and removes the temporary folder.
    pub(super) fn close(self) {
        self.commands.kill_all();
        descendants::kill_all();
    }
}

/// Waits for orphans that end, for as long as the program runs. Otherwise they would stay zombies.
pub(super) async fn reap(workshop: Option<&Workshop>) {
    let Some(workshop) = workshop else { return std::future::pending().await };
    let Ok(mut ended) = signal(SignalKind::child()) else {
        return std::future::pending().await;
    };
    loop {
        let _: Option<()> = ended.recv().await;
        descendants::reap(|pid| workshop.commands.is_running(pid));
    }
}
