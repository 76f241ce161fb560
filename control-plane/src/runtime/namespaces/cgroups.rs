//! Cgroups (version 2) of sandboxes. They freeze and kill all processes of a sandbox at once, whatever these do meanwhile.
//!
//! Some machines have no cgroup v2, and containers often can't write to it. There, a suspended sandbox ends, and starts anew when it
//! is resumed, and namespaces of process ids end its processes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandgate_netns::Prefix;
use tokio::time::{Instant, sleep};

use crate::runtime::RuntimeError;

/// The longest time until a cgroup is frozen, thawed, or empty.
const LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);
const KILL: &str = "cgroup.kill";
const FREEZE: &str = "cgroup.freeze";
/// The limits of the cgroup of a sandbox, where the machine's first cgroup has these controllers.
const LIMITS: [(&str, &str); 2] = [("memory.max", "1G"), ("pids.max", "512")];

/// The cgroups of a server's sandboxes: `sandgate-…/NAME` at the root of the hierarchy, so that a later server finds them.
#[derive(Clone, Debug)]
pub(super) struct Cgroups {
    root: Option<PathBuf>,
}

/// A cgroup. It may not exist.
#[derive(Clone, Debug)]
pub(super) struct Cgroup(PathBuf);

impl Cgroups {
    /// The place of the cgroups, whether or not it exists.
    pub(super) fn find(prefix: &Prefix) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self { root: hierarchy(&mounts).map(|mount| mount.join(prefix.to_string())) }
    }

    /// Makes the place of the cgroups.
    pub(super) fn create(prefix: &Prefix) -> Self {
        let Self { root } = Self::find(prefix);
        let root = root.filter(|root| std::fs::create_dir(root).is_ok());
        // Linux 5.14 has both.
        let is_complete =
            |root: &PathBuf| [KILL, FREEZE].iter().all(|file| root.join(file).exists());
        let root = root.filter(is_complete);
        if let Some(root) = &root {
            for controller in ["+memory", "+pids"] {
                if std::fs::write(root.join("cgroup.subtree_control"), controller).is_err() {
                    tracing::info!(
                        "cgroup v2 has no controller `{controller}` for sandboxes, so that limit is missing"
                    );
                }
            }
        }
        Self { root }
    }

    pub(super) fn are_available(&self) -> bool {
        self.root.is_some()
    }

    /// Makes a cgroup. `name` is a file name.
    pub(super) fn make(&self, name: &str) -> Result<Option<Cgroup>, RuntimeError> {
        let Some(root) = &self.root else { return Ok(None) };
        let path = root.join(name);
        std::fs::create_dir(&path).map_err(|error| {
            RuntimeError::failed(format!("the cgroup `{}` can't be made: {error}", path.display()))
        })?;
        Ok(Some(Cgroup(path)))
    }

    /// The cgroup with this name.
    pub(super) fn named(&self, name: &str) -> Option<Cgroup> {
        self.root.as_ref().map(|root| Cgroup(root.join(name)))
    }

    /// Kills all processes, and removes all cgroups. Returns an error for each one that stays.
    pub(super) fn remove_all(&self) -> Vec<String> {
        let Some(root) = &self.root else { return Vec::new() };
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        let cgroups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut errors: Vec<_> =
            cgroups.filter_map(|entry| Cgroup(entry.path()).remove().err()).collect();
        errors.extend(Cgroup(root.clone()).remove().err());
        errors
    }
}

impl Cgroup {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Limits memory and processes, where the machine's cgroups can do that.
    pub(super) fn limit(&self) -> Result<(), RuntimeError> {
        for (file, limit) in LIMITS {
            let path = self.0.join(file);
            if path.exists() {
                std::fs::write(&path, limit).map_err(|error| {
                    RuntimeError::failed(format!("`{}` can't be written: {error}", path.display()))
                })?;
            }
        }
        Ok(())
    }

    pub(super) async fn freeze(&self) -> Result<(), RuntimeError> {
        self.set_frozen(true).await
    }

    pub(super) async fn thaw(&self) -> Result<(), RuntimeError> {
        self.set_frozen(false).await
    }

    async fn set_frozen(&self, frozen: bool) -> Result<(), RuntimeError> {
        let failed = |error: String| {
            RuntimeError::failed(format!("the cgroup `{}` {error}", self.0.display()))
        };
        let value = if frozen { "1" } else { "0" };
        std::fs::write(self.0.join(FREEZE), value)
            .map_err(|error| failed(format!("can't be written: {error}")))?;
        let begun = Instant::now();
        let expected = format!("frozen {value}");
        loop {
            let events = std::fs::read_to_string(self.0.join("cgroup.events")).unwrap_or_default();
            if events.lines().any(|line| line == expected) {
                return Ok(());
            }
            if begun.elapsed() > LIMIT {
                return Err(failed(format!("is not `{expected}` after {LIMIT:?}")));
            }
            sleep(PAUSE).await;
        }
    }

    /// Kills all processes, and removes the cgroup. Succeeds if it does not exist.
    pub(super) fn remove(&self) -> Result<(), String> {
        let begun = std::time::Instant::now();
        loop {
            if !self.0.exists() {
                return Ok(());
            }
            // A frozen process dies too. Without the file, other means must have killed them.
            drop(std::fs::write(self.0.join(KILL), "1"));
            match std::fs::remove_dir(&self.0) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) if begun.elapsed() > LIMIT => {
                    return Err(format!("the cgroup `{}`: {error}", self.0.display()));
                }
                // A process that was killed is still a member until it has ended.
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }
}

/// Where cgroup v2 is mounted, by the lines of `/proc/self/mounts`.
fn hierarchy(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| path.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_version_is_found_beside_the_first() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(hierarchy(mounts).unwrap(), Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(hierarchy("tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"), None);
    }
}
