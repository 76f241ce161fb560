//! The transitions of a sandbox's lifecycle.

use std::net::IpAddr;

use sandgate_policy::gateway_api::SandboxState;

/// A transition. A sandbox has an address only while it runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transition {
    /// The sandbox is being started or resumed.
    Pending,
    /// The sandbox runs at this address, in a new generation. Another sandbox that has the address loses it.
    Running(IpAddr),
    /// The suspension was refused, so the sandbox still runs at its former address, in a new generation. If
    /// another sandbox got the address meanwhile, this one is suspended instead.
    StillRunning(IpAddr),
    /// The sandbox is being suspended.
    Suspending,
    Suspended,
    /// The sandbox counts as suspended. The runtime has not confirmed that, and must suspend it again.
    SuspendedUnconfirmed,
}

impl Transition {
    /// The state after the transition.
    #[must_use]
    pub fn state(self) -> SandboxState {
        match self {
            Self::Pending => SandboxState::Pending,
            Self::Running(_) | Self::StillRunning(_) => SandboxState::Running,
            Self::Suspending => SandboxState::Suspending,
            Self::Suspended | Self::SuspendedUnconfirmed => SandboxState::Suspended,
        }
    }
}
