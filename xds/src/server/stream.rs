//! One stream: its authentication, and the loop around its session.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use super::large::Large;
use super::{CertifiedNames, Shared};
use crate::envoy_version;
use crate::keys::MAX_NODE;
use crate::nodes::StreamGuard;
use crate::session::{Excess, MAX_REASON, Outcome, Reaction, Session, cut};
use crate::snapshots::Snapshots;
use crate::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

type Responses = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;

/// The node that the credentials of a call belong to. Has no `Debug`, because the token is secret.
pub(super) struct Peer {
    node: String,
    token: Vec<u8>,
    /// Reports when the token may have become invalid.
    changes: watch::Receiver<()>,
}

impl Peer {
    pub(super) fn node(&self) -> &str {
        &self.node
    }
}

/// Takes the node from the credentials of a call.
///
/// # Errors
///
/// If there is no valid token, or no certificate for its node where one is needed.
pub(super) fn authenticate(
    shared: &Shared,
    metadata: &MetadataMap,
    certified: Option<&CertifiedNames>,
) -> Result<Peer, Status> {
    // Before the check, so that no change is missed.
    let changes = shared.credentials.changes();
    let mut values = metadata.get_all("authorization").iter();
    let token = match (values.next(), values.next()) {
        (Some(value), None) => value.as_encoded_bytes().strip_prefix(b"Bearer "),
        _ => None,
    };
    let found = token.and_then(|token| Some((shared.credentials.node_of(token)?, token.to_vec())));
    let (node, token) = found.ok_or_else(|| {
        Status::unauthenticated("send `authorization: Bearer <token of the node>`")
    })?;
    if shared.needs_certificate && !certified.is_some_and(|names| (names.0)(&node)) {
        return Err(Status::unauthenticated("the certificate is not for the node of the token"));
    }
    Ok(Peer { node, token, changes })
}

/// Serves a stream until the client, the server, or the stream's age ends it.
pub(super) async fn run(
    shared: Arc<Shared>,
    peer: Peer,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: Responses,
) {
    let node = peer.node.clone();
    let end = serve(&shared, peer, requests, &responses).await;
    tracing::info!(node, reason = end.message(), "an xDS stream ended");
    // The client may be gone, or read nothing.
    let _ = timeout(Duration::from_secs(1), responses.send(Err(end))).await;
}

