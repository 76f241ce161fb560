//! The resources that one node should have.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::kind::Kind;
use crate::wire::Any;

/// A hash of a resource's content. A counter would repeat itself after a restart of the server, and clients would keep what
/// they have.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version(pub Arc<str>);

/// A resource, as clients receive it. Its `Debug` leaves out the content, which may be a secret.
#[derive(Clone, PartialEq)]
pub struct Resource {
    pub version: Version,
    pub body: Any,
    /// The resources that this one names.
    pub references: Vec<(Kind, String)>,
}

impl fmt::Debug for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = formatter.debug_struct("Resource");
        text.field("version", &self.version).field("references", &self.references);
        text.finish_non_exhaustive()
    }
}

/// All resources of a node at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    resources: BTreeMap<Kind, BTreeMap<String, Resource>>,
}

/// A resource that names another one that does not exist.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the {kind} `{name}` names the {missing_kind} `{missing}`, which does not exist")]
pub struct Dangling {
    pub kind: Kind,
    pub name: String,
    pub missing_kind: Kind,
    pub missing: String,
}

impl Snapshot {
    /// Adds a resource, and returns the one that had its name.
    pub fn insert(&mut self, kind: Kind, name: &str, resource: Resource) -> Option<Resource> {
        self.resources.entry(kind).or_default().insert(name.to_owned(), resource)
    }

    /// Removes a resource.
    pub fn remove(&mut self, kind: Kind, name: &str) -> Option<Resource> {
        self.resources.get_mut(&kind)?.remove(name)
    }

    #[must_use]
    pub fn resource(&self, kind: Kind, name: &str) -> Option<&Resource> {
        self.resources.get(&kind)?.get(name)
    }

    /// The resources of a kind by name, in the order of their names.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&str, &Resource)> {
        let of_kind = self.resources.get(&kind).into_iter().flatten();
        of_kind.map(|(name, resource)| (name.as_str(), resource))
    }

    /// Whether both have the same resources. The bytes of a resource may differ from one encoding to the next.
    #[must_use]
    pub fn has_same_versions(&self, other: &Self) -> bool {
        let versions = |snapshot: &Self| {
            let kinds = snapshot.resources.iter();
            let versions = kinds.flat_map(|(kind, of_kind)| {
                of_kind.iter().map(|(name, it)| (*kind, name.clone(), it.version.clone()))
            });
            versions.collect::<Vec<_>>()
        };
        versions(self) == versions(other)
    }

    /// Removes the resources that name a resource.
    pub fn remove_referrers(&mut self, kind: Kind, name: &str) {
        let names_it = |(of_kind, of_name): &(Kind, String)| *of_kind == kind && of_name == name;
        for of_kind in self.resources.values_mut() {
            of_kind.retain(|_, resource| !resource.references.iter().any(names_it));
        }
    }

    /// Removes the resources that name one that does not exist, and those that name a removed one. A listener that waited
    /// for such a resource would never serve. The others are not affected.
    pub fn remove_dangling(&mut self) -> Vec<Dangling> {
        let mut removed = Vec::new();
        while let Some(dangling) = self.first_dangling() {
            self.remove(dangling.kind, &dangling.name);
            removed.push(dangling);
        }
        removed
    }

    fn first_dangling(&self) -> Option<Dangling> {
        for (kind, of_kind) in &self.resources {
            for (name, resource) in of_kind {
                let mut references = resource.references.iter();
                let missing = references.find(|(kind, name)| self.resource(*kind, name).is_none());
                if let Some((missing_kind, missing)) = missing {
                    return Some(Dangling {
                        kind: *kind,
                        name: name.clone(),
                        missing_kind: *missing_kind,
                        missing: missing.clone(),
                    });
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(references: &[(Kind, &str)]) -> Resource {
        Resource {
            version: Version("1".into()),
            body: Any::default(),
            references: references.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect(),
        }
    }

    #[test]
    fn a_listener_whose_secret_does_not_exist_is_left_out_and_the_others_stay() {
        let mut snapshot = Snapshot::default();
        snapshot.insert(Kind::Listener, "plain", naming(&[(Kind::Route, "edge")]));
        snapshot.insert(Kind::Listener, "tls", naming(&[(Kind::Secret, "certificate")]));
        snapshot.insert(Kind::Route, "edge", naming(&[]));
        let removed = snapshot.remove_dangling();
        assert_eq!(
            removed.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["the listener `tls` names the secret `certificate`, which does not exist"]
        );
        assert!(snapshot.resource(Kind::Listener, "plain").is_some());
        assert!(snapshot.resource(Kind::Listener, "tls").is_none());
    }
}
