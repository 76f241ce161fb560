//! Follows the file of the desired state, and the files that it names.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::{BuildError, Loaded, build, groups, make};
use crate::snapshots::Snapshots;

/// The interval at which the files are read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A hash of the content of all files. What they lead to is made again only if it changes.
type Fingerprint = [u8; 32];

/// Publishes new snapshots whenever the state or a file that it names changes. A state that is not valid changes nothing, and
/// the log says why.
pub async fn follow(path: PathBuf, snapshots: watch::Sender<Arc<Snapshots>>) {
    let mut last_problem = String::new();
    let mut last_seen = None;
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let (file, active) = (path.clone(), Arc::clone(&snapshots.borrow()));
        let seen = last_seen;
        let read = tokio::task::spawn_blocking(move || read_again(&file, &active, seen)).await;
        let problem = match read {
            Ok(Ok(None)) => continue,
            Ok(Ok(Some(change))) => {
                last_seen = change.settled();
                match change.loaded {
                    Ok(loaded) => publish(loaded, &snapshots),
                    Err(error) => refused(&error),
                }
            }
            Ok(Err(error)) => refused(&error),
            Err(error) => format!("the desired state can't be read: {error}"),
        };
        if problem != last_problem && !problem.is_empty() {
            tracing::error!(path = %path.display(), "{problem}");
        }
        last_problem = problem;
    }
}

fn refused(error: &BuildError) -> String {
    format!("the desired state is not valid, and the former one stays active: {error}")
}

/// What the files lead to, after one of them has changed.
struct Change {
    fingerprint: Fingerprint,
    loaded: Result<Loaded, BuildError>,
}

impl Change {
    /// The fingerprint, if only another content of the files can lead to something else. The files are read twice, and a file may
    /// have been missing the second time only. So they are read again after anything that went wrong.
    fn settled(&self) -> Option<Fingerprint> {
        let went_well = self.loaded.as_ref().is_ok_and(|loaded| loaded.warnings.is_empty());
        went_well.then_some(self.fingerprint)
    }
}

/// Returns `None` if no file has changed.
fn read_again(
    path: &Path,
    active: &Snapshots,
    seen: Option<Fingerprint>,
) -> Result<Option<Change>, BuildError> {
    let text = build::read(path)?;
    let fingerprint = fingerprint(&text);
    let is_new = seen != Some(fingerprint);
    Ok(is_new.then(|| Change { fingerprint, loaded: make(&text, active) }))
}

fn fingerprint(text: &str) -> Fingerprint {
    let mut hash = Sha256::new();
    hash.update(text);
    // A state that can't be parsed names no files.
    let state = groups::parse(text).ok();
    let settings = state.iter().flat_map(|state| state.groups.values().chain([&state.common]));
    for file in settings.flat_map(super::EdgeSettings::files) {
        match std::fs::read(file) {
            Ok(content) => hash.update(Sha256::digest(content)),
            Err(error) => hash.update(error.to_string()),
        }
    }
    hash.finalize().into()
}

/// Returns what is wrong with a part of the state.
fn publish(loaded: Loaded, snapshots: &watch::Sender<Arc<Snapshots>>) -> String {
    let Loaded { snapshots: mut new, warnings } = loaded;
    let changed = snapshots.send_if_modified(|active| {
        let changed = new.reuse(active);
        if changed {
            *active = Arc::new(std::mem::take(&mut new));
        }
        changed
    });
    if changed {
        tracing::info!("the desired state changed");
    }
    warnings.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The attack: a new gateway token is in the file, and the process can't open the file at the moment when the resources are made.
    #[test]
    fn files_that_could_not_be_used_are_read_again_also_if_they_have_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (state, token) = (dir.path().join("state.yaml"), dir.path().join("token"));
        let text = format!(
            "version: 1\nedge:\n  domain: sandbox.example.com\n  sandbox_network: 10.64.0.0/16\n  \
             control_plane_address: control-plane\n  gateway_token_file: {}\n",
            token.display()
        );
        std::fs::write(&state, text).unwrap();
        std::fs::write(&token, "0123456789abcdef").unwrap();
        let active = Snapshots::default();
        let good = read_again(&state, &active, None).unwrap().unwrap();
        assert!(good.loaded.is_ok(), "{:?}", good.loaded.as_ref().err());
        let seen = good.settled();
        assert!(seen.is_some());
        assert!(read_again(&state, &active, seen).unwrap().is_none(), "nothing has changed");
        std::fs::write(&token, "short").unwrap();
        let refused = read_again(&state, &active, seen).unwrap().unwrap();
        assert!(refused.loaded.is_err() && refused.settled().is_none());
        assert!(read_again(&state, &active, refused.settled()).unwrap().is_some());
    }
}
