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
                last_seen = Some(change.fingerprint);
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
