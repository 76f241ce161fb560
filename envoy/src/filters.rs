//! The form in which Envoy runs our filters.

use std::str::FromStr;

/// The parts of `edge.yaml` with the configuration of the ingress filter, for both forms.
pub const INGRESS_CONFIGURATION: &str = include_str!("../edge-ingress.yaml");

/// The setting `SANDGATE_FILTERS`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Filters {
    /// In a wasm VM for each worker.
    #[default]
    Wasm,
    /// As a dynamic module in Envoy's process.
    Native,
}

/// A text is not the name of a form.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected {}", Filters::NAMES)]
pub struct UnknownFilters;

impl Filters {
    /// The valid names.
    pub const NAMES: &'static str = "`wasm` or `native`";

    /// The parts of `edge.yaml` for this form; see [`insert`](crate::insert).
    #[must_use]
    pub fn parts(self) -> &'static str {
        match self {
            Self::Wasm => include_str!("../edge-wasm.yaml"),
            Self::Native => include_str!("../edge-native.yaml"),
        }
    }
}

impl FromStr for Filters {
    type Err = UnknownFilters;

    fn from_str(name: &str) -> Result<Self, UnknownFilters> {
        match name {
            "wasm" => Ok(Self::Wasm),
            "native" => Ok(Self::Native),
            _ => Err(UnknownFilters),
        }
    }
}
