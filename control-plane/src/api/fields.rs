//! Reading a JSON object field by field, so that every error names its field and nothing that a
//! caller sends is ignored in silence.

use serde_json::{Map, Value};

use crate::http::ApiError;

/// The largest number that [`whole`] takes.
pub(super) const MAX_WHOLE: u64 = (1 << 53) - 1;

/// The fields that are not read yet.
pub(super) struct Fields(Map<String, Value>);

/// A field of a partial update.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Update<T> {
    /// Not there: keep.
    Keep,
    /// `null`: back to the default.
    Clear,
    /// A new value.
    Set(T),
}

impl<T> Update<T> {
    /// The value to store, if any; `default` is what clearing means.
    pub(super) fn or_default(self, default: T) -> Option<T> {
        match self {
            Self::Keep => None,
            Self::Clear => Some(default),
            Self::Set(value) => Some(value),
        }
    }
}

impl Fields {
    pub(super) fn new(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    /// Whether there are no fields left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a field; `parse` gets what is not null.
    pub(super) fn take<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str, Value) -> Result<T, ApiError>,
    ) -> Result<Update<T>, ApiError> {
        match self.0.remove(name) {
            None => Ok(Update::Keep),
            Some(Value::Null) => Ok(Update::Clear),
            Some(value) => parse(name, value).map(Update::Set),
        }
    }

    /// Takes a field that has an older name too; sending both is an error.
    pub(super) fn take_renamed<T>(
        &mut self,
        name: &str,
        older: &str,
        parse: impl FnOnce(&str, Value) -> Result<T, ApiError>,
    ) -> Result<Update<T>, ApiError> {
        match (self.0.contains_key(name), self.0.contains_key(older)) {
            (true, true) => Err(ApiError::invalid(format!(
                "`{older}` is the older name of `{name}`; send only one of them"
            ))),
            (false, true) => self.take(older, parse),
            _ => self.take(name, parse),
        }
    }

    /// Moves the fields of `names` out, as they are.
    pub(super) fn keep(&mut self, names: &[&str]) -> Map<String, Value> {
        let kept = names.iter().filter_map(|name| self.0.remove_entry(*name));
        kept.collect()
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => {
                // A name can be as long as a body.
                let shown: String = name.chars().take(64).collect();
                Err(ApiError::invalid(format!("`{shown}` is not a field of this request")))
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "of the form that `take` expects")]
pub(super) fn boolean(name: &str, value: Value) -> Result<bool, ApiError> {
    value.as_bool().ok_or_else(|| ApiError::invalid(format!("`{name}` must be true or false")))
}

pub(super) fn text(name: &str, value: Value) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(ApiError::invalid(format!("`{name}` must be a string"))),
    }
}

pub(super) fn list(name: &str, value: Value) -> Result<Vec<Value>, ApiError> {
    match value {
        Value::Array(list) => Ok(list),
        _ => Err(ApiError::invalid(format!("`{name}` must be a list"))),
    }
}

/// The bytes of an object as JSON.
pub(super) fn size(object: &Map<String, Value>) -> usize {
    serde_json::to_vec(object).map_or(usize::MAX, |bytes| bytes.len())
}

/// A whole number from 0 to 2^53 - 1, which every JSON parser reads exactly (RFC 8259, section 6).
/// JSON has one kind of number: `8080.0` is as whole as `8080`.
pub(super) fn whole(value: &Value) -> Option<u64> {
    let whole = value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0)?;
        // A float of that size has no other form as text, and no sign.
        format!("{number:.0}").parse().ok()
    });
    whole.filter(|number| *number <= MAX_WHOLE)
}
