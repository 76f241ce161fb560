//! Statements in SQLite.

use std::ops::ControlFlow;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, ToSql, params_from_iter};

use crate::store::sql::{self, Columns, Owned, Sql, Value};
use crate::store::{Result, StoreError};

impl Sql for Connection {
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        let changed = self.prepare_cached(sql)?.execute(params_from_iter(values))?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    }

    fn each_row(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: &mut dyn FnMut(&sql::Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut statement = self.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            if read(row)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Columns for Row<'_> {
    fn value(&self, column: usize) -> Result<Owned> {
        match self.get_ref(column)? {
            ValueRef::Null => Ok(Owned::Null),
            ValueRef::Integer(number) => Ok(Owned::Number(number)),
            ValueRef::Text(text) => String::from_utf8(text.to_vec())
                .map(Owned::Text)
                .map_err(|_| StoreError::Corrupt("a text that is not UTF-8".to_owned())),
            ValueRef::Real(_) | ValueRef::Blob(_) => {
                Err(StoreError::Corrupt("a value of an unexpected type".to_owned()))
            }
        }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Null => ValueRef::Null,
            Self::Number(number) => ValueRef::Integer(number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
