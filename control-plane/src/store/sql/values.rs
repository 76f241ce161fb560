//! The values that statements take and return. Flags are the numbers 0 and 1, as SQLite has no other type for them.

use std::fmt;

use crate::store::{Result, StoreError};

/// A parameter of a statement.
#[derive(Clone, Copy)]
pub(in crate::store) enum Value<'v> {
    Null,
    Number(i64),
    Text(&'v str),
    Bytes(&'v [u8]),
}

/// Drivers log parameters by this, and some are hashes of credentials.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a parameter")
    }
}

/// The value of a column.
pub(in crate::store) enum Owned {
    Null,
    Number(i64),
    Text(String),
}

/// The parameters of a statement, in order.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::store::sql::Value::from($value)),*] };
}
pub(in crate::store) use values;

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Number(i64::from(flag))
    }
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(text)
    }
}

impl<'v> From<&'v String> for Value<'v> {
    fn from(text: &'v String) -> Self {
        Self::Text(text)
    }
}

impl<'v> From<&'v [u8; 32]> for Value<'v> {
    fn from(bytes: &'v [u8; 32]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'v, T> From<Option<T>> for Value<'v>
where
    Self: From<T>,
{
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::from)
    }
}

/// A type that a column can have.
pub(in crate::store) trait FromColumn: Sized {
    /// # Errors
    /// [`StoreError::Corrupt`] if the column has another type.
    fn from_column(value: Owned) -> Result<Self>;
}

impl FromColumn for i64 {
    fn from_column(value: Owned) -> Result<Self> {
        match value {
            Owned::Number(number) => Ok(number),
            Owned::Null | Owned::Text(_) => Err(wrong("no number")),
        }
    }
}

impl FromColumn for bool {
    fn from_column(value: Owned) -> Result<Self> {
        Ok(i64::from_column(value)? != 0)
    }
}

impl FromColumn for String {
    fn from_column(value: Owned) -> Result<Self> {
        match value {
            Owned::Text(text) => Ok(text),
            Owned::Null | Owned::Number(_) => Err(wrong("no text")),
        }
    }
}

impl<T: FromColumn> FromColumn for Option<T> {
    fn from_column(value: Owned) -> Result<Self> {
        match value {
            Owned::Null => Ok(None),
            value => T::from_column(value).map(Some),
        }
    }
}

fn wrong(what: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} in a column that must have one"))
}

/// Databases have signed numbers only. Revisions are far below the bound.
pub(in crate::store) fn signed(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| StoreError::Corrupt(format!("the number {number}")))
}

pub(in crate::store) fn unsigned(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt(format!("the number {number}")))
}
