//! Makes room when all slots are taken. `policy` chooses the request that gives its slot away; this
//! module evicts it.

use sandgate_policy::ids::SandboxId;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::slots::ClientAddress;
use sandgate_policy::ingress::{Decision, EvictionPermit, Permit, ResumePermit};

use crate::ingress::clock::Now;
use crate::ingress::effect::{Effect, StreamId};
use crate::ingress::properties::RequestProperties;
use crate::ingress::resume_slots::Room;
use crate::ingress::waiting::WaitingRequest;

use super::{Engine, TICK_MS};

/// The most streams whose bytes are read in one tick. More would stall a worker.
const READS_PER_TICK: usize = 256;

/// The time after which a request that waits for a slot of its sandbox is evaluated again, in milliseconds, if no slot
/// becomes free before.
const CROWDED_PAUSE_MS: u64 = 1_000;

impl Engine {
    /// Denies a waiting request of the client that has the most of them, if that client has at least two more than
    /// `client`. Returns false if no request gives its slot away.
    pub(super) fn make_room_to_wait(
        &mut self,
        properties: &RequestProperties<'_>,
        now: Now,
    ) -> bool {
        let evicted = self.waiting_slots.stream_to_evict(properties.client(), now.ms, None);
        let Some(evicted) = evicted else { return false };
        self.evict_waiting(evicted);
        true
    }

    /// Denies a request that waits for a resume if all slots are taken and `resume_slots` finds one. Returns false if
    /// no request gives its slot away.
    pub(super) fn make_room_to_resume(
        &mut self,
        permit: &ResumePermit,
        properties: &RequestProperties<'_>,
        now: Now,
    ) -> bool {
        let capacity = self.config.limits().resume_waiters;
        match self.resume_slots.room(permit, properties.client(), capacity, now.ms) {
            Room::Free => true,
            Room::Evict(evicted) => {
                self.evict_waiting(evicted);
                true
            }
            Room::Full => false,
        }
    }

    fn evict_waiting(&mut self, stream: StreamId) {
        if let Some(waiting) = self.waiting.get_mut(&stream) {
            self.waiting_slots.release(waiting.client, stream);
            self.resume_slots.release(stream);
            waiting.deny(Denial::SandboxNotReady, None);
            self.ready.insert(stream);
            self.wake();
        }
    }

    /// Evicts a live stream of the sandbox. `None` if there is none that gives its slot to this client.
    pub(super) fn make_room(
        &mut self,
        permit: EvictionPermit,
        properties: &RequestProperties<'_>,
        now: Now,
    ) -> Option<Permit> {
        let silence_ms = self.config.limits().anonymous_silence_ms.into();
        let (sandbox_id, client) = (permit.sandbox_id(), properties.client());
        let evicted = self.live.choose_eviction(sandbox_id, client, now.ms, silence_ms)?;
        self.live.begin_close(evicted, "closed.MADE_ROOM");
        self.to_close.push(evicted);
        self.wake();
        Some(permit.into_permit())
    }

    /// How long a request that a resume has released waits for a slot of its sandbox, in milliseconds. `None` if it has a
    /// slot, or if it is denied for another reason.
    pub(super) fn pause_for_slot(
        &self,
        decision: &Decision,
        properties: &RequestProperties<'_>,
        now: Now,
    ) -> Option<u64> {
        match decision {
            Decision::Permit(permit) => {
                let in_flight = self.live.in_flight(permit.sandbox_id()).total();
                let window = self.crowded.window(permit.sandbox_id(), now.ms);
                (in_flight >= window).then_some(TICK_MS)
            }
            Decision::Deny(Denial::TooManyRequests) => Some(CROWDED_PAUSE_MS),
            Decision::Evict(permit) => {
                let silence_ms = self.config.limits().anonymous_silence_ms.into();
                let client = properties.client();
                let evicted =
                    self.live.choose_eviction(permit.sandbox_id(), client, now.ms, silence_ms);
                evicted.is_none().then_some(CROWDED_PAUSE_MS)
            }
            _ => None,
        }
    }

    /// A slot of a sandbox is free: the request that has waited for one the longest is evaluated in the next run.
    pub(super) fn continue_crowded(&mut self, sandbox_id: &SandboxId) {
        while let Some(stream) = self.crowded.next(sandbox_id) {
            if self.waiting.get_mut(&stream).is_some_and(WaitingRequest::on_slot_free) {
                self.ready.insert(stream);
                self.wake();
                return;
            }
        }
    }

    /// Requests the byte counts of the next streams.
    pub(super) fn request_byte_counts(&mut self) {
        let from = self.uncounted.len().saturating_sub(READS_PER_TICK);
        for stream in self.uncounted.split_off(from) {
            if self.live.get(stream).is_some() {
                self.effects.push_back(Effect::ReadByteCount(stream));
            }
        }
    }

    /// The host has executed [`Effect::ReadByteCount`]: `bytes` were sent on the stream so far, in both directions.
    pub fn on_byte_count(&mut self, stream: StreamId, bytes: u64, now: Now) {
        self.live.record_bytes(stream, bytes, now.ms);
    }

    /// The host has executed [`Effect::ReadClient`].
    pub fn on_client(&mut self, stream: StreamId, client: ClientAddress, now: Now) {
        self.live.set_client(stream, client, now.ms);
    }
}
