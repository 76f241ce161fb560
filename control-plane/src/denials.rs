//! Collects the denials that filters and sidecars report, and writes them to the store.
//!
//! A report only changes memory, so the writes of all sandboxes together have a bounded rate, however many denials there are. A
//! number of them is lost when the server ends without [`DenialReports::write_all`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use sandgate_policy::denials::{
    Counted, Denials, InboundDenial, InboundReport, MAX_DENIALS, OutboundDenial,
};

use crate::db::{Db, Writer};
use crate::model::{SandboxId, Timestamp};
use crate::store::{ReportedDenials, Result};

/// The interval between two rounds of writes.
const PAUSE: Duration = Duration::from_secs(2);
/// The most sandboxes of which denials are kept until they are written.
const MAX_SANDBOXES: usize = 10_000;
/// The most different denials that are kept. One takes at most a kilobyte.
const MAX_KINDS: usize = 10_000;
/// The most different denials in one transaction, which other writes wait for.
const KINDS_OF_WRITE: usize = 100;
/// The most transactions of one round.
const WRITES_OF_ROUND: usize = 10;

/// The denials that are not written yet. Clones share them.
#[derive(Clone, Default)]
pub struct DenialReports {
    pending: Arc<Mutex<Pending>>,
    lost: Counter,
}

#[derive(Default)]
struct Pending {
    sandboxes: BTreeMap<SandboxId, Collected>,
    /// The number of different denials of all sandboxes.
    kinds: usize,
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

impl DenialReports {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "denials_lost",
            "Reported denials of which no sandbox has an event",
            self.lost.clone(),
        );
    }

    /// Takes the report of an ingress filter.
    pub fn add_inbound(&self, report: InboundReport) {
        self.lost.inc_by(report.lost);
        for sandbox in report.sandboxes {
            self.add(sandbox.sandbox_id, sandbox.inbound, Denials::default());
        }
    }

    /// Takes the report of the sidecar of this sandbox.
    pub fn add_outbound(&self, sandbox: SandboxId, report: Denials<OutboundDenial>) {
        self.add(sandbox, Denials::default(), report);
    }

    fn add(
        &self,
        sandbox: SandboxId,
        inbound: Denials<InboundDenial>,
        outbound: Denials<OutboundDenial>,
    ) {
        let mut pending = self.lock();
        let Pending { sandboxes, kinds } = &mut *pending;
        if sandboxes.len() >= MAX_SANDBOXES && !sandboxes.contains_key(&sandbox) {
            self.lost.inc_by(total(&inbound).saturating_add(total(&outbound)));
            return;
        }
        let collected = sandboxes.entry(sandbox).or_default();
        collected.inbound.add(inbound, InboundDenial::cleaned, kinds);
        collected.outbound.add(outbound, OutboundDenial::cleaned, kinds);
    }

    /// Writes denials regularly. Never returns.
    pub(crate) async fn run(self, db: Db) {
        loop {
            tokio::time::sleep(PAUSE).await;
            for _ in 0..WRITES_OF_ROUND {
                match self.write_some(&db).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        tracing::warn!(%error, "reported denials can't be written; trying again");
                        break;
                    }
                }
            }
        }
    }

    /// Writes all denials.
    ///
    /// # Errors
    /// The store can't be written.
    pub async fn write_all(&self, db: &Db) -> Result<()> {
        while self.write_some(db).await? {}
        Ok(())
    }

    /// Writes the denials of some sandboxes. Returns whether there are more. After a failure, they are pending again.
    async fn write_some(&self, db: &Db) -> Result<bool> {
        let reported = self.take();
        if reported.is_empty() {
            return Ok(false);
        }
        let written = reported.clone();
        let write =
            move |store: &dyn crate::store::Store| store.record_denials(&written, Timestamp::now());
        if let Err(error) = db.write_unannounced(Writer::Server, write).await {
            for ReportedDenials { sandbox_id, inbound, outbound } in reported {
                self.add(sandbox_id, inbound, outbound);
            }
            return Err(error);
        }
        Ok(true)
    }

    fn take(&self) -> Vec<ReportedDenials> {
        let mut pending = self.lock();
        let (mut taken, mut kinds) = (Vec::new(), 0);
        while kinds < KINDS_OF_WRITE
            && let Some((sandbox_id, Collected { inbound, outbound })) =
                pending.sandboxes.pop_first()
        {
            // A sandbox without different denials is a row or two.
            kinds += (inbound.counts.len() + outbound.counts.len()).max(1);
            let (inbound, outbound) = (inbound.into(), outbound.into());
            taken.push(ReportedDenials { sandbox_id, inbound, outbound });
        }
        pending.kinds = pending.sandboxes.values().map(Collected::kinds).sum();
        taken
    }

    /// The counts are valid even if another thread panicked.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collected {
    fn kinds(&self) -> usize {
        self.inbound.counts.len() + self.outbound.counts.len()
    }
}

impl<T: Ord> Kinds<T> {
    /// `all` is the number of different denials of all sandboxes.
    fn add(&mut self, report: Denials<T>, clean: impl Fn(T) -> T, all: &mut usize) {
        self.more = self.more.saturating_add(report.more);
        for Counted { denial, count } in report.denials {
            let denial = clean(denial);
            if let Some(counted) = self.counts.get_mut(&denial) {
                *counted = counted.saturating_add(count);
            } else if self.counts.len() < MAX_DENIALS && *all < MAX_KINDS {
                self.counts.insert(denial, count);
                *all += 1;
            } else {
                self.more = self.more.saturating_add(count);
            }
        }
    }
}

impl<T> From<Kinds<T>> for Denials<T> {
    fn from(Kinds { counts, more }: Kinds<T>) -> Self {
        let denials = counts.into_iter().map(|(denial, count)| Counted { denial, count }).collect();
        Self { denials, more }
    }
}

fn total<T>(report: &Denials<T>) -> u64 {
    report.denials.iter().fold(report.more, |sum, one| sum.saturating_add(one.count))
}
