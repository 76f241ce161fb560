//! The guards that Envoy's configuration must have around the filter, as far as the filter can see them.
//!
//! A permit replaces the black hole, and its address is one of a sandbox. So a configuration without the guards works, until the
//! filter is skipped or has a bug: then nothing else holds requests back. The filter therefore looks for the guards, at its first
//! permit and then once in a while, so that nearly all requests don't pay for it.

use sandgate_policy::ingress::config::IngressConfig;

use crate::ingress::clock::Now;

/// The time between two looks of a worker, in milliseconds. Requests of all listeners and routes pass here, and each of these is
/// looked at in proportion to its share of the requests, so one that is seldom used is nearly never looked at.
const INTERVAL_MS: u64 = 10_000;

/// When the filter looks again.
#[derive(Debug, Default)]
pub struct Guards {
    next_look: u64,
}

/// What the filter sees at a request, before it sets the upstream.
#[derive(Debug)]
pub struct Sight {
    /// Whether the filter state has an upstream already.
    pub has_black_hole: bool,
    /// The networks that the cluster's address check permits, as its metadata says: separated by commas.
    pub address_check: Option<Vec<u8>>,
}

/// A guard that Envoy's configuration lacks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MissingGuard {
    BlackHole,
    AddressCheck,
    /// The address check is for other networks than the filter's.
    SameNetworks,
}

impl MissingGuard {
    /// What the operator must know and do.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::BlackHole => {
                "no filter in front of this one has set the black hole, so clients choose the upstream if this filter is \
                 ever skipped; add `sandgate.black_hole` (docs/install.md)"
            }
            Self::AddressCheck => {
                "the cluster of a permitted request has no address check, so only this filter keeps requests away from \
                 other networks; add the RBAC filter and the metadata `sandgate.address_check` (docs/install.md)"
            }
            Self::SameNetworks => {
                "the address check of the cluster of a permitted request, as its metadata has it, is not for the \
                 networks of `sandbox_cidrs`; write the same networks into both"
            }
        }
    }
}

impl Guards {
    /// Whether the filter must look now. It must look before the next call.
    pub fn is_due(&mut self, now: Now) -> bool {
        let is_due = now.ms >= self.next_look;
        if is_due {
            self.next_look = now.ms.saturating_add(INTERVAL_MS);
        }
        is_due
    }
}

/// What is missing.
#[must_use]
pub fn missing_guards(sight: &Sight, config: &IngressConfig) -> Vec<MissingGuard> {
    let black_hole = (!sight.has_black_hole).then_some(MissingGuard::BlackHole);
    let address_check = match &sight.address_check {
        None => Some(MissingGuard::AddressCheck),
        Some(text) if config.are_sandbox_networks(text) => None,
        Some(_) => Some(MissingGuard::SameNetworks),
    };
    black_hole.into_iter().chain(address_check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> IngressConfig {
        let json =
            br#"{"version": 1, "domains": ["sandbox.test"], "control_plane": {"cluster": "c"},
                        "sandbox_cidrs": ["10.64.0.0/16", "fd00::/64"]}"#;
        IngressConfig::from_json(json).unwrap()
    }

    fn at(ms: u64) -> Now {
        Now { ms, unix_seconds: 0 }
    }

    #[test]
    fn the_filter_looks_at_its_first_permit_and_then_every_ten_seconds() {
        let mut guards = Guards::default();
        let looks: Vec<bool> =
            [5, 6, 10_004, 10_005, 10_006].map(|ms| guards.is_due(at(ms))).to_vec();
        assert_eq!(looks, [true, false, false, true, false]);
    }

    #[test]
    fn each_guard_that_is_missing_is_named() {
        let missing = |has_black_hole, address_check: Option<&[u8]>| {
            let address_check = address_check.map(<[u8]>::to_vec);
            missing_guards(&Sight { has_black_hole, address_check }, &config())
        };
        assert_eq!(missing(true, Some(b"10.64.0.0/16, fd00::/64")), []);
        assert_eq!(missing(true, Some(b"fd00::1/64,10.64.0.9/16")), []);
        assert_eq!(missing(false, None), [MissingGuard::BlackHole, MissingGuard::AddressCheck]);
        for other in ["10.64.0.0/16", "10.0.0.0/8, fd00::/64", "", "any", "10.64.0.0/16,fd00::/64,"]
        {
            assert_eq!(
                missing(true, Some(other.as_bytes())),
                [MissingGuard::SameNetworks],
                "{other}"
            );
        }
        assert_eq!(missing(true, Some(b"\xff")), [MissingGuard::SameNetworks]);
    }
}
