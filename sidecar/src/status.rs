//! What the agent says of itself: a file that is there while it is ready, one with the details, and one
//! with what it counts.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::metrics::Numbers;
use crate::settings::Bounds;

/// How the agent is.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Status {
    /// Whether all three enforcers have the generation, and the sandbox has its way out.
    pub ready: bool,
    /// The generation that is in force everywhere; 0 before the first.
    pub generation: u64,
    /// Why something newer is not in force, or why there is no way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How often Envoy had to be started again.
    pub envoy_restarts: u64,
    /// How many connections of the sandbox Envoy takes at the same time.
    pub envoy_max_connections: u32,
    /// How large Envoy's heap may become, in bytes.
    pub envoy_max_heap_bytes: u64,
    /// Memory of Envoy, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy_resident_bytes: Option<u64>,
    /// Memory of the agent, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_resident_bytes: Option<u64>,
}

impl Status {
    /// Before the first policy.
    #[must_use]
    pub fn of(bounds: Bounds) -> Self {
        Self {
            envoy_max_connections: bounds.connections,
            envoy_max_heap_bytes: bounds.heap,
            ..Self::default()
        }
    }
}

/// The files.
#[derive(Clone, Debug)]
pub struct Files {
    /// There while the agent is ready; holds the generation.
    pub ready: Option<PathBuf>,
    /// There while the agent lives; holds [`Status`].
    pub status: Option<PathBuf>,
    /// There while the agent lives; holds [`crate::metrics`].
    pub metrics: Option<PathBuf>,
}

impl Files {
    /// Says how it is. What can't be written is logged: it changes nothing about what is enforced.
    pub fn say(&self, status: &Status) {
        let ready = self.ready.as_deref().map(|path| match status.ready {
            true => replace(path, &format!("{}\n", status.generation)),
            false => remove(path),
        });
        let details = self.status.as_deref().map(|path| {
            let text = serde_json::to_string(status).map_err(io::Error::other)?;
            replace(path, &format!("{text}\n"))
        });
        for error in ready.into_iter().chain(details).filter_map(Result::err) {
            tracing::error!("the agent's state can't be written: {error}");
        }
    }

    /// Says what was counted, where that is wanted.
    pub fn count(&self, numbers: &Numbers<'_>) {
        let Some(path) = &self.metrics else { return };
        if let Err(error) = replace(path, &numbers.text()) {
            tracing::error!("the agent's metrics can't be written: {error}");
        }
    }

    /// Takes all away.
    pub fn remove(&self) {
        for path in self.ready.iter().chain(&self.status).chain(&self.metrics) {
            drop(remove(path));
        }
    }
}

/// Whole or not at all, for whoever reads it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // The temporary file is in the same folder. Its name has the file's whole name and this process's id, so
    // neither two files nor two agents share it.
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

/// How much of a process is in memory, in bytes (`VmRSS` of proc(5), which counts in KiB).
#[must_use]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_file_is_there_only_while_ready() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        let files = Files { ready: Some(path.clone()), status: None, metrics: None };
        files.say(&Status { ready: true, generation: 7, ..Status::default() });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7\n");
        files.say(&Status::default());
        assert!(!path.exists());
        files.remove();
    }

    #[test]
    fn files_whose_names_differ_in_the_last_part_only_do_not_share_a_temporary_file() {
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
    fn a_link_in_the_place_of_the_temporary_file_is_not_followed() {
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

    #[test]
    fn memory_is_that_of_the_process() {
        let own = resident_bytes(std::process::id()).unwrap();
        assert!(own > 1 << 20 && own < 1 << 32, "{own}");
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
