//! Collects the denials that filters and sidecars report, and writes them to the store.
//!
//! A report only changes memory, so the writes of all sandboxes together have a bounded rate, however many denials there are:
//!
//! - A transaction, which the writes of owners wait for, has a bounded number of statements. After it, the writer is left to others
//!   for nine times as long.
//! - Sandboxes take turns in the order of their ids. In a round, each one gets a bounded number of different denials, so a sandbox
//!   that is denied something all the time delays the others by one transaction, and does not take their turns.
//! - If there are many different denials, those of a sandbox that has few of them still have room.
//!
//! A number of them is lost when the server ends without [`DenialReports::write_all`].

mod pending;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use sandgate_policy::denials::{Denials, InboundDenial, InboundReport, OutboundDenial};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::pending::{Batch, Pending};
use crate::db::{Db, Writer};
use crate::model::{SandboxId, Timestamp};
use crate::store::{ReportedDenials, Result};

/// The interval between two rounds of writes.
const PAUSE: Duration = Duration::from_secs(2);
/// The pause after a transaction, as a multiple of its time.
const PAUSE_OF_WRITE: u32 = 9;

/// The denials that are not written yet. Clones share them.
#[derive(Clone, Default)]
pub struct DenialReports {
    pending: Arc<Mutex<Pending>>,
    lost: Counter,
}

/// Denials that a transaction takes. They are pending again if it fails, or if nothing waits for it any more.
struct Unwritten<'r> {
    reports: &'r DenialReports,
    denials: Vec<ReportedDenials>,
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        for ReportedDenials { sandbox_id, inbound, outbound } in std::mem::take(&mut self.denials) {
            self.reports.add(sandbox_id, inbound, outbound);
        }
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
        self.lost.inc_by(self.lock().add(sandbox, inbound, outbound));
    }

    /// Writes denials regularly, until the server stops. A write that has begun runs to its end.
    pub async fn run(self, db: Db, mut stopped: watch::Receiver<bool>) {
        while pause(PAUSE, &mut stopped).await {
            loop {
                let Batch { denials, ends_round } = self.lock().take();
                match self.write(&db, denials).await {
                    Ok(took) => {
                        let time = took.saturating_mul(PAUSE_OF_WRITE).min(PAUSE);
                        if ends_round || !pause(time, &mut stopped).await {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "reported denials can't be written; trying again");
                        break;
                    }
                }
            }
        }
    }

    /// Writes all denials, without pauses.
    ///
    /// # Errors
    /// The store can't be written.
    pub async fn write_all(&self, db: &Db) -> Result<()> {
        while !self.lock().is_empty() {
            let batch = self.lock().take();
            self.write(db, batch.denials).await?;
        }
        Ok(())
    }

    /// Writes denials before the server ends, after [`Self::run`] has ended, for a limited time. The rest is lost.
    pub async fn write_last(&self, run: JoinHandle<()>, db: &Db, within: Duration) {
        let write = async {
            // An error means that it panicked.
            drop(run.await);
            self.write_all(db).await
        };
        match tokio::time::timeout(within, write).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::warn!(%error, "the last reported denials can't be written"),
            Err(_) => {}
        }
        let lost = std::mem::take(&mut *self.lock()).total();
        self.lost.inc_by(lost);
        tracing::warn!(lost, "the end of the server lost reported denials");
    }

    /// Writes denials, and returns the time that it took.
    async fn write(&self, db: &Db, denials: Vec<ReportedDenials>) -> Result<Duration> {
        if denials.is_empty() {
            return Ok(Duration::ZERO);
        }
        let mut unwritten = Unwritten { reports: self, denials };
        let written = unwritten.denials.clone();
        let write = move |store: &dyn crate::store::Store| {
            let begun = Instant::now();
            store.record_denials(&written, Timestamp::now()).map(|()| begun.elapsed())
        };
        let took = db.write_unannounced(Writer::Server, write).await?;
        unwritten.denials.clear();
        Ok(took)
    }

    /// The counts are valid even if another thread panicked.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits. Returns whether the server still runs.
async fn pause(time: Duration, stopped: &mut watch::Receiver<bool>) -> bool {
    // An error within the time means that the server was dropped, which is a stop too.
    tokio::time::timeout(time, stopped.wait_for(|stopped| *stopped)).await.is_err()
}
