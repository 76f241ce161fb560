//! How a packet is refused: counted, told to the agent, and answered.
//!
//! The counters are exact. What the agent is told of ([`super::nflog`]) is a part, bounded by the kernel
//! itself, so that nothing that a sandbox sends becomes more than a few lines a second.

use std::fmt::Write as _;

/// NFLOG's group, by which the agent hears.
pub const GROUP: u16 = 15_053;
/// How many refusals of one cause are told in a second.
pub const TOLD_PER_SECOND: u32 = 20;
/// How much of a packet is told: room for every IP header and the ports, and little else.
const BYTES: u32 = 128;

/// Whether the agent hears of single packets. The kernel may not be able to tell (`NFT_LOG`,
/// `NETFILTER_NETLINK_LOG`); counters are everywhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Told {
    /// They are told.
    Singly,
    /// They are counted only.
    AsNumbers,
}

/// Why a packet is refused: which chain had it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// Where it goes: the policy's address rules.
    Outward,
    /// Where it comes from: the same rules.
    Inward,
    /// Where Envoy's connection goes: the rules for dials.
    Dial,
    /// Envoy's connection goes to this namespace itself.
    Own,
    /// It could be QUIC, and a rule names a domain.
    Quic,
    /// It is of a protocol, or a form, that nothing here judges.
    Protocol,
    /// It comes from outside, and not from an edge.
    Inbound,
    /// No policy is in force, or no agent.
    Unready,
    /// It begins a connection, and the gateway has no route for it.
    NoRoute,
    /// It has one neighbour too many: its sender, or its next hop.
    Neighbour,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Outward,
        Self::Inward,
        Self::Dial,
        Self::Own,
        Self::Quic,
        Self::Protocol,
        Self::Inbound,
        Self::Unready,
        Self::NoRoute,
        Self::Neighbour,
    ];

    /// How the rules call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Outward => "outward",
            Self::Inward => "inward",
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

    /// The one by that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }

    /// Its counter, where one counts all of it; the policy's rules count by [`Rule::kind`] themselves.
    ///
    /// [`Rule::kind`]: sandgate_policy::egress::Rule::kind
    pub(super) fn counter(self) -> Option<&'static str> {
        match self {
            Self::Outward | Self::Inward | Self::Dial => None,
            Self::Own => Some("refused_guardrail"),
            Self::Quic => Some("refused_quic"),
            Self::Protocol => Some("refused_protocol"),
            Self::Inbound => Some("refused_inbound"),
            Self::Unready => Some("refused_unready"),
            Self::NoRoute => Some("refused_no_route"),
            Self::Neighbour => Some("refused_neighbour"),
        }
    }

    /// Counts it, and tells of it.
    fn account(self, told: Told) -> String {
        let mut text = String::new();
        if let Some(counter) = self.counter() {
            let _ = writeln!(text, "    counter name {counter}");
        }
        if told == Told::Singly {
            let name = self.name();
            let _ = writeln!(
                text,
                "    limit rate {TOLD_PER_SECOND}/second burst {TOLD_PER_SECOND} packets log prefix \"{name}\" group {GROUP} snaplen {BYTES}"
            );
        }
        text
    }
}

/// The chains, indented as members of the table.
pub(super) fn chains(told: Told) -> String {
    let mut text = "\
  # Every refusal is audible: what is told nothing waits, and tries again.
  chain refuse {
    # Linux finds no way for a reset to such an address, which does not say on which link it is.
    ip6 saddr fe80::/10 reject with icmpv6 type admin-prohibited
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
"
    .to_owned();
    for cause in Cause::ALL {
        let account = cause.account(told);
        let _ =
            writeln!(text, "  chain refuse_{} {{\n{account}    goto refuse\n  }}", cause.name());
    }
    let (protocol, unready) = (Cause::Protocol.account(told), Cause::Unready.account(told));
    let neighbour = Cause::Neighbour.account(told);
    let _ = write!(
        text,
        "  # Where an answer would be taken for another's.\n  chain drop_protocol {{\n{protocol}    drop\n  }}\n  \
         # Where an answer would look for the neighbour.\n  chain drop_neighbour {{\n{neighbour}    drop\n  }}\n  \
         # The agent is gone, or not ready: nothing begins, and what goes on waits for it.\n  \
         chain unready {{\n{unready}    ct state established drop\n    goto refuse\n  }}\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_known_by_its_name() {
        for cause in Cause::ALL {
            assert_eq!(Cause::named(cause.name()), Some(cause));
        }
        assert_eq!(Cause::named("refuse"), None);
    }

    #[test]
    fn a_kernel_that_can_not_tell_is_not_asked_to() {
        assert!(chains(Told::Singly).contains("log prefix"));
        let quiet = chains(Told::AsNumbers);
        assert!(!quiet.contains("log") && !quiet.contains("limit"), "{quiet}");
        // Nothing else differs.
        let told = chains(Told::Singly);
        let rest: Vec<_> = told.lines().filter(|line| !line.contains(" log ")).collect();
        assert_eq!(rest, quiet.lines().collect::<Vec<_>>());
    }
}
