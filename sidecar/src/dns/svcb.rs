//! SVCB and HTTPS records (RFC 9460): what in them would lead a client past the policy.

use std::net::IpAddr;

use hickory_proto::rr::rdata::svcb::{SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{HTTPS, SVCB};
use hickory_proto::rr::{Name, RData, Record};

/// What was taken out of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Addresses in `ipv4hint` and `ipv6hint`.
    pub(super) addresses: u64,
    /// `ech` parameters.
    pub(super) ech: u64,
}

/// The service binding in a record, if it is one.
pub(super) fn binding(record: &mut Record) -> Option<&mut SVCB> {
    match &mut record.data {
        RData::SVCB(svcb) | RData::HTTPS(HTTPS(svcb)) => Some(svcb),
        _ => None,
    }
}

/// The name that a client goes on with: the target, or the owner where the target is the root
/// (RFC 9460 §2.5.2).
pub(super) fn target<'a>(owner: &'a Name, binding: &'a SVCB) -> &'a Name {
    if binding.target_name.is_root() { owner } else { &binding.target_name }
}

/// Takes out the address hints that `keeps` does not want, and, with `hides_names`, `ech`: with it
/// the name in the TLS handshake could not be seen.
pub(super) fn clean(
    binding: &mut SVCB,
    hides_names: bool,
    keeps: impl Fn(IpAddr) -> bool,
) -> Taken {
    let mut taken = Taken::default();
    let mut gone = Vec::new();
    binding.svc_params.retain_mut(|(key, value)| {
        let left = match value {
            SvcParamValue::Ipv4Hint(hints) => {
                let before = hints.0.len();
                hints.0.retain(|hint| keeps(hint.0.into()));
                taken.addresses += (before - hints.0.len()) as u64;
                !hints.0.is_empty()
            }
            SvcParamValue::Ipv6Hint(hints) => {
                let before = hints.0.len();
                hints.0.retain(|hint| keeps(hint.0.into()));
                taken.addresses += (before - hints.0.len()) as u64;
                !hints.0.is_empty()
            }
            _ if hides_names && *key == SvcParamKey::EchConfigList => {
                taken.ech += 1;
                false
            }
            _ => true,
        };
        if !left {
            gone.push(*key);
        }
        left
    });
    // A record that calls a parameter mandatory which it does not have is malformed (RFC 9460 §8).
    binding.svc_params.retain_mut(|(_, value)| match value {
        SvcParamValue::Mandatory(mandatory) => {
            mandatory.0.retain(|key| !gone.contains(key));
            !mandatory.0.is_empty()
        }
        _ => true,
    });
    taken
}

#[cfg(test)]
mod tests;
