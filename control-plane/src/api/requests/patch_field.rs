//! A field of a partial update, where absent and null have different meanings.

use serde::{Deserialize, Deserializer, Serialize};

/// A field of a partial update. Use it with `#[serde(default)]`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum PatchField<T> {
    /// Keeps the current value.
    #[default]
    Absent,
    /// Sets the default value.
    Null,
    /// Sets this value.
    Value(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PatchField<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|value| value.map_or(Self::Null, Self::Value))
    }
}

impl<T> PatchField<T> {
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// `None` if the field is absent, and `Some(None)` if it is null.
    pub(super) fn into_nullable(self) -> Option<Option<T>> {
        match self {
            Self::Absent => None,
            Self::Null => Some(None),
            Self::Value(value) => Some(Some(value)),
        }
    }

    pub(super) fn try_map<U, E>(
        self,
        convert: impl FnOnce(T) -> Result<U, E>,
    ) -> Result<PatchField<U>, E> {
        Ok(match self {
            Self::Absent => PatchField::Absent,
            Self::Null => PatchField::Null,
            Self::Value(value) => PatchField::Value(convert(value)?),
        })
    }

    /// The value to set; `None` keeps the current value.
    pub(super) fn new_value_or(self, default: T) -> Option<T> {
        match self {
            Self::Absent => None,
            Self::Null => Some(default),
            Self::Value(value) => Some(value),
        }
    }

    /// The value to set; `None` keeps the current value.
    pub(super) fn new_value(self) -> Option<T>
    where
        T: Default,
    {
        self.new_value_or(T::default())
    }
}
