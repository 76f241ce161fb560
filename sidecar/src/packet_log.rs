//! Logs refused packets with the rule that refused them, and adds those of the sandbox to the report for the control plane.
//!
//! The agent finds the rule by evaluating the packet with the address rules that nftables has
//! ([`Policy::address_rules`]). The kernel does not log every packet; the agent logs the number of
//! the other packets, from the kernel's exact counters.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use sandgate_policy::denials::OutboundDenial;
use sandgate_policy::egress::{Action, AddressRules, Policy, Rule};
use tokio::time::MissedTickBehavior;

use crate::denials::DenialReport;
use crate::netlink::DATAGRAM;
use crate::nftables::nflog::{NflogSocket, Refused};
use crate::nftables::packet::Packet;
use crate::nftables::refuse_chains::Cause;

/// The interval between two reads of the NFLOG socket. The socket's buffer can hold the packets
/// that the kernel logs in between.
const INTERVAL: Duration = Duration::from_millis(100);

/// The address rules of one policy generation, as nftables has them.
#[derive(Debug)]
pub(crate) struct RefusalRules {
    number: u64,
    /// For each policy: the rules for the sandbox's packets, and the rules for Envoy's connections.
    policies: Vec<(AddressRules, AddressRules)>,
}

impl RefusalRules {
    /// The rules of a generation. All of its policies must allow a packet.
    #[must_use]
    pub(crate) fn new(number: u64, policies: &[&Policy]) -> Self {
        let policies = policies
            .iter()
            .map(|one| (one.address_rules(), one.upstream_address_rules()))
            .collect();
        Self { number, policies }
    }

    /// The rule that refuses the address and the port, if any. `by_envoy` selects the rules for
    /// Envoy's connections.
    fn refuses(&self, address: IpAddr, port: Option<u16>, by_envoy: bool) -> Option<&Rule> {
        self.policies.iter().find_map(|(packets, dials)| {
            let list = if by_envoy { dials } else { packets };
            let first = list.first_match(address, port)?;
            (first.action == Action::Reject).then_some(&first.rule)
        })
    }
}

/// The current and the previous generation. The previous one may have refused a packet that is
/// logged now.
#[derive(Debug, Default)]
struct Recent {
    current: Option<Arc<RefusalRules>>,
    previous: Option<Arc<RefusalRules>>,
}

/// Logs refused packets and counts the logged ones. Clones share their state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals {
    recent: Arc<ArcSwap<Recent>>,
    reported: Arc<AtomicU64>,
    reported_by_rules: Arc<AtomicU64>,
    denials: DenialReport,
}

impl Refusals {
    /// Logs packets, and adds those of the sandbox to this report.
    pub(crate) fn reporting_to(denials: DenialReport) -> Self {
        Self { denials, ..Self::default() }
    }

    /// Sets the rules of the generation that nftables receives now.
    pub(crate) fn set(&self, rules: Arc<RefusalRules>) {
        let previous = self.recent.load().current.clone();
        self.recent.store(Arc::new(Recent { current: Some(rules), previous }));
    }

    /// Logs the packets that the socket receives. Never returns.
    pub(crate) async fn report(self, socket: NflogSocket) {
        let mut buffer = vec![0; DATAGRAM];
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            loop {
                match socket.recv(&mut buffer) {
                    Ok(Some(all)) => all.iter().for_each(|one| self.report_packet(one)),
                    Ok(None) => break,
                    // The counters include these packets, so they are part of the unreported
                    // number.
                    Err(error) => {
                        tracing::debug!("some refused packets were not received: {error}");
                        break;
                    }
                }
            }
        }
    }

    fn report_packet(&self, refused: &Refused) {
        let Some(packet) = &refused.packet else { return };
        self.reported.fetch_add(1, Ordering::Relaxed);
        let (rule, generation) = self.rule(refused.cause, packet);
        let (client, destination) = (packet.client(), packet.target());
        let protocol = packet.protocol;
        if !refused.cause.is_by_no_rule() {
            self.reported_by_rules.fetch_add(1, Ordering::Relaxed);
        }
        if refused.cause.is_outbound() {
            self.denials.add(OutboundDenial {
                destination: packet.destination.to_canonical().to_string(),
                name: None,
                port: packet.ports.map(|(_, destination)| destination),
                protocol: packet.protocol.kind(),
                rule: rule.clone(),
            });
        }
        let cause = refused.cause.name();
        tracing::info!(
            target: "sandgate::packets",
            client, destination, %protocol, rule, generation, cause, "packet denied"
        );
    }

    /// The rule's text and its generation, or generation 0 if the rule is not part of a policy.
    fn rule(&self, cause: Cause, packet: &Packet) -> (String, u64) {
        let fixed = |text: &str| (text.to_owned(), 0);
        let (source_port, destination_port) = packet.ports.unzip();
        match cause {
            Cause::Outbound => self.policy_rule(packet.destination, destination_port, false),
            Cause::Reply => self.policy_rule(packet.source, source_port, false),
            Cause::Dial => self.policy_rule(packet.destination, destination_port, true),
            Cause::Own => fixed(&Rule::Guardrail(IpNet::from(packet.destination)).to_string()),
            Cause::Quic => fixed("could be QUIC, and a rule names a domain"),
            Cause::Protocol => fixed("no rule evaluates this protocol, or this form of it"),
            Cause::Inbound => fixed("not from an edge"),
            Cause::Unready => fixed("not ready: no policy is enforced"),
            Cause::NoRoute => fixed("the gateway has no route"),
            Cause::Neighbour => fixed("too many neighbours for one sandbox"),
        }
    }

    fn policy_rule(&self, address: IpAddr, port: Option<u16>, by_envoy: bool) -> (String, u64) {
        let recent = self.recent.load();
        let found = [&recent.current, &recent.previous].into_iter().flatten().find_map(|lists| {
            Some((lists.refuses(address, port, by_envoy)?.to_string(), lists.number))
        });
        found.unwrap_or_else(|| ("a rule of an earlier generation".to_owned(), 0))
    }

    /// The number of packets that rules refused and that were logged individually.
    pub(crate) fn reported_by_rules(&self) -> u64 {
        self.reported_by_rules.load(Ordering::Relaxed)
    }

    /// The number of packets that were logged individually.
    #[must_use]
    pub(crate) fn reported(&self) -> u64 {
        self.reported.load(Ordering::Relaxed)
    }
}

