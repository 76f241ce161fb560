//! Tells the operator which packets were refused, and by which rule.
//!
//! What the kernel tells of is judged once more by the policy that refused it: the same list that
//! nftables was given ([`Policy::address_rules`]) says which of its rules it was. Whatever is not told
//! one by one is told as a number, which comes from the kernel's exact counters.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use sandgate_policy::egress::{Action, AddressRules, Policy, Rule};
use tokio::time::MissedTickBehavior;

use crate::netlink::DATAGRAM;
use crate::nftables::counters::Counters;
use crate::nftables::nflog::{Ear, Refused};
use crate::nftables::packet::Packet;
use crate::nftables::refusal::Cause;

/// How often it is looked for what the kernel tells. What it tells meanwhile, at most, fits into the
/// socket's buffer.
const INTERVAL: Duration = Duration::from_millis(100);

/// The lists of one generation that nftables has.
#[derive(Debug)]
pub struct Lists {
    number: u64,
    /// Of each policy: what is reached, and what is dialled.
    policies: Vec<(AddressRules, AddressRules)>,
}

impl Lists {
    /// Those of a generation, whose policies must all allow.
    #[must_use]
    pub fn new(number: u64, policies: &[&Policy]) -> Self {
        let policies = policies.iter().map(|one| (one.address_rules(), one.dial_rules())).collect();
        Self { number, policies }
    }

    /// The rule that refuses an address, if one does.
    fn refuses(&self, address: IpAddr, dialled: bool) -> Option<&Rule> {
        self.policies.iter().find_map(|(reached, dials)| {
            let list = if dialled { dials } else { reached };
            let first = list.first_match(address)?;
            (first.action == Action::Reject).then_some(&first.rule)
        })
    }
}

/// The newest generations: a packet that was refused a moment ago may have been by the one before.
#[derive(Debug, Default)]
struct Recent {
    now: Option<Arc<Lists>>,
    before: Option<Arc<Lists>>,
}

/// What is told, and how much of it was. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    recent: Arc<ArcSwap<Recent>>,
    told: Arc<AtomicU64>,
}

impl Refusals {
    /// A generation that nftables gets now.
    pub fn set(&self, lists: Arc<Lists>) {
        let before = self.recent.load().now.clone();
        self.recent.store(Arc::new(Recent { now: Some(lists), before }));
    }

    /// Tells what is heard, for ever.
    pub async fn tell(self, ear: Ear) {
        let mut room = vec![0; DATAGRAM];
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            loop {
                match ear.hear(&mut room) {
                    Ok(Some(all)) => all.iter().for_each(|one| self.tell_one(one)),
                    Ok(None) => break,
                    // They are in the number of those that were not told.
                    Err(error) => {
                        tracing::debug!("some refused packets were not heard of: {error}");
                        break;
                    }
                }
            }
        }
    }

    fn tell_one(&self, refused: &Refused) {
        let Some(packet) = &refused.packet else { return };
        self.told.fetch_add(1, Ordering::Relaxed);
        let (rule, generation) = self.rule(refused.cause, packet);
        let (client, destination) = (packet.client(), packet.target());
        let protocol = packet.protocol;
        let cause = refused.cause.name();
        tracing::info!(
            target: "sandgate::packets",
            client, destination, %protocol, rule, generation, cause, "packet denied"
        );
    }

    /// The rule's text, and the generation that has it; 0 where it is no policy's.
    fn rule(&self, cause: Cause, packet: &Packet) -> (String, u64) {
        let fixed = |text: &str| (text.to_owned(), 0);
        match cause {
            Cause::Outward => self.of_policy(packet.destination, false),
            Cause::Inward => self.of_policy(packet.source, false),
            Cause::Dial => self.of_policy(packet.destination, true),
            Cause::Own => fixed(&Rule::Guardrail(IpNet::from(packet.destination)).to_string()),
            Cause::Quic => fixed("could be QUIC, and a rule names a domain"),
            Cause::Protocol => fixed("nothing judges this protocol, or this form of it"),
            Cause::Inbound => fixed("not from an edge"),
            Cause::Unready => fixed("not ready: no policy is enforced"),
            Cause::NoRoute => fixed("the gateway has no route"),
            Cause::Neighbour => fixed("more neighbours than a sandbox may have"),
        }
    }

    fn of_policy(&self, address: IpAddr, dialled: bool) -> (String, u64) {
        let recent = self.recent.load();
        let found = [&recent.now, &recent.before]
            .into_iter()
            .flatten()
            .find_map(|lists| Some((lists.refuses(address, dialled)?.to_string(), lists.number)));
        found.unwrap_or_else(|| ("a rule of an earlier generation".to_owned(), 0))
    }

    /// How many packets were told of one by one.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }
}

