//! Follows the file of the desired state, and the files that it names.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{BuildError, Built, CERTIFICATE, Unreadable, build, build_with, parse};
use crate::kind::Kind;
use crate::snapshot::Snapshot;

/// The interval at which the files are read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the desired state for the first time.
///
/// # Errors
///
/// If the state is not valid: without one, the server has nothing to send.
pub fn load(path: &Path) -> Result<Built, BuildError> {
    let text = super::read(path)?;
    build(&parse(&text)?)
}

/// Reads the desired state again. A certificate that can't be read for a moment must not close the TLS listeners of all edges,
/// so the state is refused if the active one has a certificate.
///
/// # Errors
///
/// If the state is not valid. The active one stays active.
pub fn load_next(path: &Path, active: &Snapshot) -> Result<Built, BuildError> {
    let has_certificate = active.resource(Kind::Secret, CERTIFICATE).is_some();
    let unreadable = if has_certificate { Unreadable::Refuse } else { Unreadable::LeaveOut };
    build_with(&parse(&super::read(path)?)?, unreadable)
}

/// Publishes a new snapshot whenever the state, the gateway token, or the certificate changes. A state that is not valid
/// changes nothing, and the log says why.
pub async fn follow(path: PathBuf, snapshots: watch::Sender<Arc<Snapshot>>) {
    let mut last_problem = String::new();
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let file = path.clone();
        let active = Arc::clone(&snapshots.borrow());
        let built = tokio::task::spawn_blocking(move || load_next(&file, &active)).await;
        let problem = match built {
            Ok(Ok(built)) => publish(built, &snapshots),
            Ok(Err(error)) => {
                format!("the desired state is not valid, and the former one stays active: {error}")
            }
            Err(error) => format!("the desired state can't be read: {error}"),
        };
        if problem != last_problem && !problem.is_empty() {
            tracing::error!(path = %path.display(), "{problem}");
        }
        last_problem = problem;
    }
}

/// Returns what is wrong with a part of the state.
fn publish(built: Built, snapshots: &watch::Sender<Arc<Snapshot>>) -> String {
    let changed = snapshots.send_if_modified(|active| {
        let is_new = !has_same_versions(active, &built.snapshot);
        if is_new {
            *active = Arc::new(built.snapshot);
        }
        is_new
    });
    if changed {
        tracing::info!("the desired state changed");
    }
    built.warnings.join("; ")
}

/// Compares versions, because the bytes of a resource may differ from one encoding to the next.
fn has_same_versions(one: &Snapshot, other: &Snapshot) -> bool {
    super::summary(one) == super::summary(other)
}
