//! How much one project may store. Each bound is the project's own: one project that reaches its bounds
//! takes nothing away from another one.

use std::time::Duration;

/// How long a freed name stays with its project: links to it must not lead to somebody else's
/// sandbox the day after.
pub const NAME_HOLD: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Bytes of all kept fields of one sandbox ([`crate::model::Sandbox::spec`]).
pub const SPEC_MAX: usize = 64 * 1_024;

/// Bounds on what owners store, unless the operator says otherwise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Freed names that are held for one project: the newest ones.
    pub held_names: usize,
    /// Sandboxes of one project, with those that are deleted and not cleaned up yet.
    pub sandboxes: u64,
    /// Bytes of ports, kept fields and network policies of all sandboxes of one project.
    pub bytes: u64,
    /// How long lines of the audit log are kept.
    pub audit_age: Duration,
    /// Lines of each audit log (ports, network policies) for one sandbox: the newest ones.
    pub audit_of_sandbox: usize,
    /// Lines of each audit log for one project: the newest ones.
    pub audit_of_project: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            held_names: 100,
            sandboxes: 10_000,
            bytes: 64 * 1_024 * 1_024,
            audit_age: Duration::from_secs(90 * 24 * 60 * 60),
            audit_of_sandbox: 500,
            audit_of_project: 5_000,
        }
    }
}
