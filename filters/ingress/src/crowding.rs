//! Makes room when all places are taken. `policy::ingress::slots` chooses the request that gives way; this module refuses
//! or resets it.

use sandgate_hostcalls::stream;
use sandgate_policy::ingress::Decision;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::slots::Client;

use crate::clock::Now;
use crate::gateway::Gateway;

/// The most streams whose bytes are counted in one tick. More would stall the worker.
const COUNTED_PER_TICK: usize = 256;

impl Gateway {
    /// Refuses a waiting request of the client that has the most of them, if that client has at least two more than
    /// the client of the effective stream. Returns false if no request gives way.
    pub(crate) fn make_room_to_wait(&mut self, now: Now) -> bool {
        let Some(gone) = self.waiting_slots.stream_to_evict(client(), now.ms, None) else {
            return false;
        };
        if let Some(waiting) = self.waiting.get_mut(&gone) {
            self.waiting_slots.release(waiting.client(), gone);
            waiting.give_way();
            self.ready.insert(gone);
            self.wake();
        }
        true
    }

    /// Turns [`Decision::Evict`] into a permit if a live stream gives way, and into a denial otherwise. The stream
    /// of the request must be the effective one.
    pub(crate) fn make_room(&mut self, decision: Decision, now: Now) -> Decision {
        let Decision::Evict(permit) = decision else { return decision };
        let silence_ms = self.config.limits().anonymous_silence_ms.into();
        match self.live.give_way(permit.sandbox_id(), client(), now.ms, silence_ms) {
            Some(gone) => {
                self.live.displace(gone);
                self.displaced.push(gone);
                self.wake();
                Decision::Permit(permit.into_permit())
            }
            None => Decision::Deny(Denial::TooManyRequests),
        }
    }

    /// Counts the bytes of the next streams in `uncounted`. The root is the effective context, before and after.
    pub(crate) fn count_bytes(&mut self, now: Now) {
        let from = self.uncounted.len().saturating_sub(COUNTED_PER_TICK);
        let streams = self.uncounted.split_off(from);
        for id in &streams {
            if stream::make_effective(*id).is_ok()
                && let Ok(bytes) = stream::bytes_sent()
            {
                self.live.record_bytes(*id, bytes, now.ms);
            }
        }
        if !streams.is_empty() {
            self.back_to_root();
        }
    }
}

/// The client of the effective stream.
pub(crate) fn client() -> Client {
    Client::of_connection(&stream::client_address().unwrap_or_default())
}

/// The client of a stream, while the root is the effective context.
pub(crate) fn client_of(id: u32, root_id: u32) -> Client {
    let client = match stream::make_effective(id) {
        Ok(()) => client(),
        Err(_) => Client::Unknown,
    };
    // The root is there for as long as the VM is.
    let _ = stream::make_effective(root_id);
    client
}
