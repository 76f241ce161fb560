//! Ports of a sandbox.

/// The sandbox's built-in management API. Contract: "The management URL on port 9501 always
/// requires auth".
pub const MANAGEMENT_PORT: u16 = 9501;

/// A port that an app in a sandbox listens on: never 0, never the management port.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct UserPort(u16);

impl UserPort {
    /// The port number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

/// A port of a sandbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    /// 9501, spelt out or left out.
    Management,
    /// Any other.
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

    /// The port number.
    #[must_use]
    pub fn get(self) -> u16 {
        match self {
            Self::Management => MANAGEMENT_PORT,
            Self::User(port) => port.0,
        }
    }
}
