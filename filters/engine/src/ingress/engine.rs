//! The state of the engine, and the events that advance its requests.

mod evaluate;
mod reevaluate;
mod request;
mod response;
mod resume;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sandgate_policy::gateway_api::Change;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::slots::SlotHolders;

use crate::ingress::clock::Now;
use crate::ingress::crowded::Crowded;
use crate::ingress::effect::{CallId, CallIds, CallKind, CallResponse, Effect, StreamId};
use crate::ingress::feed::{Feed, FeedUpdate};
use crate::ingress::live::LiveStreams;
use crate::ingress::lookups::{LookupKey, LookupResult, PendingLookup};
use crate::ingress::many_sandboxes::ManySandboxes;
use crate::ingress::resolver::Resolver;
use crate::ingress::resume_slots::ResumeSlots;
use crate::ingress::waiting::WaitingRequest;

/// The host calls [`Engine::on_tick`] in this interval, in milliseconds.
pub const TICK_MS: u64 = 100;
/// A response of the control plane is smaller than this, in bytes. The host reports a larger one as failed.
pub const CALL_RESPONSE_MAX: usize = 1 << 20;

/// Ticks between two regular sweeps of the live streams. A change starts another sweep immediately.
const TICKS_PER_SWEEP: u32 = 10;
/// Live streams that one run re-evaluates. More would stall a worker.
const REEVALUATIONS_PER_RUN: usize = 256;
/// Waiting requests that one run evaluates. Envoy nests the local replies of one callback on the native
/// stack, which holds about 300. Many requests may wait for one lookup, and clients choose how many.
const EVALUATIONS_PER_RUN: usize = 64;

/// The state machine of the ingress filter. The host passes events in, and after each event executes the effects
/// until [`Self::next_effect`] returns `None`.
pub struct Engine {
    config: IngressConfig,
    resolver: Resolver,
    waiting: BTreeMap<StreamId, WaitingRequest>,
    /// The slots of the requests that wait for lookups, by client. A request that gave its slot to another one holds none.
    waiting_slots: SlotHolders,
    /// The slots of the requests that wait for a resume. They hold none of the slots above.
    resume_slots: ResumeSlots,
    /// The requests that wait for a slot of a sandbox that has been resumed.
    crowded: Crowded,
    /// The waiting requests to evaluate in the next run.
    ready: BTreeSet<StreamId>,
    live: LiveStreams,
    /// The live streams to close in the next run: those that gave their slot to another one, and those that the host
    /// could not reset.
    to_close: Vec<StreamId>,
    /// The anonymous streams whose byte counts are read in the next ticks.
    uncounted: Vec<StreamId>,
    /// When requests to public ports last resumed a sandbox, in milliseconds.
    public_resumes: BTreeMap<String, u64>,
    call_ids: CallIds,
    effects: VecDeque<Effect>,
    ticks: u32,
    many_sandboxes: ManySandboxes,
}

impl Engine {
    /// The engine makes no calls before it is started.
    #[must_use]
    pub fn new(config: IngressConfig) -> Self {
        Self {
            resolver: Resolver::new(config.limits()),
            waiting: BTreeMap::new(),
            waiting_slots: SlotHolders::default(),
            resume_slots: ResumeSlots::default(),
            crowded: Crowded::default(),
            ready: BTreeSet::new(),
            live: LiveStreams::default(),
            to_close: Vec::new(),
            uncounted: Vec::new(),
            public_resumes: BTreeMap::new(),
            call_ids: CallIds::default(),
            effects: VecDeque::new(),
            many_sandboxes: ManySandboxes::default(),
            ticks: 0,
            config,
        }
    }

    #[must_use]
    pub fn config(&self) -> &IngressConfig {
        &self.config
    }

    #[must_use]
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// The next effect of the events so far.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Starts to follow the change feed. `watcher` identifies this engine to the control plane, and consists of
    /// unreserved characters (RFC 3986, section 2.3).
    pub fn start(&mut self, watcher: String) {
        self.resolver.feed = Some(Feed::new(watcher));
        self.wake();
    }

    /// A stream has ended, or the client of a paused request has disconnected. The only effect that this may cause is
    /// [`Effect::Wake`].
    pub fn on_stream_end(&mut self, stream: StreamId) {
        if let Some(waiting) = self.waiting.remove(&stream) {
            self.remove_waiting(stream, &waiting);
        }
        self.ready.remove(&stream);
        if let Some(ended) = self.live.remove(stream) {
            self.continue_crowded(ended.permit.sandbox_id());
        }
    }

    /// Releases the slot and the lookups of a request that no longer waits.
    fn remove_waiting(&mut self, stream: StreamId, waiting: &WaitingRequest) {
        self.waiting_slots.release(waiting.client, stream);
        self.resume_slots.release(stream);
        self.crowded.remove(stream);
        for key in waiting.pending_lookups() {
            self.resolver.lookups.leave(key, stream);
        }
    }

    /// Does the work that is due. The host calls this for [`Effect::Wake`], and after it has executed the effects of a
    /// tick.
    pub fn on_wake(&mut self, now: Now) {
        self.run_once(now);
    }