/// Computes the number of denials that were not logged individually, of packets or in Envoy's access log.
#[derive(Debug, Default)]
pub(crate) struct Unreported {
    counted: u64,
    returned: u64,
}

impl Unreported {
    /// The number of unlogged denials since the last call. Only considers those that were already
    /// counted at the last call, because newer ones may still be in the socket, or in Envoy's log.
    pub(crate) fn more(&mut self, counted: u64, reported: u64) -> u64 {
        let unreported = self.counted.saturating_sub(reported);
        self.counted = counted;
        let more = unreported.saturating_sub(self.returned);
        self.returned = self.returned.max(unreported);
        more
    }
}

#[cfg(test)]
mod tests {
    use sandgate_policy::egress::OperatorSettings;
    use serde_json::json;

    use super::*;

    fn lists(number: u64, policies: &[serde_json::Value]) -> Arc<RefusalRules> {
        let policies: Vec<Policy> = policies
            .iter()
            .map(|policy| {
                let policy = serde_json::from_value(policy.clone()).unwrap();
                Policy::new(&policy, &OperatorSettings::default())
            })
            .collect();
        Arc::new(RefusalRules::new(number, &policies.iter().collect::<Vec<_>>()))
    }

    /// A UDP packet from the sandbox's port 4660 to port 53 of this address.
    fn to(address: &str) -> Packet {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 64, 0, 2];
        bytes.extend(address.parse::<std::net::Ipv4Addr>().unwrap().octets());
        bytes.extend([0x12, 0x34, 0, 53, 0, 8, 0, 0]);
        Packet::parse(&bytes).unwrap()
    }

    fn named(refusals: &Refusals, cause: Cause, address: &str) -> String {
        let (rule, generation) = refusals.rule(cause, &to(address));
        format!("{generation}: {rule}")
    }

    #[test]
    fn the_reported_rule_is_the_one_that_refused_the_packet() {
        let refusals = Refusals::default();
        refusals.set(lists(3, &[json!({ "deny_out": ["9.9.9.0/24", "8.8.8.8"] })]));
        for (address, rule) in [
            ("9.9.9.9", "3: deny_out 9.9.9.0/24"),
            ("8.8.8.8", "3: deny_out 8.8.8.8"),
            ("169.254.169.254", "3: guardrail 169.254.0.0/16"),
            ("10.1.2.3", "3: not globally routable"),
            ("1.1.1.1", "0: a rule of an earlier generation"),
        ] {
            assert_eq!(named(&refusals, Cause::Outbound, address), rule);
        }
        assert_eq!(named(&refusals, Cause::Own, "10.1.2.3"), "0: guardrail 10.1.2.3/32");
    }

    #[test]
    fn the_rule_is_one_for_the_port_of_the_packet() {
        let refusals = Refusals::default();
        let policy = json!({ "deny_out": ["8.8.8.8:52", "8.8.8.8:53", "10.64.0.2:4660", "10.64.0.2:1"],
            "allow_out": ["10.64.0.0/16:53"] });
        refusals.set(lists(3, &[policy]));
        assert_eq!(named(&refusals, Cause::Outbound, "8.8.8.8"), "3: deny_out 8.8.8.8:53");
        // The source of a response is the destination of its request.
        assert_eq!(named(&refusals, Cause::Reply, "8.8.8.8"), "3: deny_out 10.64.0.2:4660");
    }

    #[test]
    fn the_rule_may_be_of_any_policy_of_the_current_or_previous_generation() {
        let refusals = Refusals::default();
        refusals.set(lists(1, &[json!({ "deny_out": ["1.1.1.1"] })]));
        refusals.set(lists(2, &[json!({}), json!({ "allow_internet_access": false })]));
        assert_eq!(named(&refusals, Cause::Outbound, "1.1.1.1"), "2: default deny");
        refusals.set(lists(3, &[json!({})]));
        assert_eq!(named(&refusals, Cause::Outbound, "1.1.1.1"), "2: default deny");
        refusals.set(lists(4, &[json!({})]));
        assert!(named(&refusals, Cause::Outbound, "1.1.1.1").starts_with("0:"));
    }

    #[test]
    fn an_allowed_name_allows_envoys_connections_but_not_packets() {
        let refusals = Refusals::default();
        refusals
            .set(lists(1, &[json!({ "allow_internet_access": false, "allow_out": ["a.test"] })]));
        assert_eq!(named(&refusals, Cause::Outbound, "1.1.1.1"), "1: default deny");
        assert!(named(&refusals, Cause::Dial, "1.1.1.1").starts_with("0:"));
        assert_eq!(named(&refusals, Cause::Dial, "10.0.0.1"), "1: not globally routable");
    }

    #[test]
    fn unreported_packets_are_counted_once() {
        let mut unreported = Unreported::default();
        assert_eq!(unreported.more(100, 20), 0, "the others may still be in the socket");
        assert_eq!(unreported.more(100, 20), 80);
        assert_eq!(unreported.more(150, 20), 0);
        assert_eq!(unreported.more(150, 40), 30);
        assert_eq!(unreported.more(150, 40), 0);
    }
}
