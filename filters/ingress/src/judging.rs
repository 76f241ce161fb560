//! Live streams are judged again when what their permit depends on changes.

use sandgate_hostcalls::stream;
use sandgate_policy::budget::InFlight;
use sandgate_policy::ingress::{Ended, Facts, Standing, decide_again};

use crate::apply;
use crate::clock::Now;
use crate::crowding::client_of;
use crate::gateway::Gateway;
use crate::resolve::{AskerOf, Asks};

/// What a new judgement of a live stream came to.
enum Judged {
    GoesOn,
    Ends(Ended),
    NotYet,
}

impl Gateway {
    /// Judges a live stream again, and closes it if it would not be permitted any more.
    pub(crate) fn judge(&mut self, id: u32, now: Now) {
        let ended = match self.rejudge(id, now) {
            Judged::NotYet => return,
            Judged::GoesOn => None,
            Judged::Ends(why) => Some(why),
        };
        self.live.acquit(id);
        let Some(why) = ended else { return };
        // It is over for us now, though the host tells of its end only later.
        self.live.remove(id);
        self.close(id, why.code());
    }

    /// Closes a live stream that counts no more. The root is the effective context, before and after.
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

    /// Judges a live stream again. If it goes on, it rests on the new permit. Gives back why it must
    /// be closed; [`Judged::NotYet`] when something must be known first.
    fn rejudge(&mut self, id: u32, now: Now) -> Judged {
        let Some(mut live) = self.live.take(id) else { return Judged::GoesOn };
        let (mut missing, mut asked) = (Vec::new(), Vec::new());
        let mut asks = Asks {
            id,
            asker: AskerOf::LiveStream,
            since: now.ms,
            may_ask: true,
            missing: &mut missing,
            asked: &mut asked,
        };
        let standing = match &self.know(&live.inquiry, &mut asks, now) {
            (Some(sandbox), Some(caller)) => {
                let in_flight = InFlight::default();
                let facts = Facts { sandbox, caller, now: now.unix_seconds, in_flight };
                decide_again(&live.inquiry, &live.permit, &facts, &self.config)
            }
            _ => Standing::Unknown,
        };
        let judged = match standing {
            Standing::Permitted(permit) => {
                let root_id = self.root_id;
                self.live.rest_on(id, &mut live, permit, now.ms, || client_of(id, root_id));
                Judged::GoesOn
            }
            Standing::Ended(why) => Judged::Ends(why),
            Standing::Unknown => Judged::NotYet,
        };
        self.live.put_back(id, live);
        judged
    }
}