    /// [`TICK_MS`] milliseconds have passed. When the host has executed the effects of the tick, it calls
    /// [`Self::on_wake`]: the effects may read the byte counts of streams, which the decisions of that run use.
    pub fn on_tick(&mut self, now: Now) {
        for (stream, waiting) in self.waiting.iter_mut().filter(|(_, it)| it.is_due(now.ms)) {
            if waiting.is_past_deadline(now.ms) {
                waiting.deny(waiting.timeout_denial(), None);
            }
            self.ready.insert(*stream);
        }
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_SWEEP) {
            self.live.mark_expired(now.unix_seconds, now.ms);
            let no_feed_ttl = self.config.limits().no_feed_ttl_ms.into();
            let feed = self.resolver.feed.as_mut();
            if feed.is_some_and(|feed| feed.take_early_entries_expired(now.ms, no_feed_ttl)) {
                self.live.mark_all(now.ms);
            }
            self.live.start_sweep();
            if self.uncounted.is_empty() {
                self.uncounted = self.live.streams_of_crowded_sandboxes(self.config.shares());
            }
        }
        self.request_byte_counts();
    }

    /// A line for the log, after a tick.
    pub fn warning(&mut self) -> Option<String> {
        self.many_sandboxes.warning(self.config.upstream(), self.resolver.known_sandboxes())
    }

    /// A call has ended. `response` is `None` if there is none, or it can't be read.
    pub fn on_call_response(
        &mut self,
        call: CallId,
        response: Option<&CallResponse<'_>>,
        now: Now,
    ) {
        if let Some(feed) = self.resolver.feed.as_mut().filter(|feed| feed.owns(call)) {
            let update = feed.on_response(response, now.ms);
            let is_answered = update.is_some();
            self.effects.push_back(Effect::CallFinished { kind: CallKind::Changes, is_answered });
            if let Some(update) = update {
                self.invalidate(&update, now);
            }
        } else if let Some((key, lookup)) = self.resolver.lookups.finish(call) {
            let result = response.and_then(|response| LookupResult::parse(&key, response));
            // A malformed response about one tenant must not pause the lookups of all.
            let is_available = result.is_some() || response.is_some_and(CallResponse::is_success);
            self.resolver.lookups.record(is_available, now.ms);
            self.on_lookup_result(&key, lookup, result.as_ref(), now);
        }
        self.run_once(now);
    }

    /// A call could not be sent. Requests that wait for it are evaluated in the next run.
    pub fn on_call_failed(&mut self, call: CallId, now: Now) {
        if let Some(feed) = self.resolver.feed.as_mut().filter(|feed| feed.owns(call)) {
            feed.on_response(None, now.ms);
            let kind = CallKind::Changes;
            self.effects.push_back(Effect::CallFinished { kind, is_answered: false });
        } else if let Some((key, lookup)) = self.resolver.lookups.finish(call) {
            self.resolver.lookups.record(false, now.ms);
            self.on_lookup_result(&key, lookup, None, now);
        }
        self.wake_if_work_is_left();
    }

    /// Takes the result of a lookup; `None` if the lookup failed.
    fn on_lookup_result(
        &mut self,
        key: &LookupKey,
        lookup: PendingLookup,
        result: Option<&LookupResult>,
        now: Now,
    ) {
        let is_answered = result.is_some();
        self.effects.push_back(Effect::CallFinished { kind: key.kind(), is_answered });
        if let Some(result) = result {
            self.resolver.store(key, &lookup, result, now);
        }
        for stream in lookup.waiters {
            if let Some(waiting) = self.waiting.get_mut(&stream) {
                if waiting.on_lookup_result(key, result, now.ms) {
                    self.ready.insert(stream);
                }
            } else if is_answered {
                self.live.mark(stream, now.ms);
            }
        }
    }

    fn invalidate(&mut self, update: &FeedUpdate, now: Now) {
        self.resolver.invalidate(update);
        if update.changes.reset {
            self.live.mark_all(now.ms);
        }
        for change in &update.changes.changes {
            self.live.mark_affected(change, now.ms);
        }
        let changed: BTreeSet<&str> = update.changes.changes.iter().flat_map(refs_of).collect();
        let resumed = self.waiting.iter_mut();
        let resumed = resumed.filter_map(|(id, it)| it.end_pause(&changed).then_some(*id));
        self.ready.extend(resumed);
    }

    /// Does all work that is due, up to the limits of one run.
    fn run_once(&mut self, now: Now) {
        if let Some(feed) = self.resolver.feed.as_mut().filter(|feed| feed.is_due(now.ms)) {
            let call = feed.poll(self.call_ids.next(), &self.config, now.ms);
            self.effects.push_back(Effect::Call(call));
        }
        // Before the evaluations: a stream that one of them forwards and another one evicts is closed in
        // the next run, when it has been forwarded.
        for stream in std::mem::take(&mut self.to_close) {
            if let Some(reason) = self.live.close_reason(stream) {
                self.effects.push_back(Effect::Close { stream, reason });
            }
        }
        for _ in 0..EVALUATIONS_PER_RUN {
            let Some(stream) = self.ready.pop_first() else { break };
            self.evaluate_waiting(stream, now);
        }
        for stream in self.live.next_marked(REEVALUATIONS_PER_RUN) {
            self.reevaluate(stream, now);
        }
        let lookups = &mut self.resolver.lookups;
        while let Some(call) = lookups.next_call(&self.config, &mut self.call_ids, now.ms) {
            self.effects.push_back(Effect::Call(call));
        }
        self.wake_if_work_is_left();
    }

    fn wake_if_work_is_left(&mut self) {
        if self.resolver.lookups.can_send() || !self.ready.is_empty() || self.live.is_sweeping() {
            self.wake();
        }
    }

    fn wake(&mut self) {
        if !matches!(self.effects.back(), Some(Effect::Wake)) {
            self.effects.push_back(Effect::Wake);
        }
    }
}

/// The names of the sandbox that has changed.
fn refs_of(change: &Change) -> impl Iterator<Item = &str> {
    let refs: &[String] = match change {
        Change::Sandbox { refs } => refs,
        Change::Principal { .. } => &[],
    };
    refs.iter().map(String::as_str)
}
