//! The fields that only clients and the runtime use, such as the image and the resources. The control plane keeps
//! them, repeats them in its responses, and passes them to the runtime.
//!
//! Their types are checked because clients parse them when they come back: one sandbox with an `image` of 5 would
//! break every list that contains it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use utoipa::ToSchema;

use super::patch_field::PatchField;
use crate::http::{ApiError, MAX_WHOLE_NUMBER};
use crate::model::Spec;
use crate::store::SPEC_MAX;

/// A whole number that every JSON parser reads exactly.
#[derive(Deserialize, PartialEq, Serialize, ToSchema)]
#[schema(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
pub(super) struct WholeNumber(u64);

const _: () =
    assert!(MAX_WHOLE_NUMBER == 9_007_199_254_740_991, "also in the schema of `WholeNumber`");

/// The resources of the sandbox, for the runtime. Other fields than these are kept too.
#[derive(Deserialize, PartialEq, Serialize, ToSchema)]
pub(super) struct RequestedResources {
    #[serde(default, skip_serializing_if = "PatchField::is_absent")]
    #[schema(value_type = Option<Cpus>)]
    cpus: PatchField<Cpus>,
    #[serde(default, skip_serializing_if = "PatchField::is_absent")]
    #[schema(value_type = Option<WholeNumber>)]
    memory_mb: PatchField<WholeNumber>,
    #[serde(default, skip_serializing_if = "PatchField::is_absent")]
    #[schema(value_type = Option<WholeNumber>)]
    disk_mb: PatchField<WholeNumber>,
    #[serde(default, skip_serializing_if = "PatchField::is_absent")]
    #[schema(value_type = Option<WholeNumber>)]
    ephemeral_disk_mb: PatchField<WholeNumber>,
    #[serde(flatten)]
    #[schema(ignore)]
    others: Map<String, Value>,
}

/// A number of CPUs, kept as it was sent: `2` does not become `2.0`.
#[derive(Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(try_from = "Number")]
#[schema(value_type = f64, exclusive_minimum = 0)]
struct Cpus(Number);

#[derive(Debug, thiserror::Error)]
#[error("it must be a number greater than 0")]
struct InvalidCpus;

impl TryFrom<Number> for Cpus {
    type Error = InvalidCpus;

    fn try_from(number: Number) -> Result<Self, InvalidCpus> {
        let is_positive = number.as_f64().is_some_and(|cpus| cpus > 0.0);
        if is_positive { Ok(Self(number)) } else { Err(InvalidCpus) }
    }
}

/// Collects the kept fields of a body.
#[derive(Default)]
pub(super) struct SpecBuilder(Map<String, Value>);

impl SpecBuilder {
    /// Adds a field, unless it is absent.
    pub(super) fn add(mut self, name: &str, value: Option<impl Serialize>) -> Self {
        if let Some(value) = value {
            // Only a map whose keys are not strings can't be serialized.
            let value = serde_json::to_value(value).unwrap_or_default();
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    /// # Errors
    /// The fields are larger than the store allows.
    pub(super) fn build(self) -> Result<Spec, ApiError> {
        let spec = self.0;
        if json_size(&spec) > SPEC_MAX {
            let names: Vec<_> = spec.keys().map(String::as_str).collect();
            return Err(ApiError::invalid(format!(
                "`{}` have more than {SPEC_MAX} bytes together; shorten them",
                names.join("`, `")
            )));
        }
        Ok(spec)
    }
}

/// The number of bytes of a value as JSON.
pub(super) fn json_size(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len())
}
