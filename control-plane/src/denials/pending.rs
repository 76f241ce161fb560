//! The denials that are not written yet: how many there may be, and whose turn it is.

use std::collections::BTreeMap;
use std::ops::Bound;

use sandgate_policy::denials::{Counted, Denials, InboundDenial, MAX_DENIALS, OutboundDenial};

use crate::model::SandboxId;
use crate::store::ReportedDenials;

/// The most sandboxes of which denials are kept until they are written.
const MAX_SANDBOXES: usize = 10_000;
/// The number of different denials from which on a sandbox has room for few more, or one. One takes at most a kilobyte.
const MAX_KINDS: usize = 10_000;
/// The different denials of a sandbox in one direction that have room while there are many of others.
const FEW: usize = 4;
/// The most different denials of a sandbox in one direction in one round.
const KINDS_OF_TURN: usize = 20;
/// The work of a transaction after which no further sandbox takes part; a different denial is one unit.
const WORK_OF_WRITE: usize = 60;
/// The work for a sandbox apart from its denials: the look-ups, and the bounds of the sandbox and its project.
const WORK_OF_SANDBOX: usize = 8;

/// The denials that are not written yet.
#[derive(Default)]
pub(super) struct Pending {
    sandboxes: BTreeMap<SandboxId, Collected>,
    /// The number of different denials of all sandboxes.
    kinds: usize,
    /// The sandbox that had the last turn of this round.
    last: Option<SandboxId>,
}

/// The denials of one transaction.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) denials: Vec<ReportedDenials>,
    pub(super) ends_round: bool,
}

#[derive(Default)]
struct Collected {
    inbound: Kinds<InboundDenial>,
    outbound: Kinds<OutboundDenial>,
}

struct Kinds<T> {
    counts: BTreeMap<T, u64>,
    more: u64,
}

impl<T> Default for Kinds<T> {
    fn default() -> Self {
        Self { counts: BTreeMap::new(), more: 0 }
    }
}

impl Pending {
    /// Adds a report. Returns the number of denials for which there is no room at all.
    pub(super) fn add(
        &mut self,
        sandbox: SandboxId,
        inbound: Denials<InboundDenial>,
        outbound: Denials<OutboundDenial>,
    ) -> u64 {
        let all = total(&inbound).saturating_add(total(&outbound));
        let Self { sandboxes, kinds, .. } = self;
        if all == 0 {
            return 0;
        }
        if sandboxes.len() >= MAX_SANDBOXES && !sandboxes.contains_key(&sandbox) {
            return all;
        }
        let collected = sandboxes.entry(sandbox).or_default();
        collected.inbound.add(inbound, InboundDenial::cleaned, kinds);
        collected.outbound.add(outbound, OutboundDenial::cleaned, kinds);
        0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sandboxes.is_empty()
    }

    /// Takes denials of the next sandboxes of the round. The call after the end of a round begins another one.
    pub(super) fn take(&mut self) -> Batch {
        let (mut batch, mut work) = (Batch::default(), 0);
        while work < WORK_OF_WRITE {
            let after = self.last.take().map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.sandboxes.range((after, Bound::Unbounded)).next();
            let Some(sandbox_id) = next.map(|(id, _)| id.clone()) else {
                batch.ends_round = true;
                break;
            };
            let denials = self.take_turn(&sandbox_id);
            let kinds = denials.inbound.denials.len() + denials.outbound.denials.len();
            work += WORK_OF_SANDBOX + kinds;
            self.last = Some(sandbox_id);
            batch.denials.push(denials);
        }
        batch
    }

    /// The number of denials.
    pub(super) fn total(&self) -> u64 {
        let of_sandbox = |one: &Collected| one.inbound.total().saturating_add(one.outbound.total());
        self.sandboxes.values().map(of_sandbox).fold(0, u64::saturating_add)
    }

    /// Takes what a sandbox gets in this round.
    fn take_turn(&mut self, sandbox_id: &SandboxId) -> ReportedDenials {
        let mut collected = self.sandboxes.remove(sandbox_id).unwrap_or_default();
        let (inbound, outbound) = (collected.inbound.take_turn(), collected.outbound.take_turn());
        let taken = inbound.denials.len() + outbound.denials.len();
        self.kinds = self.kinds.saturating_sub(taken);
        if !collected.inbound.is_empty() || !collected.outbound.is_empty() {
            self.sandboxes.insert(sandbox_id.clone(), collected);
        }
        ReportedDenials { sandbox_id: sandbox_id.clone(), inbound, outbound }
    }
}

impl<T: Ord> Kinds<T> {
    /// `all` is the number of different denials of all sandboxes.
    fn add(&mut self, report: Denials<T>, clean: impl Fn(T) -> T, all: &mut usize) {
        self.more = self.more.saturating_add(report.more);
        for Counted { denial, count } in report.denials {
            if count == 0 {
                continue;
            }
            let denial = clean(denial);
            if let Some(counted) = self.counts.get_mut(&denial) {
                *counted = counted.saturating_add(count);
            } else if self.counts.len() < room(*all) {
                self.counts.insert(denial, count);
                *all += 1;
            } else {
                self.more = self.more.saturating_add(count);
            }
        }
    }

    fn take_turn(&mut self) -> Denials<T> {
        let mut denials = Vec::new();
        while denials.len() < KINDS_OF_TURN
            && let Some((denial, count)) = self.counts.pop_first()
        {
            denials.push(Counted { denial, count });
        }
        Denials { denials, more: std::mem::take(&mut self.more) }
    }

    fn total(&self) -> u64 {
        self.counts.values().copied().fold(self.more, u64::saturating_add)
    }

    fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.more == 0
    }
}

/// The most different denials of a sandbox in one direction, if there are `all` of all sandboxes. So there are at most three times
/// [`MAX_KINDS`], with [`MAX_SANDBOXES`].
fn room(all: usize) -> usize {
    if all < MAX_KINDS / 2 {
        MAX_DENIALS
    } else if all < MAX_KINDS {
        FEW
    } else {
        1
    }
}

fn total<T>(report: &Denials<T>) -> u64 {
    report.denials.iter().fold(report.more, |sum, one| sum.saturating_add(one.count))
}
