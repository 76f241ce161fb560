//! Constants for netlink messages to nftables (`linux/netfilter/nf_tables.h`).

/// The name of the table.
pub(super) const TABLE: &str = "sandgate";
/// The family of the table, `NFPROTO_INET`.
pub(super) const FAMILY: u8 = 1;
/// The subsystem, `NFNL_SUBSYS_NFTABLES`.
pub(super) const NFTABLES: u16 = 10;

/// The netlink message type of a message of the subsystem.
pub(super) const fn kind(message: u16) -> u16 {
    NFTABLES << 8 | message
}
