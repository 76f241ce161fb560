//! The resources that each node should have.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::members::Members;
use crate::snapshot::Snapshot;

/// The snapshots of all groups, and the one of the nodes that are in no group.
#[derive(Clone, Debug, Default)]
pub struct Snapshots {
    common: Arc<Snapshot>,
    groups: BTreeMap<String, Arc<Snapshot>>,
    members: Members,
}

impl Snapshots {
    /// `groups` has the snapshot of each group in `members`.
    #[must_use]
    pub fn new(common: Snapshot, groups: BTreeMap<String, Snapshot>, members: Members) -> Self {
        let groups = groups.into_iter().map(|(name, snapshot)| (name, Arc::new(snapshot)));
        Self { common: Arc::new(common), groups: groups.collect(), members }
    }

    /// The snapshot of a node.
    #[must_use]
    pub fn of(&self, node: &str) -> &Arc<Snapshot> {
        let group = self.members.group(node);
        group.and_then(|group| self.groups.get(group)).unwrap_or(&self.common)
    }

    /// The snapshot of the nodes in no group.
    #[must_use]
    pub fn common(&self) -> &Snapshot {
        &self.common
    }

    /// The snapshots of the groups, by name.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Snapshot)> {
        self.groups.iter().map(|(name, snapshot)| (name.as_str(), snapshot.as_ref()))
    }

    /// The snapshot of a group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Snapshot> {
        self.groups.get(name).map(AsRef::as_ref)
    }

    /// Uses the former snapshot where nothing changed, so that a stream sees that its own did not. Returns whether anything
    /// changed.
    pub fn reuse(&mut self, former: &Self) -> bool {
        let mut changed =
            self.members != former.members || self.groups.len() != former.groups.len();
        let pairs = self.groups.iter_mut().map(|(name, new)| (new, former.groups.get(name)));
        for (new, old) in pairs.chain([(&mut self.common, Some(&former.common))]) {
            match old {
                Some(old) if old.has_same_versions(new) => *new = Arc::clone(old),
                _ => changed = true,
            }
        }
        changed
    }
}

/// Nodes without groups.
impl From<Snapshot> for Snapshots {
    fn from(common: Snapshot) -> Self {
        Self::new(common, BTreeMap::new(), Members::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::snapshot::{Resource, Version};
    use crate::wire::Any;

    fn snapshot(version: &str) -> Snapshot {
        let resource = Resource {
            version: Version(version.into()),
            body: Any::default(),
            references: Vec::new(),
        };
        let mut snapshot = Snapshot::default();
        snapshot.insert(Kind::Cluster, "a", resource);
        snapshot
    }

    fn snapshots(common: &str, group: &str) -> Snapshots {
        let mut members = Members::default();
        members.add("eu-*", "eu").unwrap();
        let groups = BTreeMap::from([("eu".to_owned(), snapshot(group))]);
        Snapshots::new(snapshot(common), groups, members)
    }

    #[test]
    fn a_node_has_the_snapshot_of_its_group() {
        let snapshots = snapshots("1", "2");
        assert!(snapshots.of("eu-1").has_same_versions(&snapshot("2")));
        assert!(snapshots.of("us-1").has_same_versions(&snapshot("1")));
    }

    #[test]
    fn a_change_of_one_group_leaves_the_snapshots_of_the_others() {
        let former = snapshots("1", "2");
        let mut same = snapshots("1", "2");
        assert!(!same.reuse(&former));
        let mut other = snapshots("1", "3");
        assert!(other.reuse(&former));
        assert!(Arc::ptr_eq(other.of("us-1"), former.of("us-1")));
        assert!(!Arc::ptr_eq(other.of("eu-1"), former.of("eu-1")));
        let mut without = Snapshots::from(snapshot("1"));
        assert!(without.reuse(&former));
    }
}
