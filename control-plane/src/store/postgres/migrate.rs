//! The tables and their migrations.

use std::time::Duration;

use deadpool_postgres::Object;
use refinery::error::Kind;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::model::Timestamp;
use crate::random;
use crate::store::{Result, StoreError};

mod files {
    refinery::embed_migrations!("src/store/postgres/migrations");
}

/// The number of the advisory lock, the bytes of `sandgate`, which other programs on the database hardly use.
const LOCK: i64 = i64::from_be_bytes(*b"sandgate");

/// The longest wait of a migration for a table. All queries of other servers on the table wait behind it.
const LOCK_TIMEOUT_MILLIS: u32 = 1_000;
/// The pause before another attempt, in which the other servers work.
const PAUSE: Duration = Duration::from_secs(2);
/// The most attempts.
const ATTEMPTS: u32 = 30;

/// Migrates the tables, and returns the epoch. Several processes may start at once; one of them migrates.
pub(super) async fn migrate(connection: &mut Object, now: Timestamp) -> Result<String> {
    connection.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let migrated = migrate_locked(connection, now).await;
    connection.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
    migrated
}

async fn migrate_locked(client: &mut Client, now: Timestamp) -> Result<String> {
    // A migration of a large table may take longer than any other statement.
    let settings = format!("SET statement_timeout = 0; SET lock_timeout = {LOCK_TIMEOUT_MILLIS}");
    client.batch_execute(&settings).await?;
    let migrated = run_migrations(client).await;
    client.batch_execute(super::connect::SESSION).await?;
    migrated?;
    if let Some(row) = client.query_opt("SELECT epoch FROM meta", &[]).await? {
        return Ok(row.try_get(0)?);
    }
    initialize(client, now).await
}

async fn run_migrations(client: &mut Client) -> Result<()> {
    let runner = files::migrations::runner().set_grouped(true);
    let known = runner.get_migrations().iter().map(|file| i64::from(file.version())).max();
    let mut attempts = 1;
    loop {
        let Err(error) = runner.run_async(client).await else { return Ok(()) };
        if is_locked(&error) && attempts < ATTEMPTS {
            attempts += 1;
            tracing::warn!(
                "the tables can't be changed while another transaction uses them, such as a dump; trying again"
            );
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        return Err(match error.kind() {
            Kind::MissingVersion(found) => StoreError::Newer {
                found: i64::from(found.version()),
                known: known.unwrap_or_default(),
            },
            _ => StoreError::Unavailable(Box::new(error)),
        });
    }
}

/// Whether a migration, which was rolled back, waited too long for a table.
fn is_locked(error: &refinery::Error) -> bool {
    let Kind::Connection(_, cause) = error.kind() else { return false };
    let cause = cause.downcast_ref::<tokio_postgres::Error>();
    cause.and_then(tokio_postgres::Error::code) == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// Makes the first revision, and returns the epoch. Revisions start at the current time in milliseconds, for the
/// reason that the SQLite store gives.
async fn initialize(client: &Client, now: Timestamp) -> Result<String> {
    let epoch = random::id(16).map_err(|error| StoreError::Unavailable(Box::new(error)))?;
    let sql = "INSERT INTO meta (only_row, epoch, revision, forgotten) VALUES (1, $1, $2, $2)";
    client.execute(sql, &[&epoch, &now.millis().max(0)]).await?;
    Ok(epoch)
}