async fn serve(
    shared: &Shared,
    mut peer: Peer,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: &Responses,
) -> Status {
    let mut snapshots = shared.source.subscribe(&peer.node);
    let mut stopping = shared.stopping.clone();
    let first = timeout(shared.limits.first_request, requests.message()).await;
    let first = match first {
        Ok(Ok(Some(request))) => request,
        Ok(Ok(None)) => return Status::ok("the client ended the stream"),
        Ok(Err(status)) => return status,
        Err(_) => return Status::deadline_exceeded("the stream began without a request"),
    };
    let Some(client) = first.node.clone() else {
        return Status::invalid_argument("the first request names no node");
    };
    if client.id != peer.node {
        return foreign_node(shared, &peer, &client.id);
    }
    if let Err(too_old) = envoy_version::check(&client) {
        tracing::error!(node = peer.node, %too_old, "an edge was refused");
        return Status::failed_precondition(too_old.to_string());
    }
    // Envoy's name is short; a client may send anything.
    let agent = cut(&client.user_agent_name, 64);
    tracing::info!(node = peer.node, agent, "an xDS stream began");
    let guard = shared.nodes.connect(&peer.node, agent);
    let began = Instant::now();
    let age = shared.limits.stream_age;
    // So that not all nodes come back at once.
    let end_at = began + age - age.mul_f64(spread(&peer.node) / 10.0);
    // The node is the one of the credential, so that no client gets the resources of another group.
    let own = |snapshots: &mut watch::Receiver<Arc<Snapshots>>| {
        Arc::clone(snapshots.borrow_and_update().of(&peer.node))
    };
    let mut snapshot = own(&mut snapshots);
    let mut session = Session::new(Arc::clone(&snapshot));
    let mut large = Large::new(&peer.node, shared.limits);
    let mut next = Some(first);
    loop {
        let wake_at = session.wake_at();
        let to_send = if let Some(request) = next.take() {
            if request.node.as_ref().is_some_and(|node| node.id != peer.node) {
                let other = request.node.map(|node| node.id).unwrap_or_default();
                return foreign_node(shared, &peer, &other);
            }
            large.answered(&request.response_nonce);
            let reaction = session.on_request(request, began.elapsed());
            let Reaction { responses, outcome } = match reaction {
                Ok(reaction) => reaction,
                Err(excess) => return exceeded(&peer, excess),
            };
            note(&guard, &peer, outcome);
            responses
        } else {
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => { next = Some(request); continue }
                    Ok(None) => return Status::ok("the client ended the stream"),
                    Err(status) => return status,
                },
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return Status::unavailable("the server stops");
                    }
                    let next = own(&mut snapshots);
                    if Arc::ptr_eq(&next, &snapshot) {
                        continue;
                    }
                    snapshot = next;
                    session.on_snapshot(Arc::clone(&snapshot), began.elapsed())
                },
                () = wake(wake_at.map(|at| began + at)) => session.on_time(began.elapsed()),
                () = wake(large.due()) => return Status::deadline_exceeded("the client does not answer"),
                () = large.taken_over() => return Status::unavailable("another stream of the node gets the large response"),
                () = sleep_until(end_at) => return Status::unavailable("the stream is old; open another"),
                // The sender lives as long as the server.
                Ok(()) = peer.changes.changed() => {
                    if !is_valid(shared, &peer) {
                        return withdrawn();
                    }
                    continue;
                }
                _ = stopping.wait_for(|stopping| *stopping) => return Status::unavailable("the server stops"),
            }
        };
        if let Err(excess) = session.check_unanswered() {
            return exceeded(&peer, excess);
        }
        for response in to_send {
            tokio::select! {
                () = large.admit(&shared.large_slots, &response) => {}
                () = responses.closed() => return Status::ok("the client is gone"),
                _ = stopping.wait_for(|stopping| *stopping) => return Status::unavailable("the server stops"),
            }
            // The wait may have been long.
            if !is_valid(shared, &peer) {
                return withdrawn();
            }
            guard.count_response(&response);
            match timeout(shared.limits.unread, responses.send(Ok(response))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Status::ok("the client is gone"),
                Err(_) => return Status::deadline_exceeded("the client does not read"),
            }
        }
        guard.update(session.status(), session.pending());
    }
}

fn is_valid(shared: &Shared, peer: &Peer) -> bool {
    shared.credentials.node_of(&peer.token).as_ref() == Some(&peer.node)
}

fn withdrawn() -> Status {
    Status::unauthenticated("the token is no longer valid")
}

fn foreign_node(shared: &Shared, peer: &Peer, node: &str) -> Status {
    shared.nodes.count_denied();
    let node = cut(node, MAX_NODE);
    tracing::warn!(credential = peer.node, node, "a client claims to be another node");
    Status::permission_denied("the credential belongs to another node")
}

fn exceeded(peer: &Peer, excess: Excess) -> Status {
    tracing::warn!(node = peer.node, %excess, "a client exceeds a bound of xDS");
    Status::resource_exhausted(excess.to_string())
}

fn note(guard: &StreamGuard, peer: &Peer, outcome: Option<Outcome>) {
    if let Some(Outcome::Rejected { kind, resources, reason }) = outcome {
        guard.count_rejection(kind);
        let names = resources.join(", ");
        let (resources, reason) = (cut(&names, MAX_REASON), reason.as_ref());
        tracing::error!(node = peer.node, %kind, resources, reason, "an edge rejected its configuration");
    }
}

async fn wake(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// A number from 0 to 1 that differs between nodes.
fn spread(node: &str) -> f64 {
    let hash = node.bytes().fold(0_u8, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte));
    f64::from(hash) / 255.0
}
