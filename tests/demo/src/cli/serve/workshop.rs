//! What the program sets up for commands, and removes after them.

use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use nix::fcntl::OFlag;
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
        give(directory, uid).with_context(|| format!("cannot give {shown} to user {uid}"))?;
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

/// Makes the folder, if it does not exist. As root, gives it to the user, if nobody else had it: another user may have made it, or a
/// link to a folder of the system in its place.
fn give(directory: &Path, uid: u32) -> anyhow::Result<()> {
    if !geteuid().is_root() {
        return Ok(std::fs::create_dir_all(directory)?);
    }
    if let Some(parent) = directory.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let is_new = match std::fs::create_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
        made => made.map(|()| true)?,
    };
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let folder = File::options().read(true).custom_flags(flags.bits()).open(directory);
    let folder = folder.context("it is not a folder, or it is a link")?;
    let owner = folder.metadata()?.uid();
    ensure!(
        owner == uid || (is_new && owner == 0),
        "it exists already, and belongs to user {owner}"
    );
    Ok(fchown(&folder, Some(uid), Some(uid))?)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_of_somebody_else_or_behind_a_link_is_not_given_away() {
        // Without root, nothing is given to anybody.
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (theirs, link) = (folder.path().join("theirs"), folder.path().join("link"));
        std::fs::create_dir(&theirs).unwrap();
        symlink(&theirs, &link).unwrap();
        for path in [&theirs, &link] {
            assert!(give(path, user::DEFAULT).is_err(), "{}", path.display());
            assert_eq!(std::fs::metadata(path).unwrap().uid(), 0);
        }
        let new = folder.path().join("new");
        give(&new, user::DEFAULT).unwrap();
        give(&new, user::DEFAULT).unwrap();
        assert_eq!(std::fs::metadata(&new).unwrap().uid(), user::DEFAULT);
    }
}
