//! The protocol of one stream, without I/O and without a clock.
//!
//! A [`Session`] takes the requests of a client, new snapshots and the time, and returns the responses to send, in order. It
//! knows what the client has: what was sent on this stream, and what the client said it had when the stream began. A
//! response contains what differs from that.
//!
//! - Changes go out in the order of [`Kind`]: clusters, endpoints, secrets, filters, listeners, routes.
//! - A removal waits until the client has accepted all changes of the kinds whose resources may name the removed one, or until
//!   [`REMOVAL_DELAY`] is over. Filters and secrets are never removed while the client subscribes to them.
//! - A rejected resource is not sent again until it changes, or until the client asks for it. If a response with several
//!   resources is rejected, each is sent once more in a response of its own, so that one bad resource does not stop the
//!   others and the status names it.

mod bounds;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::kind::Kind;
use crate::snapshot::Snapshot;
use crate::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};

pub(crate) use self::bounds::cut;
pub use self::bounds::{Excess, MAX_NAME, MAX_NAMES, MAX_REASON, MAX_UNANSWERED};
use self::subscription::{Change, Subscription};
pub use self::subscription::{KindStatus, Rejection};

/// The longest time that a removal waits for changes of other kinds. A client that rejects a listener must not keep a removed
/// cluster for ever.
pub const REMOVAL_DELAY: Duration = Duration::from_secs(5);

/// What happened to a response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The client uses the resources.
    Accepted { kind: Kind, resources: usize },
    /// The client has refused the response, for this reason.
    Rejected { kind: Kind, resources: Vec<String>, reason: Arc<str> },
}

/// What a request leads to.
#[derive(Debug, Default)]
pub struct Reaction {
    pub responses: Vec<DeltaDiscoveryResponse>,
    pub outcome: Option<Outcome>,
}

/// One stream of one client.
#[derive(Debug)]
pub struct Session {
    snapshot: Arc<Snapshot>,
    subscriptions: BTreeMap<Kind, Subscription>,
    last_nonce: u64,
    /// When the removals that wait now are sent at the latest. The time counts from the start of the stream.
    removals_due: Option<Duration>,
}

impl Session {
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, subscriptions: BTreeMap::new(), last_nonce: 0, removals_due: None }
    }

    /// Takes a request of the client. A request for a kind that the server does not know has no response.
    ///
    /// # Errors
    ///
    /// If the client exceeds a bound. Its stream must end.
    pub fn on_request(
        &mut self,
        mut request: DeltaDiscoveryRequest,
        now: Duration,
    ) -> Result<Reaction, Excess> {
        let Some(kind) = Kind::from_type_url(&request.type_url) else {
            return Ok(Reaction::default());
        };
        bounds::check(&request)?;
        if self.subscriptions.contains_key(&kind) {
            // Only the first request of a kind may say what the client has.
            request.initial_resource_versions.clear();
        }
        let subscription = self
            .subscriptions
            .entry(kind)
            .or_insert_with(|| Subscription::new(kind, &request, &self.snapshot));
        let outcome = subscription.take_answer(&request);
        subscription.change_names(&request);
        if subscription.names() > MAX_NAMES {
            return Err(Excess::Names);
        }
        let responses = self.respond(now);
        Ok(Reaction { responses, outcome })
    }

    /// Takes new resources.
    pub fn on_snapshot(
        &mut self,
        snapshot: Arc<Snapshot>,
        now: Duration,
    ) -> Vec<DeltaDiscoveryResponse> {
        self.snapshot = snapshot;
        self.respond(now)
    }

    /// Takes the time. Call it when [`Session::wake_at`] is reached.
    pub fn on_time(&mut self, now: Duration) -> Vec<DeltaDiscoveryResponse> {
        self.respond(now)
    }

    /// When the session has something to send even if nothing happens.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        self.removals_due
    }

    /// What the client has, by kind.
    #[must_use]
    pub fn status(&self) -> BTreeMap<Kind, KindStatus> {
        let each = self.subscriptions.iter();
        each.map(|(kind, subscription)| (*kind, subscription.status(&self.snapshot))).collect()
    }

    /// The number of resources that the client should have and has not accepted.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.subscriptions.values().map(|subscription| subscription.pending(&self.snapshot)).sum()
    }

    /// Whether the client has left too many responses without an answer.
    ///
    /// # Errors
    ///
    /// If it has. Its stream must end.
    pub fn check_unanswered(&self) -> Result<(), Excess> {
        let unanswered: usize = self.subscriptions.values().map(Subscription::unanswered).sum();
        if unanswered > MAX_UNANSWERED { Err(Excess::Unanswered) } else { Ok(()) }
    }

    fn respond(&mut self, now: Duration) -> Vec<DeltaDiscoveryResponse> {
        let mut responses = Vec::new();
        let mut needed: BTreeSet<(Kind, String)> = BTreeSet::new();
        for kind in Kind::ALL {
            let Some(subscription) = self.subscriptions.get_mut(&kind) else { continue };
            // A client prepares a changed cluster anew, and may wait for its endpoints although it has them.
            for (of_kind, name) in &needed {
                if *of_kind == kind {
                    subscription.send_again(name);
                }
            }
            for change in subscription.changes(&self.snapshot) {
                for name in &change.resources {
                    let resource = self.snapshot.resource(kind, name);
                    needed.extend(resource.into_iter().flat_map(|it| it.references.clone()));
                }
                responses.push(self.response(kind, change));
            }
        }
        responses.extend(self.removals(now));
        responses
    }

    fn removals(&mut self, now: Duration) -> Vec<DeltaDiscoveryResponse> {
        let mut responses = Vec::new();
        let is_overdue = self.removals_due.is_some_and(|due| due <= now);
        let mut waiting = false;
        // Listeners and routes first: they name the others.
        for kind in Kind::ALL.into_iter().rev() {
            let Some(subscription) = self.subscriptions.get(&kind) else { continue };
            let removed = subscription.removals(&self.snapshot);
            if removed.is_empty() {
                continue;
            }
            if !is_overdue && !kind.referrers().iter().all(|kind| self.is_settled(*kind)) {
                waiting = true;
                continue;
            }
            responses.push(self.response(kind, Change { resources: Vec::new(), removed }));
        }
        self.removals_due = match (waiting, self.removals_due) {
            (false, _) => None,
            (true, Some(due)) if due > now => Some(due),
            (true, _) => Some(now + REMOVAL_DELAY),
        };
        responses
    }

    /// Whether the client has accepted what was sent of a kind. A client may not have subscribed to the kind yet.
    fn is_settled(&self, kind: Kind) -> bool {
        self.subscriptions.get(&kind).is_some_and(Subscription::is_settled)
    }

    fn response(&mut self, kind: Kind, change: Change) -> DeltaDiscoveryResponse {
        self.last_nonce += 1;
        let nonce = self.last_nonce.to_string();
        let named = |name: &String| {
            let resource = self.snapshot.resource(kind, name)?;
            Some(Resource {
                version: resource.version.0.to_string(),
                resource: Some(resource.body.clone()),
                name: name.clone(),
            })
        };
        let resources = change.resources.iter().filter_map(named).collect();
        if let Some(subscription) = self.subscriptions.get_mut(&kind) {
            subscription.note_sent(&nonce, &change, &self.snapshot);
        }
        DeltaDiscoveryResponse {
            system_version_info: String::new(),
            resources,
            type_url: kind.type_url(),
            nonce,
            removed_resources: change.removed,
        }
    }
}
