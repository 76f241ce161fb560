//! What a client wants of one kind, what it has, and what it rejected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::kind::Kind;
use crate::session::Outcome;
use crate::session::bounds::{MAX_REASON, cut};
use crate::snapshot::{Snapshot, Version};
use crate::wire::DeltaDiscoveryRequest;

/// The name that subscribes to all resources of a kind.
const WILDCARD: &str = "*";

/// What the client has been told about a name.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Known {
    Version(Version),
    Absent,
}

/// A resource that a client has refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rejection {
    pub version: Version,
    pub reason: Arc<str>,
}

/// What a client has of one kind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KindStatus {
    /// The accepted resources.
    pub accepted: BTreeMap<String, Version>,
    /// The resources whose last response was rejected.
    pub rejected: BTreeMap<String, Rejection>,
    /// The number of responses without an answer.
    pub unanswered: usize,
}

/// The content of a response.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Change {
    pub(super) resources: Vec<String>,
    pub(super) removed: Vec<String>,
}

impl Change {
    fn len(&self) -> usize {
        self.resources.len() + self.removed.len()
    }
}

#[derive(Debug)]
pub(super) struct Subscription {
    kind: Kind,
    all: bool,
    names: BTreeSet<String>,
    known: BTreeMap<String, Known>,
    /// Names that are sent whatever the client has.
    again: BTreeSet<String>,
    /// Names that are sent in responses of their own.
    alone: BTreeSet<String>,
    /// A first request for all resources has a response, even if there are none: clients wait for it.
    owes_first_response: bool,
    unanswered: BTreeMap<String, BTreeMap<String, Option<Version>>>,
    /// The number of responses in `unanswered`, and of names in them.
    unanswered_size: usize,
    accepted: BTreeMap<String, Version>,
    rejected: BTreeMap<String, Rejection>,
}

impl Subscription {
    /// The subscription that the first request for a kind begins.
    pub(super) fn new(kind: Kind, first: &DeltaDiscoveryRequest, snapshot: &Snapshot) -> Self {
        let versions = first.initial_resource_versions.iter();
        let known: BTreeMap<String, Known> = versions
            .map(|(name, version)| (name.clone(), Known::Version(Version(version.as_str().into()))))
            .collect();
        let all = kind.has_wildcard() && first.resource_names_subscribe.is_empty();
        let accepted = known.iter().filter_map(|(name, known)| match known {
            Known::Version(version) if snapshot.resource(kind, name).is_some() => {
                Some((name.clone(), version.clone()))
            }
            _ => None,
        });
        Self {
            kind,
            all,
            names: BTreeSet::new(),
            accepted: accepted.collect(),
            known,
            again: BTreeSet::new(),
            alone: BTreeSet::new(),
            owes_first_response: all,
            unanswered: BTreeMap::new(),
            unanswered_size: 0,
            rejected: BTreeMap::new(),
        }
    }

    /// Takes what the request says about an earlier response. A nonce that is not known changes nothing.
    pub(super) fn take_answer(&mut self, request: &DeltaDiscoveryRequest) -> Option<Outcome> {
        let sent = self.unanswered.remove(&request.response_nonce)?;
        self.unanswered_size = self.unanswered_size.saturating_sub(sent.len() + 1);
        let Some(error) = &request.error_detail else {
            let resources = sent.len();
            for (name, version) in sent {
                self.rejected.remove(&name);
                match version {
                    Some(version) => self.accepted.insert(name, version),
                    None => self.accepted.remove(&name),
                };
            }
            return Some(Outcome::Accepted { kind: self.kind, resources });
        };
        // All resources share the reason, which a client may make as long as a request.
        let reason: Arc<str> = cut(&error.message, MAX_REASON).into();
        let resources: Vec<String> = sent.keys().cloned().collect();
        let is_group = resources.len() > 1;
        for (name, version) in sent {
            if is_group && version.is_some() {
                self.alone.insert(name.clone());
            }
            match version {
                Some(version) => {
                    self.rejected.insert(name, Rejection { version, reason: Arc::clone(&reason) })
                }
                // The resource does not exist, so no later response could end its rejection.
                None => self.rejected.remove(&name),
            };
        }
        Some(Outcome::Rejected { kind: self.kind, resources, reason })
    }

