//! What happens when all places are taken. `policy::places` says which request gives way; this module
//! closes or refuses that one.

use sandgate_hostcalls::stream;
use sandgate_policy::denial::Denial;
use sandgate_policy::ingress::Decision;
use sandgate_policy::places::Client;

use crate::clock::Now;
use crate::gateway::Gateway;

/// Streams whose bytes are counted in one tick, so that many do not stall a worker.
const COUNTED_PER_TICK: usize = 256;

impl Gateway {
    /// Has a request of the client that waits with the most be refused, if that has more than the client
    /// of the effective stream.
    pub(crate) fn make_room_to_wait(&mut self, now: Now) -> bool {
        let Some(gone) = self.waiting_places.give_way(client(), now.ms, None) else { return false };
        if let Some(waiting) = self.waiting.get_mut(&gone) {
            self.waiting_places.leave(waiting.client(), gone);
            waiting.give_way();
            self.ready.insert(gone);
            self.wake();
        }
        true
    }

    /// Where all places for anonymous requests are taken, has a live stream give way, or refuses. The
    /// stream of the request must be the effective one.
    pub(crate) fn make_room(&mut self, decision: Decision, now: Now) -> Decision {
        let Decision::MakeRoom(place) = decision else { return decision };
        let silence_ms = self.config.limits().anonymous_silence_ms.into();
        match self.live.give_way(place.sandbox_id(), client(), now.ms, silence_ms) {
            Some(gone) => {
                self.live.displace(gone);
                self.displaced.push(gone);
                self.wake();
                Decision::Permit(place.in_place_of_another())
            }
            None => Decision::Deny(Denial::TooManyRequests),
        }
    }

    /// Counts the bytes of anonymous streams where places for them become few. The root is the
    /// effective context, before and after.
    pub(crate) fn count_bytes(&mut self, now: Now) {
        let from = self.uncounted.len().saturating_sub(COUNTED_PER_TICK);
        let streams = self.uncounted.split_off(from);
        for id in &streams {
            if stream::make_effective(*id).is_ok()
                && let Ok(bytes) = stream::bytes_sent()
            {
                self.live.note_bytes(*id, bytes, now.ms);
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
