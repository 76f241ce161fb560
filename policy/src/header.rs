//! Header fields, as both filters read them.

/// A header field: the name in lower case, as Envoy passes it, and the value as bytes.
pub type Field<'a> = (&'a str, &'a [u8]);

/// Borrows the fields of a list that owns them.
#[must_use]
pub fn fields(owned: &[(String, Vec<u8>)]) -> Vec<Field<'_>> {
    owned.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
}
