//! Removes the parameters of SVCB and HTTPS records (RFC 9460) with which a client could bypass the policy.

use std::net::IpAddr;

use hickory_proto::rr::rdata::svcb::{SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{HTTPS, SVCB};
use hickory_proto::rr::{Name, RData, Record};

/// The number of removed parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    /// Addresses in `ipv4hint` and `ipv6hint`.
    pub(super) addresses: u64,
    /// `ech` parameters.
    pub(super) ech: u64,
}

/// The service binding of an SVCB or HTTPS record.
pub(super) fn binding(record: &mut Record) -> Option<&mut SVCB> {
    match &mut record.data {
        RData::SVCB(svcb) | RData::HTTPS(HTTPS(svcb)) => Some(svcb),
        _ => None,
    }
}

/// The name that a client connects to: the target, or the owner if the target is the root (RFC 9460 §2.5.2).
pub(super) fn target<'a>(owner: &'a Name, binding: &'a SVCB) -> &'a Name {
    if binding.target_name.is_root() { owner } else { &binding.target_name }
}

/// Removes the address hints that `allows_address` rejects. If `removes_ech`, also removes `ech`, with which clients would
/// encrypt the name in the TLS handshake.
pub(super) fn clean(
    binding: &mut SVCB,
    removes_ech: bool,
    allows_address: impl Fn(IpAddr) -> bool,
) -> Removed {
    let mut removed = Removed::default();
    let mut removed_keys = Vec::new();
    binding.svc_params.retain_mut(|(key, value)| {
        let is_kept = match value {
            SvcParamValue::Ipv4Hint(hints) => {
                let before = hints.0.len();
                hints.0.retain(|hint| allows_address(hint.0.into()));
                removed.addresses += (before - hints.0.len()) as u64;
                !hints.0.is_empty()
            }
            SvcParamValue::Ipv6Hint(hints) => {
                let before = hints.0.len();
                hints.0.retain(|hint| allows_address(hint.0.into()));
                removed.addresses += (before - hints.0.len()) as u64;
                !hints.0.is_empty()
            }
            _ if removes_ech && *key == SvcParamKey::EchConfigList => {
                removed.ech += 1;
                false
            }
            _ => true,
        };
        if !is_kept {
            removed_keys.push(*key);
        }
        is_kept
    });
    // A record without a parameter that it lists as mandatory is malformed (RFC 9460 §8).
    binding.svc_params.retain_mut(|(_, value)| match value {
        SvcParamValue::Mandatory(mandatory) => {
            mandatory.0.retain(|key| !removed_keys.contains(key));
            !mandatory.0.is_empty()
        }
        _ => true,
    });
    removed
}

#[cfg(test)]
mod tests;
