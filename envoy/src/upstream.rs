//! How the edge finds the upstream host of a request.

use std::str::FromStr;

use crate::setting::{UnknownName, named};

/// The setting `SANDGATE_UPSTREAM`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Upstream {
    /// Names and addresses, up to a few thousand: Envoy's dynamic forward proxy with its DNS cache.
    #[default]
    DynamicForwardProxy,
    /// Addresses, any number: Envoy's original destination clusters.
    OriginalDst,
}

impl Upstream {
    /// The valid names.
    pub const NAMES: &'static str = "`dynamic_forward_proxy` or `original_dst`";

    /// The name of the setting.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DynamicForwardProxy => "dynamic_forward_proxy",
            Self::OriginalDst => "original_dst",
        }
    }

    /// The name of the file beside `edge.yaml` with the parts of this setting.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::DynamicForwardProxy => "edge-dynamic-forward-proxy.yaml",
            Self::OriginalDst => "edge-original-dst.yaml",
        }
    }

    /// The parts of `edge.yaml` for this setting; see [`insert`](crate::insert).
    #[must_use]
    pub fn parts(self) -> &'static str {
        match self {
            Self::DynamicForwardProxy => include_str!("../edge-dynamic-forward-proxy.yaml"),
            Self::OriginalDst => include_str!("../edge-original-dst.yaml"),
        }
    }
}

impl FromStr for Upstream {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let all = [Self::DynamicForwardProxy, Self::OriginalDst];
        named(text, &all, Self::name, Self::NAMES)
    }
}
