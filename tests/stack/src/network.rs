//! A network of loopback addresses for each test, so that tests run side by side.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

/// A /24 of 127.0.0.0/8 that no other running test has, for as long as this lives.
#[derive(Debug)]
pub struct Network {
    prefix: [u8; 3],
    /// Whoever holds this port holds the network, across processes.
    _reservation: TcpListener,
}

impl Network {
    /// Length of every such network's prefix.
    pub const PREFIX_LEN: u8 = 24;

    /// Reserves a network.
    pub fn reserve() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..40_000 {
            // Starts somewhere else in every process. 127.64.0.0/16 is the local run's.
            let count = NEXT.fetch_add(1, Ordering::Relaxed);
            let [.., high, low] = (std::process::id().wrapping_mul(97) + count).to_be_bytes();
            let prefix = [127, 80 + high % 160, low];
            let [a, b, c] = prefix;
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::new(a, b, c, 255), 20_007)) {
                return Ok(Self { prefix, _reservation: listener });
            }
        }
        bail!(
            "no network of 127.80.0.0 to 127.239.255.0 is free: port 20007 of all of them is in use"
        )
    }

    /// The network's own address.
    #[must_use]
    pub fn base(&self) -> Ipv4Addr {
        self.host(0)
    }

    /// One of its addresses.
    #[must_use]
    pub fn host(&self, number: u8) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, number)
    }

    /// As `a.b.c.0/24`.
    #[must_use]
    pub fn cidr(&self) -> String {
        format!("{}/{}", self.base(), Self::PREFIX_LEN)
    }
}
