//! The events of a sandbox that its owner can see.
//!
//! The size of an event is bounded, and no event has a credential, a path or a query: what arrives from outside is a port,
//! a name or an address, and the name of a rule.

use sandgate_policy::denials::{InboundDenial, OutboundDenial};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ExposedPorts, PolicyDifference, Timestamp};

/// An event, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The number of the event. Each event of a sandbox has the next one.
    pub number: u64,
    /// The time of the event, or of the first one of several equal denials.
    pub at: Timestamp,
    /// The time of the last one of several equal denials.
    pub last_at: Timestamp,
    /// The number of equal denials, or 1.
    pub count: u64,
    pub detail: EventDetail,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventDetail {
    /// The exposed ports changed, or whether they need a credential.
    PortsChanged { principal: String, before: PortAccess, after: PortAccess },
    /// The network policy changed.
    NetworkPolicyChanged { principal: String, difference: PolicyDifference },
    /// The sandbox runs for the first time.
    Started,
    /// The sandbox was suspended. If `confirmed` is false, the platform has not confirmed the suspension yet.
    Suspended { confirmed: bool },
    /// The sandbox runs again.
    Resumed,
    /// The platform did not resume the sandbox.
    ResumeFailed,
    /// Requests to the sandbox were denied.
    InboundDenied(InboundDenial),
    /// Further denials of requests to the sandbox, which have no events of their own.
    MoreInboundDenied,
    /// Connections or DNS queries of the sandbox were denied.
    OutboundDenied(OutboundDenial),
    /// Further denials of what the sandbox sent, which have no events of their own.
    MoreOutboundDenied,
    /// An event that this version of the server does not know. A newer one has recorded it.
    Unknown,
}

/// Which requests can reach a sandbox.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PortAccess {
    /// The ports that requests can reach, sorted.
    pub exposed_ports: Vec<u16>,
    /// Whether these ports accept requests without a credential.
    pub allow_unauthenticated_access: bool,
}

/// The events that share a bound. Denials, which others cause, can't remove the owner's changes, and requests that cause
/// resumes can't either.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum EventClass {
    Change,
    Lifecycle,
    Inbound,
    Outbound,
}

impl EventClass {
    /// The text in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Lifecycle => "lifecycle",
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl EventDetail {
    #[must_use]
    pub fn class(&self) -> EventClass {
        match self {
            Self::PortsChanged { .. } | Self::NetworkPolicyChanged { .. } => EventClass::Change,
            Self::Started
            | Self::Suspended { .. }
            | Self::Resumed
            | Self::ResumeFailed
            | Self::Unknown => EventClass::Lifecycle,
            Self::InboundDenied(_) | Self::MoreInboundDenied => EventClass::Inbound,
            Self::OutboundDenied(_) | Self::MoreOutboundDenied => EventClass::Outbound,
        }
    }
}

impl PortAccess {
    #[must_use]
    pub fn new(ports: &ExposedPorts, allow_unauthenticated_access: bool) -> Self {
        Self { exposed_ports: ports.as_slice().to_vec(), allow_unauthenticated_access }
    }
}
