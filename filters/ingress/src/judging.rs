//! Judges live streams again when something that their permits depend on has changed.

use sandgate_hostcalls::stream;
use sandgate_policy::ingress::concurrency::InFlight;
use sandgate_policy::ingress::{RequestFacts, StreamDecision, reevaluate};

use crate::apply;
use crate::clock::Now;
use crate::crowding::client_of;
use crate::gateway::Gateway;
use crate::live::LiveStream;
use crate::resolve::{AskerOf, Asks};

impl Gateway {
    /// Judges a live stream again, and closes it if it is no longer permitted. The root is the effective context,
    /// before and after.
    pub(crate) fn judge(&mut self, id: u32, now: Now) {
        let Some(mut live) = self.live.take(id) else { return self.live.acquit(id) };
        let standing = self.standing(id, &live, now);
        match standing {
            StreamDecision::Continue(permit) => {
                let root_id = self.root_id;
                self.live.rest_on(id, &mut live, permit, now.ms, || client_of(id, root_id));
                self.live.put_back(id, live);
                self.live.acquit(id);
            }
            // The stream stays a suspect until the answer is there.
            StreamDecision::Undecided => self.live.put_back(id, live),
            StreamDecision::Close(why) => {
                self.live.put_back(id, live);
                // The host reports the end of the stream only later.
                self.live.remove(id);
                self.close(id, why.code());
            }
        }
    }

    fn standing(&mut self, id: u32, live: &LiveStream, now: Now) -> StreamDecision {
        let (mut missing, mut asked) = (Vec::new(), Vec::new());
        let mut asks = Asks {
            id,
            asker: AskerOf::LiveStream,
            since: now.ms,
            may_ask: true,
            missing: &mut missing,
            asked: &mut asked,
        };
        match &self.know(&live.request, &mut asks, now) {
            (Some(sandbox), Some(caller)) => {
                let in_flight = InFlight::default();
                let facts = RequestFacts { sandbox, caller, now: now.unix_seconds, in_flight };
                reevaluate(&live.request, &live.permit, &facts, &self.config)
            }
            _ => StreamDecision::Undecided,
        }
    }

    /// Resets a stream that is no longer counted. The root is the effective context, before and after.
    pub(crate) fn close(&mut self, id: u32, code: &str) {
        if stream::make_effective(id).is_ok() {
            apply::record(code);
            self.metrics.stream_closed();
            if stream::reset().is_err() {
                self.metrics.host_error();
            }
            self.back_to_root();
        }
    }
}
