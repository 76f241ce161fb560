//! The files in which the agent reports its state: the ready file, the status file, and the metrics file.
//!
//! The agent does not listen on a port for them, so a sandbox can't reach them.

mod metrics;
mod status;

pub(crate) use metrics::Metrics;
pub(crate) use status::{Status, resident_bytes};

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::settings::Settings;

/// The paths of the files.
#[derive(Clone, Debug)]
pub(crate) struct ReportFiles {
    /// Exists while the agent is ready. Contains the number of the policy generation.
    pub(crate) ready: Option<PathBuf>,
    /// Exists while the agent runs. Contains the [`Status`].
    pub(crate) status: Option<PathBuf>,
    /// Exists while the agent runs. Contains the [`Metrics`].
    pub(crate) metrics: Option<PathBuf>,
}

impl ReportFiles {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            ready: settings.ready_file.clone(),
            status: settings.status_file.clone(),
            metrics: settings.metrics_file.clone(),
        }
    }

    /// Writes or removes the ready file, and writes the status file. An error is only logged, because it does not affect
    /// the enforcement.
    pub(crate) fn publish_status(&self, status: &Status) {
        let ready = self.ready.as_deref().map(|path| match status.ready {
            true => replace(path, &format!("{}\n", status.generation)),
            false => remove(path),
        });
        let status_file = self.status.as_deref().map(|path| {
            let text = serde_json::to_string(status).map_err(io::Error::other)?;
            replace(path, &format!("{text}\n"))
        });
        for error in ready.into_iter().chain(status_file).filter_map(Result::err) {
            tracing::error!("the agent's status can't be written: {error}");
        }
    }

    /// Writes the metrics file.
    pub(crate) fn publish_metrics(&self, metrics: &Metrics<'_>) {
        let Some(path) = &self.metrics else { return };
        if let Err(error) = replace(path, &metrics.text()) {
            tracing::error!("the agent's metrics can't be written: {error}");
        }
    }

    /// Removes the files.
    pub(crate) fn remove(&self) {
        for path in self.ready.iter().chain(&self.status).chain(&self.metrics) {
            drop(remove(path));
        }
    }
}

/// Replaces a file atomically.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // The name of the temporary file contains the whole name of the file and the id of this process, so that neither two
    // files nor two agents share a temporary file.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let partial = path.with_file_name(name);
    // An earlier process with the same id may have left a file. `create_new` follows no link that another
    // user created.
    remove(&partial)?;
    let mut file = File::options().write(true).create_new(true).open(&partial)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&partial, path)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_file_exists_only_while_the_agent_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        let files = ReportFiles { ready: Some(path.clone()), status: None, metrics: None };
        files.publish_status(&Status { ready: true, generation: 7, ..Status::default() });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7\n");
        files.publish_status(&Status::default());
        assert!(!path.exists());
        files.remove();
    }

    #[test]
    fn files_whose_names_differ_only_in_their_extension_do_not_share_a_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // The folder makes a write to a temporary file with this name fail.
        std::fs::create_dir(path("sandbox.part")).unwrap();
        for name in ["sandbox.ready", "sandbox.status"] {
            replace(&path(name), name).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path("sandbox.ready")).unwrap(), "sandbox.ready");
        assert_eq!(std::fs::read_to_string(path("sandbox.status")).unwrap(), "sandbox.status");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "a file is left over");
    }

    #[test]
    fn a_link_with_the_name_of_the_temporary_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (ready, other) = (folder.path().join("ready"), folder.path().join("other"));
        std::fs::write(&other, "precious").unwrap();
        let partial = format!("ready.{}.part", std::process::id());
        std::os::unix::fs::symlink(&other, folder.path().join(partial)).unwrap();
        replace(&ready, "7\n").unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
        assert!(!ready.is_symlink());
        assert_eq!(std::fs::read_to_string(&ready).unwrap(), "7\n");
    }
}
