-- The tables of the store. A released migration is never edited; a change of the tables is a new file.
--
-- Flags are the numbers 0 and 1, and texts compare byte by byte, because the queries are shared with SQLite.

CREATE TABLE meta (
    only_row SMALLINT PRIMARY KEY CHECK (only_row = 1),
    epoch TEXT NOT NULL,
    -- Each transaction that writes locks this row first, so revisions grow in the order of the commits.
    revision BIGINT NOT NULL,
    -- Changes up to and with this one are no longer in the log.
    forgotten BIGINT NOT NULL
);
CREATE TABLE changes (
    revision BIGINT PRIMARY KEY,
    change TEXT NOT NULL
);

CREATE FUNCTION notify_of_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('sandgate_commits', new.revision::text);
    RETURN NULL;
END $$;
CREATE TRIGGER commit_notified AFTER UPDATE OF revision ON meta
    FOR EACH ROW EXECUTE FUNCTION notify_of_commit();

CREATE TABLE organizations (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);
CREATE TABLE projects (
    id TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL REFERENCES organizations (id),
    name TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (organization_id, name)
);
CREATE TABLE users (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);
CREATE TABLE memberships (
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    project_id TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, project_id)
);
CREATE TABLE credentials (
    id TEXT COLLATE "C" PRIMARY KEY,
    secret_hash BYTEA NOT NULL UNIQUE CHECK (length(secret_hash) = 32),
    project_id TEXT COLLATE "C" REFERENCES projects (id),
    user_id TEXT COLLATE "C" REFERENCES users (id),
    session SMALLINT NOT NULL CHECK (session IN (0, 1)),
    name TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    CHECK ((project_id IS NULL) <> (user_id IS NULL)),
    CHECK (session = 0 OR user_id IS NOT NULL)
);

CREATE TABLE sandboxes (
    sequence BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    name TEXT COLLATE "C" UNIQUE,
    project_id TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
    state TEXT COLLATE "C" NOT NULL,
    address TEXT COLLATE "C",
    generation BIGINT NOT NULL,
    placement BIGINT NOT NULL,
    unconfirmed SMALLINT NOT NULL DEFAULT 0 CHECK (unconfirmed IN (0, 1)),
    exposed_ports TEXT NOT NULL,
    public SMALLINT NOT NULL CHECK (public IN (0, 1)),
    auto_resume SMALLINT NOT NULL CHECK (auto_resume IN (0, 1)),
    spec TEXT NOT NULL,
    network TEXT NOT NULL,
    network_revision BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    CHECK ((address IS NOT NULL) = (state = 'running'))
);
CREATE INDEX sandboxes_of_project ON sandboxes (project_id, sequence);
CREATE INDEX sandboxes_in_state ON sandboxes (state);
CREATE INDEX sandboxes_unconfirmed ON sandboxes (sequence) WHERE unconfirmed = 1;
CREATE UNIQUE INDEX live_addresses ON sandboxes (address) WHERE address IS NOT NULL;

CREATE TABLE name_holds (
    name TEXT COLLATE "C" PRIMARY KEY,
    project_id TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
    held_until BIGINT NOT NULL
);
CREATE INDEX name_holds_of_project ON name_holds (project_id, held_until);

CREATE TABLE port_changes (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    sandbox_id TEXT COLLATE "C" NOT NULL,
    project_id TEXT COLLATE "C" NOT NULL,
    principal TEXT NOT NULL,
    ports_before TEXT NOT NULL,
    public_before SMALLINT NOT NULL,
    ports_after TEXT NOT NULL,
    public_after SMALLINT NOT NULL
);
CREATE INDEX port_changes_of_sandbox ON port_changes (sandbox_id, id);
CREATE INDEX port_changes_of_project ON port_changes (project_id, id);
CREATE TABLE network_changes (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    sandbox_id TEXT COLLATE "C" NOT NULL,
    project_id TEXT COLLATE "C" NOT NULL,
    principal TEXT NOT NULL,
    difference TEXT NOT NULL
);
CREATE INDEX network_changes_of_sandbox ON network_changes (sandbox_id, id);
CREATE INDEX network_changes_of_project ON network_changes (project_id, id);

-- The use of each project, which triggers count.
CREATE TABLE project_use (
    project_id TEXT COLLATE "C" PRIMARY KEY REFERENCES projects (id),
    sandboxes BIGINT NOT NULL,
    bytes BIGINT NOT NULL
);
CREATE FUNCTION count_sandbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE project_use SET sandboxes = sandboxes - 1, bytes = bytes
            - octet_length(old.exposed_ports) - octet_length(old.spec) - octet_length(old.network)
        WHERE project_id = old.project_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO project_use VALUES (new.project_id, 1,
            octet_length(new.exposed_ports) + octet_length(new.spec) + octet_length(new.network))
        ON CONFLICT (project_id) DO UPDATE SET sandboxes = project_use.sandboxes + 1,
            bytes = project_use.bytes + excluded.bytes;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER sandbox_counted AFTER INSERT OR DELETE OR UPDATE OF exposed_ports, spec, network
    ON sandboxes FOR EACH ROW EXECUTE FUNCTION count_sandbox();

-- The processes that serve this store. One whose `seen_at` is old has ended, or can't reach the database.
CREATE TABLE replicas (
    id TEXT COLLATE "C" PRIMARY KEY,
    -- The newest revision that all its watchers have applied.
    applied BIGINT NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    -- Since then it was seen without a break.
    live_since TIMESTAMPTZ NOT NULL
);
-- Which process may call the runtime for a sandbox.
CREATE TABLE claims (
    sandbox_id TEXT COLLATE "C" PRIMARY KEY,
    replica TEXT COLLATE "C" NOT NULL
);