    /// Takes the names that the request adds and drops.
    pub(super) fn change_names(&mut self, request: &DeltaDiscoveryRequest) {
        for name in &request.resource_names_subscribe {
            if name == WILDCARD {
                self.owes_first_response |= !self.all;
                self.all = true;
            } else {
                // In the first request of a stream, a client lists what it has and subscribes to it again.
                let claims_it = request.initial_resource_versions.contains_key(name);
                if !claims_it || self.kind == Kind::Endpoints {
                    self.again.insert(name.clone());
                }
                self.names.insert(name.clone());
            }
        }
        for name in &request.resource_names_unsubscribe {
            if name == WILDCARD {
                self.all = false;
            } else if self.names.remove(name) && self.all {
                self.again.insert(name.clone());
            }
        }
        if !self.all {
            let names = &self.names;
            self.known.retain(|name, _| names.contains(name));
            self.accepted.retain(|name, _| names.contains(name));
            self.rejected.retain(|name, _| names.contains(name));
            self.again.retain(|name| names.contains(name));
            self.alone.retain(|name| names.contains(name));
        }
    }

    /// Sends a resource again, if the client subscribes to it.
    pub(super) fn send_again(&mut self, name: &str) {
        if self.all || self.names.contains(name) {
            self.again.insert(name.to_owned());
        }
    }

    /// What the client needs, except removals of what it has.
    pub(super) fn changes(&mut self, snapshot: &Snapshot) -> Vec<Change> {
        let mut together = Change::default();
        let mut changes = Vec::new();
        let again = std::mem::take(&mut self.again);
        let alone = std::mem::take(&mut self.alone);
        for (name, resource) in snapshot.of_kind(self.kind) {
            if !self.all && !self.names.contains(name) {
                continue;
            }
            let has_it = self.known.get(name) == Some(&Known::Version(resource.version.clone()));
            if alone.contains(name) {
                changes.push(Change { resources: vec![name.to_owned()], removed: Vec::new() });
            } else if !has_it || again.contains(name) {
                together.resources.push(name.to_owned());
            }
        }
        // What does not exist is said at once, unless the client has it: see `removals`.
        for name in self.names.iter().chain(again.difference(&self.names)) {
            let is_new = again.contains(name) || !self.known.contains_key(name);
            let has_it = matches!(self.known.get(name), Some(Known::Version(_)));
            if snapshot.resource(self.kind, name).is_none() && is_new && !has_it {
                together.removed.push(name.clone());
            }
        }
        if together.len() > 0 || std::mem::take(&mut self.owes_first_response) {
            self.owes_first_response = false;
            changes.insert(0, together);
        }
        changes
    }

    /// What the client has and should no longer have.
    pub(super) fn removals(&self, snapshot: &Snapshot) -> Vec<String> {
        if self.kind.is_kept() {
            return Vec::new();
        }
        let known = self.known.iter();
        known
            .filter(|(name, known)| {
                matches!(known, Known::Version(_)) && snapshot.resource(self.kind, name).is_none()
            })
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Remembers what a response says.
    pub(super) fn note_sent(&mut self, nonce: &str, change: &Change, snapshot: &Snapshot) {
        let mut sent = BTreeMap::new();
        for name in &change.resources {
            let Some(resource) = snapshot.resource(self.kind, name) else { continue };
            self.known.insert(name.clone(), Known::Version(resource.version.clone()));
            sent.insert(name.clone(), Some(resource.version.clone()));
        }
        for name in &change.removed {
            if self.names.contains(name) {
                self.known.insert(name.clone(), Known::Absent);
            } else {
                self.known.remove(name);
            }
            sent.insert(name.clone(), None);
        }
        self.unanswered_size += sent.len() + 1;
        self.unanswered.insert(nonce.to_owned(), sent);
    }

    /// The number of names that the client has subscribed to.
    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    /// The number of responses without an answer, and of names in them.
    pub(super) fn unanswered(&self) -> usize {
        self.unanswered_size
    }

    /// Whether the client has accepted everything that was sent.
    pub(super) fn is_settled(&self) -> bool {
        self.unanswered.is_empty() && self.rejected.is_empty()
    }

    /// The number of resources that the client should have and has not accepted.
    pub(super) fn pending(&self, snapshot: &Snapshot) -> usize {
        let wanted =
            snapshot.of_kind(self.kind).filter(|(name, _)| self.all || self.names.contains(*name));
        wanted
            .filter(|(name, resource)| self.accepted.get(*name) != Some(&resource.version))
            .count()
    }

    /// A resource that no longer exists is not rejected. It may be of a kind that is never removed from clients, and it is
    /// rejected again if it comes back with the same content, which is not sent again.
    pub(super) fn status(&self, snapshot: &Snapshot) -> KindStatus {
        let exists = |name: &String| snapshot.resource(self.kind, name).is_some();
        let rejected = self.rejected.iter().filter(|(name, _)| exists(name));
        KindStatus {
            accepted: self.accepted.clone(),
            rejected: rejected.map(|(name, why)| (name.clone(), why.clone())).collect(),
            unanswered: self.unanswered.len(),
        }
    }
}
