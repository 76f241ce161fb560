//! The parameters that all policy generations share: interfaces, ports, users.

use ipnet::IpNet;

/// The location of the sandbox relative to the agent's network namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mode {
    /// The sandbox is connected to an interface of this network namespace, and has no other route.
    Gateway {
        /// The interface to the sandbox.
        interface: Interface,
    },
    /// The sandbox shares this network namespace. All users except Envoy's and the agent's
    /// belong to the sandbox.
    Shared,
}

/// All parameters of the rules except the policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    /// The location of the sandbox.
    pub mode: Mode,
    /// The address ranges of the operator's edges, which may open connections to the sandbox.
    pub edges: Vec<IpNet>,
    /// Whether UDP and ICMP leave with the gateway's own source address. Not necessary if the
    /// network has a route back to the sandbox.
    pub masquerade: bool,
    /// The user id that Envoy runs as. No other process may run as this user.
    pub envoy_uid: u32,
    /// The user id that the agent runs as.
    pub agent_uid: u32,
    /// The ports of Envoy and the agent.
    pub ports: Ports,
}

/// Ports of Envoy and of the agent, in the agent's namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ports {
    /// Envoy's admin listener, on loopback.
    pub admin: u16,
    /// Envoy's listener for connections whose decision no name can change.
    pub plain: u16,
    /// Envoy's listener for connections whose first bytes are inspected for a name.
    pub inspected: u16,
    /// Envoy's listener that returns the policy generation, on loopback.
    pub probe: u16,
    /// Envoy's listener that resets denied connections, on loopback.
    pub reset: u16,
    /// Envoy's listener for connections to denied addresses that no name can allow.
    pub refused: u16,
    /// The DNS proxy.
    pub dns: u16,
    /// The DNS proxy's listener for Envoy, on loopback.
    pub envoy_dns: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            admin: 15_000,
            plain: 15_001,
            inspected: 15_002,
            probe: 15_003,
            reset: 15_004,
            refused: 15_005,
            dns: 15_053,
            envoy_dns: 15_054,
        }
    }
}

/// The packet mark of DNS queries, in nftables and in the routing rule. Also the number of the
/// routing table that delivers these packets locally.
pub const DNS_MARK: u32 = 15_053;
/// The connection mark (conntrack) of connections that Envoy opens.
pub const ENVOY_MARK: u32 = 15_001;

/// A valid name of a network interface. Parsed, because it becomes part of the rules' text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface(String);

/// The text is not a valid interface name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is not an interface name; expected 1 to 15 letters, digits, `-`, `_`, `.` or `@`, as `ip link` shows it"
)]
pub struct InvalidInterface(String);

impl std::str::FromStr for Interface {
    type Err = InvalidInterface;

    /// Parses a name. The kernel allows more characters (`dev_valid_name`), but quotes and white
    /// space must not get into the rules.
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
