//! The format of the file (`PRAGMA user_version`). Opening a file migrates it to the newest format.

mod migrations;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use self::migrations::MIGRATIONS;
use crate::model::Timestamp;
use crate::random;
use crate::store::{Result, StoreError};

/// Migrates the file to the newest format and returns its epoch. If the file has this format, the function
/// only reads it, which works on a full disk too.
pub(super) fn migrate(connection: &mut Connection, now: Timestamp) -> Result<String> {
    if version(connection)? == newest()
        && let Some(epoch) = epoch(connection)?
    {
        return Ok(epoch);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (found, known) = (version(&transaction)?, newest());
    let missing = usize::try_from(found).ok().and_then(|done| MIGRATIONS.get(done..));
    let Some(missing) = missing else {
        return Err(StoreError::Newer { found, known });
    };
    for migration in missing {
        migration(&transaction)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    let epoch = epoch(&transaction)?.map_or_else(|| initialize(&transaction, now), Ok)?;
    transaction.commit()?;
    Ok(epoch)
}

fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

fn version(connection: &Connection) -> Result<i64> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn epoch(connection: &Connection) -> Result<Option<String>> {
    Ok(connection.query_row("SELECT epoch FROM meta", [], |row| row.get(0)).optional()?)
}

/// Makes the first revision, and returns the epoch. Revisions start at the current time in milliseconds, and
/// address generations are revisions. So a store that replaces a lost one does not repeat a generation for
/// which Envoy still has connections.
fn initialize(connection: &Connection, now: Timestamp) -> Result<String> {
    let epoch = random::id(16).map_err(|error| StoreError::Unavailable(Box::new(error)))?;
    let start = now.millis().max(0);
    connection.execute(
        "INSERT INTO meta (only_row, epoch, revision, forgotten, applied) VALUES (1, ?1, ?2, ?2, ?2)",
        params![epoch, start],
    )?;
    Ok(epoch)
}

#[cfg(test)]
mod tests {
    use super::migrations::{FORMAT_1, FORMAT_2, FORMAT_3};
    use super::*;
    use crate::store::sql::rows;

    #[test]
    fn a_file_of_a_newer_format_is_refused_and_not_changed() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = migrate(&mut connection, Timestamp::from_millis(0)).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 99, known: 7 }), "{error}");
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).unwrap();
        assert_eq!(tables, 0);
    }

    #[test]
    fn a_sandbox_from_before_network_policies_gets_the_default_one() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(FORMAT_1).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection
            .execute_batch(
                "INSERT INTO organizations VALUES ('o', 'o', 1);
                 INSERT INTO projects VALUES ('p', 'o', 'p', 1);
                 INSERT INTO sandboxes VALUES \
                 (1, 'a1b2c3d4e5f6g7h8i9j0k', NULL, 'p', 'pending', NULL, 0, '[]', 0, 1, '{}', 1);",
            )
            .unwrap();
        migrate(&mut connection, Timestamp::from_millis(5)).unwrap();
        let sql = format!("SELECT {}", rows::SANDBOX);
        let read = connection.query_row(&sql, [], |row| Ok(rows::sandbox(row)));
        let sandbox = read.unwrap().unwrap();
        assert_eq!(sandbox.network_policy, sandgate_policy::egress::NetworkPolicy::default());
        assert_eq!(sandbox.network_policy_revision, 0);
    }

    #[test]
    fn a_log_of_whole_policies_becomes_one_of_differences_and_the_use_of_projects_is_counted() {
        let mut connection = Connection::open_in_memory().unwrap();
        for format in [FORMAT_1, FORMAT_2, FORMAT_3] {
            connection.execute_batch(format).unwrap();
        }
        connection.pragma_update(None, "user_version", 3).unwrap();
        initialize(&connection, Timestamp::from_millis(5)).unwrap();
        connection
            .execute_batch(
                r#"INSERT INTO organizations VALUES ('o', 'o', 0);
                 INSERT INTO projects VALUES ('p', 'o', 'p', 0);
                 INSERT INTO sandboxes (id, project_id, state, generation, exposed_ports, public,
                 auto_resume, spec, created_at, network) VALUES
                 ('a', 'p', 'suspended', 1, '[80]', 0, 1, '{"image":"ä"}', 0, '{}'),
                 ('b', 'p', 'suspended', 1, '[]', 0, 1, '{}', 0, '{}');
                 INSERT INTO network_changes VALUES (7, 1, 'a', 'p', 'key_1',
                 '{"deny_out":["a.example"]}', '{"allow_internet_access":false}');"#,
            )
            .unwrap();
        migrate(&mut connection, Timestamp::from_millis(9)).unwrap();
        let sql = format!("SELECT id, {} FROM network_changes", rows::NETWORK_CHANGE);
        let line = connection.query_row(&sql, [], |row| Ok(rows::network_change(row))).unwrap();
        let line = line.unwrap();
        assert_eq!((line.sandbox_id.as_str(), line.principal.as_str()), ("a", "key_1"));
        assert_eq!(line.difference.deny_out.removed, ["a.example"]);
        assert!(!line.difference.after.allow_internet_access);
        let taken = || {
            let sql = "SELECT sandboxes, bytes FROM project_use";
            connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
        };
        let (both, one): ((i64, i64), (i64, i64)) = ((2, 4 + 14 + 2 + 2 + 2 + 2), (1, 4 + 14 + 2));
        assert_eq!(taken(), both);
        connection.execute("DELETE FROM sandboxes WHERE id = 'b'", []).unwrap();
        assert_eq!(taken(), one);
        connection.execute("UPDATE sandboxes SET spec = '{}' WHERE id = 'a'", []).unwrap();
        assert_eq!(taken(), (1, 4 + 2 + 2));
    }

    #[test]
    fn a_second_migration_changes_nothing_and_finds_the_same_epoch() {
        let mut connection = Connection::open_in_memory().unwrap();
        let first = migrate(&mut connection, Timestamp::from_millis(5)).unwrap();
        let second = migrate(&mut connection, Timestamp::from_millis(9)).unwrap();
        assert_eq!(first, second);
        let revision: i64 =
            connection.query_row("SELECT revision FROM meta", [], |r| r.get(0)).unwrap();
        assert_eq!(revision, 5);
    }

    #[test]
    fn of_several_sandboxes_at_one_address_only_the_newest_keeps_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(FORMAT_1).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        initialize(&connection, Timestamp::from_millis(5)).unwrap();
        connection
            .execute_batch(
                "INSERT INTO organizations VALUES ('o', 'o', 0);
                 INSERT INTO projects VALUES ('p', 'o', 'p', 0);
                 INSERT INTO changes VALUES (5, '{}');
                 INSERT INTO sandboxes (id, project_id, state, address, generation, exposed_ports, \
                 public, auto_resume, spec, created_at) VALUES
                 ('old', 'p', 'running', '10.0.0.1', 1, '[]', 0, 1, '{}', 0),
                 ('new', 'p', 'running', '10.0.0.1', 3, '[]', 0, 1, '{}', 0),
                 ('other', 'p', 'running', '10.0.0.2', 2, '[]', 0, 1, '{}', 0);",
            )
            .unwrap();
        migrate(&mut connection, Timestamp::from_millis(9)).unwrap();
        let mut query =
            connection.prepare("SELECT id, state, address FROM sandboxes ORDER BY id").unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        let rows: Vec<(String, String, Option<String>)> = rows.map(Result::unwrap).collect();
        let row = |id: &str, state: &str, address: Option<&str>| {
            (id.to_owned(), state.to_owned(), address.map(str::to_owned))
        };
        let expected = [
            row("new", "running", Some("10.0.0.1")),
            row("old", "suspended", None),
            row("other", "running", Some("10.0.0.2")),
        ];
        assert_eq!(rows, expected);
        let meta = connection
            .query_row("SELECT revision, forgotten FROM meta", [], |r| Ok((r.get(0)?, r.get(1)?)));
        assert_eq!(meta.unwrap(), (6, 6), "followers start from nothing");
    }
}