/// Tells as a number what was not told one by one.
#[derive(Debug, Default)]
pub struct Untold {
    counted: u64,
    said: u64,
}

impl Untold {
    /// How many more there are by now. What was counted since the last time is left for the next: it may
    /// be on its way to be told.
    pub fn more(&mut self, counters: &Counters, told: u64) -> u64 {
        let untold = self.counted.saturating_sub(told);
        self.counted = counters.values().sum();
        let more = untold.saturating_sub(self.said);
        self.said = self.said.max(untold);
        more
    }
}

#[cfg(test)]
mod tests {
    use sandgate_policy::egress::Operator;
    use serde_json::json;

    use super::*;

    fn lists(number: u64, policies: &[serde_json::Value]) -> Arc<Lists> {
        let policies: Vec<Policy> = policies
            .iter()
            .map(|policy| {
                let policy = serde_json::from_value(policy.clone()).unwrap();
                Policy::new(&policy, &Operator::default())
            })
            .collect();
        Arc::new(Lists::new(number, &policies.iter().collect::<Vec<_>>()))
    }

    /// A UDP packet from the sandbox.
    fn to(address: &str) -> Packet {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 64, 0, 2];
        bytes.extend(address.parse::<std::net::Ipv4Addr>().unwrap().octets());
        Packet::parse(&bytes).unwrap()
    }

    fn named(refusals: &Refusals, cause: Cause, address: &str) -> String {
        let (rule, generation) = refusals.rule(cause, &to(address));
        format!("{generation}: {rule}")
    }

    #[test]
    fn the_rule_is_the_one_that_refused() {
        let refusals = Refusals::default();
        refusals.set(lists(3, &[json!({ "deny_out": ["9.9.9.0/24", "8.8.8.8"] })]));
        for (address, rule) in [
            ("9.9.9.9", "3: deny_out 9.9.9.0/24"),
            ("8.8.8.8", "3: deny_out 8.8.8.8"),
            ("169.254.169.254", "3: guardrail 169.254.0.0/16"),
            ("10.1.2.3", "3: not globally routable"),
            ("1.1.1.1", "0: a rule of an earlier generation"),
        ] {
            assert_eq!(named(&refusals, Cause::Outward, address), rule);
        }
        assert_eq!(named(&refusals, Cause::Own, "10.1.2.3"), "0: guardrail 10.1.2.3/32");
    }

    #[test]
    fn all_policies_of_a_generation_count_and_the_one_before_too() {
        let refusals = Refusals::default();
        refusals.set(lists(1, &[json!({ "deny_out": ["1.1.1.1"] })]));
        refusals.set(lists(2, &[json!({}), json!({ "allow_internet_access": false })]));
        assert_eq!(named(&refusals, Cause::Outward, "1.1.1.1"), "2: default deny");
        refusals.set(lists(3, &[json!({})]));
        assert_eq!(named(&refusals, Cause::Outward, "1.1.1.1"), "2: default deny");
        refusals.set(lists(4, &[json!({})]));
        assert!(named(&refusals, Cause::Outward, "1.1.1.1").starts_with("0:"));
    }

    #[test]
    fn a_name_opens_dials_and_not_packets() {
        let refusals = Refusals::default();
        refusals
            .set(lists(1, &[json!({ "allow_internet_access": false, "allow_out": ["a.test"] })]));
        assert_eq!(named(&refusals, Cause::Outward, "1.1.1.1"), "1: default deny");
        assert!(named(&refusals, Cause::Dial, "1.1.1.1").starts_with("0:"));
        assert_eq!(named(&refusals, Cause::Dial, "10.0.0.1"), "1: not globally routable");
    }

    #[test]
    fn what_was_not_told_is_a_number_once() {
        let counters = |count| Counters::from([("refused_quic".to_owned(), count)]);
        let mut untold = Untold::default();
        assert_eq!(untold.more(&counters(100), 20), 0, "the others may be on their way");
        assert_eq!(untold.more(&counters(100), 20), 80);
        assert_eq!(untold.more(&counters(150), 20), 0);
        assert_eq!(untold.more(&counters(150), 40), 30);
        assert_eq!(untold.more(&counters(150), 40), 0);
    }
}
