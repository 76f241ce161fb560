//! What is the same in all generations: interfaces, ports, users.

use ipnet::IpNet;

/// Where the sandbox is, seen from the agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Behind an interface of this network namespace, which is the sandbox's only way out.
    Gateway {
        /// The interface.
        interface: Interface,
    },
    /// In this network namespace, as everyone but root, Envoy and the agent.
    Shared,
}

/// All that the rules rest on besides the policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    /// Where the sandbox is.
    pub mode: Mode,
    /// Who may open connections to the sandbox: the operator's edges.
    pub edges: Vec<IpNet>,
    /// Whether UDP and ICMP leave with the gateway's own address. Not, where the network knows the way
    /// back to the sandbox.
    pub masquerade: bool,
    /// The user that Envoy runs as, and nobody else.
    pub envoy_uid: u32,
    /// The user that the agent runs as.
    pub agent_uid: u32,
    /// The ports of Envoy and the agent.
    pub ports: Ports,
}

/// Ports of Envoy and of the agent, in the agent's namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ports {
    /// Envoy's admin, on loopback.
    pub admin: u16,
    /// TCP whose verdict no name can change.
    pub plain: u16,
    /// TCP whose names are looked for.
    pub inspected: u16,
    /// Which generation Envoy has, on loopback.
    pub probe: u16,
    /// Where denied connections end, on loopback.
    pub reset: u16,
    /// The DNS proxy.
    pub dns: u16,
    /// The resolver for Envoy, on loopback.
    pub resolver: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            admin: 15_000,
            plain: 15_001,
            inspected: 15_002,
            probe: 15_003,
            reset: 15_004,
            dns: 15_053,
            resolver: 15_054,
        }
    }
}

/// What marks a packet that goes to the DNS proxy, in nftables and in the routing rule; also the number of
/// the routing table that delivers it here.
pub const DNS_MARK: u32 = 15_053;
/// Mark of the connections (conntrack) that Envoy began.
pub const ENVOY_MARK: u32 = 15_001;

/// The name of a network interface. Parsed, because it becomes part of the rules' text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface(String);

/// Not the name of an interface.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is no interface name; it has 1 to 15 letters, digits, `-`, `_`, `.` or `@`, as `ip link` shows it"
)]
pub struct InvalidInterface(String);

impl std::str::FromStr for Interface {
    type Err = InvalidInterface;

    /// The kernel takes more (`dev_valid_name`), but quotes and blanks have no place in rules.
    fn from_str(text: &str) -> Result<Self, InvalidInterface> {
        let usual = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        let valid = (1..=15).contains(&text.len())
            && text.chars().all(usual)
            && !matches!(text, "." | "..");
        valid
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| InvalidInterface(text.escape_debug().to_string()))
    }
}

impl std::fmt::Display for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
