//! The form in which Envoy runs our filters.

use std::str::FromStr;

use crate::parts::insert;
use crate::setting::{UnknownName, named};
use crate::template::RenderError;

/// The parts of `edge.yaml` with the configuration of the ingress filter, for both forms.
pub const INGRESS_CONFIGURATION: &str = include_str!("../edge-ingress.yaml");
/// The part of `egress-wasm.yaml` and `egress-native.yaml` with the configuration of the egress filter.
const EGRESS_CONFIGURATION: &str = include_str!("../egress-configuration.yaml");

/// The setting `SANDGATE_FILTERS`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Filters {
    /// In a wasm VM for each worker.
    #[default]
    Wasm,
    /// As a dynamic module in Envoy's process.
    Native,
}

impl Filters {
    /// The valid names.
    pub const NAMES: &'static str = "`wasm` or `native`";

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Native => "native",
        }
    }

    /// The parts of `edge.yaml` for this form; see [`insert`](crate::insert).
    #[must_use]
    pub fn parts(self) -> &'static str {
        match self {
            Self::Wasm => include_str!("../edge-wasm.yaml"),
            Self::Native => include_str!("../edge-native.yaml"),
        }
    }

    /// A template of the egress filter's configuration, with the parts for this form inserted.
    pub(crate) fn egress_template(self, template: &str) -> Result<String, RenderError> {
        insert(template, &[self.egress_parts(), EGRESS_CONFIGURATION])
    }

    /// The parts of `sidecar.yaml`, `egress-tcp.yaml`, and `egress-http.yaml` for this form.
    pub(crate) fn egress_parts(self) -> &'static str {
        match self {
            Self::Wasm => include_str!("../egress-wasm.yaml"),
            Self::Native => include_str!("../egress-native.yaml"),
        }
    }
}

impl FromStr for Filters {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        named(text, &[Self::Wasm, Self::Native], Self::name, Self::NAMES)
    }
}
