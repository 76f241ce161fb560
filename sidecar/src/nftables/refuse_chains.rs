//! The chains that refuse packets: they count a packet, log it to the agent, and reject it.
//!
//! The counters are exact. The kernel limits the rate of logged packets ([`super::nflog`]), so that
//! a sandbox can't cause more than a few log lines a second.

use std::fmt::Write as _;

use super::template::fill;

/// The NFLOG group that the agent is bound to.
pub(crate) const GROUP: u16 = 15_053;
/// The maximum number of logged packets per second and cause.
pub(crate) const LOGGED_PER_SECOND: u32 = 20;
/// The number of bytes of a packet that are logged. IP headers and ports fit, but almost no
/// payload.
const LOGGED_BYTES: u32 = 128;

/// Whether refused packets are logged to the agent. Some kernels don't support it (`NFT_LOG`,
/// `NETFILTER_NETLINK_LOG`). All kernels have counters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PacketLog {
    /// Packets are counted and logged.
    On,
    /// Packets are only counted.
    Off,
}

/// The reason for a refusal, by the chain that refused the packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cause {
    /// The policy denies the destination.
    Outbound,
    /// The policy's address rules deny the source of a packet to the sandbox.
    Reply,
    /// The rules for Envoy's connections deny the destination.
    Dial,
    /// Envoy's connection goes to an address of this namespace.
    Own,
    /// The packet may be QUIC, and the policy has rules about names.
    Quic,
    /// No rule evaluates this protocol, or this form of it.
    Protocol,
    /// The connection comes from outside, and not from an edge.
    Inbound,
    /// No policy is applied yet, or the agent has ended.
    Unready,
    /// The packet starts a connection, and the gateway has no route to its destination.
    NoRoute,
    /// The packet would add a neighbour (its sender or its next hop) beyond the limit.
    Neighbour,
}

impl Cause {
    /// All causes.
    pub(crate) const ALL: [Self; 10] = [
        Self::Outbound,
        Self::Reply,
        Self::Dial,
        Self::Own,
        Self::Quic,
        Self::Protocol,
        Self::Inbound,
        Self::Unready,
        Self::NoRoute,
        Self::Neighbour,
    ];

    /// Whether a rule denies what the sandbox sends, or what Envoy sends on its behalf.
    pub(crate) fn is_outbound(self) -> bool {
        matches!(self, Self::Outbound | Self::Dial | Self::Own | Self::Quic | Self::Protocol)
    }

    /// Whether the packet is refused for another reason than a rule about destinations.
    pub(crate) fn is_by_no_rule(self) -> bool {
        matches!(self, Self::Inbound | Self::Unready | Self::NoRoute | Self::Neighbour)
    }

    /// The name of the cause in the rules and in the log.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Outbound => "outward",
            Self::Reply => "inward",
            Self::Dial => "dial",
            Self::Own => "own",
            Self::Quic => "quic",
            Self::Protocol => "protocol",
            Self::Inbound => "inbound",
            Self::Unready => "unready",
            Self::NoRoute => "no_route",
            Self::Neighbour => "neighbour",
        }
    }

    /// The cause with this name.
    #[must_use]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }

    /// The counter of the cause. `None` for the policy's rules, which have a counter for each
    /// [`Rule::kind`].
    ///
    /// [`Rule::kind`]: sandgate_policy::egress::Rule::kind
    pub(crate) fn counter(self) -> Option<&'static str> {
        match self {
            Self::Outbound | Self::Reply | Self::Dial => None,
            Self::Own => Some("refused_guardrail"),
            Self::Quic => Some("refused_quic"),
            Self::Protocol => Some("refused_protocol"),
            Self::Inbound => Some("refused_inbound"),
            Self::Unready => Some("refused_unready"),
            Self::NoRoute => Some("refused_no_route"),
            Self::Neighbour => Some("refused_neighbour"),
        }
    }

    /// The statements that count and log a packet.
    fn record(self, log: PacketLog) -> String {
        let mut text = String::new();
        if let Some(counter) = self.counter() {
            let _ = writeln!(text, "    counter name {counter}");
        }
        if log == PacketLog::On {
            let name = self.name();
            let _ = writeln!(
                text,
                "    limit rate {LOGGED_PER_SECOND}/second burst {LOGGED_PER_SECOND} packets log prefix \"{name}\" group {GROUP} snaplen {LOGGED_BYTES}"
            );
        }
        text
    }
}

/// Renders the chains, indented as members of the table.
pub(super) fn chains(log: PacketLog) -> String {
    let refuse_chains = Cause::ALL.map(|cause| {
        format!("  chain refuse_{} {{\n{}    goto refuse\n  }}\n", cause.name(), cause.record(log))
    });
    fill(
        include_str!("rules/refusal.nft"),
        &[
            ("refuse_chains", &refuse_chains.concat()),
            ("record_protocol", &Cause::Protocol.record(log)),
            ("record_neighbour", &Cause::Neighbour.record(log)),
            ("record_unready", &Cause::Unready.record(log)),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_by_its_name() {
        for cause in Cause::ALL {
            assert_eq!(Cause::from_name(cause.name()), Some(cause));
        }
        assert_eq!(Cause::from_name("refuse"), None);
    }

    #[test]
    fn without_packet_log_the_rules_have_no_log_statement() {
        assert!(chains(PacketLog::On).contains("log prefix"));
        let unlogged = chains(PacketLog::Off);
        assert!(!unlogged.contains("log") && !unlogged.contains("limit"), "{unlogged}");
        // The log statements are the only difference.
        let logged = chains(PacketLog::On);
        let rest: Vec<_> = logged.lines().filter(|line| !line.contains(" log ")).collect();
        assert_eq!(rest, unlogged.lines().collect::<Vec<_>>());
    }
}
