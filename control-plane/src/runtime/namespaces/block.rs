//! The addresses of one sandbox and its gateway.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The number of addresses of a block.
pub(super) const SIZE: u32 = 8;

/// Eight addresses: two for each link of two ends, and a network of four for the sandbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    first: Ipv4Addr,
    /// The number of the block in its range.
    pub(super) index: u32,
}

impl Block {
    /// The block that begins with this address of a range.
    pub(super) fn new(first: Ipv4Addr, range: Ipv4Net) -> Self {
        let distance = u32::from(first).saturating_sub(range.network().into());
        Self { first, index: distance.checked_div(SIZE).unwrap_or(0) }
    }

    fn address(self, offset: u32) -> Ipv4Addr {
        u32::from(self.first).saturating_add(offset).into()
    }

    /// This machine's end of the link to the gateway. Edges connect to the sandbox from this address.
    pub(super) fn edge(self) -> Ipv4Addr {
        self.address(0)
    }

    /// The gateway's end of the link to this machine.
    pub(super) fn gateway_to_host(self) -> Ipv4Addr {
        self.address(1)
    }

    /// The internet's end of the link to the gateway.
    pub(super) fn internet(self) -> Ipv4Addr {
        self.address(2)
    }

    /// The gateway's end of the link to the internet.
    pub(super) fn gateway_to_internet(self) -> Ipv4Addr {
        self.address(3)
    }

    /// The network of the sandbox, with a prefix of 30 bits.
    pub(super) fn sandbox_network(self) -> Ipv4Addr {
        self.address(4)
    }

    /// The gateway's end of the link to the sandbox.
    pub(super) fn gateway_to_sandbox(self) -> Ipv4Addr {
        self.address(5)
    }

    pub(super) fn sandbox(self) -> Ipv4Addr {
        self.address(6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_its_own_addresses_and_number() {
        let block = Block::new("10.203.1.8".parse().unwrap(), "10.203.0.0/16".parse().unwrap());
        assert_eq!((block.index, block.edge()), (33, "10.203.1.8".parse().unwrap()));
        assert_eq!(block.sandbox(), "10.203.1.14".parse::<Ipv4Addr>().unwrap());
    }
}
