//! Statements in PostgreSQL.

use std::ops::ControlFlow;

use bytes::BytesMut;
use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::PostgresStore;
use crate::store::sql::{Columns, Owned, Row, Sql, Value};
use crate::store::{Result, StoreError};

/// A transaction. It is rolled back when it is dropped without a commit.
pub(super) struct Transaction<'t> {
    pub(super) store: &'t PostgresStore,
    pub(super) inner: deadpool_postgres::Transaction<'t>,
}

impl Sql for Transaction<'_> {
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        self.store.wait(async {
            let statement = self.inner.prepare_cached(&numbered(sql)).await?;
            self.inner.execute(&statement, &parameters(values)).await
        })
    }

    fn each_row(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: &mut dyn FnMut(&Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let rows = self.store.wait(async {
            let statement = self.inner.prepare_cached(&numbered(sql)).await?;
            self.inner.query(&statement, &parameters(values)).await
        })?;
        for row in &rows {
            if read(row)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The statement with PostgreSQL's parameters `$1` for `?1`. No statement has a question mark elsewhere.
fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
}

fn parameters<'v>(values: &'v [Value<'v>]) -> Vec<&'v (dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

impl Columns for tokio_postgres::Row {
    fn value(&self, column: usize) -> Result<Owned> {
        let number = |number: Option<i64>| number.map_or(Owned::Null, Owned::Number);
        let kind = self.columns().get(column).map(|column| column.type_().clone());
        Ok(match kind {
            Some(Type::INT8) => number(self.try_get(column)?),
            Some(Type::INT4) => number(self.try_get::<_, Option<i32>>(column)?.map(i64::from)),
            Some(Type::INT2) => number(self.try_get::<_, Option<i16>>(column)?.map(i64::from)),
            Some(Type::TEXT) => {
                self.try_get::<_, Option<String>>(column)?.map_or(Owned::Null, Owned::Text)
            }
            _ => return Err(StoreError::Corrupt("a value of an unexpected type".to_owned())),
        })
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (*self, kind) {
            (Self::Null, _) => Ok(IsNull::Yes),
            (Self::Number(number), &Type::INT2) => i16::try_from(number)?.to_sql(kind, out),
            (Self::Number(number), &Type::INT4) => i32::try_from(number)?.to_sql(kind, out),
            (Self::Number(number), _) => number.to_sql(kind, out),
            (Self::Text(text), _) => text.to_sql(kind, out),
            (Self::Bytes(bytes), _) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT2 | Type::INT4 | Type::INT8 | Type::TEXT | Type::BYTEA)
    }

    to_sql_checked!();
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&SqlState::DISK_FULL) => Self::DiskFull,
            _ => Self::Unavailable(described(&error).into()),
        }
    }
}

/// An error with its causes, which its own text does not contain.
pub(super) fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            error => Self::Unavailable(Box::new(error)),
        }
    }
}
