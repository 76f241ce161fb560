//! The state folder of a run: its lock, and the secret between Envoy and the control plane.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::files::{create_private_folder, write_private};
use crate::local_run::commands_file;
use crate::token::random_token;

/// A locked state folder.
pub(crate) struct State {
    folder: PathBuf,
    _lock: File,
}

impl State {
    /// Creates and locks the folder, and removes the logs of an earlier run.
    pub(crate) fn lock(folder: &Path) -> Result<Self> {
        create_private_folder(folder)?;
        let path = folder.join("lock");
        let open = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let mut lock = open.with_context(|| format!("`{}` can't be opened", path.display()))?;
        if lock.try_lock().is_err() {
            let mut holder = String::new();
            lock.read_to_string(&mut holder)?;
            bail!(
                "Sandgate runs here already (process {}); stop that first, or set SANDGATE_STATE_DIR and other ports",
                holder.trim()
            );
        }
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())?;
        for entry in std::fs::read_dir(folder)?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// The secret between Envoy and the control plane, which is created once.
    pub(crate) fn gateway_token(&self) -> Result<String> {
        let path = self.folder.join("gateway-token");
        let token = std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
        if token.len() >= 32 {
            return Ok(token);
        }
        let token = random_token()?;
        write_private(&path, &format!("{token}\n"))?;
        Ok(token)
    }

    pub(crate) fn commands(&self) -> PathBuf {
        commands_file(&self.folder)
    }

    pub(crate) fn remove_commands(&self) {
        // It does not exist if the run ended before it was ready.
        drop(std::fs::remove_file(self.commands()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_with_the_same_state_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = State::lock(folder.path()).unwrap();
        let error = State::lock(folder.path()).err().unwrap().to_string();
        let expected = format!("Sandgate runs here already (process {})", std::process::id());
        assert!(error.starts_with(&expected), "{error}");
        drop(first);
        State::lock(folder.path()).unwrap();
    }

    #[test]
    fn the_gateway_token_is_created_once() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::lock(folder.path()).unwrap();
        let token = state.gateway_token().unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(state.gateway_token().unwrap(), token);
    }
}
