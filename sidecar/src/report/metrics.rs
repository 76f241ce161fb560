//! The agent's metrics in Prometheus' text format.
//!
//! The values of all labels come from fixed lists. No label contains data from the sandbox.

use std::fmt::Write as _;

use super::status::Status;
use crate::nftables::counters::Counters;

/// The values of the metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metrics<'a> {
    /// The sandbox's id, which each metric has as a label if it is configured.
    pub(crate) sandbox: Option<&'a str>,
    pub(crate) status: &'a Status,
    /// The packets that nftables refused, or `None` if the counters can't be read.
    pub(crate) refused: Option<&'a Counters>,
    /// How many of these packets were logged individually.
    pub(crate) logged: u64,
    /// The counters of the DNS proxy.
    pub(crate) dns: &'a [(&'static str, u64)],
}

/// A metric's name, type, and help text.
struct Metric<'a>(&'a str, &'static str, &'static str);

impl Metrics<'_> {
    /// Renders the metrics.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let Status { ready, generation, envoy_restarts, .. } = self.status;
        let Status { agent_resident_bytes, envoy_resident_bytes, .. } = self.status;
        let mut single =
            |metric: Metric<'_>, value: u64| self.series(&mut text, &metric, [(None, value)]);
        single(READY, u64::from(*ready));
        single(GENERATION, *generation);
        single(RESTARTS, *envoy_restarts);
        single(LOGGED, self.logged);
        for (name, value) in self.dns {
            let name = format!("sandgate_egress_dns_{name}_total");
            single(Metric(&name, "counter", "A counter of the DNS proxy."), *value);
        }
        let memory = [("agent", agent_resident_bytes), ("envoy", envoy_resident_bytes)];
        let memory = memory
            .into_iter()
            .filter_map(|(process, bytes)| Some((Some(("process", process)), (*bytes)?)));
        self.series(&mut text, &MEMORY, memory);
        // The agent creates the counters, so their names are from a fixed list.
        let refused = self.refused.into_iter().flatten().filter_map(|(counter, packets)| {
            Some((Some(("rule", counter.strip_prefix("refused_")?)), *packets))
        });
        self.series(&mut text, &REFUSED, refused);
        text
    }

    fn series<'a>(
        &self,
        text: &mut String,
        Metric(name, kind, help): &Metric<'_>,
        values: impl IntoIterator<Item = (Option<(&'a str, &'a str)>, u64)>,
    ) {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (label, value) in values {
            let labels = self.sandbox.map(|sandbox| ("sandbox", sandbox)).into_iter().chain(label);
            let labels: Vec<String> =
                labels.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let labels = match labels.join(",") {
                none if none.is_empty() => none,
                some => format!("{{{some}}}"),
            };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
}

const READY: Metric<'_> = Metric(
    "sandgate_egress_ready",
    "gauge",
    "Whether a policy is enforced and outbound traffic passes.",
);
const GENERATION: Metric<'_> = Metric(
    "sandgate_egress_agent_generation",
    "gauge",
    "The policy generation that all enforcers have applied.",
);
const RESTARTS: Metric<'_> =
    Metric("sandgate_egress_envoy_restarts_total", "counter", "Restarts of Envoy.");
const MEMORY: Metric<'_> =
    Metric("sandgate_egress_resident_bytes", "gauge", "Resident memory of a process.");
const REFUSED: Metric<'_> = Metric(
    "sandgate_egress_refused_packets_total",
    "counter",
    "Packets that nftables refused, by kind of rule.",
);
const LOGGED: Metric<'_> = Metric(
    "sandgate_egress_logged_packets_total",
    "counter",
    "Refused packets that were logged individually.",
);

/// Escapes the value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_value_and_a_type() {
        let status = Status {
            ready: true,
            generation: 7,
            envoy_restarts: 2,
            envoy_resident_bytes: Some(4096),
            ..Status::default()
        };
        let refused = Counters::from([("refused_quic".to_owned(), 5), ("else".to_owned(), 1)]);
        let metrics = Metrics {
            sandbox: None,
            status: &status,
            refused: Some(&refused),
            logged: 3,
            dns: &[("refused_names", 11)],
        };
        let text = metrics.text();
        let values: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            values,
            [
                "sandgate_egress_ready 1",
                "sandgate_egress_agent_generation 7",
                "sandgate_egress_envoy_restarts_total 2",
                "sandgate_egress_logged_packets_total 3",
                "sandgate_egress_dns_refused_names_total 11",
                "sandgate_egress_resident_bytes{process=\"envoy\"} 4096",
                "sandgate_egress_refused_packets_total{rule=\"quic\"} 5",
            ]
        );
        for line in values {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
        let labelled = Metrics { sandbox: Some("a\"\\\nb"), ..metrics }.text();
        let values: Vec<_> = labelled.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(values.first(), Some(&r#"sandgate_egress_ready{sandbox="a\"\\\nb"} 1"#));
        assert!(values.iter().all(|line| line.contains(r#"{sandbox="a\"\\\nb""#)), "{labelled}");
    }
}
