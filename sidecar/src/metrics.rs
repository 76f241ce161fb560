//! What the agent counts, in Prometheus' text format, as a file: the agent listens on nothing for it, so
//! there is nothing for a sandbox to reach.
//!
//! Labels are closed lists: nothing that a sandbox sends becomes one.

use std::fmt::Write as _;

use crate::nftables::counters::Counters;
use crate::status::Status;

/// What the numbers are made of.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<'a> {
    /// Whose they are, as a label of each; none where the agent was not told.
    pub sandbox: Option<&'a str>,
    /// How the agent is.
    pub status: &'a Status,
    /// Packets that nftables refused; none where the kernel did not say.
    pub refused: Option<&'a Counters>,
    /// How many of them the log names one by one.
    pub told: u64,
    /// What the DNS proxy did.
    pub dns: &'a [(&'static str, u64)],
}

/// A metric: its name, type, and help.
struct Metric<'a>(&'a str, &'static str, &'static str);

impl Numbers<'_> {
    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let Status { ready, generation, envoy_restarts, .. } = self.status;
        let Status { agent_resident_bytes, envoy_resident_bytes, .. } = self.status;
        let mut single =
            |metric: Metric<'_>, value: u64| self.series(&mut text, &metric, [(None, value)]);
        single(READY, u64::from(*ready));
        single(GENERATION, *generation);
        single(RESTARTS, *envoy_restarts);
        single(TOLD, self.told);
        for (name, value) in self.dns {
            let name = format!("sandgate_egress_dns_{name}_total");
            single(Metric(&name, "counter", "Of the DNS proxy."), *value);
        }
        let memory = [("agent", agent_resident_bytes), ("envoy", envoy_resident_bytes)];
        let memory = memory
            .into_iter()
            .filter_map(|(process, bytes)| Some((Some(("process", process)), (*bytes)?)));
        self.series(&mut text, &MEMORY, memory);
        // Names of the table's own, which are a closed list too.
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

const READY: Metric<'_> =
    Metric("sandgate_egress_ready", "gauge", "Whether a policy is enforced and the way is open.");
const GENERATION: Metric<'_> = Metric(
    "sandgate_egress_agent_generation",
    "gauge",
    "The generation of the policy that is in force everywhere.",
);
const RESTARTS: Metric<'_> = Metric(
    "sandgate_egress_envoy_restarts_total",
    "counter",
    "How often Envoy had to be started again.",
);
const MEMORY: Metric<'_> =
    Metric("sandgate_egress_resident_bytes", "gauge", "Memory of a process.");
const REFUSED: Metric<'_> = Metric(
    "sandgate_egress_refused_packets_total",
    "counter",
    "Packets that nftables refused, by the kind of the rule.",
);
const TOLD: Metric<'_> = Metric(
    "sandgate_egress_told_packets_total",
    "counter",
    "Those of them that the log names one by one.",
);

/// As Prometheus' text format wants the value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_line_and_a_type() {
        let status = Status {
            ready: true,
            generation: 7,
            envoy_restarts: 2,
            envoy_resident_bytes: Some(4096),
            ..Status::default()
        };
        let refused = Counters::from([("refused_quic".to_owned(), 5), ("else".to_owned(), 1)]);
        let numbers = Numbers {
            sandbox: None,
            status: &status,
            refused: Some(&refused),
            told: 3,
            dns: &[("refused_names", 11)],
        };
        let text = numbers.text();
        let values: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            values,
            [
                "sandgate_egress_ready 1",
                "sandgate_egress_agent_generation 7",
                "sandgate_egress_envoy_restarts_total 2",
                "sandgate_egress_told_packets_total 3",
                "sandgate_egress_dns_refused_names_total 11",
                "sandgate_egress_resident_bytes{process=\"envoy\"} 4096",
                "sandgate_egress_refused_packets_total{rule=\"quic\"} 5",
            ]
        );
        for line in values {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
        let told = Numbers { sandbox: Some("a\"\\\nb"), ..numbers }.text();
        let values: Vec<_> = told.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(values.first(), Some(&r#"sandgate_egress_ready{sandbox="a\"\\\nb"} 1"#));
        assert!(values.iter().all(|line| line.contains(r#"{sandbox="a\"\\\nb""#)), "{told}");
    }
}
