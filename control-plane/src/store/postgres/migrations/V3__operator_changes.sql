-- The log of operators' changes: organizations, projects, members and credentials.
CREATE TABLE operator_changes (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    principal TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    belongs_to TEXT NOT NULL
);
