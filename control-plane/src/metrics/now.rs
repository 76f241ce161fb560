//! What is read at the time of a scrape.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::changes::Propagation;
use crate::gateway_tokens::Tokens;

pub(super) struct State {
    pub(super) propagation: Propagation,
    pub(super) tokens: Tokens,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}

/// Writes a gauge without labels.
pub(super) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> fmt::Result {
    let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let newest = self.propagation.newest();
        let watchers = self.propagation.watching();
        let lag = newest.saturating_sub(watchers.applied_by_all);
        let in_contact = u64::from(*self.propagation.contact().borrow());
        let encoder = &mut encoder;
        gauge(encoder, "revision", "Newest revision that this server knows.", newest)?;
        gauge(encoder, "watchers", "Connected edges (workers in the wasm form).", watchers.live)?;
        gauge(
            encoder,
            "watchers_behind",
            "Connected edges that have not applied the newest revision.",
            watchers.behind,
        )?;
        gauge(
            encoder,
            "watchers_lag_revisions",
            "Revisions that the slowest connected edge has not applied.",
            lag,
        )?;
        gauge(
            encoder,
            "database_contact",
            "1 if this server knows the changes of other servers.",
            in_contact,
        )?;
        let tokens = u64::try_from(self.tokens.count()).unwrap_or(u64::MAX);
        gauge(encoder, "gateway_tokens", "Valid gateway tokens.", tokens)?;
        if let Some(pool) = self.propagation.db().pool() {
            gauge(encoder, "store_connections", "Open connections to the database.", pool.open)?;
            gauge(
                encoder,
                "store_connections_idle",
                "Open connections that no call uses.",
                pool.idle,
            )?;
            gauge(
                encoder,
                "store_connections_awaited",
                "Calls that wait for a connection.",
                pool.awaited,
            )?;
        }
        Ok(())
    }
}
