//! Tells the operator what was denied and why, without letting a sandbox flood the log.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use sandgate_policy::egress::Rule;
use tokio::time::Instant;

use super::query::Query;

/// Denials that are told one by one in each period; the rest are counted, and told as a number.
const TOLD: u32 = 20;
const PERIOD: Duration = Duration::from_secs(1);

/// The denials of the period that is going on.
#[derive(Debug, Default)]
pub(super) struct Denials {
    period: Mutex<Option<Period>>,
}

#[derive(Clone, Copy, Debug)]
struct Period {
    began: Instant,
    told: u32,
    untold: u64,
}

impl Denials {
    /// Tells that a name was not resolved, unless too much was told already.
    pub(super) fn denied(&self, query: &Query, client: SocketAddr, rule: &Rule) {
        let Some(untold) = self.may_tell(Instant::now()) else { return };
        let (name, kind) = (query.name.to_ascii(), query.kind);
        tracing::info!(target: "sandgate::dns", %client, name, %kind, %rule, untold, "name denied");
    }

    /// Whether this one is told; if so, how many were not since the last that was.
    fn may_tell(&self, now: Instant) -> Option<u64> {
        let mut guard = self.period.lock().ok()?;
        let fresh = Period { began: now, told: 0, untold: 0 };
        let period = guard.get_or_insert(fresh);
        if now.duration_since(period.began) >= PERIOD {
            *period = Period { untold: period.untold, ..fresh };
        }
        if period.told == TOLD {
            period.untold += 1;
            return None;
        }
        period.told += 1;
        Some(std::mem::take(&mut period.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_as_a_number() {
        let (denials, start) = (Denials::default(), Instant::now());
        let told: Vec<_> = (0..100).filter_map(|_| denials.may_tell(start)).collect();
        assert_eq!(told, vec![0; 20]);
        assert_eq!(denials.may_tell(start + PERIOD), Some(80));
        assert_eq!(denials.may_tell(start + PERIOD), Some(0));
    }
}
