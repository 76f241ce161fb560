//! The ports of a sandbox. The management port has a type of its own, so that no list of exposed ports can contain it.

/// The port of the sandbox's built-in management API. Contract: "The management URL on port 9501 always requires
/// auth".
pub const MANAGEMENT_PORT: u16 = 9501;

/// A port that an app in a sandbox listens on. It is never 0 and never the management port.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct UserPort(u16);

impl UserPort {
    /// The port as a number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

/// A port of a sandbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    /// The management port, written in the host or omitted.
    Management,
    /// Any other port.
    User(UserPort),
}

impl Port {
    /// Classifies a port number; `None` for 0.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        match number {
            0 => None,
            MANAGEMENT_PORT => Some(Self::Management),
            other => Some(Self::User(UserPort(other))),
        }
    }

    /// The port as a number.
    #[must_use]
    pub fn get(self) -> u16 {
        match self {
            Self::Management => MANAGEMENT_PORT,
            Self::User(port) => port.0,
        }
    }
}
