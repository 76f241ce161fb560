//! The tables, as migrations from each format of the file to the next.

use rusqlite::{Connection, params};

use crate::store::Result;
use crate::store::sql::{difference_text, rows};

pub(super) type Migration = fn(&Connection) -> Result<()>;

/// One migration for each format. A released migration is never edited; a change of the tables is a new one. So
/// a migration that replaces a table repeats the columns that stay.
pub(super) const MIGRATIONS: [Migration; 7] = [
    |connection| Ok(connection.execute_batch(FORMAT_1)?),
    |connection| Ok(connection.execute_batch(FORMAT_2)?),
    |connection| Ok(connection.execute_batch(FORMAT_3)?),
    |connection| Ok(connection.execute_batch(FORMAT_4)?),
    format_5,
    |connection| Ok(connection.execute_batch(FORMAT_6)?),
    |connection| Ok(connection.execute_batch(FORMAT_7)?),
];

pub(super) const FORMAT_1: &str = "
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

/// Adds network policies.
pub(super) const FORMAT_2: &str = r#"
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

/// Makes addresses unique. If several sandboxes have an address, the newest one got it last, and the others are
/// suspended. The change log begins anew, so gateways drop all cache entries.
pub(super) const FORMAT_3: &str = "
UPDATE sandboxes SET state = 'suspended', address = NULL
WHERE address IS NOT NULL AND generation < (
    SELECT max(generation) FROM sandboxes AS newest WHERE newest.address = sandboxes.address
);
UPDATE meta SET revision = revision + 1, forgotten = revision + 1;
DELETE FROM changes;
CREATE UNIQUE INDEX live_addresses ON sandboxes (address) WHERE address IS NOT NULL;
CREATE INDEX name_holds_of_project ON name_holds (project_id, held_until);
";

/// Adds placements and unconfirmed suspensions. The platform learns the placement of a sandbox that runs
/// during this migration when the sandbox is next resumed.
const FORMAT_4: &str = "
ALTER TABLE sandboxes ADD COLUMN placement INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sandboxes ADD COLUMN unconfirmed INTEGER NOT NULL DEFAULT 0
    CHECK (unconfirmed IN (0, 1));
UPDATE sandboxes SET placement = generation;
CREATE INDEX sandboxes_unconfirmed ON sandboxes (sequence) WHERE unconfirmed = 1;
";

/// Bounds what owners store. Lines about network policies contain the difference instead of both policies, and
/// triggers count the use of each project.
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

/// Adds the log of operators' changes.
const FORMAT_6: &str = "
CREATE TABLE operator_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    principal TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    belongs_to TEXT NOT NULL
) STRICT;
";

/// Adds the events of sandboxes. They end with the sandbox.
const FORMAT_7: &str = "
CREATE TABLE sandbox_events (
    sandbox_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    project_id TEXT NOT NULL,
    -- Each class has bounds of its own.
    class TEXT NOT NULL,
    -- Equal denials of the same period are one event.
    period INTEGER NOT NULL,
    at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (sandbox_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX sandbox_events_of_project ON sandbox_events (project_id, class, at, sandbox_id, number);
CREATE INDEX sandbox_events_by_age ON sandbox_events (at);
-- The number of the last event.
ALTER TABLE sandboxes ADD COLUMN events INTEGER NOT NULL DEFAULT 0;
";

/// Converts the lines one by one, because a log without bounds may be larger than the memory.
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
            difference_text(&before, &after)?,
        ])?;
    }
    drop(lines);
    drop(old);
    Ok(connection.execute_batch("DROP TABLE whole_policies")?)
}
