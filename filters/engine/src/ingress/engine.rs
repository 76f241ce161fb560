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
use std::sync::Arc;

use sandgate_policy::gateway_api::{Change, Changes};
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::slots::SlotHolders;

use crate::ingress::clock::Now;
use crate::ingress::crowded::Crowded;
use crate::ingress::effect::{Effect, StreamId};
use crate::ingress::hub::{Content, Hub, Notice, WorkerId};
use crate::ingress::live::LiveStreams;
use crate::ingress::resolver::Resolver;
use crate::ingress::resume_slots::ResumeSlots;
use crate::ingress::waiting::WaitingRequest;

/// The host calls [`Engine::on_tick`] and [`Hub::on_tick`] in this interval, in milliseconds.
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

/// What one worker owns of the ingress filter: its streams. The host passes events in, and after each event executes the
/// effects until [`Self::next_effect`] returns `None`.
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
    effects: VecDeque<Effect>,
    must_wake: bool,
    /// The time of the last notice, in milliseconds. No event is before it: the host may have read the clock of an event
    /// before another thread sent the notice.
    noticed_at: u64,
    ticks: u32,
}

impl Engine {
    /// An engine for a worker of the hub.
    #[must_use]
    pub fn new(hub: Arc<Hub>, worker: WorkerId) -> Self {
        Self {
            config: hub.config().clone(),
            resolver: Resolver::new(hub, worker),
            waiting: BTreeMap::new(),
            waiting_slots: SlotHolders::default(),
            resume_slots: ResumeSlots::default(),
            crowded: Crowded::default(),
            ready: BTreeSet::new(),
            live: LiveStreams::default(),
            to_close: Vec::new(),
            uncounted: Vec::new(),
            effects: VecDeque::new(),
            must_wake: false,
            noticed_at: 0,
            ticks: 0,
        }
    }

    #[must_use]
    pub fn config(&self) -> &IngressConfig {
        &self.config
    }

    #[must_use]
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty() || self.must_wake || self.resolver.must_run_hub()
    }

    /// The next effect of the events so far.
    pub fn next_effect(&mut self) -> Option<Effect> {
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        if self.resolver.take_must_run_hub() {
            return Some(Effect::RunHub);
        }
        std::mem::take(&mut self.must_wake).then_some(Effect::Wake)
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
        self.resolver.leave(waiting.pending_lookups(), stream);
    }

    /// Does the work that is due. The host calls this for [`Effect::Wake`], and after it has executed the effects of a
    /// tick or a notice.
    pub fn on_wake(&mut self, now: Now) {
        let now = self.begin_event(now);
        self.must_wake = false;
        self.run_once(now);
    }

    /// Follows the hub if it has begun anew. Returns the time of the event.
    fn begin_event(&mut self, now: Now) -> Now {
        let now = Now { ms: now.ms.max(self.noticed_at), ..now };
        if self.resolver.take_renewal() {
            self.live.mark_all(now.ms);
            for (stream, waiting) in &mut self.waiting {
                waiting.forget_lookups();
                self.ready.insert(*stream);
            }
            self.must_wake = true;
        }
        now
    }

    /// [`TICK_MS`] milliseconds have passed. When the host has executed the effects of the tick, it calls
    /// [`Self::on_wake`]: the effects may read the byte counts of streams, which the decisions of that run use.
    pub fn on_tick(&mut self, now: Now) {
        let now = self.begin_event(now);
        let due = self.waiting.iter_mut();
        self.ready.extend(due.filter_map(|(id, it)| it.on_tick(now.ms).then_some(*id)));
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_SWEEP) {
            self.live.mark_expired(now.unix_seconds, now.ms);
            self.live.start_sweep();
            if self.uncounted.is_empty() {
                self.uncounted = self.live.streams_of_crowded_sandboxes(self.config.shares());
            }
        }
        self.request_byte_counts();
    }

    /// The hub has sent a notice. The host calls [`Self::on_wake`] when it has passed on all notices of an event.
    pub fn on_notice(&mut self, notice: Notice, now: Now) {
        self.noticed_at = self.noticed_at.max(notice.at);
        let now = self.begin_event(now);
        match notice.content {
            Content::LookupEnded { key, result, streams } => {
                for stream in streams {
                    if let Some(waiting) = self.waiting.get_mut(&stream) {
                        if waiting.on_lookup_result(&key, result.as_deref(), now.ms) {
                            self.ready.insert(stream);
                        }
                    } else if result.is_some() {
                        self.live.mark(stream, now.ms);
                    }
                }
            }
            Content::Changed(changes) => self.on_changes(&changes, now),
            Content::EarlyEntriesExpired => self.live.mark_all(now.ms),
        }
        self.wake_if_work_is_left();
    }

    fn on_changes(&mut self, changes: &Changes, now: Now) {
        if changes.reset {
            self.live.mark_all(now.ms);
        }
        for change in &changes.changes {
            self.live.mark_affected(change, now.ms);
        }
        let changed: BTreeSet<&str> = changes.changes.iter().flat_map(refs_of).collect();
        let resumed = self.waiting.iter_mut();
        let resumed = resumed.filter_map(|(id, it)| it.on_changes(&changed).then_some(*id));
        self.ready.extend(resumed);
    }

    /// Does all work that is due, up to the limits of one run.
    fn run_once(&mut self, now: Now) {
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
        self.wake_if_work_is_left();
    }

    fn wake_if_work_is_left(&mut self) {
        if !self.ready.is_empty() || self.live.is_sweeping() {
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.must_wake = true;
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
