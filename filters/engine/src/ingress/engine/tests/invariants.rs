//! The properties that hold after every event.

use sandgate_policy::ingress::concurrency::Class;

use super::host::{Host, State, Worker};
use crate::ingress::CallKind;
use crate::ingress::lookups::LookupKey;
use crate::ingress::waiting::Phase;

/// The bounds of the configuration in [`LIMITS`].
pub(super) const LIMITS: &str = r#"{"waiters": 4, "lookups_in_flight": 2, "cache_entries": 3,
    "requests_per_sandbox": 5, "resume_waiters": 2, "anonymous_silence_ms": 1500}"#;
const WAITERS: usize = 4;
const LOOKUPS_IN_FLIGHT: usize = 2;
const CACHE_ENTRIES: usize = 3;
const REQUESTS_PER_SANDBOX: usize = 5;
const ANONYMOUS_SHARE: usize = 3;
const RESUME_WAITERS: usize = 2;

/// Panics if a property does not hold.
pub(super) fn check(host: &Host) {
    host_and_engine_agree(host);
    no_waiting_request_is_lost(host);
    work_that_is_left_wakes_the_host(host);
    all_bounds_hold(host);
}

fn host_and_engine_agree(host: &Host) {
    let waiting: usize = host.workers.iter().map(|worker| worker.engine.waiting.len()).sum();
    assert_eq!(host.streams_in(&State::Waiting).len(), waiting, "the waiting requests");
    for (stream, state) in &host.streams {
        assert_eq!(host.is_live(*stream), *state == State::Live, "{stream} is {state:?}");
    }
}

fn no_waiting_request_is_lost(host: &Host) {
    let hub = host.hub.lock();
    for Worker { id, engine, inbox, .. } in &host.workers {
        for (stream, waiting) in &engine.waiting {
            let is_resuming = matches!(waiting.phase, Phase::Resuming { .. });
            let pending = waiting.pending_lookups();
            let is_ready = engine.ready.contains(stream);
            assert!(is_ready || !pending.is_empty() || is_resuming, "nothing continues {stream}");
            for key in pending {
                let waits = hub.lookups.waits(key, (*id, *stream));
                let is_noticed = inbox.iter().any(|notice| notice.ends(key, *stream));
                assert!(is_ready || waits || is_noticed, "the lookup of {stream} has ended");
            }
        }
        assert!(engine.ready.iter().all(|stream| engine.waiting.contains_key(stream)));
        let crowded = engine.waiting.keys().filter(|stream| engine.crowded.contains(**stream));
        let crowded = crowded.count();
        assert_eq!(crowded, engine.crowded.len(), "a request that does not wait waits for a slot");
    }
}

fn work_that_is_left_wakes_the_host(host: &Host) {
    assert!(!host.hub.lock().lookups.can_send() || host.must_run_hub, "the hub has work");
    for worker in &host.workers {
        let engine = &worker.engine;
        let is_left = !engine.ready.is_empty()
            || engine.live.is_sweeping()
            || engine.to_close.iter().any(|stream| !host.has_failed_to_close(worker, *stream));
        assert!(!is_left || worker.must_wake, "the engine has work, and does not wake the host");
    }
}

fn all_bounds_hold(host: &Host) {
    for Worker { engine, .. } in &host.workers {
        assert!(engine.waiting_slots.len() <= WAITERS, "waiting requests");
        assert!(engine.resume_slots.len() <= RESUME_WAITERS, "requests that wait for a resume");
        let resuming = engine.waiting.values().filter(|waiting| waiting.is_resuming()).count();
        assert!(
            resuming <= engine.resume_slots.len(),
            "a request without a slot waits for a resume"
        );
        // Each entry that is added removes outdated ones.
        assert!(engine.resolver.view_entries() <= 3 * CACHE_ENTRIES, "entries of a view");
        for sandbox in host.fleet.sandboxes.values() {
            let in_flight = engine.live.in_flight(&sandbox.id);
            let anonymous = in_flight.of(Class::Anonymous);
            let all =
                anonymous + in_flight.of(Class::Authenticated) + in_flight.of(Class::Management);
            assert!(all <= REQUESTS_PER_SANDBOX, "live streams of a sandbox");
            // A live stream keeps its slot when its port becomes public.
            let most = ANONYMOUS_SHARE + host.conversions;
            assert!(anonymous <= most, "anonymous streams of a sandbox");
        }
    }

    let hub = host.hub.lock();
    assert!(hub.sandboxes.len().max(hub.callers.len()) <= CACHE_ENTRIES, "cache entries");
    let kinds: Vec<CallKind> = hub.lookups.calls_in_flight().map(LookupKey::kind).collect();
    let resumes = kinds.iter().filter(|kind| **kind == CallKind::Resume).count();
    assert!(resumes <= LOOKUPS_IN_FLIGHT, "resumes in flight");
    // Requests and live streams have a queue each.
    assert!(kinds.len() - resumes <= 2 * LOOKUPS_IN_FLIGHT, "lookups in flight");
    let reports = usize::from(hub.reports.is_in_flight());
    let feeds = host.calls.len() + host.prepared.len() - kinds.len() - reports;
    assert!(feeds <= 1, "calls of the change feed, or calls that the hub does not know");
}

/// Panics if anything is left of streams that have all ended.
pub(super) fn check_nothing_is_left(host: &Host) {
    for Worker { engine, .. } in &host.workers {
        assert!(engine.waiting.is_empty() && engine.ready.is_empty());
        assert!(engine.waiting_slots.is_empty() && engine.resume_slots.len() == 0);
        assert!(engine.live.is_empty(), "live streams, their slots, or their marks");
    }
}
