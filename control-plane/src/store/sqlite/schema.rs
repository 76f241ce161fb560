//! Tables, and the steps from one format of the file to the next (`PRAGMA user_version`).

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{audit, rows};
use crate::model::Timestamp;
use crate::random;
use crate::store::{Result, StoreError};

/// A step from one format to the next.
type Step = fn(&Connection) -> Result<()>;

/// One step for each format; never edit one that was released, add one.
const STEPS: [Step; 5] = [
    |connection| Ok(connection.execute_batch(FORMAT_1)?),
    |connection| Ok(connection.execute_batch(FORMAT_2)?),
    |connection| Ok(connection.execute_batch(FORMAT_3)?),
    |connection| Ok(connection.execute_batch(FORMAT_4)?),
    format_5,
];

const FORMAT_1: &str = "
CREATE TABLE meta (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    epoch TEXT NOT NULL,
    revision INTEGER NOT NULL,
    -- Changes up to and with this one are no longer in the log.
    forgotten INTEGER NOT NULL,
    -- The newest revision of which the server knows that every filter has seen it.
    applied INTEGER NOT NULL
) STRICT;
CREATE TABLE changes (
    revision INTEGER PRIMARY KEY,
    change TEXT NOT NULL
) STRICT;
CREATE TABLE organizations (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (organization_id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE users (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE memberships (
    user_id TEXT NOT NULL REFERENCES users (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, project_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE credentials (
    id TEXT PRIMARY KEY,
    secret_hash BLOB NOT NULL UNIQUE CHECK (length(secret_hash) = 32),
    project_id TEXT REFERENCES projects (id),
    user_id TEXT REFERENCES users (id),
    session INTEGER NOT NULL CHECK (session IN (0, 1)),
    name TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    CHECK ((project_id IS NULL) <> (user_id IS NULL)),
    CHECK (session = 0 OR user_id IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE TABLE sandboxes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT UNIQUE,
    project_id TEXT NOT NULL REFERENCES projects (id),
    state TEXT NOT NULL,
    address TEXT,
    generation INTEGER NOT NULL,
    exposed_ports TEXT NOT NULL,
    public INTEGER NOT NULL CHECK (public IN (0, 1)),
    auto_resume INTEGER NOT NULL CHECK (auto_resume IN (0, 1)),
    spec TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    CHECK ((address IS NOT NULL) = (state = 'running'))
) STRICT;
CREATE INDEX sandboxes_of_project ON sandboxes (project_id, sequence);
CREATE INDEX sandboxes_in_state ON sandboxes (state);
CREATE TABLE name_holds (
    name TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    held_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE port_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    sandbox_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    principal TEXT NOT NULL,
    ports_before TEXT NOT NULL,
    public_before INTEGER NOT NULL,
    ports_after TEXT NOT NULL,
    public_after INTEGER NOT NULL
) STRICT;
CREATE INDEX port_changes_of_sandbox ON port_changes (sandbox_id, id);
";

/// Network policies.
const FORMAT_2: &str = r#"
ALTER TABLE sandboxes ADD COLUMN network TEXT NOT NULL
    DEFAULT '{"allow_internet_access":true,"allow_out":[],"deny_out":[]}';
ALTER TABLE sandboxes ADD COLUMN network_revision INTEGER NOT NULL DEFAULT 0;
CREATE TABLE network_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    sandbox_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    principal TEXT NOT NULL,
    network_before TEXT NOT NULL,
    network_after TEXT NOT NULL
) STRICT;
CREATE INDEX network_changes_of_sandbox ON network_changes (sandbox_id, id);
"#;

/// An address belongs to one sandbox. Where several have it, nobody knows but that the newest was
/// told last: the others are suspended, and whoever follows the changes forgets everything.
const FORMAT_3: &str = "
UPDATE sandboxes SET state = 'suspended', address = NULL
WHERE address IS NOT NULL AND generation < (
    SELECT max(generation) FROM sandboxes AS newest WHERE newest.address = sandboxes.address
);
UPDATE meta SET revision = revision + 1, forgotten = revision + 1;
DELETE FROM changes;
CREATE UNIQUE INDEX live_addresses ON sandboxes (address) WHERE address IS NOT NULL;
CREATE INDEX name_holds_of_project ON name_holds (project_id, held_until);
";

/// What the platform that runs sandboxes is told and has confirmed. A platform hears of the placement
/// of a sandbox that runs already when the sandbox is resumed.
const FORMAT_4: &str = "
ALTER TABLE sandboxes ADD COLUMN placement INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sandboxes ADD COLUMN unconfirmed INTEGER NOT NULL DEFAULT 0
    CHECK (unconfirmed IN (0, 1));
UPDATE sandboxes SET placement = generation;
CREATE INDEX sandboxes_unconfirmed ON sandboxes (sequence) WHERE unconfirmed = 1;
";

/// What an owner can add to is bounded. Lines about network policies say what changed and do not repeat
/// both policies; what each project takes is counted.
const FORMAT_5: &str = "
CREATE INDEX port_changes_of_project ON port_changes (project_id, id);
ALTER TABLE network_changes RENAME TO whole_policies;
DROP INDEX network_changes_of_sandbox;
CREATE TABLE network_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    sandbox_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    principal TEXT NOT NULL,
    difference TEXT NOT NULL
) STRICT;
CREATE INDEX network_changes_of_sandbox ON network_changes (sandbox_id, id);
CREATE INDEX network_changes_of_project ON network_changes (project_id, id);

CREATE TABLE project_use (
    project_id TEXT PRIMARY KEY REFERENCES projects (id),
    sandboxes INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO project_use SELECT project_id, count(*),
    sum(octet_length(exposed_ports) + octet_length(spec) + octet_length(network))
    FROM sandboxes GROUP BY project_id;
CREATE TRIGGER sandbox_made AFTER INSERT ON sandboxes BEGIN
    INSERT INTO project_use VALUES (new.project_id, 1,
        octet_length(new.exposed_ports) + octet_length(new.spec) + octet_length(new.network))
    ON CONFLICT (project_id) DO UPDATE
    SET sandboxes = sandboxes + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER sandbox_changed AFTER UPDATE OF exposed_ports, spec, network ON sandboxes BEGIN
    UPDATE project_use SET bytes = bytes
        + octet_length(new.exposed_ports) + octet_length(new.spec) + octet_length(new.network)
        - octet_length(old.exposed_ports) - octet_length(old.spec) - octet_length(old.network)
    WHERE project_id = new.project_id;
END;
CREATE TRIGGER sandbox_removed AFTER DELETE ON sandboxes BEGIN
    UPDATE project_use SET sandboxes = sandboxes - 1, bytes = bytes
        - octet_length(old.exposed_ports) - octet_length(old.spec) - octet_length(old.network)
    WHERE project_id = old.project_id;
END;
";

/// The lines are converted one by one: a log from before there were bounds may be larger than the memory.
fn format_5(connection: &Connection) -> Result<()> {
    connection.execute_batch(FORMAT_5)?;
    let mut old = connection.prepare(
        "SELECT id, at, sandbox_id, project_id, principal, network_before, network_after \
         FROM whole_policies ORDER BY id",
    )?;
    let mut insert =
        connection.prepare("INSERT INTO network_changes VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut lines = old.query([])?;
    while let Some(line) = lines.next()? {
        let before = rows::network(&line.get::<_, String>(5)?)?;
        let after = rows::network(&line.get::<_, String>(6)?)?;
        insert.execute(params![
            line.get::<_, i64>(0)?,
            line.get::<_, i64>(1)?,
            line.get::<_, String>(2)?,
            line.get::<_, String>(3)?,
            line.get::<_, String>(4)?,
            audit::difference_text(&before, &after)?,
        ])?;
    }
    drop(lines);
    drop(old);
    Ok(connection.execute_batch("DROP TABLE whole_policies")?)
}

/// Brings the file to the newest format and returns its epoch. A file that has it already is only read:
/// that works on a full disk too.
pub(super) fn migrate(connection: &mut Connection, now: Timestamp) -> Result<String> {
    if version(connection)? == newest()
        && let Some(epoch) = epoch(connection)?
    {
        return Ok(epoch);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (found, known) = (version(&transaction)?, newest());
    let Some(steps) = usize::try_from(found).ok().and_then(|done| STEPS.get(done..)) else {
        return Err(StoreError::Newer { found, known });
    };
    for step in steps {
        step(&transaction)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    let epoch = epoch(&transaction)?.map_or_else(|| begin(&transaction, now), Ok)?;
    transaction.commit()?;
    Ok(epoch)
}

fn newest() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

fn version(connection: &Connection) -> Result<i64> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn epoch(connection: &Connection) -> Result<Option<String>> {
    Ok(connection.query_row("SELECT epoch FROM meta", [], |row| row.get(0)).optional()?)
}

/// Revisions, and so generations, start at the clock: those of a store that replaces a lost one
/// don't repeat what Envoy still holds connections for.
fn begin(connection: &Connection, now: Timestamp) -> Result<String> {
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
    use super::*;

    #[test]
    fn a_file_of_a_newer_format_is_refused_and_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = migrate(&mut connection, Timestamp::from_millis(0)).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 99, known: 5 }), "{error}");
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).unwrap();
        assert_eq!(tables, 0);
    }

    #[test]
    fn a_sandbox_of_before_network_policies_has_the_default_one() {
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
        let sql = format!("SELECT {}", super::super::rows::SANDBOX);
        let read = connection.query_row(&sql, [], |row| Ok(super::super::rows::sandbox(row)));
        let sandbox = read.unwrap().unwrap();
        assert_eq!(sandbox.network, sandgate_policy::egress::NetworkPolicy::default());
        assert_eq!(sandbox.network_revision, 0);
    }

    #[test]
    fn an_old_log_of_whole_policies_becomes_one_of_differences_and_what_projects_take_is_counted() {
        let mut connection = Connection::open_in_memory().unwrap();
        for format in [FORMAT_1, FORMAT_2, FORMAT_3] {
            connection.execute_batch(format).unwrap();
        }
        connection.pragma_update(None, "user_version", 3).unwrap();
        begin(&connection, Timestamp::from_millis(5)).unwrap();
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
        begin(&connection, Timestamp::from_millis(5)).unwrap();
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
