//! A network of loopback addresses for each test, so that tests can run at the same time.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};
use ipnet::Ipv4Net;

/// A /24 of 127.0.0.0/8 that no other test uses while this value exists.
#[derive(Debug)]
pub struct Network {
    prefix: [u8; 3],
    /// The process that listens on this port owns the network.
    _reservation: TcpListener,
}

impl Network {
    /// The length of the prefix.
    pub const PREFIX_LEN: u8 = 24;

    pub fn reserve() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..40_000 {
            // Each process starts with another network. 127.64.0.0/16 belongs to the local run.
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

    /// The address of the network itself.
    #[must_use]
    pub fn base(&self) -> Ipv4Addr {
        self.host(0)
    }

    /// An address of the network.
    #[must_use]
    pub fn host(&self, number: u8) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, number)
    }

    /// The network as text, like `127.80.1.0/24`.
    #[must_use]
    pub fn cidr(&self) -> String {
        format!("{}/{}", self.base(), Self::PREFIX_LEN)
    }
}

/// A /20 for sandboxes in network namespaces that nothing on this machine uses, apart from the default range. Each process
/// begins at another one, so that tests rarely meet.
pub fn free_range() -> Result<Ipv4Net> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..256 {
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let [.., number] = (std::process::id().wrapping_mul(97) + count).to_be_bytes();
        let network = Ipv4Addr::new(10, 204 + number / 16, (number % 16) * 16, 0);
        let range = Ipv4Net::new(network, 20)?;
        if sandgate_netns::conflict(range)?.is_none() {
            return Ok(range);
        }
    }
    bail!("all of 10.204.0.0 to 10.219.255.255 is in use")
}
