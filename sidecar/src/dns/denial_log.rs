//! Logs denied names and their rules, at a limited rate, so that a sandbox can't flood the log, and adds them to the report for
//! the control plane.

use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use sandgate_policy::denials::{OutboundDenial, Protocol};
use sandgate_policy::egress::Rule;
use tokio::time::Instant;

use super::query::Query;
use crate::denials::DenialReport;

/// The maximum number of denials that are logged in a period. The others are counted, and the next logged denial
/// contains their number.
const MAX_LOGGED: u32 = 20;
const PERIOD: Duration = Duration::from_secs(1);

/// The state of the rate limit.
#[derive(Debug, Default)]
pub(super) struct DenialLog {
    period: Mutex<Option<Period>>,
    pub(super) report: OnceLock<DenialReport>,
}

#[derive(Clone, Copy, Debug)]
struct Period {
    began: Instant,
    logged: u32,
    unlogged: u64,
}

impl DenialLog {
    /// Adds a denial to the report, and logs it, unless the period already has the maximum number.
    pub(super) fn log(&self, query: &Query, client: SocketAddr, rule: &Rule) {
        if let Some(report) = self.report.get() {
            report.add(denial(query, rule));
        }
        let Some(unlogged) = self.may_log(Instant::now()) else { return };
        let (name, kind) = (query.name.to_ascii(), query.kind);
        tracing::info!(target: "sandgate::dns", %client, name, %kind, %rule, unlogged, "name denied");
    }

    /// If this denial may be logged, the number of denials since the last logged one.
    fn may_log(&self, now: Instant) -> Option<u64> {
        let mut guard = self.period.lock().ok()?;
        let fresh = Period { began: now, logged: 0, unlogged: 0 };
        let period = guard.get_or_insert(fresh);
        if now.duration_since(period.began) >= PERIOD {
            *period = Period { unlogged: period.unlogged, ..fresh };
        }
        if period.logged == MAX_LOGGED {
            period.unlogged += 1;
            return None;
        }
        period.logged += 1;
        Some(std::mem::take(&mut period.unlogged))
    }
}

fn denial(query: &Query, rule: &Rule) -> OutboundDenial {
    let name = query.name.to_ascii();
    let destination = name.strip_suffix('.').unwrap_or(&name).to_owned();
    OutboundDenial {
        destination,
        name: None,
        port: None,
        protocol: Protocol::Dns,
        rule: rule.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_as_a_number() {
        let (denials, start) = (DenialLog::default(), Instant::now());
        let logged: Vec<_> = (0..100).filter_map(|_| denials.may_log(start)).collect();
        assert_eq!(logged, vec![0; 20]);
        assert_eq!(denials.may_log(start + PERIOD), Some(80));
        assert_eq!(denials.may_log(start + PERIOD), Some(0));
    }
}
