-- The events of sandboxes. They end with the sandbox.
CREATE TABLE sandbox_events (
    sandbox_id TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    project_id TEXT COLLATE "C" NOT NULL,
    -- Each class has bounds of its own.
    class TEXT COLLATE "C" NOT NULL,
    -- Equal denials of the same period are one event.
    period BIGINT NOT NULL,
    at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    count BIGINT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (sandbox_id, number)
);
CREATE INDEX sandbox_events_of_project ON sandbox_events (project_id, class, at, sandbox_id, number);
CREATE INDEX sandbox_events_by_age ON sandbox_events (at);
-- The number of the last event.
ALTER TABLE sandboxes ADD COLUMN events BIGINT NOT NULL DEFAULT 0;
