//! The desired state: one typed file, from which the resources of all edges are made.

mod build;
mod follow;
mod groups;
mod settings;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

pub(crate) use self::build::bootstrap;
pub use self::build::{BuildError, Built, build};
use self::build::{Unreadable, build_with};
pub use self::follow::follow;
pub use self::groups::{DesiredState, parse};
pub use self::settings::{EdgeSettings, Module};
use crate::kind::Kind;
use crate::snapshot::Snapshot;
use crate::snapshots::Snapshots;
use crate::yaml::YamlError;

/// The text is not a desired state.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StateError {
    #[error("not YAML: {0}")]
    Yaml(#[from] YamlError),
    #[error("`{path}`: {reason}")]
    Field { path: String, reason: String },
    #[error("`version` is {0}, and this program reads version 1")]
    Version(u32),
}

/// The resources of all edges, and what is left out of them.
#[derive(Debug)]
pub struct Loaded {
    pub snapshots: Snapshots,
    /// One sentence for each resource that is left out.
    pub warnings: Vec<String>,
}

/// Reads the desired state for the first time.
///
/// # Errors
///
/// If the state is not valid: without one, the server has nothing to send.
pub fn load(path: &Path) -> Result<Loaded, BuildError> {
    make(&build::read(path)?, &Snapshots::default())
}

/// Reads the desired state again. A certificate that can't be read for a moment must not close the TLS listeners of all edges,
/// so the state is refused if the active one has a certificate.
///
/// # Errors
///
/// If the state is not valid. The active one stays active.
pub fn load_next(path: &Path, active: &Snapshots) -> Result<Loaded, BuildError> {
    make(&build::read(path)?, active)
}

fn make(text: &str, active: &Snapshots) -> Result<Loaded, BuildError> {
    let DesiredState { common, groups, members } = parse(text)?;
    let common = build_after(&common, Some(active.common()))?;
    let mut warnings = common.warnings;
    let mut snapshots = BTreeMap::new();
    for (name, settings) in groups {
        let built = build_after(&settings, active.group(&name));
        let built = built
            .map_err(|reason| BuildError::Group { name: name.clone(), reason: Box::new(reason) })?;
        warnings.extend(built.warnings.iter().map(|warning| format!("group `{name}`: {warning}")));
        snapshots.insert(name, built.snapshot);
    }
    Ok(Loaded { snapshots: Snapshots::new(common.snapshot, snapshots, members), warnings })
}

fn build_after(settings: &EdgeSettings, active: Option<&Snapshot>) -> Result<Built, BuildError> {
    let certificate = active.and_then(|it| it.resource(Kind::Secret, build::CERTIFICATE));
    let unreadable = if certificate.is_some() { Unreadable::Refuse } else { Unreadable::LeaveOut };
    build_with(settings, unreadable)
}

/// A list of resources with their versions, for people and tests.
#[must_use]
pub fn summary(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        for (name, resource) in snapshot.of_kind(kind) {
            // Writing to a string can't fail.
            let _: std::fmt::Result = writeln!(text, "{kind} {name} {}", resource.version.0);
        }
    }
    text
}
