//! The warning about more sandboxes than `dynamic_forward_proxy` is for.

use sandgate_policy::ingress::config::Upstream;

/// Beyond this number of addresses, each new one costs Envoy's main thread more than a millisecond.
const LIMIT: usize = 2_000;

#[derive(Debug, Default)]
pub(crate) struct ManySandboxes {
    has_warned: bool,
}

impl ManySandboxes {
    /// The warning for the operator, once. `known` is the number of sandboxes in the cache, which only a new entry
    /// increases.
    pub(crate) fn warning(&mut self, upstream: Upstream, known: usize) -> Option<String> {
        if self.has_warned || upstream != Upstream::DynamicForwardProxy || known <= LIMIT {
            return None;
        }
        self.has_warned = true;
        Some(format!(
            "requests go to more than {LIMIT} sandboxes, and with `dynamic_forward_proxy` each new address costs more than \
             the one before; set SANDGATE_UPSTREAM=original_dst"
        ))
    }
}
