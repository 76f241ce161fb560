//! The file as a whole: the settings of each group of edges, and the nodes of each group.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::StateError;
use super::settings::EdgeSettings;
use crate::members::Members;
use crate::yaml::parse_yaml;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    edge: Map<String, Value>,
    #[serde(default)]
    groups: BTreeMap<String, Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    nodes: Vec<String>,
    /// What differs from the common settings.
    edge: Map<String, Value>,
}

/// The desired state of all edges.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredState {
    /// The settings of the edges in no group.
    pub common: EdgeSettings,
    /// The settings of each group, by its name.
    pub groups: BTreeMap<String, EdgeSettings>,
    pub members: Members,
}

impl DesiredState {
    /// The settings of a node.
    #[must_use]
    pub fn of(&self, node: &str) -> &EdgeSettings {
        let group = self.members.group(node);
        group.and_then(|group| self.groups.get(group)).unwrap_or(&self.common)
    }
}

/// Parses a desired state.
///
/// # Errors
///
/// If a field is missing, unknown, or has a wrong type; the error names its path.
pub fn parse(text: &str) -> Result<DesiredState, StateError> {
    let json = parse_yaml(text)?;
    let file: File = serde_path_to_error::deserialize(&json).map_err(|error| {
        StateError::Field { path: error.path().to_string(), reason: error.inner().to_string() }
    })?;
    if file.version != 1 {
        return Err(StateError::Version(file.version));
    }
    let common = EdgeSettings::from_json(&Value::Object(file.edge.clone()), "edge")?;
    let mut groups = BTreeMap::new();
    let mut members = Members::default();
    for (name, group) in file.groups {
        let nodes = || format!("groups.{name}.nodes");
        if group.nodes.is_empty() {
            let reason = "a group has at least one node".to_owned();
            return Err(StateError::Field { path: nodes(), reason });
        }
        for node in &group.nodes {
            members
                .add(node, &name)
                .map_err(|error| StateError::Field { path: nodes(), reason: error.to_string() })?;
        }
        let mut edge = file.edge.clone();
        edge.extend(group.edge);
        let settings = EdgeSettings::from_json(&edge.into(), &format!("groups.{name}.edge"))?;
        groups.insert(name, settings);
    }
    Ok(DesiredState { common, groups, members })
}
