//! Bounds on what one project may store. A project that reaches a bound does not limit another project.

use std::time::Duration;

use crate::model::EventClass;

/// How long a freed name is held for its project, so that links to it do not soon lead to a sandbox of another
/// project.
pub const NAME_HOLD: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The most bytes of all kept fields of one sandbox ([`crate::model::Sandbox::spec`]).
pub const SPEC_MAX: usize = 64 * 1_024;

/// Bounds on what owners store. The operator can change them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The number of freed names that are held for one project. The newest ones are kept.
    pub held_names: usize,
    /// The number of sandboxes of one project. Deleted sandboxes count until the runtime has stopped them.
    pub sandboxes: u64,
    /// The bytes of ports, kept fields and network policies of all sandboxes of one project.
    pub bytes: u64,
    /// How long lines of the audit log are kept.
    pub audit_age: Duration,
    /// The number of lines of each audit log (ports, network policies) for one sandbox. The newest ones are
    /// kept.
    pub audit_of_sandbox: usize,
    /// The number of lines of each audit log for one project. The newest ones are kept.
    pub audit_of_project: usize,
    /// How long events of sandboxes are kept.
    pub events_age: Duration,
    /// The number of events about changes of ports and network policies, and separately of those about suspends and resumes.
    pub changes: EventBounds,
    /// The number of events about denials in, and separately of those about denials out.
    pub denials: EventBounds,
    /// The number of different denials of a sandbox in each direction that are events of their own in one period. All others
    /// are one event with their number.
    pub denials_of_period: u64,
}

/// The number of events of a class. The newest ones are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EventBounds {
    pub of_sandbox: usize,
    /// All projects have the same bound, so no project can remove the events of another one.
    pub of_project: usize,
}

impl Limits {
    pub(super) fn events_of(&self, class: EventClass) -> EventBounds {
        match class {
            EventClass::Change | EventClass::Lifecycle => self.changes,
            EventClass::Inbound | EventClass::Outbound => self.denials,
        }
    }
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
            events_age: Duration::from_secs(30 * 24 * 60 * 60),
            changes: EventBounds { of_sandbox: 200, of_project: 5_000 },
            denials: EventBounds { of_sandbox: 500, of_project: 10_000 },
            denials_of_period: 50,
        }
    }
}
