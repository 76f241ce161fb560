//! How the edge finds the upstream host of a request.

use std::str::FromStr;

/// The setting `SANDGATE_UPSTREAM`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Upstream {
    /// Names and addresses, up to a few thousand: Envoy's dynamic forward proxy with its DNS cache.
    #[default]
    DynamicForwardProxy,
    /// Addresses, any number: Envoy's original destination clusters.
    OriginalDst,
}

/// A text is not the name of a setting.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected {}", Upstream::NAMES)]
pub struct UnknownUpstream;

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
    type Err = UnknownUpstream;

    fn from_str(name: &str) -> Result<Self, UnknownUpstream> {
        let all = [Self::DynamicForwardProxy, Self::OriginalDst];
        all.into_iter().find(|upstream| upstream.name() == name).ok_or(UnknownUpstream)
    }
}
