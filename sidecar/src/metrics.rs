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
    /// How the agent is.
    pub status: &'a Status,
    /// Packets that nftables refused; none where the kernel did not say.
    pub refused: Option<&'a Counters>,
    /// How many of them the log names one by one.
    pub told: u64,
    /// What the DNS proxy did.
    pub dns: &'a [(&'static str, u64)],
}

impl Numbers<'_> {
    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let Status { ready, generation, envoy_restarts, .. } = self.status;
        gauge(
            &mut text,
            "sandgate_egress_ready",
            "Whether the policy is enforced and the way is open.",
        );
        let _ = writeln!(text, "sandgate_egress_ready {}", u8::from(*ready));
        gauge(
            &mut text,
            "sandgate_egress_agent_generation",
            "The generation of the policy that is in force everywhere.",
        );
        let _ = writeln!(text, "sandgate_egress_agent_generation {generation}");
        counter(
            &mut text,
            "sandgate_egress_envoy_restarts_total",
            "How often Envoy had to be started again.",
        );
        let _ = writeln!(text, "sandgate_egress_envoy_restarts_total {envoy_restarts}");
        self.memory(&mut text);
        self.packets(&mut text);
        for (name, value) in self.dns {
            let name = format!("sandgate_egress_dns_{name}_total");
            counter(&mut text, &name, "Of the DNS proxy.");
            let _ = writeln!(text, "{name} {value}");
        }
        text
    }

    fn memory(&self, text: &mut String) {
        let Status { agent_resident_bytes, envoy_resident_bytes, .. } = self.status;
        gauge(text, "sandgate_egress_resident_bytes", "Memory of a process.");
        for (process, bytes) in [("agent", agent_resident_bytes), ("envoy", envoy_resident_bytes)] {
            if let Some(bytes) = bytes {
                let _ = writeln!(
                    text,
                    "sandgate_egress_resident_bytes{{process=\"{process}\"}} {bytes}"
                );
            }
        }
    }

    fn packets(&self, text: &mut String) {
        let name = "sandgate_egress_refused_packets_total";
        counter(text, name, "Packets that nftables refused, by the rule that did.");
        for (counter, packets) in self.refused.into_iter().flatten() {
            // Names of the table's own, which are closed too.
            if let Some(rule) = counter.strip_prefix("refused_") {
                let _ = writeln!(text, "{name}{{rule=\"{rule}\"}} {packets}");
            }
        }
        let name = "sandgate_egress_told_packets_total";
        counter(text, name, "Those of them that the log names one by one.");
        let _ = writeln!(text, "{name} {}", self.told);
    }
}

fn gauge(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
}

fn counter(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
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
                "sandgate_egress_resident_bytes{process=\"envoy\"} 4096",
                "sandgate_egress_refused_packets_total{rule=\"quic\"} 5",
                "sandgate_egress_told_packets_total 3",
                "sandgate_egress_dns_refused_names_total 11",
            ]
        );
        for line in values {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
