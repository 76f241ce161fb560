//! What nftables is called where the kernel is asked itself (`linux/netfilter/nf_tables.h`).

/// The table.
pub(super) const TABLE: &str = "sandgate";
/// Its family, `NFPROTO_INET`.
pub(super) const FAMILY: u8 = 1;
/// The subsystem, `NFNL_SUBSYS_NFTABLES`.
pub(super) const NFTABLES: u16 = 10;

/// A message of the subsystem.
pub(super) const fn kind(message: u16) -> u16 {
    NFTABLES << 8 | message
}
