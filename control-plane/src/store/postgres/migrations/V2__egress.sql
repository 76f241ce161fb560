-- Whether sidecars enforce network policies (`--egress`), as the servers that run now have it: `enforced` or `none`. All have
-- the same setting, because a server without it starts sandboxes whose policies nothing enforces.
ALTER TABLE meta ADD COLUMN egress TEXT CHECK (egress IN ('enforced', 'none'));
